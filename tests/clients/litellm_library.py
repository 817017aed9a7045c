"""The library of LiteLLM against a server, by its providers for both dialects; prints rows of a table, exits 1 if one failed."""

import importlib.metadata
import json
import sys

import litellm
from rows import expect, run

URL = sys.argv[1]
TASK = [{"role": "user", "content": "Write a Python function `add` that returns the sum of `a` and `b`."}]
PLACE = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tells the weather.", "parameters": PLACE}}
# Of the temperature, which Anthropic's newest models have no more, it would say that it is not supported.
PROVIDERS = {
    "openai": dict(model="openai/free", api_base=f"{URL}/v1", api_key="none"),
    "anthropic": dict(model="anthropic/claude-x", api_base=URL, api_key="none", max_tokens=200),
}


def complete(provider, **fields):
    return litellm.completion(**PROVIDERS[provider] | dict(messages=TASK, temperature=0, num_retries=0, timeout=100) | fields)


def whole(provider):
    answer = complete(provider)
    assert "def add" in answer.choices[0].message.content and answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    return answer.choices[0].message.content


def streamed(provider):
    chunks = list(complete(provider, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole(provider)
    assert litellm.stream_chunk_builder(chunks).usage.completion_tokens > 0


def tools(provider):
    fields = dict(tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "weather"}}, max_tokens=200)
    messages = [{"role": "user", "content": "Weather in Oslo?"}]
    answer = complete(provider, messages=messages, **fields)
    built = litellm.stream_chunk_builder(list(complete(provider, messages=messages, stream=True, **fields)))
    for choice in (answer.choices[0], built.choices[0]):
        call = choice.message.tool_calls[0]
        arguments = json.loads(call.function.arguments)
        assert call.function.name == "weather" and arguments["city"] in ("Oslo", "Rome") and 1 <= arguments["days"] <= 9
        assert choice.finish_reason == "tool_calls", choice
    result = {"role": "tool", "tool_call_id": answer.choices[0].message.tool_calls[0].id, "content": "Sunny."}
    said = messages + [answer.choices[0].message.model_dump(), result]
    assert complete(provider, messages=said, tools=[WEATHER]).choices[0].message.content


def errors(provider):
    long = [{"role": "user", "content": "word " * 20000}]
    expect(litellm.ContextWindowExceededError, lambda: complete(provider, messages=long))
    nobody = PROVIDERS[provider]["model"].split("/")[0] + "/nobody"
    expect(litellm.NotFoundError, lambda: complete(provider, model=nobody), "nobody")


def litellm_openai_completion():
    whole("openai")


def litellm_openai_stream():
    streamed("openai")


def litellm_openai_tools():
    tools("openai")


def litellm_openai_structured():
    form = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": PLACE}}
    answer = complete("openai", response_format=form, temperature=1.5)
    assert json.loads(answer.choices[0].message.content)["city"] in ("Oslo", "Rome")


def litellm_openai_n_and_logprobs():
    answer = complete("openai", n=3, temperature=1.2, logprobs=True, top_logprobs=2, max_tokens=8)
    assert len(answer.choices) == 3
    for choice in answer.choices:
        content = choice.logprobs.content if hasattr(choice.logprobs, "content") else choice.logprobs["content"]
        assert content and all(len(token["top_logprobs"]) == 2 for token in content)


def litellm_openai_errors():
    errors("openai")


def litellm_openai_responses():
    fields = PROVIDERS["openai"] | dict(input=TASK, temperature=0)
    answer = litellm.responses(**fields)
    assert "def add" in answer.output[0].content[0].text
    events = list(litellm.responses(stream=True, **fields))
    assert events[-1].response.output[0].content[0].text == answer.output[0].content[0].text


def litellm_anthropic_completion():
    whole("anthropic")


def litellm_anthropic_stream():
    streamed("anthropic")


def litellm_anthropic_tools():
    tools("anthropic")


def litellm_anthropic_errors():
    errors("anthropic")


run(dict(globals()), {"litellm": "litellm " + importlib.metadata.version("litellm")})
