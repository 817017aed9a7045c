"""Coding agents against a server whose model writes noise; prints rows of a table, exits 1 if one failed.

    agents.py URL FOLDER      FOLDER/npm/node_modules has the agents

What the model says means nothing, and that is the point: whatever is said, the agent must understand the protocol, take every
call of a tool for a valid one (each checks the arguments against its own schema), and come to the end of its turn. Each agent
has a home of its own, asks nobody but the server, and may change nothing and run nothing that it would have to ask for.
"""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from rows import run

URL, FOLDER = sys.argv[1], Path(sys.argv[2])
MODULES = FOLDER / "npm" / "node_modules"
# Turns that are tried until there were enough calls, seconds that each may take, and how many are enough.
TURNS, LIMIT_S, ENOUGH = 10, 400, 5


class Agent:
    """A program in a home and a repository of its own."""

    def __init__(self, name, files=None, **env):
        root = FOLDER / "homes" / name
        shutil.rmtree(root, ignore_errors=True)
        self.work, home, temporary = root / "work", root / "home", root / "tmp"
        for folder in (self.work, home, temporary):
            folder.mkdir(parents=True)
        for path, text in (files or {}).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        (home / ".gitconfig").write_text("[user]\nname = t\nemail = t@localhost\n")
        self.env = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(temporary), "TERM": "dumb"} | env
        (self.work / "notes.txt").write_text("hello\n")
        for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
            subprocess.run(["git", *command], cwd=self.work, env=self.env, check=True)

    def run(self, *command):
        """The lines of JSON that it prints. What it left running is ended with it, and it itself when it takes too long: noise
        may ask it to wait for an hour."""
        process = subprocess.Popen(
            list(map(str, command)), cwd=self.work, env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            self.end(process)
            out, err = process.communicate()
        self.end(process)
        lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        assert lines, err[-2000:]
        return lines

    def end(self, process):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def unchanged(self):
        assert (self.work / "notes.txt").read_text() == "hello\n"


def gather(turn, calls, complete):
    """Turns until there were enough calls and one that came to its end."""
    turns = []
    for number in range(TURNS):
        turns.append(turn(f"Look around. {number}"))
        if len(calls(turns)) >= ENOUGH and any(map(complete, turns)):
            return turns
    raise AssertionError(f"{len(calls(turns))} calls and {sum(map(complete, turns))} complete turns in {TURNS}")


# Claude Code, in the dialect of Anthropic.


@functools.cache
def claude_agent():
    return Agent(
        "claude", ANTHROPIC_BASE_URL=URL, ANTHROPIC_AUTH_TOKEN="none", ANTHROPIC_MODEL="claude-noise",
        ANTHROPIC_DEFAULT_HAIKU_MODEL="claude-noise", CLAUDE_CODE_MAX_OUTPUT_TOKENS="400", DISABLE_TELEMETRY="1",
        DISABLE_ERROR_REPORTING="1", DISABLE_AUTOUPDATER="1", CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
    )


def claude_results(turns):
    return [line for turn in turns for line in turn if line["type"] == "result"]


def claude_complete(turn):
    result = next(iter(claude_results([turn])), None)
    if result is None:
        return False
    # The other end is that of its --max-turns.
    assert result["subtype"] in ("success", "error_max_turns"), result
    assert result["subtype"] != "success" or not result["is_error"], result
    return result["subtype"] == "success"


def claude_blocks(turns, kind):
    lines = [line for turn in turns for line in turn if line["type"] in ("assistant", "user")]
    contents = [line["message"]["content"] for line in lines if isinstance(line["message"]["content"], list)]
    return [block for content in contents for block in content if block["type"] == kind]


@functools.cache
def claude_turns():
    def turn(text):
        options = ["--output-format", "stream-json", "--verbose", "--max-turns", 8]
        return claude_agent().run(MODULES / ".bin" / "claude", "-p", text, *options)

    return gather(turn, lambda turns: claude_blocks(turns, "tool_use"), claude_complete)


def claude_a_turn_and_its_json():
    complete = claude_results(filter(claude_complete, claude_turns()))
    assert all(isinstance(result["result"], str) and result["usage"]["output_tokens"] > 0 for result in complete)
    claude_agent().unchanged()


def claude_calls_of_its_tools_are_valid():
    turns = claude_turns()
    results = {block["tool_use_id"]: str(block["content"]) for block in claude_blocks(turns, "tool_result")}
    for call in claude_blocks(turns, "tool_use"):
        assert isinstance(call["input"], dict), call
        # The last ones of a turn that was long enough have none.
        result = results.get(call["id"], "")
        assert "No such tool" not in result, (call, result)
        # Of some it asks more than its schemas say, such as one of three parameters.
        assert "InputValidationError" not in result or set(re.findall(r'"code": "(\w+)"', result)) == {"custom"}, (call, result)
    assert len(results) >= ENOUGH / 2, results


def claude_what_it_sent_before_is_in_the_cache():
    usage = [result["usage"] for result in claude_results(claude_turns())]
    assert max(usage["cache_read_input_tokens"] for usage in usage) > 5000, usage


# OpenCode, in that of OpenAI's chat completions.


@functools.cache
def opencode_agent():
    model = {"name": "noise", "tool_call": True, "limit": {"context": 65536, "output": 400}}
    provider = {"npm": "@ai-sdk/openai-compatible", "name": "coder", "options": {"baseURL": f"{URL}/v1", "apiKey": "none"}}
    config = {
        "autoupdate": False, "share": "disabled", "model": "coder/noise", "small_model": "coder/noise",
        # In a run without a terminal, what would have to be asked is refused.
        "permission": {"bash": "ask", "edit": "ask", "webfetch": "ask", "websearch": "ask", "external_directory": "ask"},
        "provider": {"coder": provider | {"models": {"noise": model}}},
    }
    disabled = {f"OPENCODE_DISABLE_{what}": "1" for what in ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD")}
    return Agent("opencode", {"work/opencode.json": json.dumps(config)}, **disabled)


def opencode_calls(turns):
    return [line["part"] for turn in turns for line in turn if line["type"] == "tool_use"]


def opencode_complete(turn):
    # What it refuses for want of somebody to ask ends the turn.
    errors = [line for line in turn if line["type"] == "error" and "rejected permission" not in str(line)]
    assert not errors, errors
    ends = [line["part"]["reason"] for line in turn if line["type"] == "step_finish"]
    return ends[-1:] == ["stop"]


@functools.cache
def opencode_turns():
    turn = lambda text: opencode_agent().run(MODULES / ".bin" / "opencode", "run", "--format", "json", text)
    return gather(turn, opencode_calls, opencode_complete)


def opencode_a_turn_and_its_json():
    assert any(line["type"] == "text" for turn in opencode_turns() for line in turn)
    opencode_agent().unchanged()


def opencode_calls_of_its_tools_are_valid():
    for part in opencode_calls(opencode_turns()):
        assert part["tool"] != "invalid" and isinstance(part["state"]["input"], dict), part
        assert "invalid arguments" not in part["state"].get("error", ""), part


def opencode_what_it_sent_before_is_in_the_cache():
    tokens = [line["part"]["tokens"] for turn in opencode_turns() for line in turn if line["type"] == "step_finish"]
    assert max(tokens["cache"]["read"] for tokens in tokens) > 5000, tokens


# Codex, in that of OpenAI's responses.


@functools.cache
def codex_agent():
    # No tool of the server's own, for it has none; and no goal, which noise sets and nothing reaches. Commands run in a sandbox
    # that can write nothing and reach nothing.
    config = f"""
model = "noise"
model_provider = "coder"
model_context_window = 65536
approval_policy = "never"
sandbox_mode = "read-only"
web_search = "disabled"
check_for_update_on_startup = false
[features]
goals = false
[analytics]
enabled = false
[model_providers.coder]
name = "coder"
base_url = "{URL}/v1"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""
    agent = Agent("codex", {"codex/config.toml": config})
    agent.env["CODEX_HOME"] = str(agent.work.parent / "codex")
    return agent


def codex_complete(turn):
    assert not [line for line in turn if line["type"] in ("error", "turn.failed")], turn
    return turn[-1]["type"] == "turn.completed"


def codex_records():
    """What it wrote down of its conversations: items as they came, and what became of calls."""
    files = sorted((codex_agent().work.parent / "codex" / "sessions").rglob("*.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [line["payload"] for line in lines if line["type"] == "response_item"]


@functools.cache
def codex_turns():
    turn = lambda text: codex_agent().run(MODULES / ".bin" / "codex", "exec", "--json", text)
    calls = lambda turns: [item for item in codex_records() if item["type"] == "function_call"]
    return gather(turn, calls, codex_complete)


def codex_a_turn_and_its_json():
    codex_turns()
    assert any(item["type"] == "message" and item["role"] == "assistant" for item in codex_records())
    codex_agent().unchanged()


def codex_calls_of_its_tools_are_valid():
    codex_turns()
    calls = [item for item in codex_records() if item["type"] == "function_call"]
    outputs = {item.get("call_id"): str(item["output"]) for item in codex_records() if item["type"] == "function_call_output"}
    for call in calls:
        assert isinstance(json.loads(call["arguments"]), dict), call
        output = outputs[call["call_id"]]
        # Its schemas say `number` where it takes whole ones that are not negative.
        output = re.sub("failed to parse function arguments: invalid (type|value): (floating point|integer)", "", output)
        assert "failed to parse" not in output and "unsupported call" not in output, (call, output)


def codex_what_it_sent_before_is_in_the_cache():
    usage = [turn[-1]["usage"] for turn in codex_turns() if codex_complete(turn)]
    assert max(usage["cached_input_tokens"] for usage in usage) > 3000, usage


def label(package):
    return f"{package} {json.loads((MODULES / package / 'package.json').read_text())['version']}"


TESTS = [
    claude_a_turn_and_its_json,
    claude_calls_of_its_tools_are_valid,
    claude_what_it_sent_before_is_in_the_cache,
    opencode_a_turn_and_its_json,
    opencode_calls_of_its_tools_are_valid,
    opencode_what_it_sent_before_is_in_the_cache,
    codex_a_turn_and_its_json,
    codex_calls_of_its_tools_are_valid,
    codex_what_it_sent_before_is_in_the_cache,
]
AGENTS = {"claude": "@anthropic-ai/claude-code", "opencode": "opencode-ai", "codex": "@openai/codex"}
wanted = set(sys.argv[3:]) or set(AGENTS)
run({test.__name__: test for test in TESTS}, {name: label(package) for name, package in AGENTS.items() if name in wanted})
