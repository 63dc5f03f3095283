"""The texts that a model reads where there is much to show: ``python -m benchmarks.texts`` (more than 3 minutes)."""

from __future__ import annotations

import sys

import anyio
from mcp.types import TextContent

from .common import client_of

CODES = {
    "a DataFrame of 100,000 rows": """
import numpy as np, pandas as pd
rng = np.random.default_rng(1)
pd.DataFrame({"id": range(100_000), "city": rng.choice(["Kyoto", "Osaka", "Nara"], 100_000),
              "price": rng.normal(100, 15, 100_000).round(2)})""",
    "a print of 10 MB": """
for number in range(500_000):
    print(f"line {number:>7} of many")""",
    "a loop of 3 minutes with tqdm": """
from tqdm import tqdm
import time
for _ in tqdm(range(1800), desc="training"):
    time.sleep(0.1)
print("done")""",
}


async def main() -> None:
    told = 0

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        nonlocal told
        told += 1
        if told % 30 == 1:
            print(f"  progress: {message}", flush=True)

    async with client_of("-m", "mcp_agentrun") as client:
        await client.call_tool("install_package", {"packages": "tqdm"})
        for what, code in CODES.items():
            told = 0
            answer = await client.call_tool(
                "run_python", {"code": code.strip(), "timeout": 290}, progress_callback=on_progress
            )
            text = "".join(block.text for block in answer.content if isinstance(block, TextContent))
            print(f"== {what}: {len(text):,} characters, told {told} times meanwhile", flush=True)
            print(
                text if len(text) < 3000 else f"{text[:200]}\n(...)\n{middle(text)}\n(...)\n{text[-400:]}", flush=True
            )


def middle(text: str) -> str:
    at = text.find("[agentrun]")
    return text[max(0, at - 80) : at + 200]


if __name__ == "__main__":
    sys.exit(anyio.run(main))
