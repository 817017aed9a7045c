// The server: where it is, the key that it may ask for, and what it says, errors in words.

/** Where the server's paths begin; it may be mounted below others. */
const ROOT = new URL("..", import.meta.url);
const KEY = "coder.key";

/** Hears `key` when the server asks for one and `given` when there is another. */
export const access = new EventTarget();

/** Why there is no answer, in words for people. `status` is 0 without a response. */
export class Refused extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

let key = "";
try {
  key = sessionStorage.getItem(KEY) ?? "";
} catch {
  // Then it is asked for again.
}

/** The key from now on, as long as this tab is open. */
export function useKey(given) {
  key = given;
  try {
    sessionStorage.setItem(KEY, given);
  } catch {
    // It is known until the page is left.
  }
  access.dispatchEvent(new Event("given"));
}

/** A response that is not an error. */
export async function ask(path, { body, signal } = {}) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(new URL(path, ROOT), {
      method: body ? "POST" : "GET",
      headers,
      body: body && JSON.stringify(body),
      signal,
      cache: "no-store",
      redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer. Is coder serve still running?");
  }
  if (response.ok) return response;
  if (response.status === 401) access.dispatchEvent(new Event("key"));
  throw new Refused(await reason(response), response.status);
}

/** What an error response says, and what can be done. */
async function reason(response) {
  let said = "";
  try {
    said = (await response.json()).error?.message ?? "";
  } catch {
    // Something between us and the server has answered.
  }
  switch (response.status) {
    case 401:
      return "The server asks for its key.";
    case 429: {
      const wait = Number(response.headers.get("retry-after"));
      return `The server is busy: ${said || "too many requests"}${wait ? ` (after ${wait} s)` : ""}.`;
    }
    default:
      return said ? sentence(said) : `The server answered with status ${response.status}.`;
  }
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

/** The values of a stream of events, until the server says that it is complete. */
export async function* events(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await read(reader);
      if (done) break;
      const lines = (held + decoder.decode(value, { stream: true })).split(/\r?\n/);
      held = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new Refused(sentence(event.error.message ?? "the server failed"), 500);
        yield event;
      }
    }
  } finally {
    // Whoever stops listening wants no more of it; the server sees that nobody reads.
    reader.cancel().catch(() => {});
  }
  throw new Refused("The connection was cut before the answer was complete.");
}

async function read(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The connection was cut before the answer was complete.");
  }
}
