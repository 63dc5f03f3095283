// The server as the command line of MCP Inspector sees it, which starts a server for each request.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

import { TOOLS, expect, server, show } from "./check.mjs";

const INSPECTOR = fileURLToPath(new URL("node_modules/.bin/mcp-inspector", import.meta.url));

// It exits with this status where the answer of a tool is an error.
const TOOL_ERROR = 5;

function inspect(...request) {
  const { status, stdout, error } = spawnSync(INSPECTOR, ["--cli", ...server, ...request], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  assert.ifError(error);
  show(`mcp-inspector --cli ${server.join(" ")} ${request.join(" ")}`, stdout);
  const answer = JSON.parse(stdout);
  assert.equal(status, answer.isError ? TOOL_ERROR : 0, "exit status of the Inspector");
  return answer;
}

function runPython(code) {
  return inspect("--method", "tools/call", "--tool-name", "run_python", "--tool-arg", `code=${code}`);
}

const { tools } = inspect("--method", "tools/list");
assert.deepEqual(tools.map((tool) => tool.name).sort(), TOOLS);
assert.ok(tools.every((tool) => tool.description && tool.inputSchema.type === "object" && !tool.outputSchema));

const answer = runPython("import sys; print('hello'); sys.version_info.major * 14");
expect(answer, "hello\n42\n");
assert.equal(answer._meta["agentrun/run"].outcome, "ok");

const failed = runPython("def f(): return 1 / 0\n\nf()");
expect(failed, /^Traceback [^]*\nZeroDivisionError: division by zero\n$/, { isError: true });
assert.deepEqual(failed._meta["agentrun/run"].error, {
  type: "ZeroDivisionError",
  message: "division by zero",
  line: 1,
});

console.log("\nMCP Inspector: all as it must be.");
