// The server as the clients of the TypeScript SDK see it: version 1, and version 2 in both eras of the protocol.

import assert from "node:assert/strict";

import * as v2 from "@modelcontextprotocol/client";
import * as v2Stdio from "@modelcontextprotocol/client/stdio";
import * as v1 from "@modelcontextprotocol/sdk/client/index.js";
import * as v1Sse from "@modelcontextprotocol/sdk/client/sse.js";
import * as v1Stdio from "@modelcontextprotocol/sdk/client/stdio.js";
import * as v1Http from "@modelcontextprotocol/sdk/client/streamableHttp.js";

import { TOOLS, args, command, demand, expect, headers, report, sseUrl, url } from "./check.mjs";

const [generation] = process.argv.slice(2);
const NAME = { name: "mcp-agentrun-peers", version: "1.0.0" };
const { Client, StdioClientTransport, StreamableHTTPClientTransport, SSEClientTransport } =
  generation === "v1" ? { ...v1, ...v1Stdio, ...v1Http, ...v1Sse } : { ...v2, ...v2Stdio };

const TRANSPORTS = {
  stdio: () => new StdioClientTransport({ command, args, env: process.env }),
  http: () => new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }),
  sse: () => new SSEClientTransport(new URL(sseUrl), { requestInit: { headers } }),
};

/** What a client of either version has in common. */
class Connected {
  constructor(client, protocol) {
    this.client = client;
    this.protocol = protocol;
  }

  static async open(transportName, mode) {
    const transport = TRANSPORTS[transportName]();
    let protocol;
    const setProtocolVersion = transport.setProtocolVersion?.bind(transport);
    transport.setProtocolVersion = (version) => {
      protocol = version;
      setProtocolVersion?.(version);
    };
    const client = new Client(NAME, { versionNegotiation: { mode } });
    await client.connect(transport);
    return new Connected(client, client.getNegotiatedProtocolVersion?.() ?? protocol);
  }

  call(name, toolArguments, options) {
    const request = { name, arguments: toolArguments };
    return generation === "v1" ? this.client.callTool(request, undefined, options) : this.client.callTool(request, options);
  }
}

/** A longer conversation, over a connection that owns its sandbox. */
async function converse(connected) {
  const call = (...request) => connected.call(...request);
  const runPython = (code, options) => call("run_python", { code }, options);

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
  assert.ok(heard.length >= 1 && heard.every(({ progress, message }) => progress > 0 && message));

  // A cancelled call stops its code; the session goes on.
  const cancelled = new AbortController();
  const onfirst = () => cancelled.abort("enough");
  const endless = "print('begun', flush=True)\ntime.sleep(25)";
  await assert.rejects(runPython(endless, { signal: cancelled.signal, onprogress: onfirst }));
  expect(await runPython("x"), "41\n");

  expect(await call("reset_sandbox", {}), /all variables are gone/);
  expect(await runPython("x"), /\nNameError: name 'x' is not defined\n$/, { isError: true });
}

const cases = [];
const modes = generation === "v1" ? [undefined] : ["legacy", "auto"];
for (const mode of modes) {
  for (const transport of ["stdio", "http", "sse"]) {
    const connected = await Connected.open(transport, mode);
    try {
      assert.equal(connected.client.getServerVersion().name, "mcp-agentrun");
      const { tools } = await connected.client.listTools();
      assert.deepEqual(tools.map((tool) => tool.name).sort(), TOOLS);
      const own = await demand((toolArguments) => connected.call("run_python", toolArguments));
      assert.equal("sandbox" in own, mode === "auto" && transport === "http");
      if (!own.sandbox) await converse(connected);
    } finally {
      await connected.client.close();
    }
    cases.push(`${transport} ${connected.protocol}`);
  }
}

report(cases, generation === "v1" ? "@modelcontextprotocol/sdk" : "@modelcontextprotocol/client");
