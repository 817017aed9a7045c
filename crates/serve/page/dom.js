// Elements and numbers. Text becomes text nodes and nothing else.

/** An element with properties, attributes (`aria-…`, `data-…`) and children. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const find = (id) => document.getElementById(id);

/** Changes a text only if it differs, so that nothing is selected or said anew. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const whole = new Intl.NumberFormat("en");
const one = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** 12,345 */
export const count = (number) => whole.format(Math.round(number));

/** 12,345 in little room: 12.3 k, 4.6 M. */
export function short(number) {
  const size = Math.abs(number);
  if (size < 10_000) return count(number);
  const [unit, name] = size < 999_500 ? [1e3, "k"] : size < 999_500_000 ? [1e6, "M"] : [1e9, "B"];
  const scaled = number / unit;
  return `${Math.abs(scaled) < 100 ? one.format(scaled) : count(scaled)} ${name}`;
}

/** Tokens per second: one digit behind the point where it says something. */
export const rate = (number) => (number > 0 && number < 10 ? one.format(number) : short(number));

export const percent = (share) => `${share > 0 && share < 0.1 ? one.format(share * 100) : count(share * 100)} %`;

/** Bytes as number and unit. */
export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  let number = bytes;
  while (number >= 1000 && at + 1 < units.length) {
    number /= 1024;
    at += 1;
  }
  return [at > 0 && number < 100 ? one.format(number) : count(number), units[at]];
}

/** To the cent, and what is less to two digits. */
export function usd(amount) {
  const size = Math.abs(amount);
  const digits = size === 0 || size >= 0.1 ? 2 : Math.min(8, 1 - Math.floor(Math.log10(size)));
  const text = size.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return `${amount < 0 ? "−" : ""}$${text}`;
}

/** 480 ms, 3.2 s, 4 min 10 s, 3 h 20 min, 2 d 4 h. */
export function time(seconds) {
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${Number.isInteger(seconds) ? seconds : one.format(seconds)} s`;
  const s = Math.round(seconds);
  const [d, h, m] = [Math.floor(s / 86_400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (d > 0) return `${d} d ${h} h`;
  return h > 0 ? `${h} h ${m} min` : `${m} min ${s % 60} s`;
}
