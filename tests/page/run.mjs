// What tests/page.sh runs: the page as people use it, each row one of them.

import assert from "node:assert/strict";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { browser, load, serve } from "./browser.mjs";
import { HOSTILE, PLAYED, RICH } from "./texts.mjs";

const [root, folder] = process.argv.slice(2);
const coder = join(root, "target/debug/coder");
const shots = join(folder, "shots");
const state = mkdtempSync(join(tmpdir(), "state-"));
const QUESTION = "Write a Python function `clamp(value, low, high)`";
const SIZES = { desktop: [1440, 900], phone: [360, 740] };

const rows = [];
let failed = false;

async function row(what, act) {
  let result = "passed";
  try {
    const said = await act();
    if (typeof said === "string") result = said;
  } catch (error) {
    failed = true;
    result = `**failed**: ${String(error.message).split("\n")[0]}`;
    console.error(error);
  }
  rows.push(`| ${what} | ${result} |`);
  console.log(rows.at(-1));
}

const chromium = await browser(folder);
const axe = readFileSync(join(folder, "node_modules/axe-core/axe.min.js"), "utf8");
const server = await serve(coder, ["--port", "0", "--state-dir", state, "--alias", "claude-*=coder-tiny"]);

/** What went wrong or elsewhere on any page. */
const complaints = [];

/** A page of its own browser context, as if nobody had been here before. */
async function fresh({ url = server.url, size = "desktop", theme = "light", chat, expects = [], media = [] } = {}) {
  const context = await chromium.createBrowserContext();
  const page = await context.newPage();
  const [width, height] = SIZES[size];
  await page.setViewport({ width, height, deviceScaleFactor: size === "phone" ? 2 : 1 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }, ...media]);
  const origin = new URL(url).origin;
  page.on("console", (message) => {
    const text = message.text();
    if (["error", "warning", "warn"].includes(message.type()) && !expects.some((word) => text.includes(word))) complaints.push(`console: ${text}`);
  });
  page.on("pageerror", (error) => complaints.push(`error: ${error.message}`));
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== origin) complaints.push(`request: ${request.url()}`);
  });
  if (chat) await page.evaluateOnNewDocument((kept) => localStorage.setItem(`coder.chat.${kept.id}`, JSON.stringify(kept)), chat);
  await page.goto(url);
  await page.waitForFunction(() => ["ready", "busy", "key"].includes(document.getElementById("state").dataset.state));
  page.close = () => context.close();
  return page;
}

const text = (page, selector) => page.$eval(selector, (element) => element.textContent);
const shot = (page, name) => page.screenshot({ path: join(shots, `${name}.png`) });
const board = async (url = server.url) => (await fetch(`${url}api/board`)).json();
const settled = (page, state = "complete") =>
  page.waitForFunction(() => !document.querySelector(".turn.busy") && document.querySelector(".turn.reply")).then(() => state);

async function type(page, question) {
  await page.focus("#question");
  await page.keyboard.type(question);
  await page.keyboard.press("Enter");
}

