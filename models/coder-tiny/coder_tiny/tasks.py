"""Tasks: what is asked, the reference answer, and how the answer is verified."""
import json
from dataclasses import dataclass, field

from . import lang
from .functions import KINDS, describe, filler, join_and, random_function
from .kind import random_email, random_text
from .names import NOUNS, Namer, split_name, word

FOLDERS = {"python": ["src", "src", "lib", "app", "utils", "src/utils", "app/core"], "rust": ["src", "src", "lib", "src/utils", "app"],
           "javascript": ["src", "src", "lib", "app", "utils", "src/utils", "app/lib"]}
CONSTRAINTS = {
    "any": ["No dependencies", "Do not print anything", "Keep it short", "No comments besides the first line", "A pure function", "Handle the edge cases", "No side effects", "Do not change the arguments", "Standard library only"],
    "python": ["Use snake_case names", "Python 3", "Plain Python, no imports"], "rust": ["Make the function public", "No unsafe code", "Edition 2021", "No external crates"],
    "javascript": ["Use an ES module export", "Export the function by name", "Plain JavaScript", "Use a named export", "No TypeScript"]}


@dataclass
class Task:
    kind: str
    language: str
    description: str
    output_file: str
    answer: str                                      # the whole file
    command: str = ""
    context: list = field(default_factory=list)      # (path, content) files to show
    constraints: list = field(default_factory=list)
    files: dict = field(default_factory=dict)        # everything the check needs besides the answer
    imported: tuple = ()                             # names the check looks up in the answer
    example: str = ""                                # one assertion of the check


def extension(rng, language):
    return {"python": "py", "rust": "rs", "javascript": rng.choice(["js", "js", "mjs"])}[language]


def source_path(rng, namer, words=None):
    language = namer.language
    return f"{rng.choice(FOLDERS[language])}/{namer.stem(words)}.{extension(rng, language)}"


def neutral_constraints(rng, language):
    if rng.random() < 0.6:
        return []
    pool = CONSTRAINTS["any"] + CONSTRAINTS[language]
    return rng.sample(pool, rng.choice((1, 1, 2, 3)))


def spoken(rng, text):
    """Some people write without backticks or with little punctuation."""
    if rng.random() < 0.2:
        text = text.replace("`", "")
    if rng.random() < 0.08:
        text = text.removesuffix(".")
    return text


def stem_of(path):
    return path.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def with_check(task, namer, path, names, lines):
    """Adds a hidden test file for the answer at `path`."""
    test = lang.test_path(task.language, namer.cased([stem_of(path)]).replace("-", "_"))
    task.files[test] = lang.test_file(task.language, test, path, names, lines)
    task.command = lang.test_command(task.language, test)
    task.imported = tuple(names)
    task.example = lines[0]
    return task


def _maybe_default(rng, function):
    types = function.kind.types()
    if function.language != "rust" and len(types) > 1 and types[-1] in ("num", "int") and rng.random() < 0.15:
        function.default = rng.choice([1, 2, 5, 10, 20, rng.randint(0, 99)])


def function_task(rng, language, kind=None):
    """A new file with one function, or two."""
    namer = Namer(rng, language)
    functions = [random_function(rng, namer, language, kind)]
    if rng.random() < 0.15:
        functions.append(random_function(rng, namer, language))
    constraints = neutral_constraints(rng, language)
    _maybe_default(rng, functions[0])
    texts = [describe(rng, f) for f in functions]
    if language == "python" and not any(f.typed for f in functions) and rng.random() < 0.12:
        hint = rng.choice(["Use type hints", "Add type hints"])
        if rng.random() < 0.5:
            constraints = constraints + [hint]
        else:
            texts.append(hint + ".")
        for f in functions:
            f.typed = True
    elif any(f.typed for f in functions):
        for f in functions:
            f.typed = True
    if len(functions) == 2 and rng.random() < 0.4:
        description = "Write two functions:\n" + "\n".join(f"- {t}" for t in texts)
    else:
        description = " ".join(texts)
    if rng.random() < 0.1:
        description += " " + filler(rng)
    if len(functions) == 2 and language == "python" and functions[0].typed and "hint" not in description + str(constraints):
        constraints = constraints + ["Use type hints"]
    if len(functions) == 2 and functions[0].name.lower() == functions[1].name.lower():
        return function_task(rng, language, kind)
    words = namer.function_words(functions[0].kind.hint) if rng.random() < 0.4 else split_name(functions[0].name)
    path = source_path(rng, namer, words)
    answer = lang.source_file(language, path, [f.code() for f in functions])
    task = Task(functions[0].kind.name if len(functions) == 1 else "two_functions", language, spoken(rng, description), path, answer, constraints=constraints)
    lines = [line for f in functions for line in f.check_lines(rng, path)]
    return with_check(task, namer, path, [f.name for f in functions], lines)


