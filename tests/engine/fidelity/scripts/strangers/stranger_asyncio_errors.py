import asyncio
async def a(): await asyncio.sleep(0.01); raise KeyError("a")
async def b():
    try: await asyncio.sleep(5)
    except asyncio.CancelledError: print("b cancelled"); raise
async def main():
    async with asyncio.TaskGroup() as g:
        g.create_task(a()); g.create_task(b())
asyncio.run(main())
