#!/usr/bin/env python3
"""Collects replies of a checkpoint that the checks refuse, to train retries on.

    collect.py RUN/final.pt --out FAILURES.jsonl --seed 11 --count 10000

Invented mistakes are unlike real ones: a model that has seen only those copies its
wrong reply. So a reply that the model would write, or nearly (see slips.py), is
verified with the task's own command, and kept with what that printed if it is refused.
No task here is one of training or evaluation, whose seeds have other names.
"""
import argparse
import functools
import json
import os
import tempfile
from pathlib import Path

import torch

from coder_tiny import extras, failures, lang, prompts
from coder_tiny.evaluation import content_of
from coder_tiny.names import seeded
from coder_tiny.slips import wrong_replies
from coder_tiny.stream import task_id, training_task
from coder_tiny.workdir import run_check, write_workdir
from evaluate import load

CHUNK = 256    # tasks that one process does at a time
PATIENCE = 30  # seconds; only an endless loop takes so long


@functools.cache
def model_at(path):
    torch.set_num_threads(1)
    return load(path)


def refused(task, reply, number):
    """(reason, neutral output) of a reply that fails its check; None for one that passes or is not readable."""
    content = content_of(reply, task.language)
    if content is None or content == task.answer:
        return None
    with tempfile.TemporaryDirectory() as root:
        write_workdir(root, [task])
        passed, reason, output = run_check(root, task, content, PATIENCE, RUST_BACKTRACE=str(number % 2))
        return None if passed else (reason, failures.neutral(output, Path(root).resolve()))


def chunk_rows(model_path, seed, chunk):
    """The failures of one chunk of tasks, in the form that `failed_sample` reads."""
    model, words = model_at(model_path)
    generators = [seeded("failures", seed, chunk, i) for i in range(CHUNK)]
    tasks = [training_task(rng) for rng in generators]
    asked = [prompts.prompt(task, task_id(rng)) for task, rng in zip(tasks, generators)]
    answers = [lang.fenced(task.language, task.answer) for task in tasks]
    replies = wrong_replies(model, words, [[extras.user(prompt)] for prompt in asked], answers)
    rows = []
    for number, (task, prompt, answer, reply) in enumerate(zip(tasks, asked, answers, replies)):
        failed = reply and refused(task, reply, number)
        if failed:
            rows.append({"prompt": prompt, "reply": reply, "reason": failed[0], "command": task.command, "output": failed[1], "answer": answer})
    return rows, sum(reply is not None for reply in replies)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--count", type=int, default=10_000, help="tasks to try, rounded up to whole chunks")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    os.environ["CARGO_INCREMENTAL"] = "0"    # nothing is built twice
    chunks = range(-(-options.count // CHUNK))
    kept = 0
    with open(options.out, "w") as file, torch.multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for done, (rows, tried) in enumerate(pool.imap(functools.partial(chunk_rows, options.model, options.seed), chunks), 1):
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            file.flush()
            kept += len(rows)
            print(f"{done * CHUNK} tasks, {kept} failures, {tried} of the last {CHUNK} tried", flush=True)


if __name__ == "__main__":
    main()
