#!/bin/sh
# Rebuilds ../coder-tiny.gguf from nothing but this folder: venv, training, conversion, measurement.
# Needs python3 (3.11 or newer), a C++ compiler for torch.compile, node and cargo for the checks.
set -eu
cd "$(dirname "$0")"
steps="${STEPS:-5000}"
run="${RUN:-run}"
if [ ! -x .venv/bin/python ]; then
    python3 -m venv .venv
    .venv/bin/pip install --quiet -r requirements.txt
fi
# Passive waiting keeps training usable on a machine that does other work as well.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
.venv/bin/python train.py --out "$run" --steps "$steps" --seed 1
.venv/bin/python convert.py "$run/final.pt" ../coder-tiny.gguf
.venv/bin/python evaluate.py ../coder-tiny.gguf --seed 9001 --count 200
