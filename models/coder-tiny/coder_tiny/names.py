"""Names nobody has seen: word lists mixed with invented words, in every case style."""
import random
import re

VERBS = """add apply build calc check clean collect combine compute convert count create derive
detect emit ensure estimate extract fetch find fix format gather get handle load locate make
measure merge normalize parse pick prepare process read render resolve scale scan select split
test tidy trim update validate verify wrap write""".split()

NOUNS = """account age alpha amount area badge balance banner basket batch beta bill blog bonus
book box bucket budget buffer bundle button cart cell channel city client clock cloud code coin
color column cost coupon credit curve customer cycle data date day deal delta depth device discount
distance doc draft edge email energy entry epoch error event factor fee field file flag flow
folder frame fuel gamma gap gear gift grade grid group guest height hour icon image index input
invoice issue job key label lane layer length lesson letter level limit line link list_item load
log loss mark mass meal member memo menu meter metric mile minute mode month motor name node note
number offer order owner pack page pair panel parcel path payment peak phone photo pixel plan
planet plate player point pool port post pot odds power price prize profile profit quota quote
rank rate ratio record region rent report reply rev river road room root rotor route row rule
salary sample scene schema score season seat sector seed segment sensor server shape share shelf
ship shop signal site size skill slot slug song speed stage stamp star stock store story street
sum_total table tag target task tax team temp term text theme ticket tier time tip title token
tool topic tower track trade train trip unit user vault vector video view visit volume wage
wallet water weight wheel width window word worker year zone""".split()

ADJECTIVES = """active average base big bold bright broken busy cheap clean cold daily deep dry
early easy extra fast fine flat fresh full global good great green gross half happy hard heavy
high hot huge idle inner large last late lazy left light local long loud low main major minor net
new_ next nice old outer plain quick quiet raw real red rich right round_ safe sharp short simple
slow small smart soft solid spare steady sweet tall thin tiny total_ true_ upper_ valid warm weak
weekly wide wild young""".split()

PARAMS = """a b c x y z n m p q v s t w value amount price rate first second left right base
other number num size width height factor offset limit start end low high text name word input
data values numbers items entries words names scores prices xs ys list_a points seq source key
label message line content records cost weight level speed quantity qty fee""".split()

# Names a body may use for itself, or that a language keeps for itself.
RESERVED = set("""result item chars parts total i j k as async await bool break case char class const
continue def default del delete do dyn elif else enum except export extends extern false final
finally float fn for from function global if impl import in int interface is lambda len let list
loop map match math max min mod move mut new none nonlocal not null or package pass print private
protected pub public raise range ref return round self set sorted static str struct sum super
switch this throw trait true try type typeof undefined union unsafe use var void where while with
yield abs all and any assert bytes dict eval filter format hash id iter next object open ord pow
print property reversed slice super tuple vars zip box macro abstract become override priv
unsized virtual gen std core crate string vec some ok err arguments test tests main""".split())

ONSETS = "b bl br c ch cl cr d dr f fl fr g gl gr h j k kl l m n p pl pr qu r s sh sk sl sn sp st t th tr v w y z zw".split()
VOWELS = "a a e e i i o o u u ai ea ee io oo ou".split()
CODAS = ["", "", "", "b", "ck", "d", "f", "g", "l", "lt", "m", "n", "nd", "nk", "p", "r", "rn", "s", "st", "t", "x", "zz"]


def pseudo_word(rng):
    """An invented word of one to three syllables."""
    count = rng.choice((1, 2, 2, 2, 3))
    word = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(count))
    return word if len(word) > 2 else word + rng.choice("mnrst")


def word(rng, pool, invented):
    """A word of the pool, or with probability `invented` one that was never in any list."""
    if rng.random() < invented:
        return pseudo_word(rng)
    return rng.choice(pool).strip("_")


def snake(parts):
    return "_".join(parts).lower()


def camel(parts):
    flat = [w for part in parts for w in part.split("_") if w]
    return flat[0] + "".join(w.capitalize() for w in flat[1:])


def split_name(name):
    """The words of a name in either case style."""
    return re.sub(r"([A-Z])", r"_\1", name).lower().strip("_").split("_")


def kebab(parts):
    return snake(parts).replace("_", "-")


def upper(parts):
    return snake(parts).upper()


class Namer:
    """Hands out names that differ from each other within one task."""

    def __init__(self, rng, language):
        self.rng, self.language, self.used = rng, language, set()

    def _fresh(self, make):
        while True:
            name = make()
            if name not in self.used and name.lower() not in RESERVED:
                self.used.add(name)
                return name

    def reserve(self, names):
        self.used.update(names)

    def cased(self, parts):
        return camel(parts) if self.language == "javascript" else snake(parts)

    def function_words(self, hint=None, share=0.2):
        """One to three words; `hint` is a natural name of the kind, used now and then."""
        rng = self.rng
        if hint and rng.random() < share:
            return hint.split("_")
        shape = rng.random()
        if shape < 0.15:
            return [word(rng, VERBS + NOUNS, 0.7)]
        if shape < 0.7:
            return [word(rng, VERBS, 0.25), word(rng, NOUNS, 0.4)]
        return [word(rng, VERBS, 0.25), word(rng, ADJECTIVES, 0.4), word(rng, NOUNS, 0.35)]

    def function(self, hint=None, share=0.2):
        return self._fresh(lambda: self.cased(self.function_words(hint, share)))

    def parameter(self):
        rng = self.rng

        def make():
            shape = rng.random()
            if shape < 0.5:
                return self.cased([rng.choice(PARAMS)])
            if shape < 0.75:
                return self.cased([word(rng, NOUNS, 0.5)])
            return self.cased([word(rng, ADJECTIVES, 0.3), word(rng, NOUNS, 0.5)])
        return self._fresh(make)

    def constant(self, prefix=None):
        rng = self.rng

        def make():
            parts = [prefix] if prefix else []
            for _ in range(rng.choice((1, 2, 2, 3)) - len(parts) or 1):
                parts.append(word(rng, NOUNS + ADJECTIVES, 0.35))
            return upper(parts)
        return self._fresh(make)

    def stem(self, words=None):
        """A file name without its ending, in a style usual for the language."""
        rng = self.rng
        words = words or self.function_words()

        def make():
            parts = words if rng.random() < 0.6 else [word(rng, NOUNS, 0.4), rng.choice(["utils", "tools", "helpers", "lib", "core"])]
            if self.language == "javascript":
                return rng.choice((camel, camel, kebab, snake))(parts)
            return snake(parts)
        return self._fresh(make)


def seeded(*parts):
    """A generator that depends on the text of its parts only, the same on every machine."""
    return random.Random(":".join(str(p) for p in parts))
