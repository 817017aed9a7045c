#!/usr/bin/env bash
# What to run when a card is at hand. Two steps, because the machine with the card need not have Rust:
#
#   tests/gpu.sh build DIR        on a machine with Rust and nvcc: the binaries, into DIR
#   tests/gpu.sh run DIR OUT      on the machine with the card: everything below, results into OUT
#
# In under eight minutes: the operation suite on the card (against f64, and bit for bit alone ≡ in a batch, recorded ≡ not),
# distances of whole models from float64, the same bits across batches, compute-sanitizer on small shapes if it is
# there, and the speed of the 7B, 32B and 30B-A3B shapes with random weights. OUT/gpu.md is the table for benches/results.
set -uo pipefail
cd "$(dirname "$0")/.."

build() {
  set -e
  mkdir -p "$1"
  cargo build --release --features cuda
  cp target/release/coder "$1/coder"
  # The test binaries by their names without the hash.
  for test in "coder-kernels operations" "coder-engine accuracy" "coder-engine same_bits"; do
    set -- "$1" $test
    binary=$(cargo test --release --no-run --features "$2/cuda" -p "$2" --test "$3" --message-format json |
      python3 -c "
import json, sys
for line in sys.stdin:
    it = json.loads(line)
    if it.get('executable') and it['target']['name'] == '$3':
        print(it['executable'])" | tail -1)
    cp "$binary" "$1/$3"
  done
  strip "$1"/coder "$1"/operations "$1"/accuracy "$1"/same_bits
}

# Runs a command with a limit, its output in a file; one line of the table says how it ended.
step() {
  local name=$1 limit=$2
  shift 2
  local start=$SECONDS
  timeout "$limit" "$@" >"$out/$name.txt" 2>&1
  local code=$?
  [ $code -ne 0 ] && failed=1
  echo "| $name | $([ $code -eq 0 ] && echo passed || echo "**failed ($code)**") | $((SECONDS - start)) s |" | tee -a "$table"
}

speed() {
  local shape=$1 file=$out/model.gguf
  shift
  python3 tests/gpu/random_gguf.py "$shape" "$file" || return 1
  for extra in "" "--no-graph"; do
    echo "### $shape ${extra:-recorded}"
    timeout 100 "$dir/coder" bench --model "$file" --device cuda -p 128,512 -n 64 "$@" $extra || failed=1
  done >"$out/$shape.txt" 2>&1
  rm -f "$file"
  { echo; echo "### $shape"; echo '```'; cat "$out/$shape.txt"; echo '```'; } >>"$table"
}

# GB/s by kernel: a prompt of 128 and four tokens of the 7B shape with four layers, watched by Nsight Compute.
kernels() {
  echo >>"$table"
  if ! command -v ncu >/dev/null; then
    echo "GB/s by kernel: Nsight Compute is not installed" >>"$table"
    return
  fi
  python3 tests/gpu/random_gguf.py qwen2.5-coder-7b "$out/model.gguf" --layers 4
  timeout 90 ncu --csv --metrics gpu__time_duration.sum,dram__bytes.sum \
    "$dir/coder" bench --model "$out/model.gguf" --device cuda --no-graph -p 128 -n 4 --runs 1 >"$out/ncu.csv" 2>&1 || failed=1
  rm -f "$out/model.gguf"
  python3 tests/gpu/kernels.py <"$out/ncu.csv" >>"$table" || failed=1
}

run() {
  mkdir -p "$2"
  dir=$(realpath "$1") out=$(realpath "$2") failed=0
  table=$out/gpu.md
  {
    echo "# On a card, $(date -u +%F), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem --format=csv,noheader
    echo
    echo "| what | result | time |"
    echo "|---|---|---|"
  } >"$table"
  step doctor 30 "$dir/coder" doctor
  # Built for cards, the suites run on the card that is here.
  step operations 120 "$dir/operations" --test-threads 4
  # The data set of models may lie beside the checkout or in it, as shared/; without it, the bundled model.
  cd crates/engine
  step accuracy 60 "$dir/accuracy" --nocapture
  step same_bits 60 "$dir/same_bits"
  cd ../..
  if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
      step "$tool" 60 compute-sanitizer --tool "$tool" --error-exitcode 9 "$dir/operations" small_shapes
    done
  else
    echo "| compute-sanitizer | not installed | |" >>"$table"
  fi
  kernels
  for shape in qwen2.5-coder-7b qwen3-coder-30b-a3b qwen2.5-coder-32b; do
    speed "$shape" --vram 32GiB
  done
  cat "$table"
  return $failed
}

case "${1:-}" in
  build) [ $# -eq 2 ] && { build "$2"; exit; } ;;
  run) [ $# -eq 3 ] && { run "$2" "$3"; exit; } ;;
esac
sed -n '2,9p' "$0"
exit 2
