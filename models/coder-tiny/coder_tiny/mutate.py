"""Plausibly wrong answers, and what a failing check prints about them."""
import re

OPERATORS = [(" + ", " - "), (" * ", " + "), (" >= ", " > "), (" > ", " < "), (" < ", " > "), (" == ", " != "), (" === ", " !== "), ("upper", "lower"), ("Upper", "Lower"), ("max", "min"), (" / ", " * ")]
ROOTS = ["/home/user/app", "/srv/project", "/home/ann/code", "/app", "/home/dev/repo"]


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


def mutate(rng, task):
    """(wrong answer, what went wrong): one of name, value, syntax."""
    ways = [(_misspelt, "name"), (_operator, "value"), (_constant, "value"), (_dropped, "syntax")]
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
    name = task.imported[0]
    stem = task.output_file.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    trace = f'Traceback (most recent call last):\n  File "{root}/{test}", line {rng.randint(4, 8)}, in <module>\n'
    if effect == "name":
        return trace + f"    from {stem} import {name}\nImportError: cannot import name '{name}' from '{stem}' ({root}/{task.output_file})"
    if effect == "syntax":
        return trace + f"    from {stem} import {name}\n  File \"{root}/{task.output_file}\", line {rng.randint(2, 5)}\nIndentationError: expected an indented block after function definition on line 2"
    return trace + f"    {task.example}\n{rng.choice(['           ^^^^^^^^^^^^^^' , '    '])}\nAssertionError"


def _node_failure(rng, task, effect, root, test):
    name = task.imported[0]
    if effect == "name":
        return f"file://{root}/{test}:3\nimport {{ {name} }} from \"../{task.output_file}\";\n         ^\nSyntaxError: The requested module '../{task.output_file}' does not provide an export named '{name}'\n    at ModuleJob._instantiate (node:internal/modules/esm/module_job:180:21)"
    if effect == "syntax":
        return f"file://{root}/{task.output_file}:{rng.randint(2, 5)}\n\nSyntaxError: Unexpected end of input\n    at compileSourceTextModule (node:internal/modules/esm/utils:346:16)"
    return f"node:internal/process/esm_loader:40\n\nAssertionError [ERR_ASSERTION]: Expected values to be strictly equal:\n\n{rng.randint(0, 40)} !== {rng.randint(0, 40)}\n\n    at file://{root}/{test}:{rng.randint(4, 8)}:8 {{\n  code: 'ERR_ASSERTION'\n}}"


def _rust_failure(rng, task, effect, root, test):
    name = task.imported[0]
    stem = task.output_file.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    if effect == "name":
        return f"error[E0425]: cannot find function `{name}` in module `{stem}`\n --> {test}:7:22\n  |\n7 |     {task.example}\n  |                 ^^^^ not found in `{stem}`\n\nerror: could not compile `work` (test \"test_{stem}\") due to 1 previous error"
    if effect == "syntax":
        return f"error[E0308]: mismatched types\n --> {task.output_file}:{rng.randint(2, 4)}:10\n  |\nerror: could not compile `work` (test \"test_{stem}\") due to 1 previous error"
    return f"running 1 test\ntest test_{name} ... FAILED\n\nfailures:\n\nthread 'test_{name}' panicked at {test}:{rng.randint(7, 9)}:5:\nassertion `left == right` failed\n  left: {rng.randint(0, 40)}\n right: {rng.randint(0, 40)}\n\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out"


def failure(rng, task, effect):
    """(reason, output) as the check would report a wrong answer."""
    root = rng.choice(ROOTS)
    test = task.command.split()[-1]
    if task.language == "rust":
        test = f"tests/{test}.rs"
    if task.kind == "tests":
        test = task.output_file
        output = rng.choice(["the tests fail on the real function", "the tests pass on a broken function"])
        if effect != "value":
            output = "the tests fail on the real function\n" + FAILURES[task.language](rng, task, effect, root, test)
        return "exit status 1", output[:500]
    status = 101 if task.language == "rust" else 1
    return f"exit status {status}", FAILURES[task.language](rng, task, effect, root, test)[:500]


FAILURES = {"python": _python_failure, "javascript": _node_failure, "rust": _rust_failure}
