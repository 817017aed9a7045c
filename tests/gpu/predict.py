#!/usr/bin/env python3
"""What a token should take on a card, kernel by kernel, written before there is a card to ask.

    predict.py LAUNCHES.tsv... > benches/results/prediction.md

Each LAUNCHES.tsv has the launches of one token of a published shape with two layers and a small vocabulary, as
`cargo run --example traffic` counts them; its name is the shape's (tests/gpu/predict.sh makes all of them). Bytes are the
counted ones: those of a layer, times the layers that have its types; of the last product, by the vocabulary; of attention, by
the context. Instructions are those of benches/results/compiled.md. Everything that is assumed is in this file's tables.
"""
import csv
import math
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMPILED = HERE.parent.parent / "benches" / "results" / "compiled.md"

# layers, vocabulary, the same in the counted file, kv heads, query heads, columns of a head
SHAPES = {
    "qwen2.5-coder-7b": (28, 152064, 4096, 4, 28, 128),
    "qwen2.5-coder-32b": (64, 152064, 4096, 8, 40, 128),
    "qwen3-coder-30b-a3b": (48, 151936, 4096, 4, 32, 128),
}

# Nominal and attainable bytes per second of memory, 10⁹; multiprocessors; clock under load, 10⁹; SASS of compiled.md.
# Attainable: 3090 90 % (ncu of q27's products), 4090 950 (calm), 5090 1691 (q27's read probe), H200 4300 (a measured copy).
# Clocks are the published boost clocks.
CARDS = {
    "3090": (936, 842, 82, 1.695, "86"),
    "4090": (1008, 950, 128, 2.52, "89"),
    "5090": (1792, 1691, 170, 2.407, "120"),
    "H200": (4800, 4300, 132, 1.785, "90"),
}

GAP_US = 1.3        # from a kernel's end to the next one's begin within a graph (Hazy Research, "no bubbles"; sparkinfer's counts)
RAMP_US = 1.0       # a kernel's first addresses and its last block's end, during which memory idles: an assumption
TAIL_US = 2.0       # of a launch with a tail: blocks' results seen, the last one counted, a row read and written: an assumption
LATENCY_NS = 700    # of a read of memory under load: an assumption, from microbenchmarks of these generations
SCHEDULERS = 4      # of a multiprocessor, an instruction of a warp each per clock
ISSUED = 0.8        # of those that a real kernel fills: an assumption
CACHE_BYTES = 128   # that a multiprocessor's first cache gives per clock
WARPS = {"matmul": 24, "gated": 16, "mixed": 24}  # of a product that a multiprocessor holds, by its registers (compiled.md)
AHEAD_BYTES = 36    # that a thread of a product has under way: a Q4_K run of each of two outputs
AHEAD_FLOAT_BYTES = 64  # half a run of f32
PER_FMA = 1.6       # instructions of attention for each multiplication with an addition, loads and conversions with them
# Between two tokens: two launches that choose of logits in the second cache; and the copy of what they found, the thread that
# waits for it, and the next step's inputs. Assumptions both.
CHOICE_US = 12
TURN_US = 20
CONTEXT = 128
CHUNK = 256         # positions of a block that attends


def instructions():
    """Type → instructions of a product's loop for one row, and bytes that a lane loads in it."""
    found = {}
    for line in COMPILED.read_text().splitlines():
        if m := re.match(r"\| few_kernel (\S+) 1 rows \|", line):
            row = line.split("|")
            pairs = re.findall(r"(\d+) × (\d+)", row[3].split("/")[0])
            found[m[1]] = int(row[4]), sum(int(bytes_) * int(count) for bytes_, count in pairs)
    return found


def layers_of(launches):
    """Launches before the layers, of each layer, and behind the layers. A layer begins with queries, keys and values."""
    last = next(i for i, t in enumerate(launches) if t["name"] == "select")
    begins = [i for i in range(last) if launches[i]["name"] == "matmul qkv"] + [last]
    return launches[:begins[0]], [launches[a:b] for a, b in zip(begins, begins[1:])], launches[last:]