/** Answers that go on until there is no room: the tokens that end one are never chosen. */
async function endless(page) {
  const post = (path, body) => fetch(`${server.url}${path}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const { tokens } = await (await post("tokenize", { content: "<|im_end|><|endoftext|>" })).json();
  const logit_bias = Object.fromEntries(tokens.map((id) => [id, -100]));
  await page.setRequestInterception(true);
  page.on("request", (request) => {
    if (!request.url().endsWith("/v1/chat/completions")) return request.continue();
    const body = { ...JSON.parse(request.postData()), logit_bias };
    return request.continue({ postData: JSON.stringify(body) });
  });
  return (number) => Array.from({ length: number }, (_, i) => post("v1/completions", { prompt: `def f${i}`, max_tokens: 900, logit_bias, temperature: 1 }));
}

/** Plays an answer to the page in place of the model's. */
async function played(page, answer) {
  await page.setRequestInterception(true);
  page.on("request", (request) =>
    request.url().endsWith("/v1/chat/completions") ? request.respond(answer) : request.continue());
}

// ---- as it is found

for (const theme of ["light", "dark"]) {
  for (const size of Object.keys(SIZES)) {
    await row(`opens in ${theme} on a ${size}, nothing asked yet, no task run`, async () => {
      const page = await fresh({ theme, size });
      assert.match(await text(page, "#empty h2"), /Nothing asked yet/);
      await shot(page, `empty-${theme}-${size}`);
      if (size === "phone") await page.click("[data-show=board]");
      await page.waitForFunction(() => document.getElementById("tasks").textContent.includes("No task has been run yet"));
      assert.match(await text(page, "#served"), /No answer yet/);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, "it is wider than the screen");
      await page.close();
    });
  }
}

// ---- a conversation

await row("an answer is what the API answers", async () => {
  const page = await fresh();
  await page.click("#settings-toggle");
  await page.type("#temperature", "0");
  await page.click("#settings-toggle");
  await type(page, QUESTION);
  await settled(page);
  const body = { messages: [{ role: "user", content: QUESTION }], temperature: 0 };
  const api = await fetch(`${server.url}v1/chat/completions`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const expected = (await api.json()).choices[0].message.content;
  const code = /```python\n([^]*?)\n```/.exec(expected)[1];
  assert.equal(await text(page, ".answer .code code"), code);
  assert.match(await text(page, ".reply .figures"), /^\d+ tokens? · .*first after .* · prompt \d+/);
  await page.close();
});

await row("Esc stops an answer; the server stops as well; a reload keeps what was said", async () => {
  const page = await fresh();
  const load = await endless(page);
  const others = load(6);
  await type(page, "Write constants");
  await page.waitForFunction(() => (document.querySelector(".answer")?.textContent.length ?? 0) > 40);
  await shot(page, "streaming");
  await page.keyboard.press("Escape");
  await settled(page);
  assert.equal(await text(page, ".note"), "Stopped.");
  const said = await text(page, ".answer");
  await Promise.all(others);
  const idle = async () => {
    const { requests, models } = await board();
    return requests.open + models[0].now.running === 0;
  };
  for (let tries = 0; !(await idle()); tries += 1) {
    assert.ok(tries < 20, "something still runs");
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  await page.reload();
  await page.waitForSelector(".answer");
  assert.equal(await text(page, ".answer"), said);
  assert.equal(await text(page, ".user .words"), "Write constants");
  await page.close();
});

await row("a long answer streams, and the board moves: tokens per second, requests, cache, answers, the model's figures", async () => {
  const page = await fresh();
  const before = await board();
  const load = await endless(page);
  await page.evaluate(() => {
    window.seen = [];
    new MutationObserver(() => {
      const length = document.querySelector(".answer")?.textContent.length ?? 0;
      if (length && length !== window.seen.at(-1)) window.seen.push(length);
    }).observe(document.getElementById("said"), { subtree: true, childList: true, characterData: true });
  });
  await type(page, "Write constants");
  const others = load(12);
  const tile = (at) => `#tiles .tile:nth-child(${at}) .value`;
  await page.waitForFunction((path) => Number.parseFloat(document.querySelector(path).textContent.replace(",", "")) > 0, {}, tile(1));
  await page.waitForFunction((path) => Number.parseFloat(document.querySelector(path).textContent) > 3, {}, tile(3));
  assert.equal(await page.$eval("#state", (state) => state.dataset.state), "busy");
  await shot(page, "busy-light");
  await Promise.all(others);
  await settled(page);
  const after = await board();
  const [was, is] = [before, after].map(({ models }) => models[0]);
  assert.ok(is.now.written_tokens > was.now.written_tokens + 3000);
  await page.waitForFunction((count) => document.querySelector("#served dd").textContent === String(count), {}, Object.values(is.answers).reduce((a, b) => a + b));
  assert.match(await text(page, tile(5)), /^[\d.]+ %$/);
  const drawn = await page.$$eval(".history .line", (lines) => lines.map((line) => line.getAttribute("d").length));
  assert.ok(drawn.every((length) => length > 20), `histories: ${drawn}`);
  assert.match(await text(page, ".reply .note"), /as many tokens as it may have/);
  const steps = await page.evaluate(() => window.seen.length);
  assert.ok(steps >= 5, `it was drawn ${steps} times`);
  await page.close();
  return `passed; an answer of ${(await board()).models[0].now.context} tokens with its prompt was drawn in ${steps} steps`;
});

