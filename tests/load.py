#!/usr/bin/env python3
"""Load on `coder serve`: 64 clients on loopback for a minute, some of which go away at any moment; then SIGTERM under load.

    tests/load.py [--coder BINARY] [--seconds 60] [--clients 64] [--open 32] [--model FILE]

Prints statuses, the time to the first byte (p50, p95, p99), and what is left when all have gone: open requests, blocks of
the cache, descriptors, resident memory. Exits with 1 if an answer is neither complete nor a 429 or 503, if anything is
left over, or if the server does not let open answers finish when it is told to end.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

BODIES = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Write a Python function `add`."}], "stream": True}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Classify: login fails"}], "max_tokens": 12}),
    ("/v1/messages", {"model": "claude-x", "max_tokens": 40, "messages": [{"role": "user", "content": "Write `sub` in Rust."}], "stream": True}),
    ("/v1/completions", {"prompt": "def mul(a, b):", "max_tokens": 24, "stream": True}),
    ("/v1/embeddings", {"input": ["one text", "another"]}),
    ("/tokenize", {"content": "fn main() {}"}),
]


class Server:
    """`coder serve` as a process."""

    def __init__(self, args):
        command = [args.coder, "serve", "--port", "0", "--log", "json", "--alias", "claude-*=" + args.name, "--queue", str(args.open)]
        if args.model:
            command += ["--model", args.model]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if found := re.match(r"listening on http://([\d.]+):(\d+)", line):
                self.host, self.port = found[1], int(found[2])
                break
        else:
            sys.exit("the server did not start")
        # What it logs must be read, or it stops.
        import threading
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_mb(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) / 1024


async def ask(server, path, body, leave):
    """One request. Gives status, seconds to the first byte and the answer's bytes; None for those if `leave` comes before."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        text = json.dumps(body).encode()
        began = time.monotonic()
        writer.write(
            f"POST {path} HTTP/1.1\r\nhost: {server.host}:{server.port}\r\ncontent-type: application/json\r\n"
            f"connection: close\r\ncontent-length: {len(text)}\r\n\r\n".encode() + text
        )
        await writer.drain()
        try:
            return await asyncio.wait_for(hear(reader, began), leave)
        except asyncio.TimeoutError:
            return None
    finally:
        writer.transport.abort() if leave else writer.close()


async def hear(reader, began):
    head = await reader.readuntil(b"\r\n\r\n")
    status, first = int(head.split(b" ", 2)[1]), time.monotonic() - began
    return status, first, head, await reader.read()


def is_whole(path, body, head, answer):
    """Whether an answer of status 200 has its end."""
    if not body.get("stream"):
        length = re.search(rb"content-length: (\d+)", head)
        return bool(length) and len(answer) == int(length[1]) and json.loads(answer) is not None
    end = b"event: message_stop" if path == "/v1/messages" else b"data: [DONE]"
    return end in answer and b'"error"' not in answer


async def client(server, number, until, found):
    chance = random.Random(number)
    while time.monotonic() < until:
        path, body = chance.choice(BODIES)
        leave = chance.choice([None, None, 0.001, 0.05, 0.5])
        try:
            heard = await ask(server, path, body, leave)
        except (OSError, asyncio.IncompleteReadError) as error:
            found["broken"].append(f"{path}: {error!r}")
            continue
        if heard is None:
            found["left"] += 1
            continue
        status, first, head, answer = heard
        found["statuses"][status] = found["statuses"].get(status, 0) + 1
        if status == 200:
            found["first"].append(first)
            if not is_whole(path, body, head, answer):
                found["broken"].append(f"{path}: not whole: {answer[-200:]!r}")
        elif status in (429, 503):
            if status == 429 and b"retry-after" not in head:
                found["broken"].append("429 without retry-after")
            await asyncio.sleep(chance.uniform(0.05, 0.5))
        else:
            found["broken"].append(f"{path}: {status} {answer[:200]!r}")


