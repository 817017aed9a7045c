#!/usr/bin/env python3
"""What a step should take on a card, kernel by kernel, written before there is a card to ask.

    predict.py LAUNCHES.tsv... > benches/results/prediction.md

Each LAUNCHES.tsv has the launches of one step of a published shape with two layers and a small vocabulary, as
`cargo run --example traffic` counts them, and is called SHAPE@ROWS@POSITIONS@CACHE.tsv (tests/gpu/predict.sh makes all of
them). Bytes are the counted ones: those of a layer, times the layers that have its types; of the last product, by the
vocabulary. Instructions are those of the loops in benches/results/compiled.md. Prompts are not counted, as the emulator would
take days: prompts.py has the products of their shapes. Everything that is assumed is in this file's and in cards.py's tables.
"""
import csv
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from cards import (AHEAD_FLOAT_BYTES, BLOCK_US, CACHE_BYTES, CACHE_LATENCY_NS, CARDS, CHOICE_US, GAP_US, ISSUED,
                   LATENCY_NS, OVERLAPPED_GAP_US, RAMP_US, TAIL_US, TURN_US, Loops, gap_us, issue_us, overlaps, second_cache_us, tensor_us)
from prompts import print_prompts
from random_gguf import SHAPES, VOCAB

HERE = Path(__file__).resolve().parent
COUNTED_VOCAB = 4096
UNIT, SUMS, MIXED_WARPS = 128, 8, 24  # of matmul.cuh, and of matmul_mixed.cu for Q4_K and Q6_K
BASE = (1, 128, "f16")


def layers_of(launches):
    """Launches before the layers, of each layer, and behind the layers. A layer begins with queries, keys and values."""
    last = next(i for i, t in enumerate(launches) if t["name"] == "select")
    begins = [i for i in range(last) if launches[i]["name"] == "matmul qkv"] + [last]
    return launches[:begins[0]], [launches[a:b] for a, b in zip(begins, begins[1:])], launches[last:]


def better(i, n):
    """Layers with Q6_K, as random_gguf.py has them."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def is_product(t):
    return t["name"].split()[0] in ("matmul", "gated", "mixed")


def weights_of(shape):
    """Outputs and columns of a layer's products in the order of their launches, each with how many of a row there are."""
    _, _, hidden, heads, kv, dim, ffn, _, experts, used, effn, _ = SHAPES[shape]
    first = [((heads + 2 * kv) * dim, hidden, 1), (hidden, heads * dim, 1)]
    if not experts:
        return first + [(2 * ffn, hidden, 1), (hidden, ffn, 1)]
    return first + [(experts, hidden, 1), (2 * effn, hidden, used), (hidden, effn, used)]


