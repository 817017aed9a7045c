"""A kind with its names chosen: code, description, examples."""
import re
from dataclasses import dataclass, field

from . import kinds_lists, kinds_numbers, kinds_text, lang
from .kind import random_cases
from .names import NOUNS, camel, word

KINDS = kinds_numbers.KINDS + kinds_lists.KINDS + kinds_text.KINDS
# The kinds people ask for most, drawn more often and mostly under their own name.
ANCHORS = ("format_currency", "validate_email", "slugify")
DRAWN = KINDS + [k for k in KINDS if k.name in ANCHORS] * 3
LANGUAGE_NAMES = {"python": "Python", "rust": "Rust", "javascript": "JavaScript"}

# {fn} the name, {does}/{base} the phrase ("returns ..."/"return ..."), {params} the list, {sig} the typed signature.
INTROS = [
    "Write a function `{fn}` that {does}.", "Write a function `{fn}` that {does}.", "Create a function called `{fn}` which {does}.",
    "Implement `{fn}`: it {does}.", "Implement `{fn}`, a function that {does}.", "Add a function `{fn}` to {base}.", "`{fn}` should {base}.", "`{fn}` {does}.",
    "We need a function named `{fn}` that {does}.", "Please write `{fn}`. It should {base}.", "Write {lang} code for `{fn}`, which {does}.",
    "Write a {lang} function `{fn}` that {does}.", "Create `{fn}`. The function {does}.", "Provide `{fn}`, which {does}.", "The file has one function, `{fn}`. It {does}.",
    "Create a {fn} function that {does}.", "{Does}. The function is called `{fn}`.", "Write the helper `{fn}`; it {does}.",
]
INTROS_WITH_PARAMS = [
    "Write `{fn}({params})`, which {does}.", "Write a function `{fn}({params})` that {does}.", "Implement `{fn}({params})`. It {does}.",
    "`{fn}({params})` {does}.", "Define the function `{fn}` with the {parameters} {ticked}; it {does}.", "Create `{fn}` taking {ticked}. It {does}.",
    "Write a function `{fn}` of {ticked} that {does}.", "Add `{fn}({params})`: it should {base}.", "Write the function `{sig}`. It {does}.", "Implement `{sig}`, which {does}.",
]


@dataclass
class Function:
    kind: object
    language: str
    name: str
    params: list
    consts: dict = field(default_factory=dict)
    typed: bool = False
    default: object = None      # default value of the last parameter (Python, JavaScript)

    def values(self, code):
        """What $names stand for, in code or in prose."""
        made = dict(zip(self.kind.names(), self.params), fn=self.name)
        for key, (kind, value) in self.consts.items():
            made[key] = value if kind == "raw" else lang.number(value, kind, self.language if code else "python")
        return made

    def code(self):
        kind = self.kind
        body = {"python": kind.py, "javascript": kind.js, "rust": kind.rs}[self.language]
        text = lang.function(self.language, self.name, self.params, kind.types(), kind.returns,
                             lang.fill(body, self.values(True)), self.typed)
        if self.default is None:
            return text
        head, rest = text.split("\n", 1)
        value = lang.literal(self.default, kind.types()[-1], self.language)
        equals = "=" if self.language == "python" and not self.typed else " = "
        return re.sub(r"\)( ->.*| \{|):?$", lambda m: f"{equals}{value}{m.group(0)}", head, count=1) + "\n" + rest

    def const_values(self):
        return {key: value for key, (_, value) in self.consts.items()}

    def examples(self, rng, count=4):
        """(arguments, expected) pairs; a default is exercised by leaving the argument out."""
        cases = random_cases(self.kind, rng, self.consts)
        if self.default is not None:
            cases = [case[:-1] + (self.default,) for case in cases]
        pairs = [(case, self.kind.ref(*case, **self.const_values())) for case in {repr(c): c for c in cases}.values()]
        if self.language == "javascript":
            pairs = [p for p in pairs if not _minus_zero(*p)] or pairs
        return pairs[:count]

    def call(self, path, case):
        if self.default is not None:
            return lang.call(self.language, path, self.name, case[:-1], self.kind.types()[:-1])
        return lang.call(self.language, path, self.name, case, self.kind.types())

    def check_lines(self, rng, path):
        lines = []
        for case, expected in self.examples(rng, 5):
            call = self.call(path, case)
            if self.kind.returns == "num":
                lines.append(lang.close_to(self.language, call, expected))
            else:
                lines.append(lang.assertion(self.language, call, expected, self.kind.returns))
        return lines