await row("again, change, new chat, chats, forget", async () => {
  const page = await fresh();
  await type(page, QUESTION);
  await settled(page);
  await page.click(".reply [data-act=again]");
  await settled(page);
  assert.equal((await page.$$(".turn")).length, 2);
  await page.click(".user [data-act=edit]");
  assert.equal(await page.$eval("#question", (field) => field.value), QUESTION);
  assert.equal((await page.$$(".turn")).length, 0);
  await page.keyboard.press("Enter");
  await settled(page);
  await page.click("#new");
  assert.equal((await page.$$(".turn")).length, 0);
  await page.reload();
  await page.waitForSelector("#empty:not([hidden])");
  await page.click("#chats-open");
  await page.click("#chat-list .choose");
  assert.equal(await text(page, ".user .words"), QUESTION);
  await page.click("#chats-open");
  await page.click("#forget");
  assert.match(await text(page, "#chat-list"), /Nothing is kept/);
  assert.equal(await page.evaluate(() => Object.keys(localStorage).filter((name) => name.startsWith("coder.chat.")).length), 0);
  await page.close();
});

await row("with the keyboard alone: ask, new line, stop, copy, change, new chat, settings, theme, board, help; focus is seen", async () => {
  const page = await fresh();
  const press = (key) => page.keyboard.press(key);
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.tagName);
  assert.equal(await focused(), "question");
  await page.keyboard.type("Classify as BUG, FEAT or TASK:");
  await page.keyboard.down("Shift");
  await press("Enter");
  await page.keyboard.up("Shift");
  await page.keyboard.type("login fails");
  await press("Enter");
  await settled(page);
  assert.equal(await text(page, ".user .words"), "Classify as BUG, FEAT or TASK:\nlogin fails");
  assert.match(await text(page, ".answer"), /BUG/);
  await press("ArrowUp");
  assert.match(await page.$eval("#question", (field) => field.value), /login fails$/);
  await press("Enter");
  await settled(page);
  await press("Escape");
  assert.equal(await focused(), "BODY");
  await press("t");
  assert.equal(await page.$eval("html", (html) => html.dataset.theme), "light");
  await press("t");
  assert.equal(await page.$eval("html", (html) => html.dataset.theme), "dark");
  await press("b");
  assert.equal(await page.$eval("#board", (element) => element.checkVisibility()), false);
  await press("b");
  await press("s");
  assert.equal(await focused(), "system");
  await press("Escape");
  await press("s");
  await page.keyboard.type("?");
  assert.equal(await page.$eval("#shortcuts", (dialog) => dialog.open), true);
  await shot(page, "keys-dark");
  await press("Escape");
  assert.equal(await page.$eval("#shortcuts", (dialog) => dialog.open), false);
  const stops = new Set();
  for (let i = 0; i < 14; i += 1) {
    await press("Tab");
    const { name, outline } = await page.evaluate(() => {
      const element = document.activeElement;
      const style = getComputedStyle(element);
      return { name: element.id || element.textContent.slice(0, 20), outline: element === document.body ? 9 : style.outlineStyle === "none" ? 0 : Number.parseFloat(style.outlineWidth) };
    });
    assert.ok(outline >= 2, `focus on ${name} is not seen`);
    stops.add(name);
  }
  await press("/");
  await page.evaluate(() => document.activeElement.blur());
  await press("n");
  assert.equal((await page.$$(".turn")).length, 0);
  await press("Escape");
  await press("/");
  assert.equal(await focused(), "question");
  await page.close();
  return `passed, ${stops.size} stops of Tab`;
});

// ---- what answers may hold

await row("Markdown, code and a thought, in both themes", async () => {
  for (const [theme, size] of [["light", "desktop"], ["dark", "desktop"], ["dark", "phone"]]) {
    const page = await fresh({ theme, size, chat: RICH });
    await page.waitForSelector(".answer table");
    const found = await page.$eval(".answer", (answer) =>
      ["h3", "strong", "em", "del", "a", "ol ul li", "blockquote", "table td", ".code .k", ".task input"].map((path) => answer.querySelectorAll(path).length));
    assert.ok(found.every((number) => number > 0), String(found));
    assert.equal(await page.$eval(".thought", (thought) => thought.open), false);
    await page.evaluate(() => (document.getElementById("scroll").scrollTop = 0));
    await shot(page, `rich-${theme}-${size}`);
    await page.close();
  }
});

