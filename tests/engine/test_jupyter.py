"""What models write by habit of notebooks: magics, `!commands`, fenced blocks, and IPython's `display`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from docker import APIClient

from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.settings import Settings
from tests.support.local_index import make_wheel, serve_index
from tests.support.sandboxes import open_sandbox, text_of

pytestmark = pytest.mark.anyio


SHOWN = {
    "html": ("display(HTML('<p>42</p>'))", "<p>42</p>\n", 1),
    "markdown": ("display(Markdown('# Title'))", "# Title\n", 0),
    "math": ("display(Math('x^2'))", "$\\displaystyle x^2$\n", 0),
    "latex as a last expression": ("Latex('$x$')", "$x$\n", 0),
    "json": ("display(JSON({'a': 1}))", '{\n  "a": 1\n}\n', 0),
    "raw": ("display({'text/markdown': '*x*'}, raw=True)", "*x*\n", 0),
    "by form": ("display_markdown('*x*', raw=True)", "*x*\n", 0),
    "a handle": ("handle = display('a', display_id=True); handle.update('b')", "'a'\n'b'\n", 0),
    "published": ("get_ipython().display_pub.publish({'text/plain': 'one'})", "one\n", 0),
    "published by a function": ("publish_display_data({'text/markdown': '**x**'})", "**x**\n", 0),
    "code": ("display(Code('x = 1'))", "x = 1\n", 0),
    "svg": ("display(SVG('<svg/>'));", None, 1),
    "audio": ("display(Audio([0, 1, 0], rate=8000));", None, 1),
}


@pytest.mark.parametrize("what", SHOWN)
async def test_what_ipython_displays_is_shown(shared: AsyncSandbox, what: str) -> None:
    code, text, files = SHOWN[what]
    result = await shared.run("from IPython.display import *\n" + code)
    assert text is None or result.output.text() == text
    assert (result.outcome, len(result.files)) == ("ok", files), result


async def test_images_of_ipython_and_of_pil_are_pictures(shared: AsyncSandbox) -> None:
    code = (
        "import PIL.Image, io\nfrom IPython.display import display, Image\nimage = PIL.Image.new('RGB', (30, 20))\n"
        "for kind in ('png', 'jpeg', 'gif', 'webp'):\n"
        "    file = io.BytesIO(); image.save(file, kind); display(Image(file.getvalue()))\n"
        "image.save('/tmp/a.png'); image.show(); display(image); Image(filename='/tmp/a.png')"
    )
    result = await shared.run(code)
    assert [(picture.width, picture.height) for picture in result.images] == [(30, 20)] * 7, result.output.text()


PRINTS = {
    "harmless": ("%matplotlib inline\n%load_ext autoreload\n%autoreload 2\nprint(1)", "1\n"),
    "in a block": ("if True:\n    %matplotlib inline\n    print(1)", "1\n"),
    "fenced": ("```python\nprint(1)\n```", "1\n"),
    "fenced with no language": ("\n```\nprint(1)\n```\n", "1\n"),
    "fenced and not closed": ("```py\nprint(1)", "1\n"),
    "fenced with magics": ("```python\n%matplotlib inline\n!echo 1\n```", "1\n"),
    "command": ("print(0)\n!echo 1 | cat\nprint(2)", "0\n1\n2\n"),
    "command on two lines": ("!echo 1 \\\n  2\nprint(3)", "1 2\n3\n"),
    "command with no such name": ("!echo {nothing} {1 / 0} $nothing_else", "{nothing} {1 / 0}\n"),
    "command with a name": ("n = 'x'\n!echo {n} $n {n.upper()} '{a,b}' $((1+1)) ${HOME}", "x x X {a,b} 2 /tmp/home\n"),
    "output of a command": ("out = !echo a; echo b\nout", "['a', 'b']\n"),
    "a value of a magic": ("here = %pwd\nhere", "'/workspace'\n"),
    "no value at the end": ("!true", ""),
    "deletion": ("gone = 1\n%xdel gone\nprint('gone' in globals())", "False\n"),
    "environment": ("%env HABIT=yes\n!echo $HABIT", "yes\n"),
    "bash": ("%%bash\nfor i in 1 2; do\n  echo $i\ndone", "1\n2\n"),
    "a file and its run": ("%%writefile habit.py\nhabit = 7", "Writing habit.py\n"),
    "capture": ("%%capture out\nprint(1)", ""),
    "cell in python": ("%%python\nprint(1)", "1\n"),
    "help": ("def f():\n    'What f does.'\nf?", "Help on function f in module __main__:\n\nf()\n    What f does.\n\n"),
    "exported": ("get_ipython().run_line_magic('matplotlib', 'inline')\nget_ipython().system('echo 1')", "1\n"),
    "a shell's block": ("```bash\necho 1\n```", "1\n"),
    "one in another": ("%%capture out\n%%bash\necho 1", "1\n"),
    "by import": ("import IPython\nIPython.get_ipython().magic('pwd')", "'/workspace'\n"),
    "a terminal's prompt": ("$ echo 1\nprint(2)\n$  echo 3 \\\n  4", "1\n2\n3 4\n"),
    "prompts": (
        ">>> def f(x):\n...     return x * 2\n...\n>>> for i in range(2):\n...     print(f(i))\n0\n2\n>>> f(21)\n42",
        "0\n2\n42\n",
    ),
    "IPython's prompts": ("In[1]: x = 3\n   ...: y = x * 14\n\nIn [2]: !true\nOut[2]: 0\n\nIn [3]: y", "42\n"),
    "prompts in a fence": ("```python\n>>> print(1)\n1\n>>> !echo 2\n```", "1\n2\n"),
    "html cell": ("%%markdown\n# T", "# T\n"),
}


@pytest.mark.parametrize("what", PRINTS)
async def test_idioms(shared: AsyncSandbox, what: str) -> None:
    code, text = PRINTS[what]
    assert await text_of(shared, code) == text


@pytest.mark.parametrize(
    "setting",
    [
        "from IPython.core.interactiveshell import InteractiveShell\nInteractiveShell.ast_node_interactivity = 'all'",
        "get_ipython().ast_node_interactivity = 'all'",
        "%config InteractiveShell.ast_node_interactivity = 'all'",
    ],
)
async def test_each_expression_is_shown_where_that_is_asked_for(shared: AsyncSandbox, setting: str) -> None:
    await shared.reset()
    assert await text_of(shared, setting) == ""
    assert await text_of(
        shared, "1\nx = 2\nx\n3;\n[].append(1)\nprint(4)\nawait __import__('asyncio').sleep(0, 5)\n'end'"
    ) == ("1\n2\n4\n5\n'end'\n")
    failed = await shared.run("7\n1 / 0\n8")
    assert failed.output.text().endswith(
        "line 2, in <module>\n    1 / 0\n    ~~^~~\nZeroDivisionError: division by zero\n"
    )
    assert failed.output.text().startswith("7\nTraceback")
    await shared.reset()
    assert await text_of(shared, "1\n2") == "2\n"


async def test_a_written_file_runs_and_what_it_defines_stays(shared: AsyncSandbox) -> None:
    await text_of(shared, "%%writefile defines.py\nimport sys\nhabit = sys.argv")
    assert await text_of(shared, "%run defines.py 1\nhabit") == "['defines.py', '1']\n"


PYTHON = [
    "a = 7\nb = (a\n%4)\nb",
    "s = '''\n%time\n!ls\n```\n'''\nlen(s)",
    "x = [1,\n  2]\nx[0] \\\n%2",
    "# %matplotlib inline\n1",
    "'%d' % 3\n'?'",
    "a = 3; b = 2\na != b",
]


@pytest.mark.parametrize("code", PYTHON)
async def test_python_is_never_rewritten(shared: AsyncSandbox, code: str) -> None:
    result = await shared.run(code)
    assert result.outcome == "ok", result.output.text()
    mixed = await shared.run(code + ";\n%matplotlib inline\nprint('end')")
    assert mixed.output.text() == "end\n"


@pytest.mark.parametrize(
    ("code", "line", "shown"),
    [
        ("%%time\nx = 1\n1 / 0", 3, "    1 / 0\n    ~~^~~\n"),
        ("%matplotlib inline\n!true\nx = [\n  1]\n1 / 0", 5, "    1 / 0\n    ~~^~~\n"),
        ("%time 1 / 0", 1, "    %time 1 / 0\n          ~~^~~\n"),
        ("x = %time 1 / 0", 1, "    x = %time 1 / 0\n              ~~^~~\n"),
        ("%%timeit\nx = 1\n1 / 0", 3, "    1 / 0\n    ~~^~~\n"),
        ("%timeit 1 / 0", 1, "    %timeit 1 / 0\n            ~~^~~\n"),
        ("```python\nx = 1\n1 / 0\n```", 3, "    1 / 0\n    ~~^~~\n"),
        (">>> x = 1\n>>> 1 / 0", 2, "    >>> 1 / 0\n        ~~^~~\n"),
    ],
)
async def test_tracebacks_are_of_what_was_written(shared: AsyncSandbox, code: str, line: int, shown: str) -> None:
    result = await shared.run(code)
    assert result.error is not None
    assert (result.error.type, result.error.line) == ("ZeroDivisionError", line)
    assert f'  File "<run-{result.number}>", line {line}, in <module>\n{shown}' in result.output.text()
    assert result.output.text().count("File ") == 1


@pytest.mark.parametrize(
    "code",
    [
        "%%time\n%%bash\necho 5",
        "x = 5\n%%time\nx",
        "%%time\nimport asyncio\nawait asyncio.sleep(0)\n5",
        "x = %time 5\nx",
        "%time 5",
        "%time for n in 1, 5: k = n\nprint(k)",
        "def f(of):\n    %time for n in of: print(n)\nf([5])",
    ],
)
async def test_time_is_told(shared: AsyncSandbox, code: str) -> None:
    text = await text_of(shared, code)
    assert "Wall time: " in text and text.count("\n") == 3 and "5\n" in text


@pytest.mark.parametrize(
    "code",
    [
        "%timeit -n 3 -r 2 sum(range(9))",
        "%%timeit -n 3 -r 2\ny = '''\n'''\ny * 2",
        "%timeit -n 3 -r 2 for a, b in zip('in', 'xy'): a + b",
    ],
)
async def test_loops_are_timed(shared: AsyncSandbox, code: str) -> None:
    text = await text_of(shared, code)
    assert text.endswith(" per loop (mean ± std. dev. of 2 runs, 3 loops each)\n"), text
    assert await text_of(shared, "'_timeit' in globals()") == "False\n"


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("print(1)\n%who", "write print(dir())"),
        ('%%writefile "x', "%%writefile: malformed file name (No closing quotation)"),
        ("%%R\nx <- 1", "%%R is not available here: write it in Python"),
        ("x = 1\n%%bash\nls", "%%bash is not available here: write it on the first line"),
        ("%conda install x", 'call install_package("name")'),
        ("%nonsense", "%nonsense is not available here: write it in Python"),
        ("%%script perl\nprint 1", "subprocess.run"),
    ],
)
async def test_other_magics_say_what_to_write(shared: AsyncSandbox, code: str, hint: str) -> None:
    result = await shared.run(code)
    printed = result.output.text()
    assert hint in printed.splitlines()[-1] and printed.splitlines()[-1].startswith("SyntaxError: ")
    assert "1\n" not in printed.split("File")[0]  # nothing of it was run


PIP = [
    "!pip install -q {}",
    "%pip install '{}>=1' --upgrade",
    "!python -m pip install {} | tail -1",
    "!{{sys.executable}} -m pip install {} 2>&1",
    "!uv pip install {}",
    "get_ipython().system('pip install {}')",
    "get_ipython().run_line_magic('pip', 'install {}')",
    "if True:\n    !pip install {} > /dev/null",
    "pip install {}",
    "$ pip3 install {} --quiet",
    "if True:\n    uv pip install {}",
    "!pip install -q -r {0}.txt",
    "%pip install --requirement=./{0}.txt",
    "get_ipython().run_line_magic('pip', 'install -r/workspace/{0}.txt')",
]


@pytest.fixture(scope="module")
async def habits(
    runner_image: str, anyio_backend: str, api: APIClient, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[AsyncSandbox]:
    root = tmp_path_factory.mktemp("index")
    for number in range(len(PIP)):
        make_wheel(root / "simple" / f"habitual{number}", f"habitual{number}")
    with serve_index(root, api) as index:
        async with open_sandbox(
            Settings(packages_deny=("denied",), preload=()), NetworkSettings(index_url=index)
        ) as sandbox:
            yield sandbox


@pytest.mark.parametrize("number", range(len(PIP)))
async def test_pip_installs_as_install_package_does(habits: AsyncSandbox, number: int) -> None:
    name = f"habitual{number}"
    await habits.run(
        f"open('{name}.txt', 'w').write('# needs\\n-i nowhere\\n{name}==1.0 \\\\\\n  --hash=sha256:0 # x\\n')"
    )
    result = await habits.run(f"{PIP[number].format(name)}\nimport {name}\nprint({name}.VERSION)")
    assert result.output.text() == "1.0\n", result
    assert result.installed is not None and result.installed.packages == ((name, "1.0"),)


@pytest.mark.parametrize(
    ("what", "reason"), [("denied", "denied"), ("no-such-habit", "not found"), ("./folder", "package index only")]
)
async def test_what_pip_can_not_install_is_told_and_the_code_is_run(
    habits: AsyncSandbox, what: str, reason: str
) -> None:
    result = await habits.run(f"!pip install {what}\nprint('on')")
    assert result.output.text() == "on\n"
    assert (
        result.missing_packages is not None and what in result.missing_packages and reason in result.missing_packages
    ), result.missing_packages


@pytest.mark.parametrize("path", ["none.txt", "/etc/hosts", "link", "pipe", "."])
async def test_only_files_of_the_workspace_are_lists_of_requirements(habits: AsyncSandbox, path: str) -> None:
    await habits.run("import os; os.path.lexists('link') or [os.symlink('/etc/hosts', 'link'), os.mkfifo('pipe')]")
    result = await habits.run(f"%pip install -r {path}\nprint('on')")
    assert result.output.text() == f"There was no file {path} in /workspace when this call began: write it first.\non\n"
    assert result.missing_packages is None and result.installed is None


async def test_ipython_itself_may_be_installed(runner_image: str, api: APIClient, tmp_path: Path) -> None:
    """Its `display` is ours as well."""
    files = {
        "IPython/__init__.py": "from .core.display_functions import display\nREAL = True\n",
        "IPython/core/__init__.py": "",
        "IPython/core/getipython.py": "def get_ipython(): return None\n",
        "IPython/core/display_functions.py": "def display(*values): print('not shown', *values)\n",
        "IPython/display.py": (
            "from .core.display_functions import *\nclass HTML(str):\n    _repr_html_ = str.__str__\n"
        ),
    }
    make_wheel(tmp_path / "simple" / "ipython", "ipython", "9.1", files=files)
    with serve_index(tmp_path, api) as index:
        async with open_sandbox(network=NetworkSettings(index_url=index)) as sandbox:
            await text_of(sandbox, "import IPython.display")
            await sandbox.install("ipython")
            code = "import IPython; from IPython.display import display, HTML\ndisplay(HTML('<p>'), IPython.REAL)"
            assert await text_of(sandbox, code) == "'<p>'\nTrue\n"
            assert await text_of(sandbox, "from IPython.core.getipython import *\nget_ipython() is None") == "False\n"
