"""What is assumed of cards, and the loops of benches/results/compiled.md, for predict.py and prompts.py."""
import re

# Nominal and attainable bytes per second of memory, 10⁹; multiprocessors; clock under load, 10⁹; SASS of compiled.md; bytes per
# second of the second cache, 10⁹; 10¹² operations per second of dense int8 products with integer sums, and of f16 products with
# f32 sums, as mma.sync reaches them: on sm_90 60 % of what wgmma does.
# Attainable: 3090 90 % (ncu of q27's products), 4090 950 (calm), 5090 1691 (q27's read probe), H200 4300 (a measured copy).
# Clocks are the published boost clocks. Second caches: published microbenchmarks, rounded down; the 5090's is an assumption.
CARDS = {
    "3090": (936, 842, 82, 1.695, "86", 2000, 284, 71),
    "4090": (1008, 950, 128, 2.52, "89", 4500, 661, 165),
    "5090": (1792, 1691, 170, 2.407, "120", 6000, 838, 209),
    "H200": (4800, 4300, 132, 1.785, "90", 5500, 0.6 * 1979, 0.6 * 990),
}

GAP_US = 1.3        # from a kernel's end to the next one's begin within a graph (Hazy Research, "no bubbles"; sparkinfer's counts)
# The same in a graph where launches overlap, on cards from 9.0 on: with that, sparkinfer's 770 launches of a token took 1.0 µs less
# each (on a 5090, 164 to 188 tokens a second), and llama.cpp's tokens 0.35 ms less (pull request 22522, gpt-oss 20B: 332 to 376). An
# assumption for these kernels.
OVERLAPPED_GAP_US = 0.3
RAMP_US = 1.0       # a kernel's first addresses and its last block's end, during which memory idles: an assumption
TAIL_US = 2.0       # of a launch with a tail: blocks' results seen, the last one counted, a row read and written: an assumption
LATENCY_NS = 700    # of a read of memory under load: an assumption, from microbenchmarks of these generations
SCHEDULERS = 4      # of a multiprocessor, an instruction of a warp each per clock
ISSUED = 0.8        # of those that a real kernel fills: an assumption
CACHE_BYTES = 128   # that a multiprocessor's first cache gives per clock
CACHE_LATENCY_NS = 300  # of a read of the second cache under load: an assumption, likewise
# Between two blocks in the same place, in which no weights are under way: sums added, the block counted (two round trips to the second
# cache), the next block begun and its addresses made: an assumption.
BLOCK_US = 1.0
AHEAD_FLOAT_BYTES = 64  # that a thread of a product of floats has under way: half a run of f32
# Between two tokens: two launches that choose of logits in the second cache; and the copy of what they found, the thread that
# waits for it, and the next step's inputs. Assumptions both.
CHOICE_US = 12
TURN_US = 20

# Bytes of a weight.
BYTES_OF_WEIGHT = {"F32": 4, "F16": 2, "BF16": 2, "Q4_0": 18 / 32, "Q4_1": 20 / 32, "Q5_0": 22 / 32, "Q5_1": 24 / 32, "Q8_0": 34 / 32,
                   "Q2_K": 84 / 256, "Q3_K": 110 / 256, "Q4_K": 144 / 256, "Q5_K": 176 / 256, "Q6_K": 210 / 256,
                   "IQ4_NL": 18 / 32, "IQ4_XS": 136 / 256}

# Multiply-adds of an instruction of a warp.
PRODUCTS = {"FFMA": 32, "IDP": 128, "HMMA.16816": 2048, "IMMA.16832": 4096, "IMMA.16816": 2048}


def overlaps(card):
    """Whether a launch begins while the one before ends."""
    return int(CARDS[card][4]) >= 90


def gap_us(card):
    """Microseconds between two launches of a graph."""
    return OVERLAPPED_GAP_US if overlaps(card) else GAP_US


def issue_us(instructions, card):
    """Microseconds in which all multiprocessors issue the instructions of so many warps."""
    _, _, sms, clock, *_ = CARDS[card]
    return instructions / (sms * SCHEDULERS * ISSUED * clock * 1e3)


def tensor_us(products, kind, card):
    """Microseconds of so many multiply-adds at the peak of `int8` or `f16`."""
    return 2 * products / CARDS[card][6 if kind == "int8" else 7] / 1e6


def second_cache_us(bytes_, card):
    return bytes_ / CARDS[card][5] / 1e3


class Loops:
    """Loops around products, by kernel and target."""

    def __init__(self, path):
        self.of, self.warps = {}, {}
        table, loops = path.read_text().split("## Loops around products")
        for cells in ([c.strip() for c in line.split("|")[1:-1]] for line in table.splitlines()):
            if len(cells) == 9 and "/" in cells[8]:
                self.warps[cells[0]] = [int(held.split("/")[0]) for held in cells[8].split()]
        lines = loops.splitlines()
        head = next(line for line in lines if line.startswith("| kernel"))
        self.targets = targets = [t.strip().removeprefix("sm_") for t in head.split("|")[3:-1]]
        for line in lines:
            cells = [c.strip() for c in line.split("|")[1:-1]]
            if len(cells) == 2 + len(targets) and "·" in cells[2]:
                for target, cell in zip(targets, cells[2:]):
                    if cell == "-":
                        continue
                    depths = [[tuple(map(int, it.split("·"))) for it in depth.split(" + ")] for depth in cell.split(" in ")]
                    self.of[cells[0], target] = cells[1], depths

    def held(self, kernel, target):
        """Warps that a multiprocessor holds at once."""
        return self.warps[kernel][self.targets.index(target)]

    def on_tensor_cores(self, kernel, target):
        return "MMA" in self.of[kernel, target][0]

    def busiest(self, kernel, target):
        """Kind, instructions and products' instructions of the innermost loop with the most products: that for rows of whole 16
        bytes comes first."""
        kind, depths = self.of[kernel, target]
        return kind, *max(depths[0] if kind != "FFMA" else [d for depth in depths for d in depth], key=lambda it: it[1])

    def per_product(self, kernel, target):
        """Instructions of a warp for each multiply-add."""
        kind, count, of = self.busiest(kernel, target)
        return count / (of * PRODUCTS[kind])

    def of_piece(self, kernel, target):
        """Instructions and products on tensor cores of a warp that adds a piece of attention's, for heads of 128 columns.

        The loop with the most products is gone through once for a piece; those within it are for values that are no numbers, and
        what is around it, the end of a chunk, comes once for eight."""
        _, depths = self.of[kernel, target]
        at = max(range(len(depths)), key=lambda d: sum(of for _, of in depths[d]))
        count, of = (sum(it[n] for it in depths[at]) for n in (0, 1))
        return count + sum(it[0] for it in (depths[at + 1] if len(depths) > at + 1 else [])) / 8, of
