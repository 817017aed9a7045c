"""Outputs of failed checks: kept without what differs from run to run, and shown as the engine shows them."""
import re

from .mutate import random_root

FEEDBACK_BYTES = 512    # half of the model's context: a token is a byte at least (crates/coder/writer.rs)
CHANGING = [(r"/tmp/tmp[a-z0-9_]{8}(?=/)", "@spare@"), (r"(?<=' \()\d+(?=\) panicked at )", "@thread@"), (r"(?<=finished in )\d+\.\d\ds", "@seconds@"),
            (r"(?<=-)[0-9a-f]{16}\b", "@hash@")]


def neutral(output, root):
    """The output with marks for folders, times and numbers, so that it is the same in each run."""
    output = output.replace(str(root), "@root@")
    for pattern, mark in CHANGING:
        output = re.sub(pattern, mark, output)
    return output


def filled(rng, output):
    """A neutral output with values for its marks, as it might be on some machine."""
    values = {"root": random_root(rng), "spare": "/tmp/tmp" + "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789_", k=8)), "thread": str(rng.randint(900, 90000)),
              "seconds": f"0.{rng.choice((0, 0, rng.randint(0, 30))):02d}s", "hash": f"{rng.getrandbits(64):016x}"}
    return shown(re.sub("@(" + "|".join(values) + ")@", lambda mark: values[mark.group(1)], output))


def shown(output, limit=FEEDBACK_BYTES):
    """What the engine keeps of an output: its first and last whole lines (crates/tasks/src/verify/capture.rs)."""
    data = output.encode()
    if len(data) > limit:
        head, tail = data[:limit // 2], data[limit // 2:][-(limit // 2):]
        head = head[:head.rfind(b"\n") + 1]
        tail = tail[tail.find(b"\n") + 1:] or tail
        kept, lines = line_count(head) + line_count(tail), line_count(data)
        output = head.decode("utf-8", "replace") + f"[… {kept} of {lines} lines kept …]\n" + tail.decode("utf-8", "replace")
    return output.rstrip("\n")


def line_count(data):
    return data.count(b"\n") + (data != b"" and not data.endswith(b"\n"))
