import asyncio
async def f(i):
    await asyncio.sleep(0.001 * i)
    print("task", i)
    return i
async def main(): print(await asyncio.gather(*(f(i) for i in range(4))))
asyncio.run(main())
