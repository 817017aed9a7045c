#!/usr/bin/env python3
"""Measures a model on unseen tasks with their real verification commands.

    evaluate.py MODEL.gguf [--seed 9001] [--count 200] [--show 5]

MODEL is a GGUF file (its quantized weights are what is measured) or a .pt
checkpoint. The first attempt is greedy, the retry is sampled.
"""
import argparse
import collections
import sys
from pathlib import Path

import gguf
import torch

from coder_tiny.evaluation import verify
from coder_tiny.model import Model, Shape
from coder_tiny.vocabulary import Vocabulary, save
from coder_tiny.workdir import languages_of
from convert import tensor_name


def from_checkpoint(path, spare):
    held = torch.load(path, map_location="cpu", weights_only=True)
    model = Model(Shape(**held["shape"]))
    model.load_state_dict(held["model"])
    spare.write_text(held["vocabulary"])
    return model, Vocabulary(spare)


def from_gguf(path, spare):
    reader = gguf.GGUFReader(path)
    value = lambda key: reader.fields[key].contents()
    own = lambda key: value(f"qwen3.{key}")
    tokens = value("tokenizer.ggml.tokens")
    shape = Shape(vocab=len(tokens), hidden=own("embedding_length"), layers=own("block_count"), heads=own("attention.head_count"), kv_heads=own("attention.head_count_kv"),
                  head_dim=own("attention.key_length"), ffn=own("feed_forward_length"), context=own("context_length"), theta=own("rope.freq_base"), eps=own("attention.layer_norm_rms_epsilon"))
    model = Model(shape)
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    state = {name: torch.tensor(tensors[tensor_name(name)]).reshape(weight.shape) for name, weight in model.state_dict().items()}
    model.load_state_dict(state)
    save({"tokens": tokens, "merges": [m.split(" ") for m in value("tokenizer.ggml.merges")]}, spare)
    return model, Vocabulary(spare)


def load(path):
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        spare = Path(folder) / "vocabulary.json"
        return (from_gguf if str(path).endswith(".gguf") else from_checkpoint)(path, spare)


def report(rows, title, key):
    print(title)
    groups = collections.defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    for name, group in sorted(groups.items()):
        first, after = (sum(r[k] for r in group) for k in ("first", "retried"))
        print(f"  {name:24} {len(group):4}  first {first / len(group):7.1%}  after retry {after / len(group):7.1%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--seed", default="9001")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--languages", type=languages_of, default="python,rust,javascript")
    parser.add_argument("--temperature", type=float, default=0.7, help="of the retry, as the engine has it")
    parser.add_argument("--show", type=int, default=0, help="failures to print in full")
    options = parser.parse_args()
    model, words = load(options.model)
    rows = verify(model, words, options.seed, options.count, options.languages, options.temperature)
    report(rows, "By kind", lambda r: r["task"].kind)
    report(rows, "By language", lambda r: r["task"].language)
    report(rows, "All", lambda r: "all")
    for row in [r for r in rows if not r["first"]][:options.show]:
        task = row["task"]
        print(f"\n=== {task.kind} {task.language} {task.output_file}\n{task.description}\n{task.constraints}\n--- reference\n{task.answer}--- reply\n{row['reply']}\n--- second\n{row.get('second')}\n--- output\n{row['output'][-400:]}")
    sys.exit(0)


if __name__ == "__main__":
    main()
