import gc
gc.disable()
def cb(phase, info): raise ValueError("gc")
gc.callbacks.append(cb)
gc.collect()
gc.callbacks.clear()
