"""Tasks on a file that exists: rename, add, change a value, change a default."""

from . import lang
from .functions import describe, random_function
from .names import Namer
from .tasks import Task, constant_check, constant_line, random_constants, source_path, spoken, with_check


def _existing(rng, path, text):
    """The task's context entry; older files lack the comment with the path."""
    if rng.random() < 0.25:
        text = text.split("\n", 1)[1]
    return [(f"{path} (current content)", text)], {path: text}


def _task(rng, kind, namer, description, path, before, after, names, lines):
    context, files = _existing(rng, path, before)
    task = Task(kind, namer.language, spoken(rng, description), path, after, context=context, files=files)
    return with_check(task, namer, path, names, lines)


def _functions(rng, namer, count):
    """Distinct functions, whose descriptions nobody needs."""
    return [random_function(rng, namer, namer.language) for _ in range(count)]


def rename_task(rng, language):
    namer = Namer(rng, language)
    functions = _functions(rng, namer, rng.choice((1, 1, 2)))
    path = source_path(rng, namer)
    before = lang.source_file(language, path, [f.code() for f in functions])
    target = rng.choice(functions)
    old, target.name = target.name, namer.function()
    after = lang.source_file(language, path, [f.code() for f in functions])
    description = rng.choice(["Rename the function `{o}` to `{n}`.", "Rename `{o}` to `{n}`.", "The function `{o}` must be called `{n}` instead. Change nothing else.", "Change the name of `{o}` to `{n}` and keep the rest.", "Refactor: rename {o} -> {n}."]).format(o=old, n=target.name)
    lines = [line for f in functions for line in f.check_lines(rng, path)]
    return _task(rng, "rename", namer, description, path, before, after, [f.name for f in functions], lines)


def add_function_task(rng, language):
    namer = Namer(rng, language)
    functions = _functions(rng, namer, 2)
    path = source_path(rng, namer)
    before = lang.source_file(language, path, [functions[0].code()])
    description = rng.choice(["Add a second function to the file. ", "Keep what is there and add one function. ", "Extend the file: ", ""]) + describe(rng, functions[1])
    if description.startswith(("Write", "Create", "Implement", "`")):
        description += " Keep the existing code."
    functions[1].typed = functions[1].typed and language == "python"
    after = lang.source_file(language, path, [f.code() for f in functions])
    lines = [line for f in functions for line in f.check_lines(rng, path)]
    return _task(rng, "add_function", namer, description, path, before, after, [f.name for f in functions], lines)


def default_task(rng, language):
    """Changes the default of a parameter, or of a factor in the body in Rust."""
    if language == "rust":
        return value_task(rng, language)
    namer = Namer(rng, language)
    while True:
        function = random_function(rng, namer, language)
        types = function.kind.types()
        if len(types) > 1 and types[-1] in ("num", "int"):
            break
    old, new = rng.sample([0, 1, 2, 5, 10, 15, 20, 25, 50, 100, rng.randint(30, 99)], 2)
    path = source_path(rng, namer)
    function.default = old
    before = lang.source_file(language, path, [function.code()])
    function.default = new
    after = lang.source_file(language, path, [function.code()])
    description = rng.choice(["Change the default of `{p}` in `{f}` from {o} to {n}.", "Set the default value of `{p}` to {n}.", "`{f}` should use {n} as the default of `{p}`.", "The default of `{p}` is now {n} instead of {o}."]).format(p=function.params[-1], f=function.name, o=old, n=new)
    return _task(rng, "default", namer, description, path, before, after, [function.name], function.check_lines(rng, path))


def _constants_text(language, path, rows):
    return f"{lang.COMMENT[language]} {path}\n" + "".join(constant_line(language, *row) + "\n" for row in rows)


def _constants_change(rng, kind, language, change):
    """`change(rng, rows, namer)` edits the rows and returns the description."""
    namer = Namer(rng, language)
    rows = random_constants(rng, namer, rng.choice((2, 3, 4)))
    path = source_path(rng, namer, ["constants"] if rng.random() < 0.3 else None)
    before = _constants_text(language, path, rows)
    description = change(rng, rows, namer)
    after = _constants_text(language, path, rows)
    return _task(rng, kind, namer, description, path, before, after, [r[0] for r in rows], [constant_check(language, path, *r) for r in rows])


def value_task(rng, language):
    def change(rng, rows, namer):
        i = rng.randrange(len(rows))
        name, kind, old = rows[i]
        new = old
        while new == old:
            new = random_constants(rng, namer, 1)[0]
            new = new[2] if new[1] == kind else old
        rows[i] = (name, kind, new)
        old, new = (lang.literal(v, kind, "python") for v in (old, new))
        return rng.choice(["Change `{c}` from {o} to {n}.", "Set `{c}` to {n}.", "The value of `{c}` must be {n}.", "Update the constant `{c}` to {n} and keep the others."]).format(c=name, o=old, n=new)
    return _constants_change(rng, "change_constant", language, change)


def add_constant_task(rng, language):
    def change(rng, rows, namer):
        row = random_constants(rng, namer, 1)[0]
        while row[0] in [r[0] for r in rows]:
            row = random_constants(rng, namer, 1)[0]
        rows.append(row)
        value = lang.literal(row[2], row[1], "python")
        return rng.choice(["Add the constant `{c}` with the value {v} at the end.", "Add a constant `{c}` = {v}.", "Append `{c}` = {v} and keep the other constants.", "The file also needs `{c}` with the value {v}."]).format(c=row[0], v=value)
    return _constants_change(rng, "add_constant", language, change)


CHANGES = [rename_task, rename_task, rename_task, add_function_task, default_task, value_task, add_constant_task]


def change_task(rng, language):
    return rng.choice(CHANGES)(rng, language)