async def metric(server, name):
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"GET /metrics HTTP/1.1\r\nhost: {server.host}:{server.port}\r\nconnection: close\r\n\r\n".encode())
    text = (await reader.read()).decode()
    writer.close()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? ([\d.]+)", text, re.M))


async def drain(server):
    """SIGTERM while answers grow: those that were begun are whole, later ones are refused."""
    path, body = BODIES[0]
    # Begun one after another, so that they are at different places.
    begun = []
    for _ in range(8):
        begun.append(asyncio.create_task(ask(server, path, body, None)))
        await asyncio.sleep(0.01)
    while await metric(server, "coder_running") == 0 and not all(task.done() for task in begun):
        await asyncio.sleep(0.005)
    server.process.send_signal(signal.SIGTERM)
    heard = await asyncio.gather(*begun, return_exceptions=True)
    problems = []
    for answer in heard:
        if isinstance(answer, Exception):
            problems.append(repr(answer))
        elif answer[0] == 200 and not is_whole(path, body, answer[2], answer[3]):
            problems.append(f"cut off: {answer[3][-200:]!r}")
        elif answer[0] not in (200, 503):
            problems.append(str(answer[0]))
    began = time.monotonic()
    try:
        code = server.process.wait(timeout=40)
    except subprocess.TimeoutExpired:
        server.process.kill()
        return problems + ["it did not end"]
    print(f"SIGTERM under load: {len(heard)} answers open, {len(problems)} broken, exit {code} {time.monotonic() - began:.2f} s after the last")
    return problems + ([f"exit code {code}"] if code != 0 else [])


async def main():
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--coder", default="target/debug/coder")
    parse.add_argument("--seconds", type=float, default=60)
    parse.add_argument("--clients", type=int, default=64)
    parse.add_argument("--open", type=int, default=32, help="requests that the server takes at a time")
    parse.add_argument("--model")
    parse.add_argument("--name", default="coder-tiny")
    args = parse.parse_args()
    server = Server(args)
    found = {"statuses": {}, "first": [], "broken": [], "left": 0}
    await client(server, 1, time.monotonic() + 3, {"statuses": {}, "first": [], "broken": [], "left": 0})
    before = (server.descriptors(), server.resident_mb())
    until = time.monotonic() + args.seconds
    halfway = asyncio.create_task(asyncio.sleep(args.seconds / 2, None))
    halfway.add_done_callback(lambda _: found.update(half=server.resident_mb()))
    await asyncio.gather(*(client(server, number, until, found) for number in range(args.clients)))
    problems = list(found["broken"])
    # What the last ones left is noticed after the step that is running.
    end = time.monotonic() + 10
    while (left := await metric(server, "coder_open_requests")) and time.monotonic() < end:
        await asyncio.sleep(0.05)
    blocks = await metric(server, "coder_cache_blocks_used")
    after = (server.descriptors(), server.resident_mb())
    first = sorted(found["first"])
    at = lambda share: first[min(len(first) - 1, int(len(first) * share))] * 1e3 if first else float("nan")
    print(f"{args.clients} clients, {args.seconds:.0f} s: answers by status {dict(sorted(found['statuses'].items()))}, {found['left']} clients went away")
    print(f"time to first byte: p50 {at(0.5):.1f} ms, p95 {at(0.95):.1f} ms, p99 {at(0.99):.1f} ms")
    print(f"afterwards: {left:.0f} requests open, {blocks:.0f} blocks in use, descriptors {before[0]} -> {after[0]}, resident {before[1]:.0f} -> {found['half']:.0f} (halfway) -> {after[1]:.0f} MB")
    if left or blocks:
        problems.append("requests or blocks are left over")
    if after[0] > before[0] + 2:
        problems.append("descriptors are left over")
    if not first or found["statuses"].keys() - {200, 429, 503}:
        problems.append("statuses")
    problems += await drain(server)
    for problem in problems[:20]:
        print("PROBLEM", problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
