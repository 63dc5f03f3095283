"""Large packages from the real index, through an MCP client. Not part of `make test`: run it with `make packages`."""

from __future__ import annotations

import time

import pytest
from mcp.types import TextContent

from tests.support.clients import OpenClient, text_of

pytestmark = pytest.mark.anyio

USES = {
    "requests": ("requests", "print(requests.utils.quote('a b'))"),
    "polars": ("polars", "print(polars.DataFrame({'a': [1, 2]})['a'].sum())"),
    "scikit-learn": ("sklearn.linear_model", "print(sklearn.linear_model.LinearRegression())"),
    "pillow": ("PIL.Image", "print(PIL.Image.new('L', (2, 3)).size)"),
    "beautifulsoup4": ("bs4", "print(bs4.BeautifulSoup('<b>x</b>', 'html.parser').b.text)"),
    "sympy": ("sympy", "print(sympy.sqrt(8))"),
    "opencv-python-headless": ("cv2", "import numpy; print(cv2.resize(numpy.zeros((4, 4)), (2, 2)).shape)"),
    "httpx[http2]": ("h2", "import httpx; print(httpx.__version__)"),
    "six==1.15.0": ("six", "assert six.__version__ == '1.15.0'; print(six.__version__)"),
}


SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
LOADS = {
    "lightgbm": (
        "lightgbm",
        "import numpy; print(lightgbm.Dataset(numpy.ones((9, 2)), numpy.ones(9)).construct().num_feature())",
    ),
    "python-magic": ("magic", "print(magic.from_buffer(b'%PDF-1.7', mime=True))"),
    "cairosvg": ("cairosvg", f"print(cairosvg.svg2png(b'{SVG}')[1:4])"),
    "pyzbar qrcode": (
        "pyzbar.pyzbar",
        "import qrcode; print(pyzbar.pyzbar.decode(qrcode.make('agentrun').get_image())[0].data)",
    ),
    "weasyprint": ("weasyprint", "print(weasyprint.HTML(string='<p>x').write_pdf()[:4])"),
    "pyodbc": ("pyodbc", "print(pyodbc.drivers())"),
    "psycopg": ("psycopg", "print(psycopg.pq.version())"),
    "pyvista": ("pyvista", "print(pyvista.Sphere().n_points)"),
    "opencv-python": ("cv2", "print(cv2.__version__)"),
}
"""What loads a library of the system's, put to a use that needs it."""


async def test_system_libraries_are_there(open_client: OpenClient) -> None:
    async with open_client() as client:
        for requirement, (module, use) in LOADS.items():
            answer = await client.call_tool("install_package", {"packages": requirement})
            assert not answer.is_error, text_of(answer)
            run = await client.call_tool("run_python", {"code": f"import {module}\n{use}", "timeout": 300})
            assert not run.is_error, (requirement, text_of(run))
            print(f"{requirement}: {text_of(run).strip()}")


async def test_each_is_installed_and_used_with_the_variables_alive(open_client: OpenClient) -> None:
    async with open_client() as client:
        await client.call_tool("run_python", {"code": "before = [1, 2, 3]"})
        for requirement, (module, use) in USES.items():
            begun = time.perf_counter()
            answer = await client.call_tool("install_package", {"packages": requirement})
            assert not answer.is_error, text_of(answer)
            took = time.perf_counter() - begun
            code = f"import {module}\n{use}\nprint(sum(before))"
            run = await client.call_tool("run_python", {"code": code, "timeout": 300})
            assert "6" in text_of(run).splitlines(), text_of(run)
            print(f"{requirement}: {took:.2f} s")


async def test_two_sessions_have_different_versions_of_pandas_at_once(open_client: OpenClient) -> None:
    use = """
import numpy, pandas
df = pandas.DataFrame({"a": numpy.arange(3.0)})
print(pandas.__version__.split(".")[:2], numpy.__version__.split(".")[:2], pandas.Series(["x"]).dtype)
"""
    async with open_client() as client:

        async def call(tool: str, **arguments: object) -> str:
            answer = await client.call_tool(tool, {**arguments})
            return "".join(block.text for block in answer.content if isinstance(block, TextContent))

        opened = await call("run_python", code="import pandas", sandbox="new", timeout=120)
        other = opened.split('sandbox="')[1].split('"')[0]
        installed = await call("install_package", packages=["pandas==2.2.3", "numpy==2.1.3"], sandbox=other)
        assert "pandas 2.2.3" in installed and "takes effect with" in installed, installed
        await call("reset_sandbox", keep_packages=True, keep_files=True, sandbox=other)
        expected = {None: "['3', ", other: "['2', '2'] ['2', '1'] object"}
        for sandbox, versions in expected.items():
            assert versions in await call("run_python", code=use, sandbox=sandbox, timeout=120)
        for sandbox in expected:
            crashed = await call("run_python", code="import os; os._exit(7)", sandbox=sandbox)
            assert "exit code 7" in crashed, crashed
        for sandbox, versions in expected.items():
            code = (
                "print(df.a.sum(), pandas.__version__.split('.')[:2])\nimport matplotlib.pyplot as plt\n_ = df.plot()"
            )
            answer = await call("run_python", code=code, sandbox=sandbox, timeout=120)
            assert answer.startswith("3.0 " + versions.split("]")[0]) and "1 picture below" in answer, answer


