#!/usr/bin/env python3
"""Writes a work directory of small tasks, the same ones for the same seed.

    generate.py --seed 7 --count 200 --out DIR [--languages python,rust,javascript]
    generate.py --seed 7 --count 60 --check
    generate.py --every-kind --check
"""
import argparse
import sys
import tempfile

from coder_tiny.names import seeded
from coder_tiny.workdir import check_generator, distinct_tasks, every_kind, languages_of, write_workdir


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--out", help="the folder to write")
    parser.add_argument("--languages", type=languages_of, default="python,rust,javascript")
    parser.add_argument("--check", action="store_true", help="run every check on the reference answer and on wrong ones")
    parser.add_argument("--every-kind", action="store_true", help="one of each kind instead of --count drawn ones")
    options = parser.parse_args()
    if not options.out and not options.check:
        parser.error("--out or --check is needed")
    if options.every_kind:
        tasks = every_kind(options.seed, options.languages)
    else:
        tasks = distinct_tasks(options.seed, options.count, options.languages)
    with tempfile.TemporaryDirectory() as spare:
        root = options.out or spare
        write_workdir(root, tasks)
        if not options.check:
            return
        complaints, survived = check_generator(spare if root == spare else root, tasks, seeded("check", options.seed))
    print(*complaints, sep="\n")
    print(f"{len(tasks)} tasks, {len(complaints)} complaints, {survived} random mutations unnoticed")
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()
