// The board: asks the server every second while somebody can see it, and shows what it says and how that changed.

import { count, el, find, percent, rate, say, short, size, time, usd } from "./dom.js";
import { bars, history, meter } from "./draw.js";
import { access, ask } from "./server.js";

/** Seconds that histories show, and between two looks. */
const SPAN = 120;
const EVERY = 1;
/** The same where only the state in the header is seen. */
const SELDOM = 5;

let watched = false;
let timer = 0;
let looking = false;
let failures = 0;
let back = () => {};

/** Whether the board is in sight. */
export function watch(seen) {
  watched = seen;
  if (seen) look();
}

/** What to do when the server answers again. */
export function onBack(act) {
  back = act;
}

/** Looks now, and again as long as the page can be seen. */
export async function look() {
  clearTimeout(timer);
  if (looking || document.hidden) return;
  looking = true;
  let wait = watched ? EVERY : SELDOM;
  try {
    update(await (await ask("api/board")).json());
    if (failures > 0) back();
    failures = 0;
    find("behind").hidden = true;
  } catch (error) {
    failures += 1;
    fail(error);
    // A key is waited for; everything else may pass.
    wait = error.status === 401 ? 0 : Math.min(10, 2 ** failures);
  }
  find("board").classList.toggle("stale", failures > 0);
  looking = false;
  if (wait) timer = setTimeout(look, wait * 1000);
}

function fail(error) {
  const asks = error.status === 401;
  state(asks ? "key" : "off", asks ? "key needed" : "no answer");
  find("behind").hidden = false;
  say(find("behind"), samples.length > 0 ? `${error.message} What is below is as it was last seen.` : error.message);
}

function state(kind, text) {
  find("state").dataset.state = kind;
  say(find("state"), text);
}

document.addEventListener("visibilitychange", look);
access.addEventListener("given", look);

// ---- at the moment

function tile(name, drawing) {
  const value = el("span", { className: "value", textContent: "–" });
  const unit = el("span", { className: "unit" });
  const below = el("p", { className: "below" });
  const root = el("div", { className: "tile" }, el("h2", { textContent: name }), el("p", { className: "figure" }, value, " ", unit));
  if (drawing) root.append(drawing.root);
  root.append(below);
  const show = (number, of, text) => {
    say(value, number);
    say(unit, of);
    say(below, text);
  };
  return { root, show, drawing };
}

const tiles = {
  writing: tile("Writing", history(SPAN, ["one"])),
  reading: tile("Reading", history(SPAN, ["two"])),
  requests: tile("Requests", history(SPAN, ["three"])),
  memory: tile("Memory", history(SPAN, ["grey"])),
  cache: tile("Cache hits", meter(["held", "used"])),
  guesses: tile("Guesses right", meter(["used"])),
};
find("tiles").append(...Object.values(tiles).map((one) => one.root));

/** `[second, [writing, reading, requests, memory]]` */
const samples = [];
/** What each model had counted when it was asked last, and its rates since the time before. */
const counted = new Map();

const sum = (values) => values.reduce((all, value) => all + value, 0);

/** Tokens per second of a model. What it counts begins anew when it is opened again. */
function rates({ name, now }) {
  const before = counted.get(name);
  if (!now) {
    counted.delete(name);
    return { writing: 0, reading: 0 };
  }
  if (before?.at === now.at_s) return before;
  const seconds = before ? now.at_s - before.at : 0;
  const per = (value, old) => (seconds > 0 && value >= old ? (value - old) / seconds : 0);
  const found = {
    at: now.at_s,
    written: now.written_tokens,
    read: now.read_tokens,
    writing: per(now.written_tokens, before?.written),
    reading: per(now.read_tokens, before?.read),
  };
  counted.set(name, found);
  return found;
}

