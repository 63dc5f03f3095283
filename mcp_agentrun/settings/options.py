"""Settings as keyword arguments, for type checkers. Made by ``python -m tests.support.settings_options``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, TypedDict

__all__ = ["AllOptions", "Options"]


class Options(TypedDict, total=False):
    """Settings by flat name. Sizes are in bytes, or strings such as ``"256m"``; times are in seconds."""

    accept_weak_engine: bool
    allow_public_without_auth: bool
    allowed_hosts: Sequence[str] | str
    allowed_origins: Sequence[str] | str
    audit_age: int
    audit_code: bool
    audit_file: str | os.PathLike[str] | None
    audit_size: int | str
    auth: bool
    auto_install: Literal["off", "known", "all"]
    body_limit: int | str
    cache_size: int | str
    checkpoints: bool
    code_limit: int | str
    cpus: float
    data: Sequence[str] | str
    drain: float
    host: str
    idle_ttl: float
    image: str | None
    image_base: str
    image_packages: Sequence[str] | str
    image_registry: str | None
    inodes: int
    install_timeout: float
    kubernetes_context: str | None
    kubernetes_cpu_request: float
    kubernetes_lifetime: float
    kubernetes_memory_request: int | str
    kubernetes_namespace: str | None
    kubernetes_node_selector: Sequence[str] | str
    kubernetes_packages_claim: str | None
    kubernetes_priority_class: str | None
    kubernetes_pull_secrets: Sequence[str] | str
    kubernetes_seccomp: str
    kubernetes_tolerations: Sequence[str] | str
    kubernetes_user_namespaces: bool
    log_format: Literal["text", "json"]
    log_level: Literal["debug", "info", "warning", "error"]
    max_sandboxes: int
    max_timeout: float
    max_total: int
    max_ttl: float
    memory: int | str
    network: Literal["none", "bridge"]
    oauth_client_id: str | None
    oauth_client_secret_file: str | os.PathLike[str] | None
    oauth_introspection: str | None
    oauth_issuer: str | None
    oauth_resource: str | None
    oauth_scopes: Sequence[str] | str
    offline: bool
    open_files: int
    out: str | None
    out_size: int | str
    output_keep: int | str
    output_show: int | str
    own_url: str | None
    packages_allow: Sequence[str] | str
    packages_build: bool
    packages_constraints: str | os.PathLike[str] | None
    packages_deny: Sequence[str] | str
    packages_download: int | str
    packages_exclude_newer: str | None
    packages_files: int
    packages_most: int
    packages_require_hashes: bool
    packages_size: int | str
    packages_urls: bool
    peers: Sequence[str] | str
    pids: int
    pool_max: int
    port: int
    preinstall: Sequence[str] | str
    preload: Sequence[str] | str
    queue: int
    rate_limit: float
    reserve: int | str
    resource_links: bool
    safety: Literal["strict", "standard", "off"]
    safety_off: Sequence[str] | str
    safety_rules: str | os.PathLike[str] | None
    safety_warn: bool
    shm_size: int | str
    stranger_limit: float
    timeout: float
    tmp_size: int | str
    token_file: str | os.PathLike[str] | None
    tools: Sequence[str] | str
    trusted_proxies: Sequence[str] | str
    uid_range: tuple[int, int] | str
    wheelhouse: str | os.PathLike[str] | None
    workspace_size: int | str


class AllOptions(Options, total=False):
    """All settings: those as well that are parameters of `AsyncRuntime` and `AsyncSandbox`."""

    engine: str
    pool: int
    runtime: str | None
