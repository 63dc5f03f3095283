// The server as the command line of MCP Inspector sees it, which makes a connection for each request.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

import { TOOLS, args, command, expect, headers, report, sandboxOf, sseUrl, url } from "./check.mjs";

const INSPECTOR = fileURLToPath(new URL("node_modules/.bin/mcp-inspector", import.meta.url));

// It exits with this status where the answer of a tool is an error.
const TOOL_ERROR = 5;

const HEADER = ["--header", `Authorization: ${headers.Authorization}`];
const TARGETS = {
  stdio: [command, ...args],
  http: [url, ...HEADER],
  sse: [sseUrl, ...HEADER],
};

function inspect(transport, era, ...request) {
  const { status, stdout, stderr, error } = spawnSync(
    INSPECTOR,
    ["--cli", ...TARGETS[transport], "--protocol-era", era, "--format", "json", ...request],
    { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] },
  );
  assert.ifError(error);
  assert.ok(stdout, `status ${status}: ${stderr}`);
  const answer = JSON.parse(stdout).result;
  assert.equal(status, answer.isError ? TOOL_ERROR : 0, `exit status of the Inspector: ${stderr}`);
  return answer;
}

const cases = [];
for (const [transport, era] of [
  ["stdio", "legacy"],
  ["http", "legacy"],
  ["sse", "legacy"],
  ["stdio", "modern"],
  ["http", "modern"],
]) {
  const run = (toolArguments) =>
    inspect(
      transport,
      era,
      ...["--method", "tools/call", "--tool-name", "run_python"],
      ...["--tool-args-json", JSON.stringify(toolArguments)],
    );

  // --strict looks for what other clients and models stumble over in the schemas of the tools.
  const { tools } = inspect(transport, era, "--method", "tools/list", "--strict");
  assert.deepEqual(tools.map((tool) => tool.name).sort(), TOOLS);
  assert.ok(tools.every((tool) => tool.description && tool.inputSchema.type === "object" && !tool.outputSchema));

  const answer = run({ code: "x = 41\nprint('hello')\nx + 1" });
  expect(answer, /^hello\n42\n/);
  assert.equal(answer._meta["agentrun/run"].outcome, "ok");

  const failed = run({ code: "def f(): return 1 / 0\n\nf()" });
  expect(failed, /^Traceback [^]*\nZeroDivisionError: division by zero\n/, { isError: true });
  assert.deepEqual(failed._meta["agentrun/run"].error, {
    type: "ZeroDivisionError",
    message: "division by zero",
    line: 1,
  });

  // Only a handle outlives the connection.
  const own = sandboxOf(answer);
  assert.equal("sandbox" in own, transport === "http" && era === "modern");
  if (own.sandbox) expect(run({ code: "x + 1", ...own }), "42\n");

  cases.push(`${transport} ${era}`);
}

report(cases, "@modelcontextprotocol/inspector");
