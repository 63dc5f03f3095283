"""AgentRun's class beside ours: its examples, and its four benchmarks in turns: ``python -m benchmarks.agentrun``.

AgentRun 0.2.5 is installed into a virtual environment of its own, and has the container that it needs: Python, uv and
the network. Each class is called by the same program, in a process of its own, which measures.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
from docker import APIClient

from mcp_agentrun.engine.docker.discovery import connect
from mcp_agentrun.engine.network import NetworkSettings
from tests.support.agentrun_examples import DIFFERENCES, EXAMPLES, SAFETY_CHECKS, Example
from tests.support.local_index import serve_index
from tests.support.sandboxes import open_engine

ROUNDS, WARM_UP = 20, 2
_CALLER = """
import importlib, json, sys, time
AgentRun = importlib.import_module(sys.argv[1]).AgentRun
runner = None
for line in sys.stdin:
    method, argument = json.loads(line)
    begun = time.perf_counter()
    try:
        if method == "new":
            if hasattr(runner, "close"):
                runner.close()
            runner, answer = AgentRun(**argument), None
        else:
            answer = getattr(runner, method)(argument)
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    print(json.dumps([answer, time.perf_counter() - begun]), flush=True)
"""
_PREPARE = """
set -e
command -v python >/dev/null || ln -s "$(command -v python3)" /usr/local/bin/python
command -v pip >/dev/null || uv pip install --quiet --system pip
mkdir -p /code
"""
_CERTIFICATES = "/tmp/ca-bundle.pem"


class Benchmark(NamedTuple):
    """One of the benchmarks in AgentRun's published tests."""

    name: str
    code: str
    end: str
    """How the output ends."""
    options: Mapping[str, Any]
    ours_only: Mapping[str, Any]