function update(seen) {
  const { models, requests, memory } = seen;
  const each = models.map(rates);
  const writing = sum(each.map((one) => one.writing));
  const reading = sum(each.map((one) => one.reading));
  const second = performance.now() / 1000;
  samples.push([second, [writing, reading, requests.open, memory.resident_bytes ?? 0]]);
  while (samples[0][0] < second - SPAN - 10) samples.shift();
  const total = (key) => sum(models.map((model) => model[key]));
  const live = (key) => sum(models.map((model) => model.now?.[key] ?? 0));
  speeds(writing, reading, total);
  load(requests, live("running"), live("waiting"));
  stored(memory, models);
  cache(total("prompt_tokens"), total("cached_tokens"), live);
  const drawings = [[tiles.writing, 10], [tiles.reading, 10], [tiles.requests, 2], [tiles.memory, 1]];
  drawings.forEach(([{ drawing }, least], at) => {
    drawing.update(second, samples.map(([t, values]) => [t, [values[at]]]), least);
  });
  showModels(models, each);
  showServed(seen, total);
  find("tasks-part").hidden = seen.tasks === undefined;
  if (seen.tasks !== undefined) showTasks(seen.tasks);
}

function speeds(writing, reading, total) {
  const peak = (at) => Math.max(...samples.map(([, values]) => values[at]));
  const words = (at, tokens, seconds, of) => {
    if (!seconds) return "nothing yet";
    return `${rate(tokens / seconds)} while ${of}${peak(at) > 0 ? `, peak ${rate(peak(at))}` : ""}`;
  };
  tiles.writing.show(rate(writing), "tok/s", words(0, total("completion_tokens"), total("decode_s"), "writing"));
  const read = total("prompt_tokens") - total("cached_tokens");
  tiles.reading.show(rate(reading), "tok/s", words(1, read, total("prefill_s"), "reading"));
}

function load({ open, most, refused }, running, waiting) {
  const now = running + waiting > 0 ? `${count(running)} running, ${count(waiting)} waiting` : "nothing running";
  tiles.requests.show(count(open), `of ${count(most)} open`, `${now}, ${short(refused)} refused`);
  state(open > 0 ? "busy" : "ready", open > 0 ? `${count(open)} open` : "ready");
}

function stored({ resident_bytes: resident, models_bytes: planned, most_bytes: most }, models) {
  const open = models.filter((model) => model.open).length;
  const words = `${count(open)} of ${count(models.length)} models open, ${size(planned).join(" ")}`;
  const [number, unit] = resident === null ? size(planned) : size(resident);
  tiles.memory.show(number, unit, most === null ? words : `${words} of ${size(most).join(" ")}`);
}

function cache(prompt, cached, live) {
  const [blocks, filled, used] = [live("blocks"), live("blocks_filled"), live("blocks_used")];
  const share = (part, all) => (all > 0 ? part / all : 0);
  const words = `of prompt tokens, cache ${percent(share(filled, blocks))} full`;
  tiles.cache.show(prompt > 0 ? percent(cached / prompt) : "–", "", blocks > 0 ? words : "no model is open");
  tiles.cache.drawing.update(share(filled, blocks), share(used, blocks));
  const [guessed, right] = [live("drafted_tokens"), live("accepted_tokens")];
  tiles.guesses.show(guessed > 0 ? percent(right / guessed) : "–", "", guessed > 0 ? `${short(right)} of ${short(guessed)} tokens` : "nothing guessed yet");
  tiles.guesses.drawing.update(share(right, guessed));
}

// ---- models

const cards = new Map();

function card(name) {
  const state = el("span", { className: "dot" });
  const title = el("h3", {}, state, el("span", { textContent: name }));
  const about = el("p", { className: "about" });
  const figures = el("dl", { className: "figures" });
  const filled = meter(["held", "used"]);
  return { root: el("article", { className: "model" }, title, about, figures, filled.root), state, about, figures, filled };
}