await row("a thought is folded while it comes; an error in the middle of an answer is said (played)", async () => {
  for (const [answer, check] of PLAYED) {
    const page = await fresh();
    await played(page, { status: 200, contentType: "text/event-stream", body: answer });
    await type(page, "Think");
    await settled(page);
    const seen = await page.$eval(".reply", (reply) => ({
      thought: reply.querySelector(".thought .words").textContent,
      open: reply.querySelector(".thought").open,
      answer: reply.querySelector(".answer").textContent,
      note: reply.querySelector(".note").textContent,
    }));
    check(assert, seen);
    await page.close();
  }
});

await row("hostile answers: no element, script, address or request but those of Markdown, no long wait", async () => {
  let slowest = 0;
  const page = await fresh();
  for (const content of HOSTILE) {
    const { ms, bad } = await page.evaluate(async (content) => {
      const { render } = await import(new URL("page/markdown.js", location).href);
      const into = document.createElement("div");
      document.body.append(into);
      const begin = performance.now();
      render(into, content);
      const ms = performance.now() - begin;
      const allowed = "div p h3 h4 h5 h6 hr ul ol li input blockquote table thead tbody tr th td pre code span button a em strong del".split(" ");
      const bad = [...into.querySelectorAll("*")].flatMap((element) => {
        const own = [...element.attributes].filter(({ name }) => /^on|^style$|^src$/.test(name)).map(({ name }) => name);
        const kind = allowed.includes(element.localName) ? [] : [element.localName];
        const leads = element.localName === "a" && !/^(https?|mailto):/.test(element.href) ? [element.href] : [];
        return [...own, ...kind, ...leads];
      });
      into.remove();
      return { ms, bad };
    }, content);
    assert.deepEqual(bad, [], content.slice(0, 60));
    assert.ok(ms < 3000, `${Math.round(ms)} ms for ${content.slice(0, 30)}`);
    slowest = Math.max(slowest, ms);
  }
  const refused = await page.evaluate(() => {
    try {
      document.createElement("div").innerHTML = "<b>x</b>";
      return "";
    } catch (error) {
      return error.name;
    }
  });
  assert.equal(refused, "TypeError", "text may become elements");
  complaints.splice(0, complaints.length, ...complaints.filter((complaint) => !complaint.includes("TrustedHTML")));
  await page.close();
  return `passed, ${HOSTILE.length} texts of up to ${Math.round(Math.max(...HOSTILE.map((one) => one.length)) / 1000)} kB, the slowest in ${Math.round(slowest)} ms`;
});

// ---- trouble

await row("a prompt that is too long: both numbers", async () => {
  const page = await fresh({ expects: ["Failed to load resource"] });
  await page.$eval("#question", (field) => (field.value = "word ".repeat(3000)));
  await page.focus("#question");
  await page.keyboard.press("Enter");
  await settled(page);
  assert.match(await text(page, ".note"), /maximum context length is 1024 tokens, but the prompt has \d+/);
  await page.close();
});

await row("a server with a key: the page asks for it, says that a wrong one is wrong, and keeps the right one for this tab", async () => {
  const closed = await serve(coder, ["--port", "0", "--no-ledger"], "secret");
  try {
    const page = await fresh({ url: closed.url, expects: ["Failed to load resource"] });
    await page.waitForSelector("#key:not([hidden])");
    await shot(page, "key-light");
    await page.type("#key-field", "wrong");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.getElementById("key-note").textContent === "That is not its key.");
    await page.type("#key-field", "secret");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.getElementById("state").dataset.state === "ready");
    await type(page, QUESTION);
    await settled(page);
    assert.match(await text(page, ".answer"), /def clamp/);
    const kept = await page.evaluate(() => [JSON.stringify({ ...localStorage }).includes("secret"), JSON.stringify({ ...sessionStorage }).includes("secret")]);
    assert.deepEqual(kept, [false, true]);
    assert.equal(await page.$eval("#tasks-part", (part) => part.hidden), true, "tasks are shown without a ledger");
    await page.reload();
    await page.waitForFunction(() => document.getElementById("state").dataset.state === "ready");
    await page.close();
  } finally {
    assert.equal(await closed.stop(), 0);
  }
});

