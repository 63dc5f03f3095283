// What the two scripts share: insisting on something, and showing it.

import assert from "node:assert/strict";

/** The command that starts the server: the script's own arguments. */
export const server = process.argv.slice(2);

if (server.length === 0) {
  console.error(`usage: node ${process.argv[1]} <command that starts the server>`);
  process.exit(2);
}

/** Print a heading, and below it what was answered. */
export function show(heading, text) {
  console.log(`\n# ${heading}`);
  for (const line of text.trimEnd().split("\n")) console.log(`  ${line}`);
}

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

export const TOOLS = ["install_package", "reset_sandbox", "run_python"];
