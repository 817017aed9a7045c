// The page: fields, keys, themes and what is shown; the conversation and the board are files of their own.

import * as board from "./board.js";
import * as chat from "./chat.js";
import { el, find, say } from "./dom.js";
import { access, ask, useKey } from "./server.js";
import * as store from "./store.js";

const { settings } = store;
const question = find("question");
const wide = matchMedia("(min-width: 1000px)");

// ---- the question

function grow() {
  question.style.height = "auto";
  question.style.height = `${Math.min(question.scrollHeight + 2, innerHeight * 0.4)}px`;
}

function send() {
  if (!chat.send(question.value)) return;
  question.value = "";
  grow();
}

question.addEventListener("input", grow);
question.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    send();
  } else if (event.key === "ArrowUp" && !question.value && chat.change()) {
    event.preventDefault();
  }
});
find("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
find("stop").addEventListener("click", chat.stop);
document.addEventListener("answering", () => {
  const busy = chat.isAnswering();
  const focused = document.activeElement === find("stop") || document.activeElement === find("send");
  find("stop").hidden = !busy;
  find("send").hidden = busy;
  if (focused) question.focus();
  if (!busy) board.look();
});

// Code has a button of its own.
find("said").addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copy]");
  if (button) chat.copy(button.closest(".code").querySelector("code").textContent, button);
});

const IDEAS = [
  "Classify as BUG, FEAT or TASK: login fails after a restart",
  "Write a Python function `clamp(value, low, high)`",
  "Write a Rust function `is_even(n: u32) -> bool`",
];
for (const idea of IDEAS) {
  const button = el("button", { type: "button", textContent: idea });
  button.addEventListener("click", () => {
    question.value = idea;
    grow();
    question.focus();
  });
  find("ideas").append(el("li", {}, button));
}

// ---- settings

const FIELDS = [["system", "system"], ["temperature", "temperature"], ["max-tokens", "maxTokens"], ["model", "model"]];
for (const [id, name] of FIELDS.slice(0, 3)) {
  const field = find(id);
  field.value = settings[name];
  field.addEventListener("input", () => {
    if (!field.checkValidity()) return;
    settings[name] = field.value;
    store.keepSettings();
    mark();
  });
}

/** Settings that differ from the server's are seen without opening them. */
function mark() {
  const changed = [settings.system.trim(), settings.temperature, settings.maxTokens].filter((value) => value !== "").length;
  say(find("settings-toggle"), changed ? `Settings (${changed})` : "Settings");
}

function toggleSettings() {
  const panel = find("settings");
  panel.hidden = !panel.hidden;
  find("settings-toggle").setAttribute("aria-expanded", String(!panel.hidden));
  (panel.hidden ? find("settings-toggle") : find("system")).focus();
}
find("settings-toggle").addEventListener("click", toggleSettings);
mark();

const models = find("model");
models.addEventListener("change", () => {
  settings.model = models.value;
  store.keepSettings();
});

/** The names that the server answers to. */
async function listModels() {
  try {
    const { data } = await (await ask("v1/models")).json();
    const names = data.map((model) => model.id);
    models.replaceChildren(...names.map((name) => el("option", { value: name, textContent: name })));
    if (!names.includes(settings.model)) settings.model = names[0] ?? "";
    models.value = settings.model;
  } catch {
    // The board says what is wrong, and looks again; so does this with it.
  }
}

// ---- the key

access.addEventListener("key", () => {
  if (!find("key").hidden) return;
  find("key").hidden = false;
  find("key-field").focus();
});
find("key").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = find("key-field");
  if (!field.value.trim()) return;
  useKey(field.value.trim());
  try {
    await ask("v1/models");
    field.value = "";
    find("key").hidden = true;
    await listModels();
    board.look();
    question.focus();
  } catch (error) {
    say(find("key-note"), error.status === 401 ? "That is not its key." : error.message);
    field.select();
  }
});

// ---- what is shown

/** On a small screen one of the two, on a large one the board may be put away. */
function layout() {
  const shown = document.body.dataset.view;
  document.body.classList.toggle("no-board", wide.matches && !settings.board);
  for (const button of document.querySelectorAll("[data-show]")) {
    const on = wide.matches ? button.dataset.show === "chat" || settings.board : button.dataset.show === shown;
    button.setAttribute("aria-pressed", String(on));
  }
  board.watch(wide.matches ? settings.board : shown === "board");
}

function view(name) {
  if (wide.matches) {
    if (name === "board") settings.board = !settings.board;
    store.keepSettings();
  } else document.body.dataset.view = name;
  layout();
}
for (const button of document.querySelectorAll("[data-show]")) {
  button.addEventListener("click", () => view(button.dataset.show));
}
wide.addEventListener("change", layout);

const THEMES = ["auto", "light", "dark"];
let theme = document.documentElement.dataset.theme ?? "auto";

function setTheme(name) {
  theme = name;
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  say(find("theme").querySelector("span"), name);
  try {
    if (name === "auto") localStorage.removeItem("coder.theme");
    else localStorage.setItem("coder.theme", name);
  } catch {
    // It holds until the page is left.
  }
}
const nextTheme = () => setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
find("theme").addEventListener("click", nextTheme);
setTheme(theme);

// ---- dialogs

for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}

function listChats() {
  const all = store.chats();
  const rows = all.map((one) => {
    const title = one.turns.find((turn) => turn.role === "user")?.content.trim().split("\n")[0].slice(0, 120) || "Empty";
    const when = new Date(one.at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const choose = el("button", { type: "button", className: "choose" }, el("span", { textContent: title }), el("small", { textContent: when }));
    choose.addEventListener("click", () => {
      find("chats").close();
      chat.open(one);
    });
    const forget = el("button", { type: "button", className: "quiet", textContent: "Forget", "aria-label": `Forget ${title}` });
    forget.addEventListener("click", () => {
      chat.forget(one.id);
      listChats();
    });
    return el("li", {}, choose, forget);
  });
  find("chat-list").replaceChildren(...(rows.length ? rows : [el("li", { className: "none", textContent: "Nothing is kept." })]));
  find("forget").hidden = rows.length === 0;
}
find("chats-open").addEventListener("click", () => {
  listChats();
  find("chats").showModal();
});
find("forget").addEventListener("click", () => {
  for (const { id } of store.chats()) chat.forget(id);
  listChats();
});
find("new").addEventListener("click", () => chat.open());

const help = () => find("shortcuts").showModal();
find("help").addEventListener("click", help);

// ---- keys

const singleKeys = find("single-keys");
singleKeys.checked = settings.singleKeys;
singleKeys.addEventListener("change", () => {
  settings.singleKeys = singleKeys.checked;
  store.keepSettings();
});

const SHORTCUTS = {
  "/": () => {
    if (!wide.matches) view("chat");
    question.focus();
  },
  n: () => chat.open(),
  r: chat.again,
  c: chat.copyLast,
  b: () => view(!wide.matches && document.body.dataset.view === "board" ? "chat" : "board"),
  s: toggleSettings,
  t: nextTheme,
  "?": help,
};

document.addEventListener("keydown", (event) => {
  if (event.isComposing || document.querySelector("dialog[open]")) return;
  const inField = event.target.closest?.("input, textarea, select");
  if (event.key === "Escape") {
    if (chat.isAnswering()) chat.stop();
    else if (inField) event.target.blur();
    return;
  }
  if (inField || event.ctrlKey || event.metaKey || event.altKey || !settings.singleKeys) return;
  const act = SHORTCUTS[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act();
});

board.onBack(listModels);
layout();
board.look();
listModels();
if (wide.matches) question.focus();
