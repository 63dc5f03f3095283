"""What the sandbox refuses is explained in one line, whichever exception or program says so."""

from __future__ import annotations

import pytest

from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.server.mcp.render import run_answer
from tests.support.clients import client_text

pytestmark = pytest.mark.anyio

NO_NETWORK = "The sandbox has no network."
LISTENS = "Nothing is listening at this address. localhost is the sandbox itself"
READ_ONLY = "Only /workspace, /tmp and /dev/shm can be written to."
EXECUTED = "Files in /workspace, /tmp and /dev/shm can't be executed or loaded as libraries. Run `sh script.sh`"
FULL = "/workspace is full: it holds 24 MiB and 200 files and folders at most."
PROCESSES = "The sandbox allows 32 processes and threads at a time."
DISPLAY = "The sandbox has no display"
TERMINAL = "There is no terminal here"
NO_FFMPEG = "The program 'ffmpeg' is not installed, and system programs can't be added."
LIBRARIES = "import sys; sys.path.insert(0, '/workspace/site-packages')\n"
URL = "'https://api.example.com/x'"
SCRIPT = "import os, subprocess as s\nopen('run.sh', 'w').write('#!/bin/sh\\necho hi'); os.chmod('run.sh', 0o755)\n"

GROUP = (
    f"import asyncio, urllib.request as r\nasync def get(): r.urlopen({URL})\n"
    "async def main():\n    async with asyncio.TaskGroup() as g: g.create_task(get())\nasyncio.run(main())"
)
POOL = (
    "import multiprocessing, urllib.request\ndef get(url): return urllib.request.urlopen(url).status\n"
    f"with multiprocessing.get_context('fork').Pool(1) as pool: pool.map(get, [{URL}])"
)
LOADED = (
    "import ctypes, shutil\npath = next(l.split()[-1] for l in open('/proc/self/maps') if 'libc.so' in l)\n"
    "shutil.copy(path, 'lib.so'); ctypes.CDLL('./lib.so')"
)