/** Names and values. Elements stay, so that nothing flickers. */
function pairs(list, values) {
  while (list.children.length > values.length) list.lastElementChild.remove();
  values.forEach(([name, value], at) => {
    if (!list.children[at]) list.append(el("div", {}, el("dt"), el("dd")));
    const [term, figure] = list.children[at].children;
    say(term, name);
    say(figure, value);
  });
}

function showModels(models, each) {
  const list = find("models");
  models.forEach((model, at) => {
    const shown = cards.get(model.name) ?? card(model.name);
    cards.set(model.name, shown);
    if (list.children[at] !== shown.root) list.insertBefore(shown.root, list.children[at] ?? null);
    showModel(shown, model, each[at]);
  });
  while (list.children.length > models.length) list.lastElementChild.remove();
}

function showModel({ root, state, about, figures, filled }, model, { writing, reading }) {
  const { now } = model;
  root.classList.toggle("closed", !model.open);
  state.title = model.open ? "open" : "closed";
  const others = model.others.length ? `also ${model.others.join(", ")}` : "";
  const facts = now
    ? [`${short(now.parameters)} weights`, `${count(now.context)} tokens of context`, now.device, now.draft && `guesses by ${now.draft}`]
    : [model.open ? "opening" : "not open; it is opened by the first request"];
  say(about, [...facts, others].filter(Boolean).join(" · "));
  const answers = sum(Object.values(model.answers));
  const speed = (tokens, seconds) => (seconds > 0 ? `${rate(tokens / seconds)} tok/s` : "–");
  const values = [
    ["writing", now ? `${rate(writing)} tok/s` : "–"],
    ["reading", now ? `${rate(reading)} tok/s` : "–"],
    ["running", now ? count(now.running) : "–"],
    ["waiting", now ? count(now.waiting) : "–"],
    ["answers", short(answers)],
    ["while writing", speed(model.completion_tokens, model.decode_s)],
    ["cache", now ? `${percent(now.blocks ? now.blocks_filled / now.blocks : 0)} full` : "–"],
    ["memory", size(model.bytes).join(" ")],
  ];
  pairs(figures, values);
  filled.root.hidden = !now;
  filled.update(now?.blocks_filled / now?.blocks, now?.blocks_used / now?.blocks);
}

// ---- since the server began

const served = el("dl", { className: "figures wide" });
const nothing = el("p", { className: "none" });
find("served").append(served, nothing);

function showServed({ models, requests, uptime_s: uptime, tasks }, total) {
  const reasons = {};
  for (const model of models) {
    for (const [reason, number] of Object.entries(model.answers)) reasons[reason] = (reasons[reason] ?? 0) + number;
  }
  const answers = sum(Object.values(reasons));
  served.hidden = answers === 0;
  say(nothing, answers ? "" : `No answer yet. The server has been up for ${time(Math.max(1, Math.floor(uptime)))}; everything that is asked here or through its APIs is counted.`);
  nothing.hidden = answers > 0;
  const [prompt, cached, written] = ["prompt_tokens", "cached_tokens", "completion_tokens"].map(total);
  const cutOff = (reasons.length ?? 0) + (reasons.context ?? 0);
  const values = [
    ["answers", count(answers)],
    ["with tool calls", count(reasons.calls ?? 0)],
    ["cut at a limit", count(cutOff)],
    ["requests refused", count(requests.refused)],
    ["prompt tokens", short(prompt)],
    ["of them cached", short(cached)],
    ["answer tokens", short(written)],
    ["up for", time(Math.floor(uptime))],
  ];
  const best = tasks?.best;
  if (best) {
    const worth = ((prompt - cached) * best.input_usd + cached * best.cached_usd + written * best.output_usd) / 1e6;
    values.push([`at ${best.name} prices`, usd(worth)]);
  }
  pairs(served, values);
}

// ---- tasks

let tasksSeen = "";