def constant_line(language, name, kind, value):
    text = lang.literal(value, kind, language)
    if language == "python":
        return f"{name} = {text}"
    if language == "javascript":
        return f"export const {name} = {text};"
    return f"pub const {name}: {lang.RS_TYPES[kind]} = {text};"


def constant_check(language, path, name, kind, value):
    target = f"{stem_of(path)}::{name}" if language == "rust" else name
    return lang.assertion(language, target, value, kind)


ERROR_NAMES = """NOT_FOUND UNAUTHORIZED FORBIDDEN BAD_REQUEST TIMEOUT CONFLICT INTERNAL_ERROR INVALID_INPUT
RATE_LIMITED UNAVAILABLE GONE TOO_LARGE NETWORK_ERROR PARSE_ERROR UNKNOWN DUPLICATE EXPIRED""".split()


def random_constants(rng, namer, count=None):
    """(name, kind, value) rows, with one kind of value mostly."""
    count = count or rng.choice((1, 2, 3, 3, 4, 5, 6))
    style = rng.choice(("int", "int", "str", "num", "mixed"))
    prefix = rng.choice((None, None, "err", "max", "default", word(rng, NOUNS, 0.5)))
    known = rng.sample(ERROR_NAMES, count) if rng.random() < 0.25 else None
    rows = []
    for i in range(count):
        kind = rng.choice(("int", "num", "str")) if style == "mixed" else style
        name = known[i] if known else namer.constant(prefix)
        rows.append((name, kind, _constant_value(rng, kind, name)))
    return rows


def _constant_value(rng, kind, name):
    if kind == "int":
        return rng.choice([rng.randint(0, 9), rng.randint(10, 99), rng.randint(100, 599), rng.randint(1000, 99999), rng.choice([404, 401, 403, 500, 8080, 3600, 1024])])
    if kind == "num":
        return rng.choice([rng.randint(1, 99) / 10, rng.randint(1, 999) / 100, rng.randint(1, 9) + 0.5])
    return rng.choice([name.lower(), name, f"E{rng.randint(1, 999):03d}", word(rng, NOUNS, 0.6), word(rng, NOUNS, 0.4) + "-" + word(rng, NOUNS, 0.4), f"{word(rng, NOUNS, 0.4)} {word(rng, NOUNS, 0.4)}"])


def listed_constants(rng, rows):
    """The rows in prose: one of several usual notations."""
    pattern = rng.choice(["`{n}` = {v}", "`{n}` is {v}", "{n} = {v}", "`{n}` with the value {v}", "{n}: {v}", "`{n}` ({v})", "`{n} = {v}`"])
    items = [pattern.format(n=n, v=lang.literal(v, k, "python")) for n, k, v in rows]
    style = rng.random()
    if style < 0.35:
        return "\n" + "\n".join(f"- {i}" for i in items)
    return " " + (join_and(items) if style < 0.75 else ", ".join(items)) + "."


