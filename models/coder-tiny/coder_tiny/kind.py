"""What a kind of function is: wording, bodies in three languages, and a reference."""
from dataclasses import dataclass, field

from .names import pseudo_word

SAMPLE_WORDS = ["apple", "Banana", "cat", "Dog", "echo", "fig", "Grape", "hat", "ink", "jam"]
SAMPLE_TEXTS = ["Hello World", "a b c", "level", "one", "Read the docs", "  spaced  ", "x-y", "ABC def", "banana", ""]


@dataclass(frozen=True)
class Kind:
    """One kind. In the texts, $name stands for a parameter, a constant or the function."""
    name: str
    params: str                 # "price:num rate:num"
    returns: str
    does: tuple                 # "returns ..." phrases which name the parameters
    plain: tuple                # the same without parameter names
    py: str
    js: str
    rs: str
    ref: callable               # arguments, then constants as keywords
    consts: callable = None     # rng -> {"k": ("num", 5)}
    cases: callable = None      # (rng, constants) -> argument tuples
    hint: str = ""
    fixed_names: tuple = field(default=())

    def names(self):
        return [p.split(":")[0] for p in self.params.split()]

    def types(self):
        return [p.split(":")[1] for p in self.params.split()]


def random_text(rng):
    """A string of invented and known words, sometimes with capitals, a number or odd joints."""
    parts = [pseudo_word(rng) if rng.random() < 0.5 else rng.choice(SAMPLE_WORDS) for _ in range(rng.choice((1, 1, 2, 2, 3)))]
    if rng.random() < 0.3:
        parts = [p.capitalize() for p in parts]
    if rng.random() < 0.15:
        parts.append(str(rng.randint(0, 999)))
    return rng.choice([" ", " ", " ", "-", "_", ", "]).join(parts)


def random_email(rng):
    """An address, or something that is nearly one."""
    name, host = pseudo_word(rng), rng.choice([pseudo_word(rng), "example", "mail", "test"])
    shape = rng.choice(["{n}@{h}.com", "{n}@{h}.org", "{n}.x@{h}.co", "{n}@{h}.io", "{n}", "@{h}.com", "{n}@{h}", "{n}@", "{n}@x@{h}.com", "{h}.com", ""])
    return shape.format(n=name, h=host)


def random_value(rng, kind):
    if kind == "num":
        return rng.choice([rng.randint(0, 20), rng.randint(-9, 120), rng.randint(1, 40) * 0.5, rng.randint(1, 10) * 10])
    if kind == "int":
        return rng.choice([rng.randint(0, 9), rng.randint(-9, 30), rng.randint(1, 50)])
    if kind == "str":
        return rng.choice(SAMPLE_TEXTS) if rng.random() < 0.4 else random_text(rng)
    if kind == "bool":
        return rng.random() < 0.5
    if kind == "strs":
        return [rng.choice(SAMPLE_WORDS) if rng.random() < 0.5 else random_text(rng).split(" ")[0] for _ in range(rng.randint(0, 4))]
    return [rng.randint(-5, 20) for _ in range(rng.randint(0, 5))]


def random_cases(kind, rng, consts, count=8):
    """Argument tuples worth testing; lists include an empty one."""
    if kind.cases:
        return kind.cases(rng, {k: v for k, (_, v) in consts.items()})
    types = kind.types()
    made = [tuple(random_value(rng, t) for t in types) for _ in range(count)]
    for position, t in enumerate(types):
        if t in ("nums", "ints", "strs"):
            row = list(made[0])
            row[position] = []
            made[0] = tuple(row)
            row = list(made[1])
            row[position] = [4, 9, 4, 7, 2] if t != "strs" else ["fig", "Cat", "fig", "apple"]
            made[1] = tuple(row)
    return made


def pick(*values):
    return lambda rng: rng.choice(values)
