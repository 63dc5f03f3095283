# /// script
# requires-python = ">=3.11"
# dependencies = ["deepagents==0.7.32", "langchain-openai==1.7.4", "mcp-agentrun>=0.1"]
# ///
"""A deep agent whose shell and files are in a sandbox: a backend for LangChain's deepagents.

OPENAI_API_KEY=... uv run deepagents_sandbox.py "Write a program that solves the eight queens, with tests. Run them."
"""

import os
import shlex
import sys

from deepagents import create_deep_agent
from deepagents.backends import CompositeBackend
from deepagents.backends.protocol import ExecuteResponse, FileDownloadResponse, FileOperationError, FileUploadResponse
from deepagents.backends.sandbox import BaseSandbox

from mcp_agentrun import FileError, Sandbox, describe

MODEL = os.environ.get("MODEL", "openai:gpt-5.5")
TASK = "Write a command-line program that draws the Mandelbrot set as text, test it, and show me its output."
FOLDER = "/workspace"
STAGED = f"{FOLDER}/.upload"

ERRORS: dict[str, FileOperationError] = {
    "missing": "file_not_found",
    "folder": "is_directory",
    "denied": "permission_denied",
    "read_only": "permission_denied",
    "outside": "permission_denied",
    "name": "invalid_path",
}


class SandboxBackend(BaseSandbox):
    """Runs the commands of an agent in *sandbox*, and keeps its files there.

    `BaseSandbox` makes all of its tools (`ls`, `read_file`, `edit_file`, `grep`, ...) from these methods.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    @property
    def id(self) -> str:
        return self._sandbox.id

    def execute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        code = (
            f"import subprocess; raise SystemExit(subprocess.run({command!r}, shell=True, cwd={FOLDER!r}).returncode)"
        )
        result = self._sandbox.run(code, timeout=timeout or None)
        # What a command prints is passed on as it is: deepagents parses it.
        has_ended = result.outcome in ("ok", "error")
        return ExecuteResponse(
            output=result.text if has_ended else describe(result), exit_code=result.exit_code if has_ended else 124
        )

    def upload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        return [FileUploadResponse(path, self._upload(path, data)) for path, data in files]

    def _upload(self, path: str, data: bytes) -> FileOperationError | str | None:
        is_elsewhere = not path.startswith(f"{FOLDER}/")  # such as /tmp, which the library's files don't include
        try:
            self._sandbox.files.write(STAGED if is_elsewhere else path, data)
        except FileError as error:
            return ERRORS.get(error.reason, str(error))
        if is_elsewhere and self.execute(f"mv {STAGED} {shlex.quote(path)}").exit_code != 0:
            return "permission_denied"
        return None

    def download_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        return [self._download(path) for path in paths]

    def _download(self, path: str) -> FileDownloadResponse:
        try:
            return FileDownloadResponse(path, self._sandbox.files.read(path))
        except FileError as error:
            return FileDownloadResponse(path, error=ERRORS.get(error.reason, str(error)))


def main(task: str) -> None:
    # Commands are an agent's whole work here: the container confines them, and the check of Python code has no part.
    with Sandbox(safety="off", timeout=120, max_timeout=3600) as sandbox:
        agent = create_deep_agent(
            MODEL,
            system_prompt=f"Your files are in {FOLDER}; everything else is read-only. Python has numpy and pandas.",
            backend=CompositeBackend(SandboxBackend(sandbox), routes={}, artifacts_root=f"{FOLDER}/.deepagents"),
        )
        state = agent.invoke({"messages": [{"role": "user", "content": task}]})
    print(state["messages"][-1].text)


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or TASK)
