"""A small qwen3 decoder in torch, and its greedy and sampled decoding."""
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Shape:
    vocab: int = 1024
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    ffn: int = 768
    context: int = 1024
    theta: float = 10000.0
    eps: float = 1e-6

    def as_dict(self):
        return asdict(self)


class Norm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


def rope_table(shape, length):
    inverse = shape.theta ** (-torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * inverse[None]
    return angle.cos().float(), angle.sin().float()


def rotate(x, cos, sin):
    """Rotation of the two halves of each head, as in qwen3."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.attn_norm, self.ffn_norm = Norm(s.hidden, s.eps), Norm(s.hidden, s.eps)
        self.q = nn.Linear(s.hidden, s.heads * s.head_dim, bias=False)
        self.k = nn.Linear(s.hidden, s.kv_heads * s.head_dim, bias=False)
        self.v = nn.Linear(s.hidden, s.kv_heads * s.head_dim, bias=False)
        self.o = nn.Linear(s.heads * s.head_dim, s.hidden, bias=False)
        self.q_norm, self.k_norm = Norm(s.head_dim, s.eps), Norm(s.head_dim, s.eps)
        self.gate = nn.Linear(s.hidden, s.ffn, bias=False)
        self.up = nn.Linear(s.hidden, s.ffn, bias=False)
        self.down = nn.Linear(s.ffn, s.hidden, bias=False)

    def attention(self, x, cos, sin, mask, past):
        s, (b, t, _) = self.s, x.shape
        q = self.q_norm(self.q(x).view(b, t, s.heads, s.head_dim)).transpose(1, 2)
        k = self.k_norm(self.k(x).view(b, t, s.kv_heads, s.head_dim)).transpose(1, 2)
        v = self.v(x).view(b, t, s.kv_heads, s.head_dim).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if past is not None:
            return self.o(self.cached(q, *past.extended(k, v), mask).transpose(1, 2).reshape(b, t, -1))
        repeat = s.heads // s.kv_heads
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        scores = q @ k.transpose(2, 3) * s.head_dim ** -0.5 + mask
        out = scores.float().softmax(-1).to(v.dtype) @ v
        return self.o(out.transpose(1, 2).reshape(b, t, -1))

    def cached(self, q, k, v, mask):
        """Attention to a cache, without a copy of it for each head."""
        b, heads, t, size = q.shape
        q = q.reshape(b, self.s.kv_heads, -1, size)
        scores = (q @ k.transpose(2, 3)).view(b, heads, t, -1) * size ** -0.5 + mask
        return (scores.softmax(-1).view(b, self.s.kv_heads, -1, k.shape[2]) @ v).view(b, heads, t, size)

    def forward(self, x, cos, sin, mask, past=None):
        x = x + self.attention(self.attn_norm(x), cos, sin, mask, past)
        h = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocab, shape.hidden)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden, shape.eps)
        cos, sin = rope_table(shape, shape.context)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                deep = name.endswith(("o.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 if "embed" in name else weight.shape[1] ** -0.5 / (2 * shape.layers if deep else 1) ** 0.5)

    def hidden(self, ids, mask, start=0, past=None, positions=None):
        x = self.embed(ids)
        if torch.is_autocast_enabled("cpu"):
            x = x.bfloat16()
            mask = mask.bfloat16()
        if positions is None:
            cos, sin = self.cos[start:start + ids.shape[1]], self.sin[start:start + ids.shape[1]]
        else:
            cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin, mask, None if past is None else past[i])
        return self.norm(x)

    def forward(self, ids, mask=None):
        mask = causal(ids.shape[1]) if mask is None else mask
        return F.linear(self.hidden(ids, mask), self.embed.weight)


def causal(length):
    return torch.full((length, length), float("-inf")).triu(1)


class Cache:
    """Keys and values of one block, in buffers with room for all that will come."""

    def __init__(self, rows, shape, room):
        self.k, self.v = (torch.empty(rows, shape.kv_heads, room, shape.head_dim) for _ in range(2))
        self.length = 0

    def extended(self, k, v):
        start, self.length = self.length, self.length + k.shape[2]
        self.k[:, :, start:self.length], self.v[:, :, start:self.length] = k, v
        return self.k[:, :, :self.length], self.v[:, :, :self.length]

    def keep(self, rows):
        self.k, self.v = self.k[rows], self.v[rows]


@torch.no_grad()
def generate(model, prompts, stop, limit=300, temperature=0.0, seed=0):
    """Decodes a batch; prompts are padded on the left and masked there."""
    sampler = torch.Generator().manual_seed(seed)
    longest = max(map(len, prompts))
    limit = min(limit, model.shape.context - longest)
    pad = torch.tensor([longest - len(p) for p in prompts])
    ids = torch.tensor([[stop] * (longest - len(p)) + p for p in prompts])
    past = [Cache(len(prompts), model.shape, longest + limit) for _ in model.blocks]
    hole = torch.arange(longest)[None] < pad[:, None]
    mask = causal(longest)[None, None] + torch.zeros(len(prompts), 1, 1, longest).masked_fill(hole[:, None, None], float("-inf"))
    mask = mask.masked_fill(torch.eye(longest, dtype=torch.bool), 0.0)
    positions = (torch.arange(longest)[None] - pad[:, None]).clamp(min=0)
    replies, rows, going = [[] for _ in prompts], torch.arange(len(prompts)), torch.ones(len(prompts), dtype=torch.bool)
    for _ in range(limit):
        last = model.hidden(ids, mask, past=past, positions=positions)[:, -1]
        logits = F.linear(last, model.embed.weight.to(last.dtype)).float()
        if temperature > 0:
            chosen = torch.multinomial((logits / temperature).softmax(-1), 1, generator=sampler)
        else:
            chosen = logits.argmax(-1, keepdim=True)
        going &= chosen[:, 0] != stop
        if not going.any():
            break
        if going.sum() < 0.8 * len(rows):
            # Replies that have ended leave the batch, many at a time since that copies the cache.
            for cache in past:
                cache.keep(going)
            rows, chosen, positions, hole, going = (t[going] for t in (rows, chosen, positions, hole, going))
        for row, token, more in zip(rows.tolist(), chosen[:, 0].tolist(), going.tolist()):
            if more:
                replies[row].append(token)
        ids, positions = chosen, positions[:, -1:] + 1
        hole = torch.cat([hole, torch.zeros(len(rows), 1, dtype=torch.bool)], 1)
        mask = torch.zeros(hole.shape).masked_fill(hole, float("-inf"))[:, None, None]
    return replies
