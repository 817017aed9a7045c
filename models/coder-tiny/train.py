#!/usr/bin/env python3
"""Trains coder-tiny on the generated stream, from a fixed seed.

    train.py --out RUN --steps 2600 --stop 1400 --rate 4e-3
    train.py --out NEXT --start RUN/final.pt --steps 2200 --rate 2.8e-3 --plateau 0 --seed 2
"""
import argparse
import functools
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import distributed

from coder_tiny import vocabulary
from coder_tiny.evaluation import exact_match
from coder_tiny.model import Model, Shape, causal
from coder_tiny.names import seeded
from coder_tiny.stream import sample

POOL = 16           # batches that are drawn together and sorted by length
SHAPES = 32         # lengths are padded to a multiple of this


def encoded(words, seed, number, progress, failures):
    """One sample as (tokens, loss weights of predicting each next token)."""
    pieces = sample(seeded("train", seed, number), progress, failures)
    ids, weights = [], []
    for text, weight in pieces:
        part = words.encode(text)
        ids += part
        weights += [weight] * len(part)
    return ids, weights


def batches(words, seed, tokens, longest, progress, failures):
    """Batches of about `tokens` tokens, of samples of like length."""
    number = step = 0
    while True:
        pool, size = [], 0
        while size < POOL * tokens:
            ids, weights = encoded(words, seed, number, progress(step), failures)
            number += 1
            if len(ids) <= longest:
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


def rate_at(step, done, peak, plateau):
    """Warm-up, plateau (a share of the run), then a long fall towards zero."""
    fall = max(0.0, (done - plateau) / (1 - plateau))
    return peak * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, fall))))


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


def prepare(options, words_path):
    """The model to train and its vocabulary, new ones or those of a checkpoint."""
    held = torch.load(options.start, weights_only=True) if options.start else None
    if not words_path.exists():
        if held:
            words_path.write_text(held["vocabulary"])
        else:
            vocabulary.save(vocabulary.build(options.seed), words_path)
    words = vocabulary.Vocabulary(words_path)
    torch.manual_seed(options.seed)
    model = Model(Shape(vocab=len(words.tokens)))
    if held:
        model.load_state_dict(held["model"])
    return model, words


def share_gradients(model, workers):
    """Makes every worker's gradient the mean of all, in one exchange."""
    if workers == 1:
        return
    gradients = [p.grad for p in model.parameters()]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    distributed.all_reduce(flat)
    flat /= workers
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients])):
        gradient.copy_(part.view_as(gradient))


def train(rank, options):
    workers = options.workers
    if workers > 1:
        torch.set_num_threads(1)
        distributed.init_process_group("gloo", init_method=f"file://{Path(options.out).resolve()}/meeting", rank=rank, world_size=workers)
    words_path = Path(options.out) / "vocabulary.json"
    model, words = prepare(options, words_path)
    say = functools.partial(print, flush=True) if rank == 0 else lambda *text: None
    say(f"{sum(p.numel() for p in model.parameters())} parameters")
    compiled = torch.compile(model.hidden, dynamic=True)
    groups = optimizers(model, options.rate)
    progress = (lambda step: 1.0) if options.start else (lambda step: step / options.steps)
    failures = [json.loads(line) for line in Path(options.failures).read_text().splitlines()] if options.failures else []
    start, seen, average = time.time(), 0, None
    for step, (ids, targets, weights) in enumerate(batches(words, f"{options.seed}-{rank}", options.batch // workers, options.longest, progress, failures)):
        done = step / options.steps
        if done >= 1 or step == options.stop:
            break
        loss = loss_of(model, compiled, ids, targets, weights)
        loss.backward()
        share_gradients(model, workers)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in groups:
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, done, options.rate, options.plateau)
            optimizer.step()
            optimizer.zero_grad()
        seen += ids.numel() * workers
        average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        if step % 25 == 0:
            say(f"step {step} loss {average:.4f} done {done:.3f} {seen / (time.time() - start):.0f} tokens/s {(time.time() - start) / 60:.1f} min")
        if step and step % options.every == 0 and rank == 0:
            save(model, words_path, Path(options.out) / "last.pt", step)
            say(f"step {step} exact", json.dumps(exact_match(model, words, 48)))
    if rank == 0:
        save(model, words_path, Path(options.out) / "final.pt", step)
        say(f"done: {step} steps, {seen} tokens, {(time.time() - start) / 60:.1f} minutes")
        say("exact", json.dumps(exact_match(model, words, 240)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=2600, help="length of the schedule")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=4e-3, help="highest learning rate")
    parser.add_argument("--batch", type=int, default=6144, help="tokens of a step")
    parser.add_argument("--start", help="a checkpoint to go on from, with its vocabulary")
    parser.add_argument("--plateau", type=float, default=0.3, help="share of the steps at the full rate")
    parser.add_argument("--stop", type=int, help="leave the schedule early, at this step")
    parser.add_argument("--failures", help="replies that failed, from collect.py, to learn retries from")
    parser.add_argument("--longest", type=int, default=832, help="longer samples are left out")
    parser.add_argument("--every", type=int, default=500, help="steps between checkpoints")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each, which share a batch")
    options = parser.parse_args()
    Path(options.out).mkdir(parents=True, exist_ok=True)
    for left in ("meeting", "vocabulary.json"):
        (Path(options.out) / left).unlink(missing_ok=True)
    if options.workers == 1:
        train(0, options)
    else:
        # Built once here, for the workers would otherwise both write it.
        prepare(options, Path(options.out) / "vocabulary.json")
        torch.multiprocessing.spawn(train, (options,), nprocs=options.workers)


if __name__ == "__main__":
    main()
