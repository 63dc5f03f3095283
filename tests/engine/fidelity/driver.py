"""Runs in a plain container of the image: each script on stdin as ``python -u FILE``, one pipe for its output."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

FOLDER = "/tmp/scripts"


def run(item: tuple[str, str]) -> tuple[str, dict[str, object]]:
    name, code = item
    path = f"{FOLDER}/{name}/script.py"  # in a folder of its own, or a script would be a module of another's
    os.makedirs(os.path.dirname(path))
    with open(path, "w", encoding="utf-8") as file:
        file.write(code)
    done = subprocess.run(
        [sys.executable, "-u", path],
        cwd="/workspace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return name, {"output": base64.b64encode(done.stdout).decode(), "exit_code": done.returncode}


if __name__ == "__main__":
    scripts = json.loads(sys.stdin.buffer.readline())
    with ThreadPoolExecutor(2) as pool:
        print(json.dumps(dict(pool.map(run, scripts.items()))), flush=True)
