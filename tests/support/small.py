"""Settings with limits low enough to reach in a test."""

from __future__ import annotations

import sysconfig

from mcp_agentrun.settings import Settings

MIB = 1 << 20
SMALL = Settings(
    safety="off",
    data=(sysconfig.get_path("purelib"),),  # the real libraries that this project's own packages need
    memory=320 * MIB,
    workspace_size=24 * MIB,
    tmp_size=8 * MIB,
    shm_size=4 * MIB,
    inodes=200,
    pids=32,
    open_files=64,
    code_limit=10_000,
    timeout=60,
    max_timeout=60,
    preload=(),
    auto_install="off",
)
