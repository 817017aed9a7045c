"""Writes a model of random weights with Qwen2.5's vocabulary, chat template and a long context, as GGUF.

    noise.py FOLDER OUT.gguf      FOLDER has tokenizer.json and tokenizer_config.json

Its text is noise. In the plain draw of the weights nothing of it would ever end, for every token is as probable as any
other; so the rows of three tokens are drawn from a wider distribution around a lower mean: `<|im_end|>`, `<tool_call>`
and the quotation mark that ends a JSON string each come up once in some tens of tokens, at any temperature.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD, FFN, CONTEXT = 2, 256, 4, 2, 64, 512, 131072
# How often each comes up: the mean of its logit, in standard deviations below what it takes.
RARE = {"<|im_end|>": 2.2, "<tool_call>": 1.6, "\"": 1.3}
# Standard deviation of the logits of these tokens; those of others have 0.3.
SPREAD = 40.0
# Of embeddings, so that most of a residual is the token's own.
WIDE = 0.5
# The first component of every residual, which the layers leave alone: what makes a mean of logits possible.
CONSTANT = 8


def vocabulary(folder):
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokens = {number: text for text, number in model["model"]["vocab"].items()}
    special = {token["id"]: token["content"] for token in model["added_tokens"]}
    tokens |= special
    assert sorted(tokens) == list(range(len(tokens)))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["model"]["merges"]]
    # 3 is a control token, 4 one that a user may mean: their names are matched in text.
    kinds = [1 if n not in special else 3 if "|" in special[n] else 4 for n in range(len(tokens))]
    return [tokens[n] for n in range(len(tokens))], kinds, merges, config["chat_template"]


def main():
    folder, out = Path(sys.argv[1]), sys.argv[2]
    tokens, kinds, merges, template = vocabulary(folder)
    number = {text: n for n, text in enumerate(tokens)}
    rng = np.random.default_rng(8)
    w = gguf.GGUFWriter(out, "qwen2")
    w.add_name("noise")
    w.add_block_count(LAYERS)
    w.add_context_length(CONTEXT)
    w.add_embedding_length(HIDDEN)
    w.add_feed_forward_length(FFN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV_HEADS)
    w.add_key_length(HEAD)
    w.add_value_length(HEAD)
    w.add_rope_freq_base(1e6)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_file_type(1)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tokens)
    w.add_token_types(kinds)
    w.add_token_merges(merges)
    w.add_eos_token_id(number["<|im_end|>"])
    w.add_bos_token_id(number["<|endoftext|>"])
    w.add_chat_template(template)
    w.add_vocab_size(len(tokens))

    def draw(rows, columns):
        return rng.standard_normal((rows, columns), dtype=np.float32) * 0.02

    def add(name, matrix):
        w.add_tensor(name, matrix.astype(np.float16))

    def residual(name, columns):
        # Small, for what attention finds in a long prompt is the same at every place, and would move all of these logits.
        matrix = draw(HIDDEN, columns) / 5
        matrix[0] = 0
        add(name, matrix)

    def ones(name):
        w.add_tensor(name, np.ones(HIDDEN, dtype=np.float32))

    embed = draw(len(tokens), HIDDEN) * WIDE / 0.02
    embed[:, 0] = CONSTANT
    add("token_embd.weight", embed)
    ones("output_norm.weight")
    output = draw(len(tokens), HIDDEN)
    # After the norm, components have a root mean square of 1: how large the constant one is among them, and what is
    # left for the others.
    others = WIDE**2 * HIDDEN
    constant = CONSTANT / np.sqrt((CONSTANT**2 + others) / HIDDEN)
    left = np.sqrt(HIDDEN - constant**2)
    line_break = embed[number["Ċ"], 1:]
    line_break = line_break / np.linalg.norm(line_break)
    for text, deviations in RARE.items():
        row = rng.standard_normal(HIDDEN) * SPREAD / left
        # An answer does not begin with it: every prompt ends with a line break.
        row[1:] -= line_break * (line_break @ row[1:])
        row[0] = -SPREAD * deviations / constant
        output[number[text]] = row
    add("output.weight", output)
    for i in range(LAYERS):
        b = f"blk.{i}."
        ones(b + "attn_norm.weight")
        ones(b + "ffn_norm.weight")
        for name, rows in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            add(b + f"attn_{name}.weight", draw(rows * HEAD, HIDDEN))
            w.add_tensor(b + f"attn_{name}.bias", np.zeros(rows * HEAD, dtype=np.float32))
        residual(b + "attn_output.weight", HEADS * HEAD)
        add(b + "ffn_gate.weight", draw(FFN, HIDDEN))
        add(b + "ffn_up.weight", draw(FFN, HIDDEN))
        residual(b + "ffn_down.weight", FFN)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


main()
