"""The byte-level BPE vocabulary: how it is made, stored and used.

Names are copied more easily when a name is cut into the same tokens wherever
it stands. So merges never join a letter with punctuation or cross from one
word of a camelCase name to the next, and a space is merged only with words
that are not used in names. The engine's pre-tokenizer (Qwen2's) is coarser
than the one used here for training, which is allowed: merges alone decide.
"""
import collections
import json
import re

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from . import names
from .functions import KINDS
from .names import seeded
from .stream import sample

QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TRAINING = r"\p{Lu}?\p{Ll}+|\p{Lu}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s"
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>"]
RESERVED = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
SIZE = 1024
SPACED_WORDS = 110
STOP_WORDS = {"to", "with", "of", "by", "is", "or", "has", "all"}
SPACE = "\u0120"    # how byte-level BPE writes the space


def _byte_level():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def _splitter(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), _byte_level()])


def corpus(seed, count):
    for i in range(count):
        text = "".join(piece for piece, _ in sample(seeded("vocabulary", seed, i), 0.5))
        yield re.sub("|".join(re.escape(t) for t in CONTROL), "\n", text)


def _name_words():
    words = set(names.VERBS + names.NOUNS + names.ADJECTIVES + names.PARAMS)
    for kind in KINDS:
        words.update(kind.hint.split("_") + kind.names())
    return words - STOP_WORDS


def _spaced_words(texts, vocabulary):
    """Frequent prose words and keywords, which get a token with their space."""
    taken = _name_words()
    counts = collections.Counter(w for text in texts for w in re.findall(r" ([A-Za-z]{2,})", text))
    return [w for w, _ in counts.most_common() if w in vocabulary and w not in taken][:SPACED_WORDS]


def build(seed, count=12000):
    """Trains the vocabulary; the result is a plain dict that `save` writes as JSON."""
    texts = list(corpus(seed, count))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _splitter(TRAINING)
    learned = SIZE - len(CONTROL) - len(RESERVED) - SPACED_WORDS
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=learned, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [list(m) for m in model["merges"]]
    for word in _spaced_words(texts, model["vocab"]):
        tokens.append(SPACE + word)
        merges.append([SPACE, word])
    if any(m[0] + m[1] not in set(tokens) for m in merges):
        raise ValueError("a merge makes a token that is not in the vocabulary")
    return {"tokens": tokens + CONTROL + RESERVED, "merges": merges}


def save(vocabulary, path):
    path.write_text(json.dumps(vocabulary, ensure_ascii=False, indent=0) + "\n")


class Vocabulary:
    """Encodes and decodes as the engine does."""

    def __init__(self, path):
        made = json.loads(path.read_text())
        self.tokens, self.merges = made["tokens"], [tuple(m) for m in made["merges"]]
        self.ids = {t: i for i, t in enumerate(self.tokens)}
        special = CONTROL + RESERVED
        plain = {t: i for t, i in self.ids.items() if t not in special}
        self._bpe = Tokenizer(models.BPE(vocab=plain, merges=self.merges))
        self._bpe.pre_tokenizer = _splitter(QWEN2)
        self._cut = re.compile("(" + "|".join(re.escape(t) for t in special) + ")")
        characters = sorted(pre_tokenizers.ByteLevel.alphabet())
        self._bytes = _byte_table(characters)

    def encode(self, text):
        ids = []
        for part in self._cut.split(text):
            if part in self.ids and self._cut.fullmatch(part):
                ids.append(self.ids[part])
            elif part:
                ids.extend(self._bpe.encode(part).ids)
        return ids

    def decode(self, ids):
        raw = bytearray()
        for i in ids:
            token = self.tokens[i]
            raw += token.encode() if self._cut.fullmatch(token) else bytes(self._bytes[c] for c in token)
        return raw.decode("utf-8", "replace")


def _byte_table(characters):
    """Byte-level BPE's characters and the bytes they stand for (as in GPT-2)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in printable}
    others = [b for b in range(256) if b not in printable]
    table.update({chr(256 + i): b for i, b in enumerate(others)})
    if set(table) != set(characters):
        raise ValueError("the byte alphabet differs from the tokenizer's")
    return table