FAILURES = {
    "socket": ("import socket; socket.create_connection(('192.0.2.1', 80), 2)", NO_NETWORK),
    "a datagram": (
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('8.8.8.8', 53))",
        NO_NETWORK,
    ),
    "urllib": (f"import urllib.request; urllib.request.urlopen({URL})", NO_NETWORK),
    "http.client": ("import http.client; http.client.HTTPSConnection('example.com').request('GET', '/')", NO_NETWORK),
    "smtplib": ("import smtplib; smtplib.SMTP('mail.example.com', 25)", NO_NETWORK),
    "asyncio": ("import asyncio; await asyncio.open_connection('example.com', 443)", NO_NETWORK),
    "requests": (LIBRARIES + f"import requests; requests.get({URL})", NO_NETWORK),
    "urllib3": (LIBRARIES + f"import urllib3; urllib3.request('GET', {URL}, retries=1)", NO_NETWORK),
    "httpx": (LIBRARIES + f"import httpx2; httpx2.get({URL})", NO_NETWORK),
    "httpx, asynchronous": (
        LIBRARIES + f"import httpx2\nasync with httpx2.AsyncClient() as client: await client.get({URL})",
        NO_NETWORK,
    ),
    "pandas": ("import pandas; pandas.read_csv('https://example.com/x.csv')", NO_NETWORK),
    "raised as another exception": (
        LIBRARIES
        + f"import requests\ntry: requests.get({URL})\nexcept OSError as e: raise ValueError('no data') from e",
        NO_NETWORK,
    ),
    "raised as another exception, from None": (
        f"import urllib.request\ntry: urllib.request.urlopen({URL})\nexcept OSError: raise KeyError('x') from None",
        NO_NETWORK,
    ),
    "one of a group": (GROUP, NO_NETWORK),
    "of another process": (POOL, NO_NETWORK),
    "caught and printed": (
        LIBRARIES + f"import requests\ntry: requests.get({URL})\nexcept Exception as e: print('Error:', e)",
        NO_NETWORK,
    ),
    "a local server that is none": (LIBRARIES + "import requests; requests.get('http://localhost:8000')", LISTENS),
    "a missing program": ("import subprocess; subprocess.run(['ffmpeg', '-version'])", NO_FFMPEG),
    "a missing program, asynchronous": (
        "import asyncio; await asyncio.create_subprocess_exec('ffmpeg', '-version')",
        NO_FFMPEG,
    ),
    "a missing program in a shell": ("import os; os.system('ffmpeg -version')", NO_FFMPEG),
    "a missing program whose output is captured": (
        "import subprocess; subprocess.run('ffmpeg -i x', shell=True, check=True, capture_output=True)",
        NO_FFMPEG,
    ),
    "a missing program that is wrapped": (
        "import subprocess\ntry: subprocess.run('dot')\nexcept OSError: raise RuntimeError('failed to execute dot')",
        "The program 'dot' is not installed, and system programs can't be added. Draw graphs with networkx",
    ),
    "an installer": ("import subprocess; subprocess.run(['pip3', 'install', 'x'])", "Call `install_package`."),
    "a command as a program": ("import subprocess; subprocess.run('ls -l')", "'ls -l' was taken for the name of one"),
    "an executed file": (SCRIPT + "s.run(['./run.sh'])", EXECUTED),
    "an executed file, elsewhere": (SCRIPT + "s.Popen('./run.sh', cwd='/workspace', close_fds=False)", EXECUTED),
    "an executed file in a shell": (SCRIPT + "os.system('./run.sh')", EXECUTED),
    "a loaded file": (LOADED, EXECUTED),
    "a system library": ("import ctypes; ctypes.CDLL('libSDL2.so.0')", "The system library libSDL2.so.0 is missing"),
    "a read-only folder": ("import os; os.makedirs('/data/out')", READ_ONLY),
    "a file of the system's": ("open('/etc/hosts', 'a')", READ_ONLY),
    "a package's folder": ("import pandas; open(pandas.__path__[0] + '/x', 'w')", READ_ONLY),
    "a read-only folder in a shell": ("import os; os.system('touch /usr/x')", READ_ONLY),
    "a full disk": ("for n in range(9): open(f'part{n}', 'wb').write(bytes(4 << 20))", FULL),
    "a full disk, as numpy says it": (
        "import numpy\nfor n in range(9): numpy.save(f'part{n}', numpy.zeros(1 << 19))",
        FULL,
    ),
    "processes": ("import subprocess as s; children = [s.Popen(['sleep', '100']) for _ in range(100)]", PROCESSES),
    "processes in a shell": ("import os; os.system('for n in $(seq 99); do sleep 100 & done')", PROCESSES),
    "memory": ("import numpy; numpy.ones((10**6, 10**6))", "The sandbox has 320 MiB of memory in all."),
    "a window": ("import tkinter; tkinter.Tk()", DISPLAY),
    "a window, wrapped": ("import turtle", DISPLAY),
    "a window of matplotlib's": ("import matplotlib.pyplot as plt; plt.switch_backend('TkAgg')", DISPLAY),
    "a prompt": ("input('name? ')", "Nobody can answer input() here: stdin is empty."),
    "a password": ("import getpass; getpass.getpass()", TERMINAL),
    "a terminal": ("import os; os.get_terminal_size()", TERMINAL),
    "a terminal's mode": ("import sys, termios; termios.tcgetattr(sys.stdin)", TERMINAL),
    "a screen of text": ("import curses; curses.initscr()", TERMINAL),
    "a debugger": ("x = 1\nbreakpoint()\nprint(x)", TERMINAL),
    "privileges": ("import os; os.setuid(0)", "The sandbox runs without privileges"),
    "a file of another product": (
        "open('/mnt/data/x.csv', 'w')",
        "There is no '/mnt/data/x.csv' here. Files belong in /workspace: use '/workspace/x.csv'.",
    ),
    "a file that pandas reads": ("import pandas; pandas.read_csv('/mnt/data/x.csv')", "use '/workspace/x.csv'."),
    "a file that pandas writes": (
        "import pandas; pandas.DataFrame({'a': [1]}).to_csv('/mnt/data/x.csv')",
        "There is no '/mnt/data' here. Files belong in /workspace: use '/workspace'.",
    ),
    "outputs": ("open('/tmp/outputs/x', 'w')", "There is no '/tmp/outputs/x' here."),
    "a figure": ("import matplotlib.pyplot as p; p.plot([1]); p.savefig('/sandbox/a.png')", "use '/workspace/a.png'."),
    "a folder": ("import os; os.listdir('/content')", "There is no '/content' here."),
    "a user's folder": ("open('/home/user/x.txt')", "use '/workspace/x.txt'."),
    "Windows": (r"open('C:\\Users\\me\\x.csv')", r"There is no 'C:\\Users\\me\\x.csv' here."),
    "the desktop": ("import os; open(os.path.expanduser('~/Desktop/x.txt'))", "use '/workspace/x.txt'."),
    "a folder in a shell": ("import os; os.system('ls /mnt/data')", "There is no '/mnt/data' here."),
    "a database": ("import sqlite3; sqlite3.connect('/mnt/data/x.db')", "Files belong in /workspace."),
    "an engine of pandas'": (
        "import pandas; pandas.DataFrame({'a': [1]}).to_parquet('x')",
        "install_package('pyarrow')",
    ),
    "a table": ("import pandas; pandas.DataFrame({'a': [1]}).to_markdown()", "install_package('tabulate')"),
    "a style": ("import pandas; pandas.DataFrame({'a': [1]}).style", "install_package('jinja2')"),
    "a name of another package": (
        "import pandas; pandas.DataFrame({'a': [1]}).to_hdf('x.h5', key='a')",
        "install_package('tables')",
    ),
    "a module, wrapped": (
        "try: import polars\nexcept ImportError: raise RuntimeError('no engine')",
        "install_package('polars')",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failure_is_explained_in_one_line(small: AsyncSandbox, failure: str) -> None:
    code, words = FAILURES[failure]
    result = await small.run(code)
    text = client_text(run_answer(result, handle=None, new=False))
    assert result.advice is not None and words in result.advice and "\n" not in result.advice, text
    assert text.splitlines().count(f"[agentrun] {result.advice}") == 1
    assert result.outcome in ("ok", "error")
    await small.reset()


UNEXPLAINED = {
    "a mistake": "1 / 0",
    "a file": "open('missing.csv')",
    "a file in a folder": "open('data/missing.csv')",
    "a temporary file": "open('/tmp/missing.csv')",
    "nothing in a pickle": "import io, pickle; pickle.load(io.BytesIO())",
    "a column": "import pandas; pandas.DataFrame({'a': [1]}).drop(columns='black')",
    "a submodule": "import numpy.nosuch",
    "a program that fails": "import subprocess; subprocess.run(['ls', 'missing'], check=True)",
    "text of a web page": "print('Page not found: /api/users'); raise LookupError('404 Not Found: /api/users')",
    "an exit": "raise SystemExit(2)",
    "nothing to read": "import os\nr, w = os.pipe()\nos.set_blocking(r, False)\nos.read(r, 1)",
    "hostile arguments": "class A(str): __str__ = lambda self: 1 / 0\nraise ValueError(A('x'), [A()], 10**99)",
    "a circle": "a, b = ValueError('a'), KeyError('b')\na.__cause__, b.__context__ = b, a\nraise a",
}


@pytest.mark.parametrize("failure", UNEXPLAINED)
async def test_what_the_sandbox_is_not_behind_is_left_alone(small: AsyncSandbox, failure: str) -> None:
    result = await small.run(UNEXPLAINED[failure])
    assert result.outcome == "error" and result.advice is None, result
    assert result.error is not None and 1 <= len(result.error.causes) <= 10