def better(i, n):
    """Layers with Q6_K, as tests/gpu/random_gguf.py has them."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def token(path):
    """All launches of a token, and those of each of the two kinds of layer."""
    layers, vocab, counted, kv, q, dim = SHAPES[path.stem]
    with open(path) as file:
        rows = [{k: v if k == "name" else int(v) for k, v in row.items()} for row in csv.DictReader(file, delimiter="\t")]
    before, kinds, behind = layers_of(rows)
    head = dict(behind[-1])
    for field in ("blocks", "read_bytes", "written_bytes"):
        head[field] = head[field] * vocab // counted
    head["name"] += " (head)"
    for kind in kinds:
        for t in kind:
            if t["name"] == "attention":
                t["read_bytes"] += 2 * 2 * (CONTEXT - 1) * kv * dim
                t["blocks"] *= math.ceil(CONTEXT / CHUNK)
                # Scores and sums of values for each query head, by blocks of one key and value head.
                t["fma"] = 2 * min(CONTEXT, CHUNK) * dim * q // kv
            elif not t["name"].startswith("gated"):
                t["tail"] = True
    return before + [t for i in range(layers) for t in kinds[better(i, layers)]] + behind[:-1] + [head], kinds


def time_us(launch, card, loop):
    """Microseconds of a launch without the gap before it, and what limits it."""
    _, attainable, sms, clock, _ = CARDS[card]
    moved = launch["read_bytes"] + launch["written_bytes"]
    limits = {"memory": moved / attainable / 1e3}
    if "fma" in launch:
        limits["instructions"] = launch["fma"] / 32 * PER_FMA / (SCHEDULERS * ISSUED * clock * 1e3)
    name = launch["name"].removesuffix(" (head)")
    product, _, kind = name.replace("qkv", "Q4_K").partition(" ")  # most of queries, keys and values
    if product in WARPS:
        is_float = kind in ("F32", "F16", "BF16")
        warps = min(launch["blocks"] * launch["threads"] / 32, sms * WARPS[product])
        ahead = AHEAD_FLOAT_BYTES if is_float else AHEAD_BYTES
        limits["parallelism"] = moved / (warps * 32 * ahead / LATENCY_NS) / 1e3
        count, loaded = loop[kind]
        # Two outputs, of a float type one, of 32 runs of 32 weights each time around.
        around = launch["read_bytes"] / BYTES_OF_WEIGHT[kind] / (1024 if is_float else 2048)
        limits["instructions"] = around * count / (sms * SCHEDULERS * ISSUED * clock * 1e3)
        limits["first cache"] = around * loaded * 32 / (sms * CACHE_BYTES * clock * 1e3)
    limit = max(limits, key=limits.get)
    fixed = RAMP_US + (TAIL_US if "tail" in launch else 0)
    return fixed + limits[limit], ("tail" if "tail" in launch else "ramp") if limits[limit] < fixed else limit


# Bytes of a weight.
BYTES_OF_WEIGHT = {"F32": 4, "F16": 2, "BF16": 2, "Q4_0": 18 / 32, "Q4_1": 20 / 32, "Q5_0": 22 / 32, "Q5_1": 24 / 32, "Q8_0": 34 / 32,
               "Q2_K": 84 / 256, "Q3_K": 110 / 256, "Q4_K": 144 / 256, "Q5_K": 176 / 256, "Q6_K": 210 / 256, "IQ4_NL": 18 / 32,
               "IQ4_XS": 136 / 256}


def said(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    paths = [Path(p) for p in sys.argv[1:]]
    loop = instructions()
    print(f"# Decode of one row, predicted, {said('date', '-u', '+%F')}, commit {said('git', '-C', str(HERE), 'describe', '--always', '--dirty')}\n")
    print(f"From `tests/gpu/predict.sh`; nothing here was measured on a card. Q4_K_M, {CONTEXT} positions in an f16 cache, launches replayed as a")
    print("graph. A launch takes a gap, a ramp, a tail (if it makes norms, routes or turned heads of its results), and the longest of: its counted")
    print("bytes at the attainable bandwidth; the same bytes with the loads that its threads have under way; its loop's instructions at the")
    print("schedulers' rate; what its lanes load, of the first cache.\n")
    print(f"Assumed: gap {GAP_US} µs, ramp {RAMP_US} µs, tail {TAIL_US} µs, latency {LATENCY_NS} ns, {ISSUED:.0%} of issue slots. Attainable GB/s: "
          + ", ".join(f"{name} {c[1]} of {c[0]}" for name, c in CARDS.items()) + ".")
    print(f"Between two tokens the card chooses, {CHOICE_US} µs, and waits for the host, {TURN_US} µs; an answer's grammar is followed while the card works.\n")
    tokens = {p.stem: token(p) for p in paths}
    print("## Tokens per second\n")
    print("| model | card | GB a token | launches of a layer | launches | gaps, ramps and tails, ms | on the card, ms | of nominal bandwidth | between tokens, ms | tok/s | measured |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, (launches, kinds) in tokens.items():
        moved = sum(t["read_bytes"] + t["written_bytes"] for t in launches)
        tails = sum("tail" in t for t in launches)
        for card, (nominal, *_) in CARDS.items():
            busy = sum(time_us(t, card, loop)[0] for t in launches)
            ms = (busy + GAP_US * len(launches)) / 1e3
            host = (CHOICE_US + TURN_US) / 1e3
            print(f"| {name} | {card} | {moved / 1e9:.3f} | {' or '.join(str(len(k)) for k in kinds)} | {len(launches)} | "
                  f"{((GAP_US + RAMP_US) * len(launches) + TAIL_US * tails) / 1e3:.2f} | {ms:.2f} | {moved / ms / 1e6 / nominal:.0%} | {host:.2f} | {1e3 / (ms + host):.0f} | |")
    for name, (launches, _) in tokens.items():
        print(f"\n## {name}: launches of a token\n")
        print("| kernel | launches | MB | " + " | ".join(f"{c}: µs, GB/s, limit | measured" for c in CARDS) + " |")
        print("|---|---|---|" + "---|---|" * len(CARDS))
        groups = defaultdict(list)
        for t in launches:
            groups[t["name"], t["read_bytes"] // 10000].append(t)
        for (kernel, _), same in sorted(groups.items(), key=lambda it: -sum(t["read_bytes"] for t in it[1])):
            bytes_ = same[0]["read_bytes"] + same[0]["written_bytes"]
            cells = []
            for card in CARDS:
                us, limit = time_us(same[0], card, loop)
                cells.append(f"{us:.1f}, {bytes_ / us / 1e3:.0f}, {limit} |")
            print(f"| {kernel} | {len(same)} | {bytes_ / 1e6:.3f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
