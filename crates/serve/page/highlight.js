// Colours for code: comments, strings, numbers, words that languages own, and what is called. No language is parsed; what
// is taken for something else is only coloured otherwise.

import { el } from "./dom.js";

/** What is larger has one colour. */
const MOST = 60_000;

const OWN = new Set(
  (
    "abstract and as assert async await begin bool break case catch char class const continue crate def default del do double " +
    "dyn elif else elsif end enum except export extends extern false final finally fn float for foreach from func function global go goto " +
    "if impl implements import in include instanceof int interface is lambda let local long loop macro match mod module move mut " +
    "namespace new nil none not null or override package pass private protected pub public raise ref return self short signed " +
    "sizeof static string struct super switch template then this throw trait true try type typedef typeof undefined union unless " +
    "unsafe unsigned until use using val var virtual void volatile when where while with yield " +
    "None True False Self String Vec Option Result Some Ok Err echo fi done esac export select insert update delete create table " +
    "SELECT INSERT UPDATE DELETE FROM WHERE JOIN ON GROUP BY ORDER HAVING LIMIT VALUES INTO SET CREATE TABLE INDEX AND OR NOT NULL"
  ).split(" "),
);

/** Languages in which `#` begins a comment. */
const HASH = new Set("python py sh bash shell zsh ruby rb perl yaml yml toml make makefile dockerfile r text".split(" "));
/** In which `--` does. */
const DASHES = new Set("sql lua haskell hs ada elm".split(" "));
/** In which a single quote is of one character, or of a lifetime. */
const LONELY = new Set("rust rs".split(" "));
/** In which nothing is coloured. */
const PLAIN = new Set("text txt plain plaintext console output log markdown md".split(" "));

const quoted = String.raw`"""[^]*?(?:"""|$)|"(?:[^"\\\n]|\\.)*"?`;
const single = String.raw`'''[^]*?(?:'''|$)|'(?:[^'\\\n]|\\.)*'?`;
const lonely = String.raw`'(?:[^'\\\n]|\\[^\n]{1,8}?)'|'[a-z_]\w*`;
const other = String.raw`\x60(?:[^\x60\\]|\\.)*\x60?`;

function pattern(language) {
  const comments = [String.raw`/\*[^]*?(?:\*/|$)`, "<!--[^]*?(?:-->|$)"];
  if (HASH.has(language)) comments.push("#[^\n]*");
  else comments.push("//[^\n]*");
  if (DASHES.has(language)) comments.push("--[^\n]*");
  const strings = [quoted, LONELY.has(language) ? lonely : single, other].join("|");
  return new RegExp(`(?<comment>${comments.join("|")})|(?<string>${strings})|(?<number>\\b\\d[\\w.]*)|(?<word>[\\p{L}_$][\\p{L}\\p{N}_$]*)`, "gu");
}

/** Adds code. */
export function highlight(text, language, into) {
  if (text.length > MOST || PLAIN.has(language)) {
    into.textContent = text;
    return into;
  }
  let at = 0;
  const put = (kind, from, end) => {
    if (at < from) into.append(text.slice(at, from));
    into.append(el("span", { className: kind, textContent: text.slice(from, end) }));
    at = end;
  };
  for (const found of text.matchAll(pattern(language))) {
    const { comment, string, number, word } = found.groups;
    const end = found.index + found[0].length;
    if (comment) put("c", found.index, end);
    else if (string) put("s", found.index, end);
    else if (number) put("n", found.index, end);
    else if (OWN.has(word)) put("k", found.index, end);
    else if (text[end] === "(") put("f", found.index, end);
  }
  into.append(text.slice(at));
  return into;
}
