import asyncio
class Stop(KeyboardInterrupt): pass
async def main(): raise Stop("from task")
asyncio.run(main())
