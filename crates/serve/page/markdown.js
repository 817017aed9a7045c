// Markdown to elements. What a model writes is hostile: it becomes text nodes and elements of a few kinds, links lead to
// http, https and mailto alone, and there are no images. Every text is read once, however it is made.

import { el } from "./dom.js";
import { highlight } from "./highlight.js";

/** Quotes and lists in each other; what is deeper is text. */
const DEEP = 8;

/** Shows `text`. Of what is there already, the blocks that have not changed stay, also while more comes. */
export function render(into, text) {
  const shown = blocks(text.replace(/\r\n?/g, "\n").split("\n"), 0);
  const before = drawn.get(into) ?? [];
  const now = shown.map(({ source, make }, at) => {
    const old = before[at];
    if (old?.source === source) return old;
    const block = { source, element: make() };
    if (old) old.element.replaceWith(block.element);
    else into.append(block.element);
    return block;
  });
  before.slice(now.length).forEach(({ element }) => element.remove());
  drawn.set(into, now);
}

/** The blocks that an element shows, with their sources. */
const drawn = new WeakMap();

const FENCE = /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})[ \t]*([^`\s]*)/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])([ \t]+|$)/;
const DELIMITERS = /^[ \t|:-]+$/;

/** The blocks of these lines, each with its source and a function that makes its element. */
function blocks(lines, depth) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const [end, make] = block(lines, at, depth);
    found.push({ source: lines.slice(at, end).join("\n"), make });
    at = end;
  }
  return found;
}

/** Where the block that begins here ends, and what makes it. */
function block(lines, at, depth) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return code(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) {
    const tag = `h${Math.min(6, heading[1].length + 2)}`;
    return [at + 1, () => inline(without(heading[2] ?? "", "# \t"), el(tag))];
  }
  if (RULE.test(line)) return [at + 1, () => el("hr")];
  if (depth < DEEP) {
    if (QUOTE.test(line)) return quote(lines, at, depth);
    const item = ITEM.exec(line);
    if (item) return list(lines, at, item, depth);
  }
  if (isTable(lines, at)) return table(lines, at);
  return paragraph(lines, at, depth);
}

function code(lines, at, [, mark, language]) {
  let end = at + 1;
  const closes = (line) => {
    const text = line.trim();
    return text.length >= mark.length && text === mark[0].repeat(text.length);
  };
  while (end < lines.length && !closes(lines[end])) end += 1;
  const text = lines.slice(at + 1, end).join("\n");
  return [Math.min(end + 1, lines.length), () => codeBlock(text, language)];
}

function codeBlock(text, language) {
  const copy = el("button", { type: "button", className: "copy", textContent: "Copy" });
  copy.setAttribute("aria-label", language ? `Copy ${language} code` : "Copy code");
  copy.dataset.copy = "code";
  const body = highlight(text, language.toLowerCase(), el("code"));
  const head = el("div", { className: "code-head" }, el("span", { textContent: language || "text" }), copy);
  return el("div", { className: "code" }, head, el("pre", { tabIndex: 0 }, body));
}

function quote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return [end, () => fill(el("blockquote"), inner, depth + 1)];
}

function fill(into, lines, depth) {
  into.append(...blocks(lines, depth).map(({ make }) => make()));
  return into;
}

/** Items go on with lines that are indented, and with lines of text that follow text. */
function list(lines, at, first, depth) {
  const kind = (mark) => mark.slice(-1);
  const items = [];
  let [end, indent, loose] = [at, 0, false];
  for (let blank = false; end < lines.length; end += 1) {
    const line = lines[end];
    const item = ITEM.exec(line);
    const indented = line.search(/\S/);
    if (indented < 0) {
      blank = true;
      continue;
    }
    if (items.length > 0 && indented >= indent) {
      items.at(-1).push(...(blank ? [""] : []), line.slice(indent));
    } else if (item && kind(item[2]) === kind(first[2]) && !RULE.test(line)) {
      loose ||= blank && items.length > 0;
      indent = item[1].length + item[2].length + Math.min(4, Math.max(1, item[3].length));
      items.push([line.slice(Math.min(indent, item[0].length))]);
    } else if (blank || item || startsBlock(line)) {
      break;
    } else {
      items.at(-1).push(line.trimStart());
    }
    blank = false;
  }
  while (!lines[end - 1].trim()) end -= 1;
  const number = Number.parseInt(first[2], 10);
  const make = () => {
    const into = Number.isNaN(number) ? el("ul") : el("ol", { start: number });
    into.append(...items.map((item) => listItem(item, loose, depth)));
    return into;
  };
  return [end, make];
}

function listItem(lines, loose, depth) {
  const item = el("li");
  const task = /^\[([ xX])\] /.exec(lines[0]);
  if (task) lines = [lines[0].slice(4), ...lines.slice(1)];
  fill(item, lines, depth + 1);
  // An item of one paragraph is a line, not a paragraph of its own.
  if (!loose && item.firstElementChild?.tagName === "P") item.firstElementChild.replaceWith(...item.firstElementChild.childNodes);
  if (task) {
    const done = task[1] !== " ";
    item.className = "task";
    item.prepend(el("input", { type: "checkbox", checked: done, disabled: true, "aria-label": done ? "done" : "to do" }), " ");
  }
  return item;
}

const startsBlock = (line) => FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line);

function isTable(lines, at) {
  const under = lines[at + 1] ?? "";
  return lines[at].includes("|") && under.includes("-") && under.includes("|") && DELIMITERS.test(under);
}

/** The cells of a row; a bar after a backslash is text. */
function cells(line) {
  const all = line.trim().replace(/^\|/, "").split(/(?<!\\)\|/);
  if (all.length > 1 && !all.at(-1).trim()) all.pop();
  return all.map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function table(lines, at) {
  let end = at + 2;
  while (end < lines.length && lines[end].trim() && lines[end].includes("|")) end += 1;
  const make = () => {
    const sides = cells(lines[at + 1]).map((cell) => (/^:-*:$/.test(cell) ? "center" : /:$/.test(cell) ? "right" : "left"));
    const row = (tag) => (line) =>
      el("tr", {}, ...cells(line).slice(0, sides.length).map((cell, i) => inline(cell, el(tag, { className: sides[i] }))));
    const body = el("tbody", {}, ...lines.slice(at + 2, end).map(row("td")));
    return el("div", { className: "table", tabIndex: 0 }, el("table", {}, el("thead", {}, row("th")(lines[at])), body));
  };
  return [end, make];
}

function paragraph(lines, at, depth) {
  let end = at + 1;
  const goesOn = (line) => line.trim() && !startsBlock(line) && !(depth < DEEP && ITEM.test(line));
  while (end < lines.length && goesOn(lines[end]) && !isTable(lines, end)) end += 1;
  return [end, () => inline(lines.slice(at, end).join("\n"), el("p"))];
}

/** A text without these characters at its end. */
function without(text, characters) {
  let end = text.length;
  while (end > 0 && characters.includes(text[end - 1])) end -= 1;
  return text.slice(0, end);
}

const ESCAPED = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}_]/u;
const ADDRESS = /https?:\/\/[^\s<>"'`\\^{|}]{1,2001}/y;
const MARKS = [["**", "strong"], ["__", "strong"], ["~~", "del"], ["*", "em"], ["_", "em"]];
const SPECIAL = /[\\`*_~[<h]/g;

/** Adds a text with emphasis, code and links. */
function inline(text, into, depth = 0) {
  const places = new Map();
  let [at, plain] = [0, 0];
  const put = (node, end) => {
    if (plain < at) into.append(text.slice(plain, at));
    into.append(node);
    at = plain = end;
  };
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const special = SPECIAL.exec(text);
    if (!special) break;
    at = special.index;
    const mark = special[0];
    const found =
      mark === "\\" ? escaped(text, at)
      : mark === "`" ? codeSpan(text, at, places)
      : mark === "[" ? link(text, at, depth, places)
      : mark === "<" || mark === "h" ? address(text, at, depth)
      : depth < DEEP ? emphasis(text, at, depth, places)
      : null;
    if (found) put(...found);
    else at += mark === "`" || mark === "*" || mark === "_" || mark === "~" ? run(text, at) : 1;
  }
  if (plain < text.length) into.append(text.slice(plain));
  return into;
}

