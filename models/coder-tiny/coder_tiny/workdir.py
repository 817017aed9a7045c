"""Writes tasks to a work directory and runs their checks there."""
import itertools
import json
import os
import signal
import subprocess
from pathlib import Path

from . import lang, mutate
from .functions import KINDS
from .names import seeded
from .stream import evaluation_task
from .tasks import function_task, tests_task

CHECKER = '''"""Passes if a test file accepts the real function and rejects a broken one."""
import pathlib
import shutil
import subprocess
import sys
import tempfile

test, path, broken = sys.argv[1:4]


def passes(source):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for target, origin in ((path, source), (test, test), ("package.json", "package.json")):
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            if pathlib.Path(origin).exists():
                shutil.copy(origin, folder / target)
        if test.endswith(".rs"):
            built = subprocess.run(["rustc", "--edition", "2021", "-A", "warnings", "--test", "-o", "run_tests", test], cwd=folder)
            if built.returncode:
                return False
            command = ["./run_tests", "-q"]
        else:
            command = ["python3", "-B", test] if test.endswith(".py") else ["node", test]
        return subprocess.run(command, cwd=folder).returncode == 0


if not passes(path):
    sys.exit("the tests fail on the real function")
if passes(broken):
    sys.exit("the tests pass on a broken function")
'''
CARGO = """[package]
name = "work"
version = "0.0.0"
edition = "2021"

[lib]
path = "checks/lib.rs"

[workspace]
"""


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _paths(task):
    return {task.output_file, *task.files}


def distinct_tasks(seed, count, languages):
    """`count` tasks, none of which writes a file that another one needs."""
    made = (evaluation_task(seed, i, language) for i, language in enumerate(itertools.cycle(languages)))
    return list(itertools.islice(_distinct(made), count))


def every_kind(seed, languages):
    """A task and a test file task for each kind of function in each language."""
    made = []
    for kind in KINDS:
        for language in languages:
            rng = seeded("every kind", seed, kind.name, language)
            made += [function_task(rng, language, kind), tests_task(rng, language, kind)]
    return list(_distinct(iter(made)))


def _distinct(tasks):
    used = set()
    for task in tasks:
        lowered = {p.lower() for p in _paths(task)}
        stems = {p.rsplit("/", 1)[-1].rsplit(".", 1)[0] for p in lowered if p.startswith("tests/")}
        if not lowered & used and not stems & used:
            used |= lowered | stems
            yield task


def specification(task, task_id):
    made = {"task_id": task_id, "description": task.description, "output_file": task.output_file}
    shown = [path for path, _ in task.context if not path.endswith("(current content)")]
    made["context_files"] = shown
    made["constraints"] = task.constraints
    made["test_command"] = task.command
    return made


def write_workdir(root, tasks):
    """The folder `coder run ROOT/tasks --working-dir ROOT` works on."""
    root = Path(root)
    write_text(root / "checks" / "check_tests.py", CHECKER)
    write_text(root / "checks" / "lib.rs", "")
    write_text(root / "Cargo.toml", CARGO)
    write_text(root / "package.json", '{"type": "module"}\n')
    for number, task in enumerate(tasks, 1):
        task_id = f"T-{number:03d}"
        write_text(root / "tasks" / f"{task_id}.json", json.dumps(specification(task, task_id), indent=2) + "\n")
        for path, text in task.files.items():
            write_text(root / path, text)


def run_check(root, task, content, seconds=120, **environment):
    """(passed, how it ended, output) of the verification with `content` as the answer, as the engine runs it."""
    write_text(Path(root) / task.output_file, content)
    chosen = {**os.environ, **environment}
    chosen.pop("CARGO_TARGET_DIR", None)
    done = subprocess.Popen(task.command.split(), cwd=root, env=chosen, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = done.communicate(timeout=seconds)
        reason = f"exit status {done.returncode}"
    except subprocess.TimeoutExpired:
        os.killpg(done.pid, signal.SIGKILL)    # a check may have started the one that does not end
        output, reason = done.communicate()[0], "no result within 120 seconds"
    return done.returncode == 0, reason, output.decode("utf-8", "replace")


def check_generator(root, tasks, rng):
    """Reference answers must pass and broken ones must fail; returns the complaints."""
    complaints, survived = [], 0
    for number, task in enumerate(tasks, 1):
        passed, status, output = run_check(root, task, task.answer)
        if not passed:
            complaints.append(f"T-{number:03d} {task.kind} {task.language}: reference fails ({status}) {output[-600:]}")
        if run_check(root, task, mutate.broken_name(task))[0]:
            complaints.append(f"T-{number:03d} {task.kind} {task.language}: a misspelt name passes")
        survived += run_check(root, task, mutate.mutate(rng, task)[0])[0]
    return complaints, survived


def languages_of(text):
    chosen = text.split(",")
    unknown = set(chosen) - set(lang.LANGUAGES)
    if unknown:
        raise SystemExit(f"unknown language: {', '.join(sorted(unknown))}")
    return chosen
