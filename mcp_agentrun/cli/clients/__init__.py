"""The files in which MCP clients keep their servers."""

from .files import ClientFile
from .table import CLIENTS, Client, Server

__all__ = ["CLIENTS", "Client", "ClientFile", "Server"]
