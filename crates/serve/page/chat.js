// The conversation: questions, answers as they come, and what can be done with them.

import { count, el, find, rate, say, time } from "./dom.js";
import { render } from "./markdown.js";
import { ask, events, Refused } from "./server.js";
import * as store from "./store.js";

const said = find("said");
const scroll = find("scroll");
const question = find("question");

let chat = store.current();
/** Conversations that must not be kept any more, though an answer of them may still end. */
const forgotten = new Set();
/** What stops the answer that is coming, if one is. */
let coming = null;

export const isAnswering = () => coming !== null;
export const stop = () => coming?.abort();

// ---- what is shown

/** The elements of a turn; `update` shows what it says by now. */
function turnView(turn) {
  return turn.role === "user" ? userView(turn) : answerView(turn);
}

function userView(turn) {
  const edit = button("Change", "edit", () => change());
  const item = el("li", { className: "turn user" }, who("You"), el("div", { className: "words", textContent: turn.content }));
  item.append(el("p", { className: "meta" }, el("span", { className: "actions" }, edit, copyButton(() => turn.content))));
  return { item, update() {} };
}

function answerView(turn) {
  const summary = el("summary");
  const thought = el("div", { className: "words" });
  const thoughts = el("details", { className: "thought", hidden: true }, summary, thought);
  const answer = el("div", { className: "answer" });
  const wait = el("p", { className: "wait" });
  const note = el("p", { className: "note" });
  const figures = el("span", { className: "figures" });
  const copies = copyButton(() => turn.content);
  const actions = el("span", { className: "actions" }, copies, button("Again", "again", again));
  const meta = el("p", { className: "meta" }, figures, actions);
  const item = el("li", { className: "turn reply" }, who(turn.model || "Model"), thoughts, answer, wait, note, meta);
  const update = () => {
    const busy = turn.state === "coming";
    item.classList.toggle("busy", busy);
    item.setAttribute("aria-busy", String(busy));
    say(item.firstChild, turn.model || "Model");
    thoughts.hidden = !turn.thought;
    say(thought, turn.thought ?? "");
    const thinks = busy && !turn.content;
    say(summary, thinks ? "Thinking" : turn.thought_s ? `Thought for ${time(turn.thought_s)}` : "Thought");
    render(answer, turn.content);
    wait.hidden = !busy || Boolean(turn.content || turn.thought);
    say(wait, turn.waits ?? "");
    note.hidden = !turn.note;
    note.classList.toggle("bad", turn.state === "failed");
    say(note, turn.note ?? "");
    say(figures, turn.figures ?? "");
    copies.hidden = !turn.content;
    meta.hidden = busy;
  };
  update();
  return { item, update };
}

const who = (name) => el("h2", { className: "who", textContent: name });

function button(text, name, act) {
  const made = el("button", { type: "button", className: "quiet", textContent: text, "data-act": name });
  made.addEventListener("click", act);
  return made;
}

function copyButton(text) {
  const made = button("Copy", "copy", () => copy(text(), made));
  return made;
}

/** Copies, and says so on the button. Where the browser has no clipboard for us, as without TLS, it is done the old way. */
export async function copy(text, from) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = el("textarea", { value: text, className: "unseen", readOnly: true });
    document.body.append(field);
    field.select();
    done = document.execCommand("copy");
    field.remove();
    from?.focus();
  }
  const word = done ? "Copied" : "Not copied";
  say(find("told"), word);
  if (!from) return;
  const before = from.dataset.word ?? from.textContent;
  from.dataset.word = before;
  from.textContent = word;
  setTimeout(() => (from.textContent = before), 1200);
}

const isAtEnd = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;

function toEnd() {
  scroll.scrollTop = scroll.scrollHeight;
}

let views = [];

/** Shows the conversation anew. */
function show() {
  views = chat.turns.map(turnView);
  said.replaceChildren(...views.map((view) => view.item));
  find("empty").hidden = chat.turns.length > 0;
  toEnd();
}

function add(turn) {
  chat.turns.push(turn);
  const view = turnView(turn);
  views.push(view);
  said.append(view.item);
  find("empty").hidden = true;
  toEnd();
  return view;
}

/** Takes turns off the end. */
function cut(length) {
  chat.turns.length = length;
  views.splice(length).forEach((view) => view.item.remove());
  find("empty").hidden = length > 0;
}

// ---- what is done

function body() {
  const { model, system, temperature, maxTokens } = store.settings;
  const spoken = chat.turns.filter((turn) => turn.content).map(({ role, content }) => ({ role, content }));
  const messages = system.trim() ? [{ role: "system", content: system }, ...spoken] : spoken;
  const asked = { messages, stream: true, stream_options: { include_usage: true } };
  if (model) asked.model = model;
  if (temperature !== "") asked.temperature = Number(temperature);
  if (maxTokens !== "") asked.max_tokens = Number(maxTokens);
  return asked;
}

