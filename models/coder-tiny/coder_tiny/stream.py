"""The mixture: tasks for evaluation, and samples for training.

A sample is a list of (text, weight) pieces; the weight is that of the loss.
"""
import re

from . import changes, extras, failures, lang, mutate, tasks
from .names import seeded

PROMPT_WEIGHT = 0.05
CORRECTION_WEIGHT = 3.0
HARD = ("two_functions", "tests")    # kinds that take longest to learn


def random_task(rng, language):
    make = rng.choices([tasks.function_task, tasks.constants_task, tasks.tests_task, changes.change_task], [62, 11, 14, 13])[0]
    return make(rng, language)


def evaluation_task(seed, index, language):
    return random_task(seeded("evaluation", seed, index), language)


def task_id(rng):
    return rng.choice([f"T-{rng.randint(1, 200):03d}", f"T-{rng.randint(1, 999):03d}", f"{word_id(rng)}-{rng.randint(1, 99)}"])


def word_id(rng):
    return rng.choice(["T", "task", "TASK", "job", "P", "issue"])


def _chat_pieces(messages, reply):
    from . import prompts    # needs jinja2, which only training has
    return [(prompts.chat(messages), PROMPT_WEIGHT), (reply + "<|im_end|>", 1.0)]


def training_task(rng):
    """A random task; one in five is of a hard kind."""
    language, hard = rng.choice(lang.LANGUAGES), rng.random() < 0.2
    while True:
        task = random_task(rng, language)
        if not hard or task.kind in HARD:
            return task


def task_sample(rng):
    from . import prompts
    task = training_task(rng)
    return _chat_pieces([extras.user(prompts.prompt(task, task_id(rng)))], lang.fenced(task.language, task.answer))


def retry_sample(rng):
    from . import prompts
    task = training_task(rng)
    wrong, effect = mutate.mutate(rng, task)
    reason, output = mutate.failure(rng, task, effect)
    messages = [extras.user(prompts.prompt(task, task_id(rng))), extras.assistant(lang.fenced(task.language, wrong)),
                extras.user(prompts.retry(reason, task.command, output))]
    return _chat_pieces(messages, lang.fenced(task.language, task.answer))


def chat_sample(rng):
    return _chat_pieces(*extras.chat(rng))


def copy_sample(rng):
    return _chat_pieces(*extras.copying(rng))


def raw_sample(rng):
    """A code file on its own, so that plain completion works."""
    task = random_task(rng, rng.choice(lang.LANGUAGES))
    text = task.answer if rng.random() < 0.6 else task.answer.split("\n", 1)[1]
    return [(text + "<|endoftext|>", 0.5)]


def fim_sample(rng):
    """A code file with a hole, in the order prefix, suffix, middle."""
    text = random_task(rng, rng.choice(lang.LANGUAGES)).answer
    start, end = sorted(rng.sample(range(len(text) + 1), 2))
    if rng.random() < 0.5:    # whole lines, as an editor asks for
        start = text.rfind("\n", 0, start) + 1
        end = text.find("\n", end) + 1 or len(text)
    return [(f"<|fim_prefix|>{text[:start]}<|fim_suffix|>{text[end:]}<|fim_middle|>", PROMPT_WEIGHT), (text[start:end] + "<|endoftext|>", 0.7)]


def failed_sample(rng, failed):
    """A retry of a reply that this model itself got wrong, with what the check printed (see collect.py)."""
    from . import prompts
    messages = [extras.user(failed["prompt"]), extras.assistant(failed["reply"]), extras.user(prompts.retry(failed["reason"], failed["command"], failures.filled(rng, failed["output"])))]
    return [(prompts.chat(messages), PROMPT_WEIGHT), *_corrected(failed["reply"], failed["answer"]), ("<|im_end|>", 1.0)]


def _corrected(reply, answer):
    """The answer in pieces; lines that the reply lacks weigh more, for copying the others teaches nothing new."""
    known = set(reply.split("\n"))
    # A blank line stays with the one before it, for one token may hold both their ends.
    lines = re.findall(r".*(?:\n+|$)", answer)
    return [(line, 1.0 if line.rstrip("\n") in known else CORRECTION_WEIGHT) for line in lines if line]


def sample(rng, progress, failed=()):
    """One training sample; copying is frequent at first, and retries come with real failures."""
    if rng.random() < max(0.02, 0.5 - 6 * progress):
        return copy_sample(rng)
    if failed and rng.random() < 0.25:
        return failed_sample(rng, rng.choice(failed))
    make = rng.choices([task_sample, retry_sample, chat_sample, raw_sample, fim_sample], [68, 8, 13, 3, 4])[0]
    return make(rng)
