import gc, types, sys
print([type(o).__module__ for o in gc.get_objects() if type(o).__module__.startswith(("runner", "mcp_agentrun"))], [m for m in sys.modules if "agentrun" in m or m == "runner"])
print(sum(isinstance(o, types.FrameType) for o in gc.get_objects()))
