#!/usr/bin/env python3
"""Writes a checkpoint as a GGUF file.

    convert.py RUN/final.pt ../coder-tiny.gguf [--type q8_0|f16]
"""
import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch

from coder_tiny.model import Shape
from coder_tiny.prompts import CHAT
from coder_tiny.vocabulary import CONTROL, RESERVED

BLOCK_TENSORS = {"attn_norm": "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "q_norm": "attn_q_norm", "k_norm": "attn_k_norm",
                 "ffn_norm": "ffn_norm", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}
TYPES = {"q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0), "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16)}


def tensor_name(name):
    """The standard GGUF name of a parameter."""
    if name.startswith("embed."):
        return "token_embd.weight"
    if name.startswith("norm."):
        return "output_norm.weight"
    _, number, part, _ = name.split(".")
    return f"blk.{number}.{BLOCK_TENSORS[part]}.weight"


def write_shape(writer, shape):
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(shape.eps)
    writer.add_rope_freq_base(shape.theta)
    writer.add_vocab_size(shape.vocab)


def write_vocabulary(writer, made):
    tokens = made["tokens"]
    kinds = [gguf.TokenType.CONTROL if t in CONTROL else gguf.TokenType.USER_DEFINED if t in RESERVED else gguf.TokenType.NORMAL for t in tokens]
    ids = {t: i for i, t in enumerate(tokens)}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{a} {b}" for a, b in made["merges"]])
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_eot_token_id(ids["<|im_end|>"])
    keys = gguf.Keys.Tokenizer
    for key, token in ((keys.FIM_PRE_ID, "<|fim_prefix|>"), (keys.FIM_SUF_ID, "<|fim_suffix|>"), (keys.FIM_MID_ID, "<|fim_middle|>"), (keys.FIM_PAD_ID, "<|fim_pad|>")):
        writer.add_uint32(key, ids[token])
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT.read_text().rstrip("\n"))


def write_tensors(writer, weights, kind):
    for name, tensor in weights.items():
        values = tensor.float().numpy()
        if values.ndim == 1:
            writer.add_tensor(tensor_name(name), values.astype(np.float32))
        else:
            writer.add_tensor(tensor_name(name), gguf.quants.quantize(values, kind), raw_dtype=kind)


def convert(checkpoint, path, type_name):
    held = torch.load(checkpoint, map_location="cpu", weights_only=True)
    shape = Shape(**held["shape"])
    kind, file_type = TYPES[type_name]
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name("coder-tiny")
    writer.add_description("A tiny model for small functions, constants and tests in Python, Rust and JavaScript")
    writer.add_license("MIT OR Apache-2.0")
    writer.add_size_label(f"{sum(t.numel() for t in held['model'].values()) / 1e6:.0f}M")
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    write_shape(writer, shape)
    write_vocabulary(writer, json.loads(held["vocabulary"]))
    write_tensors(writer, held["model"], kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("gguf")
    parser.add_argument("--type", choices=TYPES, default="q8_0")
    options = parser.parse_args()
    convert(options.checkpoint, options.gguf, options.type)
    print(f"{options.gguf}: {Path(options.gguf).stat().st_size} bytes")


if __name__ == "__main__":
    main()