await row("a server that goes away and comes back: said in words, and found again", async () => {
  let other = await serve(coder, ["--port", "0", "--no-ledger"]);
  try {
    const page = await fresh({ url: other.url, expects: ["Failed to load resource", "net::ERR"] });
    await other.stop();
    await page.waitForFunction(() => document.getElementById("state").dataset.state === "off");
    await type(page, QUESTION);
    await settled(page);
    assert.match(await text(page, ".note"), /The server does not answer\. Is coder serve still running\?/);
    await shot(page, "gone-light");
    other = await serve(coder, ["--port", other.port, "--no-ledger"]);
    await page.waitForFunction(() => document.getElementById("state").dataset.state === "ready");
    await page.click("[data-act=again]");
    await settled(page);
    assert.match(await text(page, ".answer"), /def clamp/);
    await page.close();
  } finally {
    await other.stop();
  }
});

await row("a page that is not seen asks nothing", async () => {
  const page = await fresh();
  let polls = 0;
  page.on("request", (request) => (polls += Number(request.url().endsWith("/api/board"))));
  const hide = (hidden) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  const during = async (ms) => {
    const before = polls;
    await new Promise((resolve) => setTimeout(resolve, ms));
    return polls - before;
  };
  const seen = await during(5000);
  await hide(true);
  await during(500);
  const unseen = await during(5000);
  await hide(false);
  const again = await during(3000);
  await page.close();
  assert.ok(seen >= 2 && unseen === 0 && again >= 1, `${seen}, ${unseen}, ${again}`);
  return `passed: ${seen}, ${unseen}, ${again} in 5, 5 and 3 s`;
});

// ---- tasks, and the whole once more

await row("a task that is run elsewhere appears", async () => {
  const page = await fresh({ theme: "dark" });
  await type(page, QUESTION);
  await settled(page);
  const work = mkdtempSync(join(tmpdir(), "work-"));
  cpSync(join(root, "examples/slugify"), work, { recursive: true, filter: (path) => !path.includes("/target") && !path.endsWith("src/slugify.rs") });
  const ran = spawnSync(coder, ["run", join(work, "task.md"), "--working-dir", work, "--state-dir", state], { encoding: "utf8" });
  assert.equal(ran.status, 0, ran.stderr);
  await page.waitForFunction(() => document.querySelector("#tasks .value")?.textContent === "1");
  assert.match(await text(page, "#tasks"), /Money saved\$\d/);
  await page.$eval("#board", (element) => (element.scrollTop = element.scrollHeight));
  await shot(page, "tasks-dark");
  await page.close();
});

await row("axe-core finds nothing: both themes, both widths, chat, board, settings, dialogs", async () => {
  let passes = 0;
  for (const theme of ["light", "dark"]) {
    for (const size of Object.keys(SIZES)) {
      // Things that move are as they come to rest.
      const page = await fresh({ theme, size, chat: RICH, media: [{ name: "prefers-reduced-motion", value: "reduce" }] });
      await page.waitForSelector(".answer table");
      await page.evaluate(axe);
      const check = async (what) => {
        const found = await page.evaluate(async () => {
          const { violations, passes } = await window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] });
          return { passes: passes.length, violations: violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 90)} ${nodes[0].any[0]?.message ?? ""}`) };
        });
        assert.deepEqual(found.violations, [], `${what} in ${theme} on a ${size}`);
        passes += found.passes;
      };
      await page.click("#settings-toggle");
      await check("chat");
      if (size === "phone") {
        await page.click("[data-show=board]");
        await check("board");
        await shot(page, `board-${theme}-phone`);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, "it is wider than the screen");
        await page.click("[data-show=chat]");
      }
      await page.click("#help");
      await check("keys");
      await page.keyboard.press("Escape");
      await page.click("#chats-open");
      await check("chats");
      await page.close();
    }
  }
  return `passed, ${passes} checks`;
});

await row("no error on any console, no request to elsewhere", () => assert.deepEqual(complaints, []));

await chromium.close();
await row("the server ends on SIGTERM with 0", async () => assert.equal(await server.stop(), 0));

mkdirSync(join(root, "tests/results"), { recursive: true });
const date = new Date().toISOString().slice(0, 10);
const head = ["# The page in a browser", "", `By \`tests/page.sh\`, ${date}, headless Chromium 153, the bundled model.`, "", "| what | result |", "|---|---|"];
writeFileSync(join(root, "tests/results/page.md"), `${[...head, ...rows].join("\n")}\n`);
process.exit(failed ? 1 : 0);