function showTasks(tasks) {
  // They change seldom.
  const seen = JSON.stringify(tasks);
  if (seen === tasksSeen) return;
  tasksSeen = seen;
  const into = find("tasks");
  if (tasks === null) {
    into.replaceChildren(el("p", { className: "none", textContent: "The ledger cannot be read; the server's log says why." }));
  } else if (tasks.tasks === 0) {
    const text = ["No task has been run yet. ", el("code", { textContent: "coder run task.md" }), " does one; what it took and what it saved is shown here."];
    into.replaceChildren(el("p", { className: "none" }, ...text));
  } else {
    into.replaceChildren(savings(tasks), ...days(tasks.days), tiers(tasks.tiers), prices(tasks));
  }
}

const big = (name, value, below) =>
  el("div", { className: "tile" }, el("h3", { textContent: name }), el("p", { className: "figure" }, el("span", { className: "value", textContent: value })), el("p", { className: "below", textContent: below }));

function savings(tasks) {
  const share = (value) => (value === null ? "–" : percent(value));
  const kept = tasks.baseline_tokens - tasks.cloud_tokens;
  const tokens = tasks.baseline_tokens > 0 ? `${percent(kept / tasks.baseline_tokens)} of ${short(tasks.baseline_tokens)}; ${short(tasks.cloud_tokens)} went to the cloud` : "no complete task";
  const spent = tasks.cloud_usd + (tasks.electricity_usd ?? 0);
  const saved = tasks.baseline_usd === null ? null : tasks.baseline_usd - spent;
  const electricity = tasks.electricity_usd === null ? ", electricity not counted" : "";
  return el(
    "div",
    { className: "tiles" },
    big("Complete", count(tasks.complete), `of ${count(tasks.tasks)}; ${count(tasks.approved)} approved by a command`),
    big("Right at once", share(tasks.first_pass_share), `of ${count(tasks.local)} that ${tasks.local === 1 ? "was" : "were"} begun here`),
    big("Escalated", count(tasks.escalated), tasks.escalation_share === null ? "no local attempt" : `${percent(tasks.escalation_share)} of the newest attempts`),
    big("Blocked", count(tasks.blocked), "nobody could do them"),
    big("Tokens saved", short(kept), tokens),
    big("Money saved", saved === null ? "–" : usd(saved), saved === null ? "no price of the best model" : `${usd(spent)} spent${electricity}`),
  );
}

/** The days up to the newest one, also those without a task. */
function days(known) {
  if (known.length < 2) return [];
  const DAY = 86_400_000;
  const dated = new Map(known.map((day) => [Date.parse(day.date), day]));
  const last = Math.max(...dated.keys());
  const first = Math.max(Math.min(...dated.keys()), last - 27 * DAY);
  const all = Array.from({ length: Math.round((last - first) / DAY) + 1 }, (_, at) => dated.get(first + at * DAY));
  const drawn = bars(all.map((day) => [day?.complete ?? 0, day?.tasks ?? 0]));
  const name = (at) => new Date(at).toISOString().slice(0, 10);
  const caption = el("figcaption", {}, el("span", { textContent: name(first) }), el("span", { textContent: "tasks a day, complete ones filled" }), el("span", { textContent: name(last) }));
  return [el("figure", { className: "days" }, drawn, caption)];
}

function tiers(all) {
  const cell = (tag, scope) => (text, at) => (at > 0 && tag === "td" ? el(tag, { textContent: text }) : el("th", { textContent: text, scope }));
  const row = (tag, cells) => el("tr", {}, ...cells.map(cell(tag, tag === "td" ? "row" : "col")));
  const cells = ({ name, attempts, successes, tokens, cost_usd: cost }) => [name, count(attempts), count(successes), short(tokens), usd(cost)];
  const head = el("thead", {}, row("th", ["by", "attempts", "good", "tokens", "cost"]));
  return el("div", { className: "table" }, el("table", { className: "tiers" }, head, el("tbody", {}, ...all.map((tier) => row("td", cells(tier))))));
}

const prices = ({ best }) =>
  el("p", { className: "none", textContent: best ? `Saved is against ${best.name} doing every complete task at once, at its prices of ${best.date}.` : "" });
