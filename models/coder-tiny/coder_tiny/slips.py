"""Where a model is about to go wrong: the likeliest wrong reply to a task.

Drafts that are sampled go wrong by chance, where a second draft would not. So the
reference is read with the model's own eyes instead: the reply is what it would write
after the first token that it takes for another, or, if it makes no mistake, after the
token it was least sure of.
"""
import torch
import torch.nn.functional as F

from . import prompts
from .model import causal, generate

ROWS = 32
SURE = 0.97    # a model this sure of each token is not asked to stumble


def _in_rows(items, length):
    """Positions of the items in batches of like length."""
    order = sorted(range(len(items)), key=lambda i: length(items[i]))
    return [order[start:start + ROWS] for start in range(0, len(order), ROWS)]


@torch.no_grad()
def _slips(model, asked, answers):
    """For each pair of token lists: (place in the answer, wrong token), or None."""
    longest = max(len(a) + len(b) for a, b in zip(asked, answers))
    ids = torch.tensor([a + b + [0] * (longest - len(a) - len(b)) for a, b in zip(asked, answers)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.hidden(ids, causal(longest))
    return [_slip(F.linear(row[len(a) - 1:len(a) + len(b) - 1].float(), model.embed.weight).softmax(-1), torch.tensor(b)) for row, a, b in zip(hidden, asked, answers)]


def _slip(likely, answer):
    right = likely.gather(1, answer[:, None])[:, 0]
    wrong = (likely.argmax(-1) != answer).nonzero()
    place = int(wrong[0]) if len(wrong) else int(right.argmin())
    if right[place] > SURE:
        return None
    others = likely[place].clone()
    others[answer[place]] = 0
    return place, int(others.argmax())


def wrong_replies(model, words, conversations, replies):
    """For each conversation the reply that goes wrong, or None where the model is sure of the right one."""
    stop = words.ids["<|im_end|>"]
    asked, answers = [words.encode(prompts.chat(c)) for c in conversations], [words.encode(r) + [stop] for r in replies]
    starts = {}
    for rows in _in_rows(range(len(asked)), lambda i: len(asked[i]) + len(answers[i])):
        for i, slip in zip(rows, _slips(model, [asked[i] for i in rows], [answers[i] for i in rows])):
            if slip and slip[1] != stop:
                starts[i] = answers[i][:slip[0]] + [slip[1]]
    made, numbers = [None] * len(asked), list(starts)
    for rows in _in_rows(numbers, lambda i: len(asked[i]) + len(starts[i])):
        rows = [numbers[row] for row in rows]
        for i, rest in zip(rows, generate(model, [asked[i] + starts[i] for i in rows], stop)):
            made[i] = words.decode(starts[i] + rest)
    return made
