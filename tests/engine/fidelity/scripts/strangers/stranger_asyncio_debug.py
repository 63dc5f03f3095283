import asyncio
async def child(): raise ValueError("child")
async def main():
    t = asyncio.create_task(child(), name="kid")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del t
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda l, c: print("handler", c["message"], repr(c.get("exception"))))
    loop.call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.01)
asyncio.run(main())