def constants_task(rng, language):
    namer = Namer(rng, language)
    rows = random_constants(rng, namer)
    path = source_path(rng, namer, rng.choice((["error", "codes"], ["constants"], ["limits"], None)) if rng.random() < 0.6 else None)
    if language != "rust" and rng.random() < 0.15:
        return _table_task(rng, namer, path, rows)
    if rng.random() < 0.15:
        start = rng.choice([0, 1, 1, 10, 100, 1000, rng.randint(2, 400)])
        rows = [(name, "int", start + i) for i, (name, _, _) in enumerate(rows)]
        names = join_and([f"`{name}`" for name, _, _ in rows])
        description = rng.choice(["Define the constants {n}, numbered from {s}.", "Create the error codes {n}, counting up from {s}.", "Constants {n} with the values {s} and up, in this order."]).format(n=names, s=start)
    else:
        description = rng.choice(["Define these constants:", "Create a constants file with", "Export the constants", "Write a file with the error codes", "Define the error code constants", "We need the constants", "Constants:", "The file defines"]) + listed_constants(rng, rows)
    answer = f"{lang.COMMENT[language]} {path}\n" + "".join(constant_line(language, *row) + "\n" for row in rows)
    task = Task("constants", language, spoken(rng, description), path, answer, constraints=neutral_constraints(rng, language))
    return with_check(task, namer, path, [n for n, _, _ in rows], [constant_check(language, path, *row) for row in rows])


def _table_task(rng, namer, path, rows):
    """One object or dict that holds all the constants."""
    language, table = namer.language, namer.constant()
    word_for = {"python": "dict", "javascript": "object"}[language]
    lines = [f'    "{n}": {lang.literal(v, k, language)},' if language == "python" else f"  {n}: {lang.literal(v, k, language)}," for n, k, v in rows]
    head = f"{table} = {{" if language == "python" else f"export const {table} = {{"
    answer = f"{lang.COMMENT[language]} {path}\n{head}\n" + "\n".join(lines) + ("\n}\n" if language == "python" else "\n};\n")
    description = rng.choice(["Define the {w} `{t}` with", "Export one {w} `{t}` that holds", "Create a {w} named `{t}` with the entries"]).format(w=word_for, t=table) + listed_constants(rng, rows)
    task = Task("constants_table", language, spoken(rng, description), path, answer)
    checks = [lang.assertion(language, f'{table}["{n}"]', v, k) for n, k, v in rows]
    return with_check(task, namer, path, [table], checks)


def _exact(value):
    return not isinstance(value, float) or value * 4 == int(value * 4)


def _broken_value(kind, expected):
    if kind in ("num", "int"):
        return expected + 1
    if kind == "bool":
        return not expected
    if kind == "pair":
        return (expected[0] + 1, expected[1])
    if kind == "str":
        return expected + "?"
    return list(expected) + (["?"] if kind == "strs" else [99])


def _test_file_path(rng, namer, path):
    """Where a test file for `path` goes: one of the usual places of the language."""
    stem = stem_of(path)
    if namer.language != "javascript":
        return lang.test_path(namer.language, namer.cased([stem]))
    folder, ending = rng.choice(["tests", "tests", "test"]), rng.choice(["mjs", "mjs", "js"])
    return f"{folder}/" + rng.choice([f"test_{stem}", f"{stem}.test", f"{stem}.test"]) + f".{ending}"


EMAIL_BODIES = {"javascript": ["return /^[^\\s@]+@[^\\s@]+\\.[^\\s@]+$/.test($text);", "const pattern = /^[^\\s@]+@[^\\s@]+\\.[^\\s@]+$/;\nreturn pattern.test($text);"],
                "python": ['import re\nreturn re.fullmatch(r"[^\\s@]+@[^\\s@]+\\.[^\\s@]+", $text) is not None']}


def _shown_source(rng, namer, function, path):
    """The file under test: it may hold other functions, and lack the path comment."""
    language, blocks = function.language, [function.code()]
    if function.kind.name == "validate_email" and language in EMAIL_BODIES and rng.random() < 0.5:
        body = lang.fill(rng.choice(EMAIL_BODIES[language]), function.values(True))
        blocks = [lang.function(language, function.name, function.params, function.kind.types(), function.kind.returns, body)]
    if rng.random() < 0.2:
        blocks.insert(rng.randint(0, 1), random_function(rng, namer, language).code())
    source = lang.source_file(language, path, blocks)
    return source.split("\n", 1)[1] if rng.random() < 0.4 else source