class Caller:
    """A process that calls one of the classes."""

    def __init__(self, python: str, module: str, **options: Any) -> None:
        self._options = options
        self._process = subprocess.Popen(
            [python, "-c", _CALLER, module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def new(self, options: Mapping[str, Any]) -> None:
        """Replace the object of the class."""
        problem, _ = self._call("new", {**self._options, **options})
        if problem is not None:
            raise RuntimeError(problem)

    def check(self, code: str) -> str:
        answer, _ = self._call("safety_check", code)
        return answer["message"]

    def run(self, code: str) -> tuple[str, float]:
        """What `execute_code_in_container` returns, and the milliseconds that it takes."""
        answer, seconds = self._call("execute_code_in_container", code)
        return answer, seconds * 1000

    def _call(self, method: str, argument: object) -> tuple[Any, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([method, argument]), file=self._process.stdin, flush=True)
        answer, seconds = json.loads(self._process.stdout.readline())
        return answer, seconds


@contextmanager
def agentruns_container(api: APIClient, image: str) -> Generator[str]:
    """The name of a container as AgentRun's tests make one, with what packages are fetched with on this machine."""
    network = NetworkSettings.from_environment(os.environ)
    environment = {
        **network.environment(),
        "PATH": "/usr/local/bin:/usr/bin:/bin",  # the system's Python, as `uv --system` wants it
        "UV_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    if network.index_url is not None:
        environment["PIP_INDEX_URL"] = network.index_url
    if network.ca_bundle is not None:
        environment |= {"SSL_CERT_FILE": _CERTIFICATES, "PIP_CERT": _CERTIFICATES}
    config = api.create_host_config(security_opt=["no-new-privileges:true"])
    container = api.create_container(
        image, entrypoint=["sleep", "100000"], user="0:0", environment=environment, host_config=config
    )["Id"]
    try:
        api.start(container)
        if network.ca_bundle is not None:
            api.put_archive(container, "/tmp", _archive(Path(_CERTIFICATES).name, network.ca_bundle))
        prepared: Any = api.exec_create(container, ["sh", "-c", _PREPARE])
        said = api.exec_start(prepared)
        if api.exec_inspect(prepared)["ExitCode"] != 0:
            raise RuntimeError(said.decode())
        yield container
    finally:
        api.remove_container(container, force=True, v=True)


def _archive(name: str, content: bytes) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


@contextmanager
def agentruns_python(*others: str) -> Generator[str]:
    """A Python that has AgentRun, and *others*."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "agentrun==0.2.5", *others], check=True)
        yield python


def compare_examples(theirs: Caller, ours: Caller) -> bool:
    """Print what both return; whether all is as expected."""
    print("| example | AgentRun | mcp-agentrun | reason |\n| --- | --- | --- | --- |")
    is_expected = True
    for group in (SAFETY_CHECKS, EXAMPLES, DIFFERENCES):
        options: Mapping[str, Any] | None = None
        for example in group:
            if example.options != options:
                options = example.options
                theirs.new(options)
                ours.new(options)
            answers = [_answer(caller, example, is_check=group is SAFETY_CHECKS) for caller in (theirs, ours)]
            expected = [example.theirs, example.expected]
            is_expected &= answers == expected
            same = "the same" if answers[0] == answers[1] else f"`{answers[1]!r}`"
            reason = example.why if answers == expected else f"UNEXPECTED, not {expected}"
            print(f"| {example.name} | `{answers[0]!r}` | {same} | {reason} |", flush=True)
    return is_expected


def _answer(caller: Caller, example: Example, *, is_check: bool) -> str:
    return caller.check(example.code) if is_check else caller.run(example.code)[0]


def compare_times(theirs: Caller, ours: Caller, url: str) -> None:
    """Print the times of AgentRun's benchmarks, which both do in turns."""
    fetch = f"import requests\nprint(requests.get({url!r}).status_code)"
    with_network = {"network": "bridge"}
    benchmarks = (
        Benchmark(
            "cached dependency",
            "import numpy\nprint(numpy.arange(3))",
            "[0 1 2]\n",
            {"cached_dependencies": ["numpy"]},
            {},
        ),
        Benchmark("dependency, and a request", fetch, "200\n", {}, with_network),
        Benchmark("exception", "print(f'{1/0}')", "ZeroDivisionError: division by zero\n", {}, {}),
        Benchmark("vanilla", "print('hello')", "hello\n", {}, {}),
    )
    print(f"\n| {ROUNDS} rounds, ms | AgentRun: median | least to most | mcp-agentrun: median | least to most |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for each in benchmarks:
        theirs.new(each.options)
        ours.new({**each.options, **each.ours_only})
        times: dict[Caller, list[float]] = {theirs: [], ours: []}
        for number in range(WARM_UP + ROUNDS):
            for caller in (theirs, ours) if number % 2 else (ours, theirs):
                answer, taken = caller.run(each.code)
                if not answer.endswith(each.end):
                    raise RuntimeError(f"{each.name}: {answer}")
                times[caller].append(taken)
        columns = " | ".join(_times(times[caller][WARM_UP:]) for caller in (theirs, ours))
        print(f"| {each.name} | {columns} |", flush=True)


def _times(times: list[float]) -> str:
    return f"{statistics.median(times):.0f} | {min(times):.0f} to {max(times):.0f}"


def open_docker() -> tuple[APIClient, str]:
    """A client of the container engine, and the runner image."""
    api, tried = connect()
    if api is None:
        sys.exit(f"no container engine: {tried}")
    return api, anyio.run(_ensure_image)


async def _ensure_image() -> str:
    async with open_engine() as engine:
        return await engine.ensure_image(lambda stage: print(stage, file=sys.stderr))


def main() -> None:
    api, image = open_docker()
    with ExitStack() as stack:
        stack.enter_context(contextlib.closing(api))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "simple").mkdir()
        url = stack.enter_context(serve_index(folder, api)) + "/"
        container = stack.enter_context(agentruns_container(api, image))
        python = stack.enter_context(agentruns_python())
        theirs = stack.enter_context(Caller(python, "agentrun", container_name=container))
        ours = stack.enter_context(Caller(sys.executable, "mcp_agentrun.compat"))
        is_expected = compare_examples(theirs, ours)
        compare_times(theirs, ours, url)
    sys.exit(not is_expected)


if __name__ == "__main__":
    main()
