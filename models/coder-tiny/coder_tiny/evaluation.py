"""Measures: exact match while training, real verification of whole tasks after it."""
import collections
import tempfile

from . import extras, failures, lang, prompts
from .model import generate
from .stream import evaluation_task
from .workdir import distinct_tasks, run_check, write_workdir

BATCH = 32


def content_of(reply, language):
    """The file in a reply, or None for a reply that the engine's grammar does not admit."""
    opening, closing = lang.FENCE + language + "\n", "\n" + lang.FENCE
    if not reply.startswith(opening) or not reply.endswith(closing):
        return None
    content = reply[len(opening):1 - len(closing)]
    return content if content.strip() and "\n" + lang.FENCE not in "\n" + content else None


def answer_all(model, words, conversations, temperature=0.0, seed=0):
    """Replies to conversations (lists of messages), in batches of like length."""
    stop = words.ids["<|im_end|>"]
    encoded = [words.encode(prompts.chat(messages)) for messages in conversations]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    replies = [""] * len(encoded)
    for start in range(0, len(order), BATCH):
        rows = order[start:start + BATCH]
        made = generate(model, [encoded[i] for i in rows], stop, temperature=temperature, seed=seed + start)
        for i, ids in zip(rows, made):
            replies[i] = words.decode(ids)
    return replies


def exact_match(model, words, count, seed="held-out"):
    """Share of held-out tasks whose greedy reply is the reference, by language."""
    tasks = [evaluation_task(seed, i, lang.LANGUAGES[i % 3]) for i in range(count)]
    replies = answer_all(model, words, [[extras.user(prompts.prompt(t, "T-001"))] for t in tasks])
    hits, wrong = collections.Counter(), collections.Counter()
    for task, reply in zip(tasks, replies):
        good = reply == lang.fenced(task.language, task.answer)
        hits[task.language] += good
        if not good:
            wrong[task.kind] += 1
    share = {language: round(hits[language] / (count / 3), 3) for language in lang.LANGUAGES}
    return {"all": round(sum(hits.values()) / count, 3), **share, "wrong": dict(wrong.most_common(12))}


def verify(model, words, seed, count, languages=lang.LANGUAGES, temperature=0.7):
    """First attempt (greedy) and one retry (sampled), with the real commands."""
    tasks = distinct_tasks(seed, count, languages)
    chats = [[extras.user(prompts.prompt(t, f"T-{n:03d}"))] for n, t in enumerate(tasks, 1)]
    rows = []
    with tempfile.TemporaryDirectory() as root:
        write_workdir(root, tasks)
        replies = answer_all(model, words, chats)
        for task, messages, reply in zip(tasks, chats, replies):
            content = content_of(reply, task.language)
            passed, reason, output = run_check(root, task, content) if content is not None else (False, "the reply was not written", "no fenced block")
            rows.append({"task": task, "chat": messages, "reply": reply, "first": passed, "retried": passed, "reason": reason, "output": output})
        failed = [row for row in rows if not row["first"]]
        again = [row["chat"] + [extras.assistant(row["reply"]), extras.user(prompts.retry(row["reason"], row["task"].command, failures.shown(row["output"])))] for row in failed]
        for row, reply in zip(failed, answer_all(model, words, again, temperature, 1) if again else []):
            row["second"] = reply
            content = content_of(reply, row["task"].language)
            row["retried"] = content is not None and run_check(root, row["task"], content)[0]
    return rows
