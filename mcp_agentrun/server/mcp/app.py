"""Build the MCP server from its tools and resources."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import Any

from mcp import MCPError
from mcp.server import NotificationOptions, Server
from mcp.server.context import CallNext, HandlerResult
from mcp.server.models import InitializationOptions
from mcp.server.subscriptions import ListenHandler
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListToolsResult,
    PaginatedRequestParams,
    SetLevelRequestParams,
)

from ...audit import through
from ...errors import InvalidRequestError
from ...sessions import SessionManager
from .calls import Call, OnCall, Service, answer, ignore_call
from .connections import CallerOf, Lifespan, no_lifespan, on_stdio, set_log_level
from .out_folder import OutFolder
from .render import failure
from .resources import Resources
from .revisions import adapt
from .sdk import RequestContext
from .tools import DEFAULT_TOOLS, TOOLS, Tool

__all__ = ["AgentRunServer", "build_server"]

_INSTRUCTIONS = (
    "A private Python interpreter in a locked-down container on the user's own machine. Work in small steps: each "
    "run_python call sees the variables of the ones before. After an error, read the traceback, fix the code and go "
    "on; earlier variables are still there."
)
_LONGEST_NAME = 200


class AgentRunServer(Server[Any]):
    """An MCP server that announces changes of its resources."""

    def create_initialization_options(
        self, notification_options: NotificationOptions | None = None, *arguments: Any, **options: Any
    ) -> InitializationOptions:
        changes = notification_options or NotificationOptions(resources_changed=True)
        return super().create_initialization_options(changes, *arguments, **options)


def build_server(
    sessions: SessionManager,
    caller_of: CallerOf = on_stdio,
    on_call: OnCall = ignore_call,
    *,
    lifespan: Lifespan = no_lifespan,
) -> AgentRunServer:
    """Return an MCP server whose sandboxes are those of *sessions*.

    On stdio, it begins to prepare the client's sandbox after its first answer.

    :param caller_of: identifies the caller of a request.
    :param on_call: called after each call of a tool.
    :param lifespan: entered for each stream to a client.
    :raises SettingsError: the folder for copies of files can't be created.
    """
    out = OutFolder(sessions.settings) if sessions.settings.access.out else None
    service = Service(sessions, caller_of, on_call, out)
    offered = dict.fromkeys((*DEFAULT_TOOLS, *sessions.settings.mcp.tools))
    tools = _Tools(service, [TOOLS[name] for name in offered])
    resources = Resources(sessions, caller_of, service.outputs)
    server = AgentRunServer(
        "mcp-agentrun",
        title="AgentRun: a private Python",
        instructions=_INSTRUCTIONS,
        version=version("mcp-agentrun"),
        website_url="https://github.com/mcp-agentrun/mcp-agentrun",
        get_tool_input_schema=tools.input_schema,
        on_list_tools=tools.list,
        on_call_tool=tools.call,
        on_list_resources=resources.list,
        on_list_resource_templates=resources.list_templates,
        on_read_resource=resources.read,
        on_subscriptions_listen=ListenHandler(service.changes),
        on_list_prompts=_list_prompts,
        on_get_prompt=_get_prompt,
        lifespan=lifespan,
    )
    server.add_request_handler("logging/setLevel", SetLevelRequestParams, set_log_level)
    server.middleware.append(_Middleware(sessions))
    return server


class _Tools:
    """Handlers for the tools that a server offers."""

    def __init__(self, service: Service, tools: list[Tool]) -> None:
        self._service = service
        self._tools = {tool.name: tool for tool in tools}
        self._definitions = [tool.definition(service) for tool in tools]

    def input_schema(self, name: str) -> dict[str, Any] | None:
        return self._tools[name].arguments.schema if name in self._tools else None

    async def list(self, _ctx: RequestContext, _params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=self._definitions)

    async def call(self, ctx: RequestContext, params: CallToolRequestParams) -> CallToolResult:
        tool = self._tools.get(params.name)
        if tool is None:
            known = ", ".join(self._tools)
            return failure(f"There is no tool {params.name[:_LONGEST_NAME]!a}. The tools are {known}.", "error")
        try:
            arguments = tool.arguments.parse(params.arguments or {})
        except InvalidRequestError as error:
            return failure(f"Nothing was done: {error}", "error")
        call = Call(self._service, ctx, tool.name, tool.stage)
        return await answer(call, partial(tool.function, call, **arguments))


class _Middleware:
    """Adapts answers to the client's protocol revision, and starts preparing a sandbox after the first one."""

    def __init__(self, sessions: SessionManager) -> None:
        self._sessions = sessions

    async def __call__(self, ctx: RequestContext, call_next: CallNext) -> HandlerResult:
        with through("mcp"):
            result = await call_next(ctx)
        await self._sessions.begin()
        return adapt(ctx.method, ctx.protocol_version, result)


async def _list_prompts(_ctx: RequestContext, _params: PaginatedRequestParams | None) -> ListPromptsResult:
    return ListPromptsResult(prompts=[])


async def _get_prompt(_ctx: RequestContext, params: GetPromptRequestParams) -> GetPromptResult:
    raise MCPError(INVALID_PARAMS, f"Unknown prompt: {params.name[:_LONGEST_NAME]!a}")
