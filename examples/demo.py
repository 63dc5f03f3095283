"""An MCP client that uses the server: ``python examples/demo.py [where to save the plot]``.

It starts ``mcp-agentrun`` over stdio as any client does, and follows a script as a model would: it explores a table in
small steps, makes a mistake, fixes it from the traceback, installs a package, draws a plot, and starts over. Every
answer is checked. The exit code is 1 if one is wrong.
"""

from __future__ import annotations

import ast
import base64
import difflib
import os
import re
import struct
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult, ImageContent, TextContent

TABLE = Path(__file__).with_name("penguins.csv")
PLOT = Path("build/penguins.png")

LONGEST_SHOWN = 30  # lines of one text

COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
TITLE, SENT, FAILED, FAINT = "1", "36", "33", "2"

LOAD = """
import io
import pandas as pd

penguins = pd.read_csv(io.StringIO({table!r}))
penguins.shape
"""

LOOK = """
print(penguins.isna().sum().to_string(), end="\\n\\n")
complete = penguins.dropna()
print(f"{len(penguins) - len(complete)} rows have gaps, {len(complete)} are complete")
complete.groupby(["species", "island"]).size()
"""

MASS = """
mass = pd.DataFrame({{
    "mean": complete["{column}"].groupby(complete["species"]).mean().round(),
    "heaviest": complete["{column}"].groupby(complete["species"]).max(),
}})
mass
"""

TABULATE = """
from tabulate import tabulate

print(tabulate(mass, headers="keys", tablefmt="rounded_outline"))
"""

DRAW = """
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6.4, 4))
for species, group in complete.groupby("species"):
    axes.scatter(group["flipper_length_mm"], group["body_mass_g"], s=14, label=f"{species} (n={len(group)})")
axes.set_title("パーマー諸島のペンギン (Palmer penguins)")
axes.set_xlabel("翼の長さ, flipper length [mm]")
axes.set_ylabel("体重, body mass [g]")
axes.legend();
"""


class UnexpectedAnswerError(Exception):
    """The server's answer is not the expected one."""


def paint(text: str, style: str) -> str:
    """Return *text* in *style*, if the terminal shows it."""
    return f"\033[{style}m{text}\033[0m" if COLOUR and text else text


def show(text: str, mark: str, style: str = "") -> None:
    """Print *text*, each line after *mark*. The middle of long texts and long lines is left out."""
    lines = text.strip("\n").splitlines()
    if len(lines) > LONGEST_SHOWN:
        lines = [*lines[:3], f"... {len(lines) - 6} more lines ...", *lines[-3:]]
    for line in lines:
        shown = line if len(line) <= 160 else f"{line[:100]} ... {len(line) - 140} more characters ... {line[-40:]}"
        print(paint(mark, FAINT) + (paint(shown, style) if style else shown), flush=True)


def text_of(result: CallToolResult) -> str:
    """Return the text of an answer."""
    return "".join(block.text for block in result.content if isinstance(block, TextContent))


def require(condition: bool, what: str) -> None:
    """Check that *condition* holds.

    :raises UnexpectedAnswerError: it does not; the message is *what*.
    """
    if not condition:
        raise UnexpectedAnswerError(what)