/** Where `what` comes next. Places are remembered, so that a text is searched once, whatever it promises; `at` only rises. */
function next(text, what, at, places) {
  const known = places.get(what);
  if (known !== undefined && (known < 0 || known >= at)) return known;
  const found = text.indexOf(what, at);
  places.set(what, found);
  return found;
}

/** How often the character here is repeated. */
function run(text, at) {
  let end = at;
  while (text[end] === text[at]) end += 1;
  return end - at;
}

const escaped = (text, at) => (ESCAPED.test(text[at + 1] ?? "") ? [document.createTextNode(text[at + 1]), at + 2] : null);

function codeSpan(text, at, places) {
  const size = run(text, at);
  const mark = "`".repeat(size);
  if (places.get(mark) === -1) return null;
  for (let end = text.indexOf(mark, at + size); end >= 0; end = text.indexOf(mark, end + run(text, end))) {
    if (run(text, end) !== size) continue;
    const inside = text.slice(at + size, end).replaceAll("\n", " ");
    const padded = inside.startsWith(" ") && inside.endsWith(" ") && inside.trim();
    return [el("code", { textContent: padded ? inside.slice(1, -1) : inside }), end + size];
  }
  places.set(mark, -1);
  return null;
}

function emphasis(text, at, depth, places) {
  for (const [mark, tag] of MARKS) {
    if (!text.startsWith(mark, at) || places.get(mark) === -1) continue;
    const begin = at + mark.length;
    if (/\s/.test(text[begin] ?? " ") || (mark[0] === "_" && WORD.test(text[at - 1] ?? ""))) continue;
    for (let end = text.indexOf(mark, begin + 1); ; end = text.indexOf(mark, end + run(text, end))) {
      if (end < 0) {
        places.set(mark, -1);
        break;
      }
      const after = end + run(text, end);
      if (/\s/.test(text[end - 1]) || run(text, end) < mark.length || (mark.length === 1 && run(text, end) === 2)) continue;
      if (mark[0] === "_" && WORD.test(text[after] ?? "")) continue;
      const close = after - mark.length;
      return [inline(text.slice(begin, close), el(tag), depth + 1), after];
    }
  }
  return null;
}