/** Asks. */
export function send(text) {
  if (coming || !text.trim()) return false;
  add({ role: "user", content: text });
  answer();
  return true;
}

/** Answers the last question anew. */
export function again() {
  if (coming) return;
  const last = chat.turns.findLastIndex((turn) => turn.role === "user");
  if (last < 0) return;
  cut(last + 1);
  answer();
}

/** The last question to be changed: it comes back into the field, and its answer goes. */
export function change() {
  const last = chat.turns.findLastIndex((turn) => turn.role === "user");
  if (coming || last < 0) return false;
  question.value = chat.turns[last].content;
  question.dispatchEvent(new Event("input"));
  cut(last);
  store.keep(chat);
  question.focus();
  return true;
}

export function copyLast() {
  const last = chat.turns.findLast((turn) => turn.role === "assistant" && turn.content);
  if (last) copy(last.content);
}

/** Another conversation, by default a new one. */
export function open(other = store.begin()) {
  stop();
  chat = other;
  store.show(chat);
  show();
  question.focus();
}

/** The conversation is forgotten if this is it. */
export function forget(id) {
  forgotten.add(id);
  store.forget(id);
  if (chat.id === id) open();
}

/** What this moment is called, for sentences and figures. */
const now = () => performance.now() / 1000;

async function answer() {
  const asked = body();
  const turn = { role: "assistant", content: "", model: store.settings.model, state: "coming" };
  const view = add(turn);
  const of = chat;
  const stopper = new AbortController();
  coming = stopper;
  changed();
  store.show(of);
  keep(of);
  const times = { asked: now(), first: 0, last: 0 };
  const waiting = setInterval(() => {
    turn.waits = `waiting for the model, ${time(Math.round(now() - times.asked))}`;
    if (!times.first) view.update();
    else keep(of);
  }, 1000);
  try {
    await listen(turn, view, times, await ask("v1/chat/completions", { body: asked, signal: stopper.signal }));
  } catch (error) {
    if (stopper.signal.aborted) end(turn, "stopped", "Stopped.");
    else if (error instanceof Refused) end(turn, "failed", error.message);
    else {
      end(turn, "failed", "The answer could not be read.");
      console.error(error);
    }
  } finally {
    clearInterval(waiting);
    if (coming === stopper) coming = null;
  }
  const stays = isAtEnd();
  view.update();
  if (stays) toEnd();
  keep(of);
  say(find("told"), turn.state === "complete" ? `Answer complete. ${turn.figures}` : turn.note);
  changed();
}

function keep(of) {
  if (!forgotten.has(of.id) && !store.keep(of)) say(find("told"), "The browser has no room to keep this conversation.");
}

function end(turn, state, note = "") {
  turn.state = state;
  turn.note = note;
}

/** Reads an answer, and shows it as often as the screen is drawn. */
async function listen(turn, view, times, response) {
  let drawing = 0;
  const draw = () => {
    drawing = 0;
    const stays = isAtEnd();
    view.update();
    if (stays) toEnd();
  };
  let usage = null;
  try {
    for await (const event of events(response)) {
      usage = event.usage ?? usage;
      turn.model = event.model ?? turn.model;
      const choice = event.choices?.[0];
      hear(turn, choice?.delta ?? {}, times);
      if (choice?.finish_reason === "length") turn.note = "It has as many tokens as it may have.";
      drawing ||= requestAnimationFrame(draw);
    }
  } finally {
    cancelAnimationFrame(drawing);
    if (turn.thought && !turn.thought_s) turn.thought_s = now() - times.first;
  }
  end(turn, "complete", turn.note);
  turn.figures = figures(usage, times);
}

function hear(turn, { content, reasoning_content: thought }, times) {
  if (!content && !thought) return;
  times.last = now();
  times.first ||= times.last;
  if (thought) turn.thought = (turn.thought ?? "") + thought;
  if (!content) return;
  if (turn.thought) turn.thought_s ??= times.last - times.first;
  turn.content += content;
}

/** What an answer took. */
function figures(usage, { asked, first, last }) {
  if (!usage) return "";
  const { prompt_tokens: prompt, completion_tokens: written } = usage;
  const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  const said = [`${count(written)} ${written === 1 ? "token" : "tokens"}`];
  if (first && last - first > 0.05) said.push(`${rate((written - 1) / (last - first))} tok/s`);
  if (first) said.push(`first after ${time(first - asked)}`);
  said.push(cached ? `prompt ${count(prompt)}, ${count(cached)} of it cached` : `prompt ${count(prompt)}`);
  return said.join(" · ");
}

/** Tells the page that an answer has begun or ended. */
function changed() {
  document.dispatchEvent(new Event("answering"));
}

// An answer that was coming when the page was left is what had come of it.
for (const turn of chat.turns) {
  if (turn.state === "coming") end(turn, "stopped", "Cut off when the page was left.");
}
addEventListener("pagehide", () => coming && store.keep(chat));
show();
