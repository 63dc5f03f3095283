async def f(): raise ValueError("in coroutine")
import asyncio
asyncio.run(f())
