// Takes the pictures of the documentation in a real browser, Chromium (CHROMIUM names its program): a plot as it arrives
// in a client, as MCP Inspector's web page shows it, and in the blocks in which two other clients show a tool's answer;
// and the site, wide and narrow.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import puppeteer from "puppeteer-core";

/** The command that starts the server: the script's own arguments. */
const server = process.argv.slice(2);

const SITE = new URL("../../../build/site/", import.meta.url);
const FOLDER = fileURLToPath(new URL("../../../docs/pictures/", import.meta.url));
const INSPECTOR = fileURLToPath(new URL("node_modules/.bin/mcp-inspector", import.meta.url));
const TIMEOUT = 120_000;

// In one line, because the Inspector's field has only one.
const CODE = [
  "import matplotlib.pyplot as plt",
  "plt.figure(figsize=(6.4, 3.2))",
  'plt.plot(range(1, 13), [5, 6, 9, 15, 19, 22, 26, 27, 23, 18, 13, 8], marker="o")',
  'plt.title("東京の気温 (temperatures in Tokyo)")',
  'plt.xlabel("月 (month)")',
  'plt.ylabel("気温 [°C]")',
  "plt.grid(alpha=0.3);",
].join("; ");

/** The same with characters that every machine's browser can show. */
const SHORT_CODE = `import matplotlib.pyplot as plt

plt.figure(figsize=(5, 2.5))
plt.plot([5, 6, 9, 15, 19, 22, 26, 27, 23, 18, 13, 8], marker="o")
plt.title("Tokyo, °C")
plt.show()`;

/** What the tool answers to a client of the TypeScript SDK. */
async function answer(code) {
  const [command, ...args] = server;
  const client = new Client({ name: "mcp-agentrun-pictures", version: "1.0.0" });
  await client.connect(new StdioClientTransport({ command, args, env: process.env }));
  try {
    const { content } = await client.callTool({ name: "run_python", arguments: { code } }, undefined, {
      timeout: TIMEOUT,
    });
    const [text, image] = content;
    assert.match(text.text, /^\[agentrun\] 1 picture below: \d+ x \d+ pixels\.$/); // so nothing warned of a missing glyph
    assert.equal(image.mimeType, "image/png");
    return { text: text.text, image: image.data };
  } finally {
    await client.close();
  }
}

/** Save the plot as it arrives. */
async function inClient() {
  const { image } = await answer(CODE);
  writeFileSync(join(FOLDER, "client.png"), Buffer.from(image, "base64"));
}

/** Draw an answer in the opened blocks in which Claude and VS Code show it. Neither program is needed. */
async function inChats(browser) {
  const { text, image } = await answer(SHORT_CODE);
  const request = JSON.stringify({ code: SHORT_CODE }, undefined, 2);
  const block = (client, title, [asked, answered]) => `<section><h2>${client}</h2><details open><summary>${title}</summary>
    <h3>${asked}</h3><pre>${request}</pre><h3>${answered}</h3><pre>${text}</pre>
    <img src="data:image/png;base64,${image}"></details></section>`;
  const page = await browser.newPage();
  await page.setViewport({ width: 1160, height: 100 });
  await page.setContent(`<style>
    body { margin: 0; padding: 20px; font: 14px sans-serif; background: #fff }
    main { display: grid; grid-template-columns: 1fr 1fr; gap: 20px }
    h2 { font-size: 16px } h3 { font-size: 12px; color: #555; margin: 12px 0 4px }
    details { border: 1px solid #ccc; border-radius: 8px; padding: 12px }
    pre { background: #f4f4f4; border-radius: 6px; padding: 8px; margin: 0; white-space: pre-wrap; font-size: 12px }
    img { display: block; margin-top: 8px; max-width: 100% }
    </style><p>A real answer of run_python, drawn as these clients arrange it. These are not screenshots of them.</p><main>
    ${block("Claude", "run_python", ["Request", "Response"])}
    ${block("VS Code", "Ran <b>run_python</b> – agentrun (MCP Server)", ["Input", "Output"])}</main>`);
  await page.screenshot({ path: join(FOLDER, "chats.png"), fullPage: true });
}

/** Take pictures of the site's first page. */
async function ofSite(browser) {
  const page = await browser.newPage();
  for (const [name, width, height] of [["wide", 1280, 800], ["narrow", 390, 800]]) {
    await page.setViewport({ width, height });
    await page.goto(new URL("index.html", SITE).href);
    await page.screenshot({ path: join(FOLDER, `site-${name}.png`) });
  }
}

/** A port that nobody listens at just now. */
function freePort() {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(String(port)));
    });
  });
}

/** Start the Inspector's web server; resolves to its process and to the address of its page. */
async function startInspector(storage) {
  const inspector = spawn(INSPECTOR, ["--web", ...server], {
    env: {
      ...process.env,
      CLIENT_PORT: await freePort(),
      MCP_SANDBOX_PORT: await freePort(),
      MCP_APP_ORIGIN_PORT: await freePort(),
      MCP_AUTO_OPEN_ENABLED: "false",
      MCP_INSPECTOR_SECRET_STORE: "memory",
      MCP_STORAGE_DIR: storage,
    },
    detached: true, // it has children of its own, which are ended with it
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  const address = await new Promise((resolve, reject) => {
    inspector.once("exit", () => reject(new Error(`the Inspector has ended:\n${said}`)));
    inspector.stdout.on("data", (data) => {
      said += data;
      const found = /http:\S+TOKEN=\S+/.exec(said);
      if (found) resolve(found[0]);
    });
  });
  inspector.removeAllListeners("exit");
  return { inspector, address };
}

/** Take a picture of the plot in the Inspector's page. */
async function inInspector(browser) {
  const storage = mkdtempSync(join(tmpdir(), "inspector-"));
  const { inspector, address } = await startInspector(storage);
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(TIMEOUT);
    await page.setViewport({ width: 1280, height: 1000 });
    await page.goto(address);
    // By the page itself: some of these are covered by what they look like.
    const press = async (selector) => (await page.waitForSelector(selector)).evaluate((element) => element.click());
    await press("input[role=switch]");
    await press("::-p-xpath(//label[normalize-space()='Tools'])");
    await press("::-p-aria(Close monitoring sidebar)");
    await press("::-p-xpath(//button[contains(., 'run_python')])");
    const field = await page.waitForSelector("::-p-xpath(//input[@id=//label[starts-with(., 'Code')]/@for])");
    await field.focus();
    await page.keyboard.sendCharacter(CODE);
    await press("::-p-xpath(//button[normalize-space()='Execute Tool' and not(@disabled)])");
    const plot = await page.waitForSelector("img[src^='data:image/png']");
    await plot.evaluate((image) => image.decode().then(() => image.scrollIntoView({ block: "end" })));
    await page.screenshot({ path: join(FOLDER, "inspector.png") });
  } finally {
    process.kill(-inspector.pid);
    rmSync(storage, { recursive: true, force: true });
  }
}

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
  protocolTimeout: TIMEOUT,
});
try {
  await inClient();
  await inChats(browser);
  await inInspector(browser);
  await ofSite(browser);
} finally {
  await browser.close();
}
console.log(`Saved in ${FOLDER}`);