def steps_of(name, cols, times):
    """Units that a warp of a product of quantized weights works on, one after the other."""
    units = -(-cols // UNIT)
    own = -(-units // SUMS)
    return own * -(-times * min(SUMS, units) // MIXED_WARPS) if name.startswith("mixed") else own


def step(path):
    """All launches of a step, and those of each of the two kinds of layer."""
    name, rows, positions, cache = path.stem.split("@")
    rows, positions = int(rows), int(positions)
    _, layers, hidden, heads, kv, dim, *_ = SHAPES[name]
    with open(path) as file:
        launches = [{k: v if k == "name" else int(v) for k, v in row.items()} for row in csv.DictReader(file, delimiter="\t")]
    before, kinds, behind = layers_of(launches)
    head = dict(behind[-1], products=VOCAB * hidden * rows, rows=rows, steps=steps_of("matmul", hidden, 1), asks=True)
    for field in ("blocks", "read_bytes", "written_bytes", "read_by_blocks_bytes", "loaded_bytes"):
        head[field] = head[field] * VOCAB // COUNTED_VOCAB
    head["name"] += " (head)"
    for kind in kinds:
        for t, (outputs, cols, times) in zip([t for t in kind if is_product(t)], weights_of(name)):
            t["products"] = outputs * cols * times * rows
            t["steps"] = steps_of(t["name"], cols, times)
            # Experts are known when the launch before has ended.
            t["asks"] = times == 1
            # Entries of experts are worked on one by one.
            t["rows"] = 1 if times > 1 else rows
            t["tail"] = True
        for t in kind:
            if t["name"] == "attention":
                t |= {"pieces": rows * kv * -(-heads // kv // 8) * -(-positions // 32), "cache": cache, "tail": positions > 256}
    return before + [t for i in range(layers) for t in kinds[better(i, layers)]] + behind[:-1] + [head], kinds


def waiting_us(launch, card, held, is_float):
    """Microseconds of a product that would only wait for its weights.

    Blocks of quantized weights come in rounds, as many at a time as the card holds. A warp reads a unit while it works on the one
    before, so that a block takes as many latencies as it has steps; where it has asked the second cache for its weights, the first
    of memory and others of that."""
    _, _, sms, _, sass, *_ = CARDS[card]
    if is_float:
        warps = min(launch["blocks"] * launch["threads"] / 32, sms * held)
        return (launch["read_bytes"] + launch["written_bytes"]) / (warps * 32 * AHEAD_FLOAT_BYTES / LATENCY_NS) / 1e3
    rounds = -(-launch["blocks"] // (sms * (held * 32 // launch["threads"])))
    later = CACHE_LATENCY_NS if launch["asks"] and overlaps(card) else LATENCY_NS
    return rounds * (LATENCY_NS + (launch["steps"] - 1) * later) / 1e3 + (rounds - 1) * BLOCK_US


def time_us(launch, card, loops):
    """Microseconds of a launch without the gap before it, and what limits it."""
    _, attainable, sms, clock, sass, *_ = CARDS[card]
    moved = launch["read_bytes"] + launch["written_bytes"]
    limits = {"memory": moved / attainable / 1e3, "second cache": second_cache_us(launch["read_by_blocks_bytes"], card),
              "first cache": launch["loaded_bytes"] / (sms * CACHE_BYTES * clock * 1e3)}
    if "pieces" in launch:
        instructions, mma = loops.of_piece(f"decode_kernel {launch['cache']}", sass)
        limits["instructions"] = issue_us(launch["pieces"] * instructions, card)
        limits["tensor cores"] = tensor_us(launch["pieces"] * mma * 2048, "f16", card)
    if "products" in launch:
        product, _, kind = launch["name"].removesuffix(" (head)").replace("qkv", "Q4_K").partition(" ")  # most of it
        is_float = kind in ("F32", "F16", "BF16")
        # Tensor cores take eight rows at a time, and more rows than sixteen go by another kernel.
        rows = launch["rows"] if is_float else 8 * -(-launch["rows"] // 8)
        name = "few_floats" if is_float else "few" if product == "matmul" else product
        kernel = f"{name}_kernel {kind}" + ("" if product == "mixed" else f" {rows} rows")
        held, per = loops.held(kernel, sass), loops.per_product(kernel, sass)
        limits["parallelism"] = waiting_us(launch, card, held, is_float)
        # Activations that a multiprocessor's blocks read at the same time come from its first cache.
        together = max(held * 32 // launch["threads"], 1)
        read = launch["read_bytes"] + (launch["read_by_blocks_bytes"] - launch["read_bytes"]) / together
        limits["second cache"] = second_cache_us(read, card)
        padded = launch["products"] * (rows / launch["rows"] if loops.on_tensor_cores(kernel, sass) else 1)
        limits["instructions"] = issue_us(padded * per, card)
    limit = max(limits, key=limits.get)
    fixed = RAMP_US + (TAIL_US if launch.get("tail") else 0)
    return fixed + limits[limit], ("tail" if launch.get("tail") else "ramp") if limits[limit] < fixed else limit


def ms_of(launches, card, loops):
    """Milliseconds on the card, and those of them that are spent on each limit."""
    spent = defaultdict(float)
    for t in launches:
        us, limit = time_us(t, card, loops)
        spent[limit] += us / 1e3
        spent["gaps"] += gap_us(card) / 1e3
    return sum(spent.values()), spent


def said(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def print_assumed():
    print(f"# Steps predicted, {said('date', '-u', '+%F')}, commit {said('git', '-C', str(HERE), 'describe', '--always', '--dirty')}\n")
    print("From `tests/gpu/predict.sh`; nothing here was measured on a card. Q4_K_M, launches replayed as a graph. A launch takes a gap, a")
    print("ramp, a tail (if it makes norms, roundings, routes, turned heads or sums of its results), and the longest of: its counted bytes at the")
    print("attainable bandwidth; what its multiprocessors read, at the second cache's; what its lanes load, at the first cache's; what its blocks wait for")
    print("weights, round after round (parallelism); its loops' instructions at the schedulers' rate; its products at the tensor cores'. On a 5090 and")
    print("an H200 products ask the second cache for their first weights while the launch before ends; what that saves of ramps and tails isn't counted.\n")
    print(f"Assumed: gap {GAP_US} µs, where launches overlap (5090, H200) {OVERLAPPED_GAP_US} µs, as others gained by it, ramp {RAMP_US} µs, tail {TAIL_US} µs, latency {LATENCY_NS} ns, of the second cache {CACHE_LATENCY_NS} ns, between two blocks {BLOCK_US} µs, {ISSUED:.0%} of issue slots. Attainable GB/s: "
          + ", ".join(f"{name} {c[1]} of {c[0]}" for name, c in CARDS.items()) + ".")
    print(f"Between two tokens the card chooses, {CHOICE_US} µs, and waits for the host, {TURN_US} µs; an answer's grammar is followed while the card works.\n")


def print_tokens(steps, loops):
    print("## Tokens per second, one row at 128 positions\n")
    print("| model | card | GB a token | launches of a layer | launches | gaps, ramps and tails, ms | on the card, ms | of nominal bandwidth | between tokens, ms | tok/s | measured |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for (name, *key), (launches, kinds) in steps.items():
        if tuple(key) != BASE:
            continue
        moved = sum(t["read_bytes"] + t["written_bytes"] for t in launches)
        tails = sum(bool(t.get("tail")) for t in launches)
        for card, (nominal, *_) in CARDS.items():
            ms, host = ms_of(launches, card, loops)[0], (CHOICE_US + TURN_US) / 1e3
            print(f"| {name} | {card} | {moved / 1e9:.3f} | {' or '.join(str(len(k)) for k in kinds)} | {len(launches)} | "
                  f"{((gap_us(card) + RAMP_US) * len(launches) + TAIL_US * tails) / 1e3:.2f} | {ms:.2f} | {moved / ms / 1e6 / nominal:.0%} | {host:.2f} | {1e3 / (ms + host):.0f} | |")


def print_against(steps, loops, title, goal, wanted, ratio, good):
    """A table of steps beside the same model's BASE."""
    print(f"\n## {title}\n")
    print("Bytes: what a step moves beside what the base does. Where the goal is missed, what the steps' time is spent on, most first.\n")
    print(f"| model | step | card | bytes | ms | {goal} | goal | spent on | measured |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (name, *key), (launches, _) in steps.items():
        if not wanted(key):
            continue
        base = steps[name, *BASE][0]
        moved, before = (sum(t["read_bytes"] + t["written_bytes"] for t in some) for some in (launches, base))
        for card in CARDS:
            ms, spent = ms_of(launches, card, loops)
            value = ratio(ms, ms_of(base, card, loops)[0])
            most = sorted(spent.items(), key=lambda it: -it[1])[:3]
            why = "-" if good(value) else ", ".join(f"{limit} {part / ms:.0%}" for limit, part in most)
            print(f"| {name} | {key[0]} rows at {key[1]}, {key[2]} | {card} | × {moved / before:.2f} | {ms:.2f} | {value:.2f} | "
                  f"{'kept' if good(value) else 'missed'} | {why} | |")


def print_launches(name, launches, loops):
    print(f"\n## {name}: launches of a step\n")
    print("| kernel | launches | MB | " + " | ".join(f"{c}: µs, GB/s, limit | measured" for c in CARDS) + " |")
    print("|---|---|---|" + "---|---|" * len(CARDS))
    groups = defaultdict(list)
    for t in launches:
        groups[t["name"], t["read_bytes"] // 10000].append(t)
    for (kernel, _), same in sorted(groups.items(), key=lambda it: -sum(t["read_bytes"] for t in it[1])):
        bytes_ = same[0]["read_bytes"] + same[0]["written_bytes"]
        cells = []
        for card in CARDS:
            us, limit = time_us(same[0], card, loops)
            cells.append(f"{us:.1f}, {bytes_ / us / 1e3:.0f}, {limit} |")
        print(f"| {kernel} | {len(same)} | {bytes_ / 1e6:.3f} | " + " | ".join(cells) + " |")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    loops = Loops(HERE.parent.parent / "benches" / "results" / "compiled.md")
    steps = {}
    for path in map(Path, sys.argv[1:]):
        name, rows, positions, cache = path.stem.split("@")
        steps[name, int(rows), int(positions), cache] = step(path)
    print_assumed()
    print_tokens(steps, loops)
    print_against(steps, loops, "Eight sequences, a row each", "times of one row", lambda k: k[0] > 1, lambda ms, base: ms / base, lambda v: v <= 1.25)
    print_against(steps, loops, "Long contexts", "speed, of that at 128", lambda k: k[1] > 128, lambda ms, base: base / ms, lambda v: v >= 0.7)
    print_prompts(loops)
    for (name, *key), (launches, _) in steps.items():
        if tuple(key) == BASE or (key[1] > 128 and key[2] == "f16"):
            print_launches(f"{name}, {key[0]} row at {key[1]}, {key[2]}", launches, loops)


if __name__ == "__main__":
    main()
