"""``mcp-agentrun serve``."""

from __future__ import annotations

import click

from .options import ALL_GROUPS, SettingsCommand, effective_settings

__all__ = ["serve"]


@click.command(cls=SettingsCommand, groups=ALL_GROUPS, short_help="Serve many MCP clients over HTTP.")
def serve() -> None:
    """Example: mcp-agentrun serve --port 8000

    Serve many MCP clients over HTTP: streamable HTTP at /mcp, SSE at /sse.
    """
    from ..server.http.app import serve_http

    serve_http(effective_settings())
