#!/usr/bin/env python3
"""Trains coder-tiny on the generated stream, from a fixed seed.

    train.py --out RUN [--steps 5000] [--seed 1] [--hours 1.5]
"""
import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from coder_tiny import vocabulary
from coder_tiny.evaluation import exact_match
from coder_tiny.model import Model, Shape, causal
from coder_tiny.names import seeded
from coder_tiny.stream import sample

POOL = 16           # batches that are drawn together and sorted by length
LONGEST = 640       # longer samples are left out
SHAPES = 32         # lengths are padded to a multiple of this


def encoded(words, seed, number, progress):
    """One sample as (tokens, loss weights of predicting each next token)."""
    pieces = sample(seeded("train", seed, number), progress)
    ids, weights = [], []
    for text, weight in pieces:
        part = words.encode(text)
        ids += part
        weights += [weight] * len(part)
    return ids, weights


def batches(words, seed, tokens, progress):
    """Batches of about `tokens` tokens, of samples of like length."""
    number = step = 0
    while True:
        pool, size = [], 0
        while size < POOL * tokens:
            ids, weights = encoded(words, seed, number, progress(step))
            number += 1
            if len(ids) <= LONGEST:
                pool.append((ids, weights))
                size += len(ids)
        pool.sort(key=lambda s: len(s[0]))
        groups, group = [], []
        for item in pool:
            length = -(-len(item[0]) // SHAPES) * SHAPES
            if group and (len(group) + 1) * length > tokens:
                groups.append(group)
                group = []
            group.append(item)
        groups.append(group)
        seeded("order", seed, number).shuffle(groups)
        for group in groups:
            step += 1
            yield _tensors(group)


def _tensors(group):
    length = -(-max(len(ids) for ids, _ in group) // SHAPES) * SHAPES
    ids = torch.zeros(len(group), length + 1, dtype=torch.long)
    weights = torch.zeros(len(group), length + 1)
    for row, (sample_ids, sample_weights) in enumerate(group):
        ids[row, :len(sample_ids)] = torch.tensor(sample_ids)
        weights[row, :len(sample_ids)] = torch.tensor(sample_weights)
    return ids[:, :-1], ids[:, 1:], weights[:, 1:]


def optimizers(model, rate):
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    muon = torch.optim.Muon(matrices, lr=rate, weight_decay=0.02, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    return [muon, adam]


def rate_at(step, steps, peak):
    """Warm-up, plateau, then a long fall towards zero."""
    if step < 100:
        return peak * (step + 1) / 100
    start = 0.3 * steps
    if step < start:
        return peak
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - start) / (steps - start)))))


def loss_of(model, compiled, ids, targets, weights):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = compiled(ids, causal(ids.shape[1]))
        chosen = weights > 0
        logits = F.linear(hidden[chosen], model.embed.weight)
    losses = F.cross_entropy(logits.float(), targets[chosen], reduction="none")
    weights = weights[chosen]
    return (losses * weights).sum() / weights.sum()


def save(model, words_path, path, step):
    torch.save({"model": model.state_dict(), "shape": model.shape.as_dict(), "step": step, "vocabulary": words_path.read_text()}, path)


def train(options):
    torch.manual_seed(options.seed)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    words_path = out / "vocabulary.json"
    held = torch.load(options.start, weights_only=True) if options.start else None
    if held:
        words_path.write_text(held["vocabulary"])
    else:
        vocabulary.save(vocabulary.build(options.seed), words_path)
    words = vocabulary.Vocabulary(words_path)
    model = Model(Shape(vocab=len(words.tokens)))
    if held:
        model.load_state_dict(held["model"])
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    compiled = torch.compile(model.hidden, dynamic=True)
    groups = optimizers(model, options.rate)
    progress = (lambda step: 1.0) if held else (lambda step: step / options.steps)
    start, seen, average = time.time(), 0, None
    for step, (ids, targets, weights) in enumerate(batches(words, options.seed, options.batch, progress)):
        if step == options.steps:
            break
        rate = rate_at(step, options.steps, options.rate)
        loss = loss_of(model, compiled, ids, targets, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in groups:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        seen += ids.numel()
        average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        if step % 25 == 0:
            spent = time.time() - start
            print(f"step {step} loss {average:.4f} rate {rate:.5f} {seen / spent:.0f} tokens/s {spent / 60:.1f} min", flush=True)
        if step and step % options.every == 0:
            save(model, words_path, out / "last.pt", step)
            print(f"step {step} exact", json.dumps(exact_match(model, words, 48)), flush=True)
    save(model, words_path, out / "final.pt", options.steps)
    print(f"done: {options.steps} steps, {seen} tokens, {(time.time() - start) / 60:.1f} minutes")
    print("exact", json.dumps(exact_match(model, words, 240)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--batch", type=int, default=8192, help="tokens of a step")
    parser.add_argument("--start", help="a checkpoint to go on from, with its vocabulary")
    parser.add_argument("--every", type=int, default=500, help="steps between checkpoints")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