TEN = ["tabulate", "rich", "pyyaml", "jinja2", "networkx", "openpyxl", "tqdm", "attrs", "click", "toolz"]


async def test_ten_at_once_and_what_fails(open_client: OpenClient) -> None:
    async with open_client("--packages-deny", "boto3") as client:
        await client.call_tool("run_python", {"code": "before = [1, 2, 3]"})
        answer = await client.call_tool("install_package", {"packages": TEN})
        assert not answer.is_error, text_of(answer)
        code = "import tabulate, rich, yaml, jinja2, networkx, openpyxl, tqdm, attr, click, toolz\nprint(sum(before))"
        run = await client.call_tool("run_python", {"code": code, "timeout": 300})
        assert text_of(run) == "6\n"
        for requirement, said in (
            ("no-such-package-of-that-name-1b7", "not found"),
            (["pandas<2", "numpy>=2"], "No wheel of pandas for Python 3"),
            (["httpx==0.28.1", "httpcore<1"], "unsatisfiable"),
            (SOURCE_ONLY, "packages_build"),
            ("boto3", "denied"),
            ("reqeusts", "Did you mean 'requests'"),
        ):
            refused = await client.call_tool("install_package", {"packages": requirement})
            assert refused.is_error and said in text_of(refused), text_of(refused)
        run = await client.call_tool("run_python", {"code": "print(sum(before), tabulate.__version__[:1])"})
        assert text_of(run).startswith("6 ")


SOURCE_ONLY = "docopt"
"""A small one of which the index has no wheel, and never had."""


async def test_a_source_distribution_is_built_where_the_operator_lets_it(open_client: OpenClient) -> None:
    async with open_client("--packages-build") as client:
        await client.call_tool("run_python", {"code": "before = [1, 2, 3]"})
        answer = await client.call_tool("install_package", {"packages": SOURCE_ONLY})
        assert not answer.is_error, text_of(answer)
        run = await client.call_tool("run_python", {"code": "import docopt; print(docopt.__version__, sum(before))"})
        assert text_of(run).endswith("0.6.2 6\n"), text_of(run)


async def test_code_that_imports_is_enough(open_client: OpenClient) -> None:
    async with open_client() as client:
        code = "from bs4 import BeautifulSoup\nimport sklearn, PIL\nprint(1)"
        run = await client.call_tool("run_python", {"code": code, "timeout": 300})
        assert text_of(run).startswith("1\n"), text_of(run)
        assert "scikit-learn" in text_of(run)


async def test_a_second_session_finds_the_cache(open_client: OpenClient) -> None:
    took: list[float] = []
    async with open_client() as client:
        for _ in range(3):
            new = await client.call_tool("run_python", {"code": "1", "sandbox": "new"})
            handle = text_of(new).split('sandbox="')[1].split('"')[0]
            begun = time.perf_counter()
            answer = await client.call_tool("install_package", {"packages": "sympy", "sandbox": handle})
            took.append(time.perf_counter() - begun)
            assert not answer.is_error, text_of(answer)
    print("sympy, three sessions:", *(f"{each:.2f} s" for each in took))


URL = "https://api.example.com/x"
REFUSED = {
    "requests": f"import requests\nrequests.get('{URL}')",
    "httpx": f"import httpx\nhttpx.get('{URL}')",
    "urllib3": f"import urllib3\nurllib3.request('GET', '{URL}', retries=0)",
    "aiohttp": f"import aiohttp\nasync with aiohttp.ClientSession() as session:\n    await session.get('{URL}')",
    "yfinance": "import yfinance\nyfinance.download('AAPL', period='1d')",
    "seaborn": "import seaborn\nseaborn.load_dataset('tips')",
    "websockets": "import websockets\nasync with websockets.connect('wss://example.com'):\n    pass",
    "scikit-learn": "from sklearn.datasets import fetch_california_housing\nfetch_california_housing()",
}


async def test_each_library_s_own_error_is_explained(open_client: OpenClient) -> None:
    async with open_client("--safety", "off") as client:
        for name, code in REFUSED.items():
            run = await client.call_tool("run_python", {"code": code, "timeout": 120})
            assert text_of(run).count("[agentrun] The sandbox has no network.") == 1, (name, text_of(run))
