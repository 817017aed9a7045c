#!/bin/sh
# Rebuilds ../coder-tiny.gguf from this folder: venv, training, conversion, measurement.
# Needs python3 (3.11 or newer), a C++ compiler for torch.compile, and node and cargo for the checks.
set -eu
cd "$(dirname "$0")"
run="${RUN:-run}"
target="${TARGET:-../coder-tiny.gguf}"
if [ ! -x .venv/bin/python ]; then
    python3 -m venv .venv
    .venv/bin/pip install --quiet -r requirements.txt
fi
python=.venv/bin/python
# First the copying of names at a high rate, then everything else while the rate falls.
$python train.py --out "$run/1" --seed 1 --steps 2600 --stop 1400 --rate 4e-3
$python train.py --out "$run/2" --seed 2 --steps 2200 --rate 2.8e-3 --plateau 0 --start "$run/1/final.pt"
# Last, retries: of replies that the second stage gets wrong, with what their checks print.
$python collect.py "$run/2/final.pt" --out "$run/failures.jsonl" --seed 11 --count 3584
$python train.py --out "$run/3" --seed 3 --steps 700 --rate 1.8e-3 --plateau 0 --longest 1024 --start "$run/2/final.pt" --failures "$run/failures.jsonl"
$python convert.py "$run/3/final.pt" "$target"
$python evaluate.py "$target" --seed 9001 --count 200
