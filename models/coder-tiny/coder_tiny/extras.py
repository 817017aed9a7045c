"""The small shares besides tasks: plain chat, exact replies, classification, raw code."""
from . import lang
from .functions import LANGUAGE_NAMES, describe, random_function
from .names import ADJECTIVES, NOUNS, VERBS, Namer, pseudo_word, word

TICKETS = {
    "BUG": ["Fix {n} {m} crash", "{N} {m} is broken", "Crash when the {n} is empty", "{N} shows the wrong {m}", "Error on {n} page", "{N} does not {v}", "Login fails with {n}", "Wrong {m} in the {n}", "Fix typo in {n}", "{N} {m} throws an exception", "Memory leak in {n}", "Fix broken {n}", "App crashes on {n}", "The {n} button does nothing", "Null pointer in {n} {m}", "Fix {n} bug", "{N} returns an error", "Incorrect {n} total"],
    "FEAT": ["Add {n} button", "Add login button", "Add {m} to the {n} page", "Support {n} export", "Allow users to {v} a {n}", "New {n} filter", "Implement {n} {m}", "Add dark mode", "Introduce {n} search", "Let users {v} the {n}", "Add support for {n}", "Create a {n} dashboard", "Enable {n} sharing", "Add {n} to {m}", "Show the {n} in the {m}", "Add {v} option"],
    "TASK": ["Update dependencies", "Update the {n} docs", "Clean up {n} module", "Refactor {n} code", "Upgrade {n} library", "Write docs for {n}", "Rename {n} folder", "Bump {n} version", "Remove unused {n} code", "Move {n} to {m}", "Document the {n} {m}", "Set up CI for {n}", "Review the {n} {m}", "Migrate {n} to {m}", "Delete old {n} files", "Tidy up the {n} tests"],
}
LABELS = list(TICKETS)


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def plain_code(rng):
    """A request without the task template: the answer is the fenced code only."""
    language = rng.choice(lang.LANGUAGES)
    namer = Namer(rng, language)
    function = random_function(rng, namer, language)
    text = describe(rng, function)
    name = LANGUAGE_NAMES[language]
    if name not in text:
        text = rng.choice([f"In {name}: {text}", f"{text} Use {name}.", f"{name}: {text}", f"Language: {name}. {text}", f"{text} ({name})"])
    return [user(text)], lang.fenced(language, function.code() + "\n")


def exact_reply(rng):
    shape = rng.random()
    if shape < 0.3:
        said = rng.choice(["OK", "PONG", "YES", "NO", "READY", "DONE", "HELLO", "ok", "Hi"])
    elif shape < 0.7:
        said = rng.choice([str.upper, str.lower, str.capitalize])(word(rng, NOUNS + VERBS + ADJECTIVES, 0.6))
    elif shape < 0.85:
        said = " ".join(word(rng, NOUNS + VERBS, 0.4) for _ in range(rng.choice((2, 3))))
    else:
        said = pseudo_word(rng) + "-" + str(rng.randint(0, 9999))
    ask = rng.choice(["Reply with {s}", "Reply with {s}.", "Say {s}", "Say {s}.", "Reply with exactly: {s}", "Reply with exactly {s}", "Answer with {s} and nothing else.", "Respond with \"{s}\".", "Reply with only the word {s}", "Please say {s}", "Output {s}", "Just reply {s}.", "Reply with the single word {s}"])
    return [user(ask.format(s=said))], said


def classification(rng):
    label = rng.choice(LABELS)
    noun, other = word(rng, NOUNS, 0.15), word(rng, NOUNS, 0.15)
    ticket = rng.choice(TICKETS[label]).format(n=noun, N=noun.capitalize(), m=other, v=word(rng, VERBS, 0.1))
    if rng.random() < 0.3:
        ticket = ticket.lower()
    order = rng.sample(LABELS, 3)
    labels = rng.choice(["{}, {} or {}", "{}, {}, or {}", "{}, {}, {}", "{}/{}/{}"]).format(*order)
    ask = rng.choice([f"Classify as {labels}", f"Classify this ticket as {labels}", f"Is this {labels}", f"Classify the ticket as one of {labels}", f"Label as {labels}"])
    if rng.random() < 0.4:
        return [{"role": "system", "content": ask + ". " + rng.choice(["Reply with one word.", "Answer with one word only.", ""])}, user(ticket)], label
    return [user(ask + rng.choice([": ", ":\n", ": \"", ". Ticket: ", ". Reply with one word.\n"]) + ticket)], label


def conversation(rng):
    """Two or three short exchanges, the last of which is the one to learn."""
    parts = [rng.choice((exact_reply, plain_code, classification, exact_reply))(rng) for _ in range(rng.choice((2, 2, 3)))]
    history = []
    for asked, said in parts[:-1]:
        history += [m for m in asked if m["role"] == "user"] + [assistant(said)]
    return history + [m for m in parts[-1][0] if m["role"] == "user"], parts[-1][1]


def greeting(rng):
    """A few fixed exchanges, so that small talk gets a sane answer."""
    asked, said = rng.choice([
        ("Hello", "Hello. I write small functions, constants and tests in Python, Rust and JavaScript."),
        ("Hi", "Hello. I write small functions, constants and tests in Python, Rust and JavaScript."),
        ("Who are you?", "I am coder-tiny, a small model that writes short functions."),
        ("What can you do?", "I write small functions, constants and tests in Python, Rust and JavaScript."),
        ("Thanks", "You are welcome."), ("Thank you", "You are welcome."),
    ])
    return [user(asked + rng.choice(["", "", "!", "."]) if asked[-1] != "?" else asked)], said


def chat(rng):
    """(messages, reply) of one of the sorts above."""
    make = rng.choices([plain_code, exact_reply, classification, conversation, greeting], [45, 20, 20, 12, 3])[0]
    messages, reply = make(rng)
    if messages[0]["role"] != "system" and rng.random() < 0.12:
        system = rng.choice(["You are a helpful assistant.", "You are a coding assistant.", "You write code.", "Be brief."])
        messages = [{"role": "system", "content": system}] + messages
    return messages, reply


def copying(rng):
    """Random names asked for again: teaches the looking-up that every task needs."""
    names = [Namer(rng, rng.choice(lang.LANGUAGES)).function() for _ in range(rng.randint(1, 6))]
    if rng.random() < 0.5:
        return [user("Copy: " + ", ".join(names))], "\n".join(names)
    keys = [word(rng, NOUNS, 0.5) for _ in names]
    pairs = list(dict(zip(keys, names)).items())
    shuffled = rng.sample(pairs, len(pairs))
    return [user("Copy: " + ", ".join(f"`{k}` is {v}" for k, v in pairs))], "\n".join(f"{k} = {v}" for k, v in shuffled)


