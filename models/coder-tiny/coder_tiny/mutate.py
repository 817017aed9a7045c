"""Plausibly wrong answers, and what a failing check prints about them."""
import re

OPERATORS = [(" + ", " - "), (" * ", " + "), (" >= ", " > "), (" > ", " < "), (" < ", " > "), (" == ", " != "), (" === ", " !== "), ("upper", "lower"), ("Upper", "Lower"), ("max", "min"), (" / ", " * ")]
ROOTS = ["/home/user/app", "/srv/project", "/home/ann/code", "/app", "/home/dev/repo", "/tmp/work", "/tmp/tmp{}", "/tmp/tmp{}", "/tmp/.tmp{}"]
NODE_END = "    at async asyncRunEntryPointWithESMLoader (node:internal/modules/run_main:117:5)"
NODE_VERSIONS = ["v18.19.1", "v20.20.2", "v20.11.0", "v22.14.0"]


def misspell(rng, name):
    i = rng.randrange(len(name))
    return rng.choice([name[:i] + name[i] + name[i:], name + "s", name + "x", name[:i] + rng.choice("aeioulnrst") + name[i + 1:], name[: max(2, len(name) - 1)] + "e"])


def _misspelt(rng, task):
    if not task.imported:
        return None
    name = rng.choice(task.imported)
    return re.sub(rf"\b{re.escape(name)}\b", misspell(rng, name), task.answer)


def _operator(rng, task):
    head, body = task.answer.split("\n", 1)
    options = [(a, b) for a, b in OPERATORS if a in body]
    if not options:
        return None
    a, b = rng.choice(options)
    return head + "\n" + body.replace(a, b, 1)


def _constant(rng, task):
    head, body = task.answer.split("\n", 1)
    spots = list(re.finditer(r"(?<![\w.\"])\d+(?![\w\"])", body))
    if not spots:
        return None
    spot = rng.choice(spots)
    return head + "\n" + body[: spot.start()] + str(int(spot.group()) + rng.choice((1, 2, 9))) + body[spot.end():]


def _dropped(rng, task):
    lines = task.answer.split("\n")
    if len(lines) < 5:
        return None
    del lines[rng.randrange(2, len(lines) - 1)]
    return "\n".join(lines)


def _without_last_function(rng, task):
    """What a model forgets first: the second thing that was asked for."""
    if len(task.imported) < 2:
        return None
    head, gap, last = task.answer.rstrip("\n").rpartition("\n\n")
    if not gap or not re.search(rf"\b{re.escape(task.imported[-1])}\b", last):
        return None
    return head.rstrip("\n") + "\n"


def _repeated(rng, task):
    lines = task.answer.split("\n")
    i = rng.randrange(1, len(lines) - 1)
    return "\n".join(lines[:i] + [lines[i]] + lines[i:])


def mutate(rng, task):
    """(wrong answer, what went wrong): one of name, missing, value, syntax."""
    ways = [(_misspelt, "name"), (_operator, "value"), (_constant, "value"), (_dropped, "syntax"), (_repeated, "syntax"), (_without_last_function, "missing")]
    if len(task.imported) > 1 and rng.random() < 0.5:
        ways = ways[-1:] + ways[:1]
    while True:
        way, effect = rng.choice(ways)
        text = way(rng, task)
        if text and text != task.answer:
            return text, effect


def broken_name(task):
    """A wrong answer that no check can accept: the first name it looks up is another."""
    name = task.imported[0]
    return re.sub(rf"\b{re.escape(name)}\b", name + "_x", task.answer)


def _python_failure(rng, task, effect, root, test):
    name = task.imported[-1 if effect == "missing" else 0]
    stem = task.output_file.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    trace = f'Traceback (most recent call last):\n  File "{root}/{test}", line {rng.randint(4, 8)}, in <module>\n'
    if effect in ("name", "missing"):
        return trace + f"    from {stem} import {', '.join(task.imported)}\nImportError: cannot import name '{name}' from '{stem}' ({root}/{task.output_file})"
    if effect == "syntax":
        line = rng.choice(task.answer.split("\n")[1:-1] or [""])
        wrong = rng.choice([f"    {line.strip()}\n{' ' * rng.randint(4, 20)}^^^^\nSyntaxError: invalid syntax", "IndentationError: expected an indented block after function definition on line 2"])
        return trace + f"    from {stem} import {name}\n  File \"{root}/{task.output_file}\", line {rng.randint(2, 5)}\n{wrong}"
    return trace + f"    {task.example}\n{rng.choice(['           ^^^^^^^^^^^^^^' , '    '])}\nAssertionError"


