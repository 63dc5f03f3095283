import sys
m = sys.monitoring
m.use_tool_id(3, "mine")
m.register_callback(3, m.events.PY_START, lambda code, off: print("start", code.co_name))
m.set_events(3, m.events.PY_START)
def f(): pass
f()