class Conversation:
    """Calls tools, and prints requests and answers."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.pictures: list[bytes] = []
        """Pictures of the last answer."""

    async def call(self, tool: str, arguments: dict[str, Any], *, fails: bool = False) -> str:
        """Call *tool* and return the text of its answer.

        :param fails: whether an error is expected.
        :raises UnexpectedAnswerError: it succeeded although an error was expected, or the other way round.
        """
        shown = dict(arguments)
        code = shown.pop("code", None)
        print(paint(tool, TITLE), *(f"{name}={value!r}" for name, value in shown.items()))
        if code is not None:
            show(code, "  > ", SENT)
        started = time.perf_counter()
        result = await self._client.call_tool(tool, arguments, progress_callback=self._show_progress)
        elapsed = time.perf_counter() - started
        text = text_of(result)
        self.pictures = [base64.b64decode(block.data) for block in result.content if isinstance(block, ImageContent)]
        show(text, "  | ", FAILED if result.is_error else "")
        print(paint(f"  {elapsed * 1000:.1f} ms", FAINT), flush=True)
        require(result.is_error is fails, f"{tool} {'succeeded' if fails else 'failed'}")
        return text

    async def run(self, code: str, *, fails: bool = False) -> str:
        """Run *code* and return its output."""
        return await self.call("run_python", {"code": code.strip("\n")}, fails=fails)

    async def _show_progress(self, progress: float, total: float | None, message: str | None) -> None:
        show(message or f"{progress:g}", "  . ", FAINT)


def step(title: str) -> None:
    print("\n" + paint(f"== {title}", TITLE), flush=True)


def explain(text: str) -> None:
    print(textwrap.fill(text, 100), flush=True)


async def demonstrate(client: Client, plot: Path) -> None:
    """Go through all steps.

    :raises UnexpectedAnswerError: an answer is wrong.
    """
    talk = Conversation(client)

    step("Load a table: it travels inside the code, because the sandbox has no network")
    shape = await talk.run(LOAD.format(table=TABLE.read_text("utf-8")))
    require(shape == "(344, 8)\n", "the table is incomplete")

    step("Look around: the variables of the last call are still there")
    summary = await talk.run(LOOK)
    require("333 are complete" in summary and "Gentoo" in summary, "the table's summary is wrong")

    step("Make a mistake")
    traceback = await talk.run(MASS.format(column="body_mass"), fails=True)

    step("Fix it from the traceback")
    last_line = traceback.strip().splitlines()[-1]
    match = re.fullmatch(r"KeyError: '(\w+)'", last_line)
    require(match is not None, f"the traceback ends in {last_line!r}")
    wrong = match[1] if match is not None else ""
    explain(f"Its last line says: {last_line}. So which columns are there?")
    columns: list[str] = ast.literal_eval(await talk.run("complete.columns.to_list()"))
    column = difflib.get_close_matches(wrong, columns, n=1)[0]
    explain(f"{wrong!r} must be {column!r}.")
    masses = await talk.run(MASS.format(column=column))
    require("5092.0" in masses and "6300" in masses, "the mean masses are wrong")

    step("Install a package and use it: variables stay")
    installed = await talk.call("install_package", {"packages": "tabulate"})
    require("tabulate" in installed, "the answer does not name the package")
    framed = await talk.run(TABULATE)
    require("╭" in framed and "Gentoo" in framed, "tabulate did not draw its table")

    step("Draw a plot, and save it on this machine")
    drawn = await talk.run(DRAW)
    require("Glyph" not in drawn, "the plot is missing Japanese characters")
    require(len(talk.pictures) == 1, "the answer has no plot")
    (picture,) = talk.pictures
    width, height = png_size(picture)
    require(width > height > 300 and len(picture) > 10_000, "the plot has the wrong size")
    await anyio.Path(plot.parent).mkdir(parents=True, exist_ok=True)
    await anyio.Path(plot).write_bytes(picture)
    explain(f"Saved {plot}: {width} x {height} pixels, {len(picture):,} bytes.")

    step("Start over")
    await talk.call("reset_sandbox", {})
    gone = await talk.run("penguins", fails=True)
    require(gone.endswith("NameError: name 'penguins' is not defined\n"), "the variable survived the reset")


def png_size(picture: bytes) -> tuple[int, int]:
    """Return the width and height of a PNG.

    :raises UnexpectedAnswerError: it is not a PNG, or is cut off.
    """
    require(picture.startswith(b"\x89PNG\r\n\x1a\n") and b"IEND" in picture[-8:], "the plot is not a complete PNG")
    width, height = struct.unpack_from(">II", picture, 16)
    return width, height


async def main() -> int:
    plot = Path(sys.argv[1]) if len(sys.argv) > 1 else PLOT
    server = StdioServerParameters(command=sys.executable, args=["-m", "mcp_agentrun"], env=dict(os.environ))
    started = time.perf_counter()
    async with Client(stdio_client(server)) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        explain(f"Connected after {time.perf_counter() - started:.1f} s. The server offers {', '.join(tools)}.")
        # Caught inside, because the client's task group would wrap it in an exception group.
        try:
            await demonstrate(client, plot)
        except UnexpectedAnswerError as error:
            print(f"\n{paint('The demo failed:', FAILED)} {error}.", file=sys.stderr, flush=True)
            return 1
    print("\n" + paint(f"Done in {time.perf_counter() - started:.1f} s. The container is gone.", TITLE))
    return 0


if __name__ == "__main__":
    sys.exit(anyio.run(main))