def _node_failure(rng, task, effect, root, test):
    name = task.imported[-1 if effect == "missing" else 0]
    end = f"\n\nNode.js {rng.choice(NODE_VERSIONS)}"
    if effect in ("name", "missing"):
        kept = "[… 8 of 10 lines kept …]\n    at async ModuleJob.run (node:internal/modules/esm/module_job:320:5)\n    at async ModuleLoader.import (node:internal/modules/esm/loader:606:24)\n" + NODE_END
        whole = f"SyntaxError: The requested module '../{task.output_file}' does not provide an export named '{name}'\n    at ModuleJob._instantiate (node:internal/modules/esm/module_job:180:21)"
        return f"file://{root}/{test}:3\nimport {{ {', '.join(task.imported)} }} from \"../{task.output_file}\";\n{' ' * rng.randint(9, 30)}{'^' * len(name)}\n{rng.choice([kept, whole])}{end}"
    if effect == "syntax":
        line = rng.choice(task.answer.split("\n")[1:-1] or [""])
        wrong = rng.choice(["Unexpected end of input", "missing ) after argument list", "Unexpected token '}'", f"Identifier '{task.imported[0]}' has already been declared"])
        return f"file://{root}/{task.output_file}:{rng.randint(2, 5)}\n{line}\n{' ' * rng.randint(0, 20)}^^^^\n\nSyntaxError: {wrong}\n    at compileSourceTextModule (node:internal/modules/esm/utils:346:16){end}"
    got, expected = rng.choice([(rng.randint(0, 40), rng.randint(0, 40)), ("NaN", rng.randint(0, 9)), ("undefined", rng.randint(0, 40)), ("true", "false"), ("'abc'", "'abd'")])
    return f"node:internal/modules/run_main:123\n    triggerUncaughtException(\n    ^\n\nAssertionError [ERR_ASSERTION]: Expected values to be strictly equal:\n\n{got} !== {expected}\n\n    at file://{root}/{test}:{rng.randint(4, 8)}:8\n[… 18 of 20 lines kept …]\n{NODE_END} {{\n  generatedMessage: true,\n  code: 'ERR_ASSERTION',\n  actual: {got},\n  expected: {expected},\n  operator: 'strictEqual'\n}}{end}"


def _rust_failure(rng, task, effect, root, test):
    name = task.imported[-1 if effect == "missing" else 0]
    stem = task.output_file.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    if effect in ("name", "missing"):
        return f"error[E0425]: cannot find function `{name}` in module `{stem}`\n --> {test}:7:22\n  |\n7 |     {task.example}\n  |                 ^^^^ not found in `{stem}`\n\nerror: could not compile `work` (test \"test_{stem}\") due to 1 previous error"
    if effect == "syntax":
        return f"error[E0308]: mismatched types\n --> {task.output_file}:{rng.randint(2, 4)}:10\n  |\nerror: could not compile `work` (test \"test_{stem}\") due to 1 previous error"
    trace = rng.choice(["stack backtrace:\n", ""])
    kept = f"[… {rng.randint(15, 24)} of {rng.randint(30, 40)} lines kept …]\n\n" if trace or rng.random() < 0.5 else "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n"
    return f"\nrunning 1 test\ntest_{name} --- FAILED\n\nfailures:\n\n---- test_{name} stdout ----\n\nthread 'test_{name}' ({rng.randint(900, 30000)}) panicked at {test}:{rng.randint(7, 9)}:5:\nassertion `left == right` failed\n  left: {rng.randint(0, 40)}\n right: {rng.randint(0, 40)}\n{trace}{kept}\nfailures:\n    test_{name}\n\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.{rng.randint(0, 30):02d}s"


def random_root(rng):
    """A folder that a check might run in."""
    return rng.choice(ROOTS).format("".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789_", k=8)))


def failure(rng, task, effect):
    """(reason, output) as the check would report a wrong answer."""
    root = random_root(rng)
    test = task.command.split()[-1]
    if task.language == "rust":
        test = f"tests/{test}.rs"
    if task.kind == "tests":
        test = task.output_file
        verdict = rng.choice(["the tests fail on the real function", "the tests pass on a broken function"])
        if "pass" in verdict:
            return "exit status 1", verdict
        return "exit status 1", FAILURES[task.language](rng, task, effect, root, test)[:500] + "\n" + verdict
    status = 101 if task.language == "rust" else 1
    return f"exit status {status}", FAILURES[task.language](rng, task, effect, root, test)[:560]


FAILURES = {"python": _python_failure, "javascript": _node_failure, "rust": _rust_failure}
