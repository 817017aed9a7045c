// What this browser remembers: conversations, each under its own name, and settings.
// A browser that keeps nothing, or has no room, forgets; nothing else fails.

const CHAT = "coder.chat.";
const SETTINGS = "coder.settings";
const CURRENT = "coder.current";

/** Conversations that are kept; the oldest go first. */
const KEPT = 50;

function read(storage, name) {
  try {
    return JSON.parse(storage().getItem(name));
  } catch {
    return null;
  }
}

function write(storage, name, value) {
  try {
    storage().setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

const local = () => localStorage;
const tab = () => sessionStorage;

const isTurn = (turn) => ["user", "assistant"].includes(turn?.role) && typeof turn.content === "string";
const isChat = (chat) => typeof chat?.id === "string" && Array.isArray(chat.turns) && chat.turns.every(isTurn);

/** All conversations, the newest first. */
export function chats() {
  try {
    const names = Object.keys(localStorage).filter((name) => name.startsWith(CHAT));
    const all = names.map((name) => read(local, name)).filter(isChat);
    return all.sort((one, other) => (other.at ?? 0) - (one.at ?? 0));
  } catch {
    return [];
  }
}

/** A conversation with nothing in it, which is not kept before something is said. */
export function begin() {
  const id = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { id, at: Date.now(), turns: [] };
}

/** The conversation of this tab, or the newest one. */
export function current() {
  const id = read(tab, CURRENT);
  const own = id && read(local, CHAT + id);
  if (isChat(own)) return own;
  return id ? begin() : (chats()[0] ?? begin());
}

/** This tab is about that conversation now. */
export function show(chat) {
  write(tab, CURRENT, chat.id);
}

/** Keeps a conversation; where there is no room, the oldest others go. Whether it is kept. */
export function keep(chat) {
  chat.at = Date.now();
  const others = chats().filter((other) => other.id !== chat.id);
  others.splice(KEPT - 1).forEach((other) => forget(other.id));
  while (!write(local, CHAT + chat.id, chat)) {
    const oldest = others.pop();
    if (!oldest) return false;
    forget(oldest.id);
  }
  return true;
}

export function forget(id) {
  try {
    localStorage.removeItem(CHAT + id);
  } catch {
    // It was not kept either.
  }
}

export const settings = { model: "", system: "", temperature: "", maxTokens: "", singleKeys: true, board: true, ...read(local, SETTINGS) };

export const keepSettings = () => write(local, SETTINGS, settings);
