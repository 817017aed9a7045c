#!/usr/bin/env python3
"""Write a Q4_K_M GGUF file of a published shape with random blocks: real bytes to move, noise for text.

    random_gguf.py qwen2.5-coder-7b OUT.gguf [--layers N] [--vocab N]

Blocks are written directly, so that 20 GB take as long as the disk needs. Types are those that a Q4_K_M file has.
Needs numpy.
"""
import argparse
import struct

import numpy as np

VOCAB = 151_936

# layers, hidden, heads, kv heads, head dim, ffn, tied, experts, experts used, expert ffn, rope theta
SHAPES = {
    "qwen2.5-coder-0.5b": ("qwen2", 24, 896, 14, 2, 64, 4864, True, 0, 0, 0, 1e6),
    "qwen2.5-coder-1.5b": ("qwen2", 28, 1536, 12, 2, 128, 8960, True, 0, 0, 0, 1e6),
    "qwen2.5-coder-7b": ("qwen2", 28, 3584, 28, 4, 128, 18944, False, 0, 0, 0, 1e6),
    "qwen2.5-coder-14b": ("qwen2", 48, 5120, 40, 8, 128, 13824, False, 0, 0, 0, 1e6),
    "qwen2.5-coder-32b": ("qwen2", 64, 5120, 40, 8, 128, 27648, False, 0, 0, 0, 1e6),
    "qwen3-coder-30b-a3b": ("qwen3moe", 48, 2048, 32, 4, 128, 6144, False, 128, 8, 768, 1e7),
}

# GGUF's number of a type, weights in a block, its bytes, and where its half-precision scales lie.
F32 = (0, 1, 4, {})
Q5_0 = (6, 32, 22, {0: 2e-3})
Q8_0 = (8, 32, 34, {0: 2e-4})
Q4_K = (12, 256, 144, {0: 1e-4, 2: 7e-4})
Q6_K = (14, 256, 210, {208: 2e-5})


def blocks(kind, count, rng):
    """`count` blocks; at most 32 MiB of them differ, and then they repeat."""
    _, _, size, scales = kind
    data = rng.integers(0, 256, (min(count, (32 << 20) // size), size), dtype=np.uint8)
    for at, scale in scales.items():
        data[:, at:at + 2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
    return data


def fallback(kind, cols):
    """What llama.cpp takes where 256 does not divide the columns."""
    return kind if cols % kind[1] == 0 else {12: Q5_0, 14: Q8_0}[kind[0]]


def more_bits(i, n):
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def tensors(shape, layers, vocab):
    arch, _, hidden, heads, kv, dim, ffn, tied, experts, _, effn, _ = shape
    yield "token_embd.weight", (vocab, hidden), Q6_K if tied else Q4_K
    yield "output_norm.weight", (hidden,), F32
    if not tied:
        yield "output.weight", (vocab, hidden), Q6_K
    for i in range(layers):
        better = Q6_K if more_bits(i, layers) else Q4_K
        for name, size, kind in [
            ("attn_norm.weight", (hidden,), F32),
            ("ffn_norm.weight", (hidden,), F32),
            ("attn_q.weight", (heads * dim, hidden), Q4_K),
            ("attn_k.weight", (kv * dim, hidden), Q4_K),
            ("attn_v.weight", (kv * dim, hidden), better),
            ("attn_output.weight", (hidden, heads * dim), Q4_K),
        ]:
            yield f"blk.{i}.{name}", size, kind
        if arch == "qwen2":
            for name, n in [("q", heads), ("k", kv), ("v", kv)]:
                yield f"blk.{i}.attn_{name}.bias", (n * dim,), F32
        else:
            for name in "qk":
                yield f"blk.{i}.attn_{name}_norm.weight", (dim,), F32
        if experts:
            yield f"blk.{i}.ffn_gate_inp.weight", (experts, hidden), F32
            yield f"blk.{i}.ffn_gate_exps.weight", (experts, effn, hidden), Q4_K
            yield f"blk.{i}.ffn_up_exps.weight", (experts, effn, hidden), Q4_K
            yield f"blk.{i}.ffn_down_exps.weight", (experts, hidden, effn), better
        else:
            yield f"blk.{i}.ffn_gate.weight", (ffn, hidden), Q4_K
            yield f"blk.{i}.ffn_up.weight", (ffn, hidden), Q4_K
            yield f"blk.{i}.ffn_down.weight", (hidden, ffn), better


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def metadata(name, shape, layers, vocab):
    arch, _, hidden, heads, kv, dim, ffn, _, experts, used, effn, theta = shape
    u32 = {"block_count": layers, "context_length": 32768, "embedding_length": hidden, "feed_forward_length": ffn,
           "attention.head_count": heads, "attention.head_count_kv": kv, "attention.key_length": dim,
           "attention.value_length": dim}
    if experts:
        u32 |= {"expert_count": experts, "expert_used_count": used, "expert_feed_forward_length": effn}
    f32 = {"rope.freq_base": theta, "attention.layer_norm_rms_epsilon": 1e-6}
    tokens = [f"<{i}>" for i in range(vocab)]
    pairs = [text("general.architecture") + struct.pack("<I", 8) + text(arch),
             text("general.name") + struct.pack("<I", 8) + text(f"random {name}"),
             text("tokenizer.ggml.model") + struct.pack("<I", 8) + text("gpt2"),
             text("tokenizer.ggml.pre") + struct.pack("<I", 8) + text("qwen2"),
             text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, vocab) + b"".join(map(text, tokens)),
             text("tokenizer.ggml.merges") + struct.pack("<IIQ", 9, 8, 0),
             text("tokenizer.ggml.eos_token_id") + struct.pack("<II", 4, 0)]
    pairs += [text(f"{arch}.{key}") + struct.pack("<II", 4, value) for key, value in u32.items()]
    pairs += [text(f"{arch}.{key}") + struct.pack("<If", 6, value) for key, value in f32.items()]
    return pairs


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("shape", choices=SHAPES)
    p.add_argument("out")
    p.add_argument("--layers", type=int, help="fewer layers than the published model")
    p.add_argument("--vocab", type=int, default=VOCAB, help="fewer tokens than the published model")
    a = p.parse_args()
    shape = SHAPES[a.shape]
    layers = a.layers or shape[1]
    rng = np.random.default_rng(0)
    infos, sizes, offset = [], [], 0
    for name, size, kind in tensors(shape, layers, a.vocab):
        kind = fallback(kind, size[-1]) if kind is not F32 else kind
        count = int(np.prod(size)) // kind[1]
        dims = struct.pack("<I", len(size)) + b"".join(struct.pack("<Q", n) for n in reversed(size))
        infos.append(text(name) + dims + struct.pack("<IQ", kind[0], offset))
        sizes.append((kind, count))
        offset += -(-count * kind[2] // 32) * 32
    pairs = metadata(a.shape, shape, layers, a.vocab)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(pairs)) + b"".join(pairs) + b"".join(infos)
    with open(a.out, "wb") as out:
        out.write(head + bytes(-len(head) % 32))
        for kind, count in sizes:
            if kind is F32:
                data = (1.0 + 0.1 * rng.standard_normal(count)).astype(np.float32).tobytes()
            else:
                some = blocks(kind, count, rng).tobytes()
                whole, rest = divmod(count * kind[2], len(some))
                for _ in range(whole):
                    out.write(some)
                data = some[:rest]
            out.write(data + bytes(-(count * kind[2]) % 32))


if __name__ == "__main__":
    main()
