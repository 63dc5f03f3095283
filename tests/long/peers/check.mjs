// What the scripts share: where the server is, what is demanded of every client, and telling what was tried.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

/** The command that starts the server, and where it serves over HTTP. */
export const [command, ...args] = JSON.parse(process.env.PEER_COMMAND);
export const url = process.env.PEER_URL;
export const sseUrl = url.replace(/\/mcp$/, "/sse");
export const headers = { Authorization: `Bearer ${process.env.PEER_TOKEN}` };

export const TOOLS = ["install_package", "reset_sandbox", "run_python"];

/** All the text of a tool's answer. */
export function textOf(result) {
  assert.ok(result.content.every((block) => block.type === "text"));
  return result.content.map((block) => block.text).join("");
}

/** Insist that an answer has this text, or text that matches this pattern, and is an error or none. */
export function expect(result, wanted, { isError = false } = {}) {
  const text = textOf(result);
  if (wanted instanceof RegExp) assert.match(text, wanted);
  else assert.equal(text, wanted);
  assert.equal(result.isError ?? false, isError, `isError of the answer ${JSON.stringify(text)}`);
}

/** The `sandbox` argument by which to come back to where an answer is from: none where the connection owns it. */
export function sandboxOf(result) {
  const handle = result._meta["agentrun/run"].sandbox;
  if (handle === null) return {};
  assert.ok(textOf(result).includes(`sandbox="${handle}"`), "a model that sees the text alone learns the handle");
  return { sandbox: handle };
}

/** Insist that code runs, that its state is kept, and that an error is told as one; `run` takes a tool's arguments. */
export async function demand(run) {
  const first = await run({ code: "x = 41" });
  const own = sandboxOf(first);
  expect(await run({ code: "x + 1", ...own }), "42\n");
  expect(await run({ code: "1 / 0", ...own }), /\nZeroDivisionError: division by zero\n$/, { isError: true });
  expect(await run({ code: "print(x)", ...own }), "41\n");
  return own;
}

/** Tell, in the last line, what was tried, with which versions of these packages. */
export function report(cases, ...packages) {
  const versions = {};
  for (const name of packages) {
    const path = new URL(`node_modules/${name}/package.json`, import.meta.url);
    versions[name] = JSON.parse(readFileSync(path, "utf8")).version;
  }
  console.log(JSON.stringify({ versions, cases }));
}
