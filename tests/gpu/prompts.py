"""The prompts of predict.py's page: products from the shapes, instructions from the loops, shares of the tensor cores' peaks."""
from cards import BYTES_OF_WEIGHT, CACHE_BYTES, CARDS, GAP_US, ISSUED, RAMP_US, issue_us, second_cache_us, tensor_us
from random_gguf import SHAPES, more_bits

OUTPUTS, ROWS = 128, {"Q4_K": 96, "Q6_K": 64}  # of a block of matmul_many.cu, rows of one expert
FLOATS = 64, 32  # the same of both in matmul_floats.cu, the fewer where the more would leave half of the card idle
CHUNK, CHUNK_OF_EXPERTS = 512, 2048  # rows of a prompt that a step takes
QUERIES = 8     # of a warp of attention
PIECE_BYTES = {"f16": 16384 + 2048, "q8_0": 8704 + 2048}  # that a warp loads of a piece of 32 positions, and of its queries
OTHERS = 0.28   # of the int8 peak: what llama.cpp's quantized products reach (25 to 30 %)
# Tokens per second of llama.cpp itself, where it has published them: its pull request 16130.
PUBLISHED = {("qwen3-coder-30b-a3b", 512, "4090"): 6561}
NAMES = ["qwen2.5-coder-7b", "qwen2.5-coder-32b", "qwen3-coder-30b-a3b"]


def products(shape, layer):
    """Outputs, inputs, experts, experts of a row and type of each product of a layer, by name."""
    _, layers, hidden, heads, kv, dim, ffn, _, experts, used, effn, _ = SHAPES[shape]
    down = "Q6_K" if more_bits(layer, layers) else "Q4_K"
    values = [("values", kv * dim, hidden, 1, 1, down)]
    first = [("queries and keys", (heads + kv) * dim, hidden, 1, 1, "Q4_K")] + values + [("output", hidden, heads * dim, 1, 1, "Q4_K")]
    if experts:
        return first + [("gate and up", 2 * effn, hidden, experts, used, "Q4_K"), ("down", hidden, effn, experts, used, down)]
    return first + [("gate and up", 2 * ffn, hidden, 1, 1, "Q4_K"), ("down", hidden, ffn, 1, 1, down)]


