import asyncio
async def f(): raise ValueError("lost")
async def main():
    t = asyncio.ensure_future(f())
    await asyncio.sleep(0.01)
    print(t.exception())
asyncio.run(main())
