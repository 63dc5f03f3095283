import asyncio
async def bad(i): raise ValueError(i)
async def main():
    async with asyncio.TaskGroup() as g:
        g.create_task(bad(1))
asyncio.run(main())