def product_us(product, rows, card, loops):
    """Microseconds and what limits them."""
    name, out, cols, experts, used, kind = product
    entries = rows * used / experts
    tiles = -(-entries // ROWS[kind])
    # A block's weights are unpacked for as many rows as it has, few or all.
    padded = out * cols * experts * tiles * ROWS[kind]
    weights = out * cols * experts * BYTES_OF_WEIGHT[kind]
    gated = name == "gate and up"
    moved = weights + rows * used * (cols * 1.3 + 4 * (out / 2 if gated else out))
    read = weights * tiles + rows * used * cols * 1.3 * -(-out // OUTPUTS)
    limits = {"memory": moved / CARDS[card][1] / 1e3, "second cache": second_cache_us(read, card),
              "tensor cores": tensor_us(padded, "int8", card),
              "instructions": issue_us(padded * loops.per_product(f"many_kernel {kind}{', gated' if gated else ''}", CARDS[card][4]), card)}
    limit = max(limits, key=limits.get)
    return GAP_US + RAMP_US + limits[limit], limit


def attention_us(shape, before, rows, cache, card, loops):
    """Of the rows behind `before` positions."""
    _, _, _, heads, *_ = SHAPES[shape]
    _, _, sms, clock, sass, *_ = CARDS[card]
    pieces = sum(-(-(before + r + 1) // 32) for r in range(rows)) * heads / QUERIES
    count, mma = loops.of_piece(f"tile_kernel {cache}", sass)
    limits = {"instructions": issue_us(pieces * count, card), "tensor cores": tensor_us(pieces * mma * 2048, "f16", card),
              "first cache": pieces * PIECE_BYTES[cache] / (sms * CACHE_BYTES * clock * 1e3)}
    limit = max(limits, key=limits.get)
    return GAP_US + RAMP_US + limits[limit], limit


def others_us(shape, rows, card, loops):
    """Norms, rotation and roundings, and of a mixture its routing and the sums of its experts: what they move, and the work of
    the router's product, whose blocks may be fewer than multiprocessors."""
    _, _, hidden, heads, kv, dim, ffn, _, experts, used, effn, _ = SHAPES[shape]
    gated = used * effn if used else ffn
    moved = rows * (2 * 9.4 * hidden + 8 * (heads + 2 * kv) * dim + 9.4 * heads * dim + 5.4 * gated)
    launches, us = 6, 0
    if experts:
        launches += 4
        moved += rows * (4 * used * hidden + 8 * hidden + 12 * experts)
        sms, blocks = CARDS[card][2], {n: -(-rows // n) * -(-experts // n) for n in FLOATS}
        n = FLOATS[2 * blocks[FLOATS[0]] <= sms]
        turns = -(-blocks[n] // sms) * sms
        us += issue_us(turns * n * n * hidden * loops.per_product(f"many_floats_kernel F32 {n} outputs", CARDS[card][4]), card)
        # Every expert's block looks at every entry twice.
        us += second_cache_us(2 * 4 * rows * used * experts, card)
    return us + launches * (GAP_US + RAMP_US) + moved / CARDS[card][1] / 1e3


def share(kernel, kind, card, loops):
    """Of the tensor cores' peak, what the loop's instructions leave room for."""
    _, _, sms, clock, sass, *_ = CARDS[card]
    per_us = issue_us(loops.per_product(kernel, sass), card) if kind == "int8" else None
    if per_us is None:
        count, mma = loops.of_piece(kernel, sass)
        per_us = issue_us(count / (mma * 2048), card)
    return min(1.0, tensor_us(1, kind, card) / per_us)


def print_shares(loops):
    print("\n## Prompts: what the loops leave of the tensor cores' peak\n")
    print(f"Instructions of a warp for each instruction of tensor cores, and the share of the card's peak that {ISSUED:.0%} of its issue slots allow. On an")
    print("H200 the peak is that of mma.sync, 60 % of its own. Attention's weights are two halves each, and queries are one.\n")
    print("| kernel | peak | " + " | ".join(f"{card}: instructions, share" for card in CARDS) + " | measured |")
    print("|---|---|" + "---|" * len(CARDS) + "---|")
    kernels = [(f"many_kernel {kind}", "int8") for kind in ("Q4_K", "Q6_K", "Q8_0", "Q5_0")]
    for kernel, kind in kernels + [(f"tile_kernel {cache}", "f16") for cache in ("f16", "q8_0")]:
        cells = []
        for card, (*_, sass, _, _, _) in CARDS.items():
            if kind == "int8":
                _, count, of = loops.busiest(kernel, sass)
            else:
                count, of = loops.of_piece(kernel, sass)
            cells.append(f"{count / of:.1f}, {share(kernel, kind, card, loops):.0%}")
        print(f"| {kernel} | {kind} | " + " | ".join(cells) + " | |")


def prompt(shape, tokens, card, loops):
    """Milliseconds of products, of attention and of the rest, multiply-adds of products, and what limits the largest of them."""
    _, layers, *_ = SHAPES[shape]
    spent, of, limits = [0.0, 0.0, 0.0], 0, {}
    chunk = CHUNK_OF_EXPERTS if SHAPES[shape][8] else CHUNK
    for before in range(0, tokens, chunk):
        rows = min(chunk, tokens - before)
        for layer in range(layers):
            for p in products(shape, layer):
                us, limit = product_us(p, rows, card, loops)
                spent[0] += us / 1e3
                of += p[1] * p[2] * rows * p[4]
                limits[limit] = limits.get(limit, 0) + us
        us, limit = attention_us(shape, before, rows, "f16", card, loops)
        spent[1] += layers * us / 1e3
        spent[2] += layers * others_us(shape, rows, card, loops) / 1e3
    return spent, of, max(limits, key=limits.get), limit


def print_prompts(loops):
    print_shares(loops)
    print("\n## Prompts\n")
    print(f"In steps of {CHUNK} rows, of a mixture {CHUNK_OF_EXPERTS}, f16 cache. Share: multiply-adds of products in their time, of the card's int8 peak (an H200's own, not")
    print(f"mma.sync's). Against {OTHERS:.0%} of the peak, which llama.cpp's products reach: how many times as fast ours are, by themselves; its attention is not known.\n")
    print("| model | tokens | card | products, ms | limit | of int8 peak | times llama.cpp's | attention, ms | limit | rest, ms | tok/s | measured |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    beside = []
    for shape in NAMES:
        for tokens in (512, 4096):
            for card, (*_, int8, _) in CARDS.items():
                (product, attention, rest), of, limit, attends = prompt(shape, tokens, card, loops)
                peak = 1979 if card == "H200" else int8
                reached = 2 * of / (product * 1e9) / peak
                speed = tokens / (product + attention + rest) * 1e3
                print(f"| {shape} | {tokens} | {card} | {product:.1f} | {limit} | {reached:.0%} | {reached / OTHERS:.2f} | {attention:.1f} | {attends} | "
                      f"{rest:.1f} | {speed:.0f} | |")
                if (shape, tokens, card) in PUBLISHED:
                    others = PUBLISHED[shape, tokens, card]
                    beside.append(f"{tokens} tokens of {shape} on a {card}: {others}, of which ours would be {speed / others:.2f} ×")
    print(f"\nWhat llama.cpp itself has published, in tok/s: {'; '.join(beside)}.")