/** Characters of an address; what is longer leads nowhere. */
const LONGEST = 2000;

/** An address that a person may follow. */
function safe(written) {
  try {
    const url = new URL(written);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

const anchor = (href) => el("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" });

function link(text, at, depth, places) {
  const end = next(text, "](", at, places);
  if (end < 0 || depth >= DEEP) return null;
  const label = text.slice(at + 1, end);
  const close = next(text, ")", end, places);
  if (close < 0 || label.includes("[") || label.includes("\n\n")) return null;
  const target = text.slice(end + 2, Math.min(close, end + 2 + LONGEST)).trim().split(/[ \t\n]/)[0];
  const href = safe(target.replace(/^<|>$/g, ""));
  return href && [inline(label || href, anchor(href), DEEP), close + 1];
}

/** An address in a text, or between angle brackets. */
function address(text, at, depth) {
  const inside = text[at] === "<";
  if (depth >= DEEP || (!inside && WORD.test(text[at - 1] ?? ""))) return null;
  ADDRESS.lastIndex = at + (inside ? 1 : 0);
  const found = ADDRESS.exec(text)?.[0];
  if (!found || found.length > LONGEST || (inside && text[at + 1 + found.length] !== ">")) return null;
  const shown = inside ? found : without(found, ".,:;!?)]*_~");
  const href = safe(shown);
  if (!href) return null;
  const node = anchor(href);
  node.textContent = shown;
  return [node, at + shown.length + (inside ? 2 : 0)];
}