def _said_examples(rng, function, examples):
    """The examples in prose, in one notation for the whole list."""
    kind, language = function.kind, function.language
    listed = [", ".join(lang.argument(a, t, language) for a, t in zip(case, kind.types())) for case, _ in examples]
    if kind.returns == "bool" and len(kind.types()) == 1 and rng.random() < 0.35:
        yes, no = rng.choice([("accepts {a}", "rejects {a}"), ("true for {a}", "false for {a}"), ("{a} is valid", "{a} is not valid"), ("returns true for {a}", "returns false for {a}")])
        return [(yes if e else no).format(a=a) for a, (_, e) in zip(listed, examples)]
    pattern = rng.choice(["`{f}({a})` is {e}", "`{f}({a})` returns {e}", "`{f}({a})` gives {e}", "`{f}({a})` should be {e}", "`{f}({a})` -> {e}", "`{f}({a})` == {e}"])
    return [pattern.format(f=function.name, a=a, e=lang.literal(e, kind.returns, language)) for a, (_, e) in zip(listed, examples)]


def _test_examples(rng, function):
    """Exactly representable examples; strings are new ones for the most part."""
    kind = function.kind
    pairs = function.examples(rng, 8)
    if kind.types() == ["str"] and not kind.consts and rng.random() < 0.6:
        make = random_email if kind.name == "validate_email" else random_text
        pairs = [((text,), kind.ref(text)) for text in dict.fromkeys(make(rng) for _ in range(6))] + pairs[:2]
    return [(c, e) for c, e in pairs if _exact(e) and e != []]


def tests_task(rng, language, kind=None):
    """A test file for a function that is shown; the examples come with the description."""
    namer = Namer(rng, language)
    while True:
        function = random_function(rng, namer, language, kind)
        examples = _test_examples(rng, function)
        if examples:
            break
    examples = rng.sample(examples, min(len(examples), rng.choice((2, 3, 3, 4))))
    path = source_path(rng, namer, split_name(function.name) if rng.random() < 0.6 else None)
    source = _shown_source(rng, namer, function, path)
    said = _said_examples(rng, function, examples)
    returns, types = function.kind.returns, function.kind.types()
    opening = rng.choice(["Write tests for `{f}` in {p}.", "Write a test file for the function `{f}`.", "Create tests for `{f}` from {p}.", "Test `{f}`."]).format(f=function.name, p=path)
    listing = "\n" + "\n".join(f"- {s}" for s in said) if rng.random() < 0.4 else " " + rng.choice(["Examples: ", "Expect that ", "Cases: ", "Check that "]) + "; ".join(said) + "."
    test = _test_file_path(rng, namer, path)
    lines = [lang.assertion(language, lang.call(language, path, function.name, case, types), e, returns) for case, e in examples]
    answer = lang.test_file(language, test, path, [function.name], lines)
    broken = function_returning(function, _broken_value(returns, examples[0][1]), path)
    spare = f"checks/broken_{path.rsplit('/', 1)[1]}"
    task = Task("tests", language, spoken(rng, opening + listing), test, answer, context=[(path, source)], constraints=neutral_constraints(rng, language))
    task.files = {path: source, spare: broken}
    task.command = f"python3 -B checks/check_tests.py {test} {path} {spare}"
    task.imported, task.example = (function.name,), lines[0]
    return task


def function_returning(function, value, path):
    """The same function with a body that returns one wrong value."""
    language, returns = function.language, function.kind.returns
    text = lang.literal(value, returns, language)
    if language == "rust":
        text = f"{text}.to_string()" if returns == "str" else text
        text = f"vec!{text}" if returns in ("nums", "ints") else text
        text = "vec![" + ", ".join(json.dumps(v) + ".to_string()" for v in value) + "]" if returns == "strs" else text
    body = {"python": f"return {text}", "javascript": f"return {text};", "rust": text}[language]
    return lang.source_file(language, path, [lang.function(language, function.name, function.params, function.kind.types(), returns, body)])


def kind_names():
    return [k.name for k in KINDS]