def _minus_zero(case, expected):
    """Whether JavaScript may give -0, which its strict comparison tells from 0."""
    flat = [v for part in case for v in (part if isinstance(part, list) else [part]) if not isinstance(v, str)]
    wanted = expected if isinstance(expected, list) else [expected]
    return any(v < 0 for v in flat) and any(v == 0 and not isinstance(v, (bool, str)) for v in wanted)


def base_form(phrase):
    """"multiplies the" becomes "multiply the"."""
    verb, _, rest = phrase.partition(" ")
    verb = verb[:-3] + "y" if verb.endswith("ies") else verb.removesuffix("s")
    return f"{verb} {rest}"


def join_and(items):
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def _in_order(phrase, names):
    """Whether the phrase mentions all parameters, first in the order of the signature."""
    seen = [n for n in re.findall(r"\$([a-z_]+)", phrase) if n in names]
    return list(dict.fromkeys(seen)) == names


def default_params(kind, language):
    return [camel([n]) if language == "javascript" else n for n in kind.names()]


def describe(rng, function):
    """A description that determines the names, the parameters and the behaviour.

    Without any mention of parameters the function uses the kind's own names,
    which this sets.
    """
    kind = function.kind
    plain = bool(kind.plain) and rng.random() < 0.35
    phrase = rng.choice(kind.plain if plain else kind.does)
    explicit = rng.random() < 0.3
    if plain and not explicit:
        function.params = default_params(kind, function.language)
    elif not plain and not _in_order(phrase, kind.names()):
        explicit = True
    does = lang.fill(phrase, function.values(False))
    intro = rng.choice(INTROS_WITH_PARAMS if explicit else INTROS)
    text = intro.format(
        fn=function.name, does=does, Does=does[0].upper() + does[1:], base=base_form(does), lang=LANGUAGE_NAMES[function.language],
        params=", ".join(function.params), parameters="parameter" if len(function.params) == 1 else "parameters", ticked=join_and([f"`{p}`" for p in function.params]),
        sig=lang.signature(function.language, function.name, function.params, kind.types(), kind.returns))
    if explicit and "{sig}" in intro and function.language == "python":
        function.typed = True
    if function.default is not None:
        value = lang.literal(function.default, kind.types()[-1], function.language)
        text += rng.choice([" `{p}` defaults to {v}.", " The default of `{p}` is {v}.", " `{p}` is optional and defaults to {v}."]).format(p=function.params[-1], v=value)
    return text


FILLERS = ["It is used by the {n} page.", "The {n} module needs it.", "Callers pass valid input.", "Keep it simple.", "This is for the {n} {m}.", "We use it in the {n} service.", "It must be fast.", "The {n} team asked for it."]


def filler(rng):
    """A sentence that changes nothing, as real descriptions have them."""
    return rng.choice(FILLERS).format(n=word(rng, NOUNS, 0.2), m=word(rng, NOUNS, 0.2))


def random_function(rng, namer, language, kind=None):
    kind = kind or rng.choice(DRAWN)
    params = [namer.parameter() for _ in kind.names()]
    return Function(kind, language, namer.function(kind.hint, 0.5 if kind.name in ANCHORS else 0.2), params, kind.consts(rng) if kind.consts else {})
