#!/usr/bin/env bash
# Counts on the emulator what a token of each published shape moves, and writes the prediction from it:
#
#   tests/gpu/predict.sh DIR > benches/results/prediction.md
#
# DIR keeps the shapes' files (two layers, a small vocabulary) and the counted launches. Needs numpy; takes a quarter of an hour.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -eq 1 ] || { sed -n '2,6p' "$0" >&2; exit 2; }
mkdir -p "$1"
for shape in qwen2.5-coder-7b qwen2.5-coder-32b qwen3-coder-30b-a3b; do
  [ -f "$1/$shape.gguf" ] || python3 tests/gpu/random_gguf.py "$shape" "$1/$shape.gguf" --layers 2 --vocab 4096
  for step in "1 128 f16" "8 128 f16" "1 32768 f16" "1 32768 q8_0"; do
    # shellcheck disable=SC2086
    cargo run -q -p coder-engine --example traffic -- "$1/$shape.gguf" $step >"$1/$shape@${step// /@}.tsv"
  done
done
python3 tests/gpu/predict.py "$1"/*@*.tsv
