import asyncio
async def main():
    p = await asyncio.create_subprocess_exec("echo", "async child", stdout=asyncio.subprocess.PIPE)
    print((await p.communicate())[0], p.returncode)
asyncio.run(main())
