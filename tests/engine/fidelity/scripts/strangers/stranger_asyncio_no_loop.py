import asyncio
try: asyncio.get_running_loop()
except RuntimeError as e: print(e)
async def f(): pass
try: asyncio.create_task(f())
except RuntimeError as e: print(e)
asyncio.get_event_loop_policy()
try: print(asyncio.get_event_loop())
except Exception as e: print(type(e).__name__, e)
