"""How the three languages spell literals, signatures, files and comparisons."""
import json
import re

LANGUAGES = ("python", "rust", "javascript")
COMMENT = {"python": "#", "rust": "//", "javascript": "//"}
FENCE = "```"

PY_TYPES = {"num": "float", "int": "int", "str": "str", "bool": "bool", "nums": "list[float]",
            "ints": "list[int]", "strs": "list[str]", "pair": "tuple[int, int]"}
RS_TYPES = {"num": "f64", "int": "i64", "str": "&str", "bool": "bool", "nums": "&[f64]",
            "ints": "&[i64]", "strs": "&[&str]", "pair": "(i64, i64)"}
RS_RETURNS = {**RS_TYPES, "str": "String", "nums": "Vec<f64>", "ints": "Vec<i64>", "strs": "Vec<String>"}
ELEMENT = {"nums": "num", "ints": "int", "strs": "str"}


def language_of(path):
    ending = path.rsplit(".", 1)[-1]
    return {"py": "python", "rs": "rust", "js": "javascript", "mjs": "javascript", "json": "json", "md": "markdown"}.get(ending, "")


def number(value, kind, language):
    """A number as a literal; Rust wants the point in a float."""
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        value = int(value)
    if language == "rust" and kind == "num" and isinstance(value, int):
        return f"{value}.0"
    return repr(value)


def literal(value, kind, language):
    if kind in ("num", "int"):
        return number(value, kind, language)
    if kind == "bool":
        return str(value) if language == "python" else str(value).lower()
    if kind == "str":
        return json.dumps(value, ensure_ascii=False)
    if kind == "pair":
        inner = ", ".join(number(v, "int", language) for v in value)
        return f"[{inner}]" if language == "javascript" else f"({inner})"
    return "[" + ", ".join(literal(v, ELEMENT[kind], language) for v in value) + "]"


def argument(value, kind, language):
    text = literal(value, kind, language)
    if language == "rust" and kind in ELEMENT:
        if not value:
            return "&[]"
        return "&" + text
    return text


def fill(template, values):
    """Replaces $name by values[name]; a dollar sign before anything else stays."""
    return re.sub(r"\$([a-z][a-z0-9_]*)", lambda m: str(values.get(m.group(1), m.group(0))), template)


def indent(text, width=4):
    return "\n".join(" " * width + line if line else line for line in text.split("\n"))


def function(language, name, params, types, returns, body, typed=False):
    """The whole text of a public function, without a final newline."""
    if language == "python":
        if typed:
            listed = ", ".join(f"{p}: {PY_TYPES[t]}" for p, t in zip(params, types))
            head = f"def {name}({listed}) -> {PY_TYPES[returns]}:"
        else:
            head = f"def {name}({', '.join(params)}):"
        return head + "\n" + indent(body)
    if language == "javascript":
        return f"export function {name}({', '.join(params)}) {{\n{indent(body, 2)}\n}}"
    listed = ", ".join(f"{p}: {RS_TYPES[t]}" for p, t in zip(params, types))
    return f"pub fn {name}({listed}) -> {RS_RETURNS[returns]} {{\n{indent(body)}\n}}"


def signature(language, name, params, types, returns):
    """The first line of the function, as a description may quote it."""
    head = function(language, name, params, types, returns, "", typed=True).split("\n")[0]
    return head.removeprefix("export function ").removeprefix("def ").rstrip(" {:")


def source_file(language, path, blocks):
    """A file: the path in a comment, then its blocks, with a final newline."""
    gap = "\n\n\n" if language == "python" else "\n\n"
    return f"{COMMENT[language]} {path}\n" + gap.join(blocks) + "\n"


def fenced(language, content):
    return f"{FENCE}{language}\n{content}{FENCE}"


def import_of(language, path, names):
    """The lines a test file begins with to reach the functions of `path` from tests/."""
    folder, _, file = path.rpartition("/")
    stem = file.rsplit(".", 1)[0]
    if language == "python":
        return f'import sys\n\nsys.path.insert(0, "{folder or "."}")\nfrom {stem} import {", ".join(names)}'
    if language == "javascript":
        return f'import assert from "node:assert";\nimport {{ {", ".join(names)} }} from "../{path}";'
    return f'#[path = "../{path}"]\nmod {stem};'


def assertion(language, call, expected, returns):
    """One statement which fails unless the call gives the expected value exactly."""
    want = literal(expected, returns, language)
    if language == "python":
        return f"assert {call} is {want}" if returns == "bool" else f"assert {call} == {want}"
    if language == "javascript":
        check = "deepStrictEqual" if returns in ELEMENT or returns == "pair" else "strictEqual"
        return f"assert.{check}({call}, {want});"
    if returns in ELEMENT:
        want = f"Vec::<{RS_RETURNS[returns][4:-1]}>::new()" if not expected else "vec!" + want
    return f"assert_eq!({call}, {want});"


def close_to(language, call, expected):
    """As `assertion` for numbers that went through floating point."""
    want = literal(expected, "num", language)
    if language == "python":
        return f"assert abs({call} - {want}) < 1e-6, {call}"
    if language == "javascript":
        return f"assert.ok(Math.abs({call} - {want}) < 1e-6, String({call}));"
    return f"assert!(({call} - {want}).abs() < 1e-6, \"{{}}\", {call});"


def call(language, path, name, args, types):
    listed = ", ".join(argument(a, t, language) for a, t in zip(args, types))
    if language == "rust":
        stem = path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        return f"{stem}::{name}({listed})"
    return f"{name}({listed})"


def test_file(language, test_path, path, imported, lines):
    """A whole test file of assertions on the functions of `path`."""
    comment = f"{COMMENT[language]} {test_path}\n"
    head = import_of(language, path, imported)
    if language == "rust":
        inner = indent("\n".join(lines))
        return f"{comment}{head}\n\n#[test]\nfn test_{imported[0]}() {{\n{inner}\n}}\n"
    return f"{comment}{head}\n\n" + "\n".join(lines) + "\n"


def test_path(language, stem):
    return f"tests/test_{stem}." + {"python": "py", "javascript": "mjs", "rust": "rs"}[language]


def test_command(language, path):
    stem = path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    if language == "python":
        return f"python3 -B {path}"
    if language == "javascript":
        return f"node {path}"
    return f"cargo test --offline --quiet --test {stem}"
