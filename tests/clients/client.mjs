// The server as the client of the TypeScript SDK sees it.

import assert from "node:assert/strict";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

import { TOOLS, expect, server, show, textOf } from "./check.mjs";

const [command, ...args] = server;
const client = new Client({ name: "mcp-agentrun-clients", version: "1.0.0" });
await client.connect(new StdioClientTransport({ command, args, env: process.env }));

async function call(name, toolArguments, options) {
  const started = performance.now();
  const result = await client.callTool({ name, arguments: toolArguments }, undefined, options);
  const elapsed = (performance.now() - started).toFixed(1);
  show(`${name} ${JSON.stringify(toolArguments)} (${elapsed} ms)`, textOf(result));
  return result;
}

const runPython = (code, options) => call("run_python", { code }, options);

try {
  const { name, version } = client.getServerVersion();
  show("initialize", `${name} ${version}`);
  assert.equal(name, "mcp-agentrun");
  const { tools } = await client.listTools();
  show("tools/list", tools.map((tool) => `${tool.name}: ${tool.description}`).join("\n"));
  assert.deepEqual(tools.map((tool) => tool.name).sort(), TOOLS);

  // State lives from call to call, and text is not mangled on its way.
  expect(await runPython("x = 41\ngreeting = 'こんにちは 🐧'"), /printed nothing/);
  const answer = await runPython("print(greeting)\nx + 1");
  expect(answer, "こんにちは 🐧\n42\n");
  assert.equal(answer._meta["agentrun/run"].state, "kept");
  assert.equal(answer.structuredContent, undefined);

  expect(await call("install_package", { packages: ["cowsay"] }), /^Installed, ready to import: cowsay /);
  expect(await runPython("import cowsay\ncowsay.cow(greeting)"), /こんにちは 🐧/);

  // An error of the code is an answer with a traceback, and costs no variable.
  expect(await runPython("int('penguin')"), /\nValueError: invalid literal [^\n]*'penguin'\n$/, { isError: true });
  expect(await runPython("x"), "41\n");

  const late = await call("run_python", { code: "while True: pass", timeout: 0.5 });
  expect(late, /KeyboardInterrupt\n[^]*time limit of 0.5 s/, { isError: true });
  assert.equal(late._meta["agentrun/run"].outcome, "timeout");
  expect(await runPython("x"), "41\n");

  // Progress is told every five seconds, so that clients which give up on silence don't.
  const heard = [];
  const onprogress = (progress) => heard.push(progress);
  expect(await runPython("import time\ntime.sleep(7)", { onprogress }), /printed nothing/);
  show("notifications/progress", heard.map((progress) => JSON.stringify(progress)).join("\n"));
  assert.ok(heard.length >= 1 && heard.every(({ progress, message }) => progress > 0 && message));

  // A cancelled call stops its code; the session goes on.
  const cancelled = new AbortController();
  setTimeout(() => cancelled.abort("enough"), 1000);
  const started = performance.now();
  await assert.rejects(runPython("time.sleep(25)", { signal: cancelled.signal }));
  expect(await runPython("x"), "41\n");
  const elapsed = performance.now() - started;
  show("a call cancelled after 1 s, and the next one", `answered after ${(elapsed / 1000).toFixed(1)} s`);
  assert.ok(elapsed < 15_000);

  expect(await call("reset_sandbox", {}), /all variables are gone/);
  expect(await runPython("x"), /\nNameError: name 'x' is not defined\n$/, { isError: true });
} finally {
  await client.close();
}

console.log("\nTypeScript SDK: all as it must be.");
