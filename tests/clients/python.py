"""The Python packages `openai` and `anthropic` against a server; prints rows of a table, exits 1 if one failed."""

import asyncio
import json
import sys

import anthropic
import openai
from rows import expect, run

URL = sys.argv[1]
TASK = "Write a Python function `add` that returns the sum of `a` and `b`."
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["BUG", "FEAT", "TASK"]}, "urgent": {"type": "boolean"}},
    "required": ["kind", "urgent"],
    "additionalProperties": False,
}
# The package has no parameter for it any more; the API has.
GREEDY = {"temperature": 0}
PLACE = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}

gpt = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
claude = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)


def user(text):
    return [{"role": "user", "content": text}]


def openai_models():
    ids = [model.id for model in gpt.models.list()]
    assert "free" in ids and "coder-tiny" in ids, ids
    assert gpt.models.retrieve("free").id == "free"


def openai_chat():
    answer = gpt.chat.completions.create(model="gpt-4o", messages=user(TASK), temperature=0)
    assert "def add" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    return answer.choices[0].message.content


def openai_stream():
    whole = openai_chat()
    chunks = list(
        gpt.chat.completions.create(
            model="free", messages=user(TASK), temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    assert chunks[-1].usage.completion_tokens > 0 and not chunks[-1].choices


def openai_stream_helper():
    with gpt.chat.completions.stream(model="free", messages=user(TASK), temperature=0) as stream:
        for _ in stream:
            pass
        assert "def add" in stream.get_final_completion().choices[0].message.content


def openai_structured():
    form = {"type": "json_schema", "json_schema": {"name": "kind", "strict": True, "schema": SCHEMA}}
    for seed in range(5):
        answer = gpt.chat.completions.create(
            model="free", messages=user("Classify: crash"), response_format=form, temperature=1.5, seed=seed
        )
        value = json.loads(answer.choices[0].message.content)
        assert value["kind"] in ("BUG", "FEAT", "TASK") and isinstance(value["urgent"], bool)


def openai_n_and_logprobs():
    answer = gpt.chat.completions.create(
        model="free", messages=user(TASK), n=3, temperature=1.2, logprobs=True, top_logprobs=3, max_tokens=8
    )
    assert len(answer.choices) == 3
    for choice in answer.choices:
        assert all(len(token.top_logprobs) == 3 for token in choice.logprobs.content)


def valid(arguments):
    assert arguments["city"] in ("Oslo", "Rome") and 1 <= arguments["days"] <= 9, arguments


def openai_tools():
    function = {"name": "weather", "description": "Tells the weather.", "parameters": PLACE}
    fields = dict(
        model="free",
        messages=user("Weather in Oslo?"),
        tools=[{"type": "function", "function": function}],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        parallel_tool_calls=False,
        max_tokens=200,
    )
    choice = gpt.chat.completions.create(**fields).choices[0]
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0]
    assert call.function.name == "weather" and call.id
    valid(json.loads(call.function.arguments))
    with gpt.chat.completions.stream(**fields) as stream:
        for _ in stream:
            pass
        valid(json.loads(stream.get_final_completion().choices[0].message.tool_calls[0].function.arguments))
    result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
    fields |= {"messages": fields["messages"] + [choice.message, result], "tool_choice": "none"}
    assert gpt.chat.completions.create(**fields).choices[0].message.content is not None


def openai_completions():
    answer = gpt.completions.create(model="free", prompt="def add(", max_tokens=5, logprobs=2)
    assert answer.choices[0].text and len(answer.choices[0].logprobs.tokens) == 5
    assert "".join(c.choices[0].text for c in gpt.completions.create(model="free", prompt="x", stream=True))


def openai_errors():
    chat = gpt.chat.completions.create
    error = expect(openai.NotFoundError, lambda: chat(model="nobody", messages=user("x")), "nobody")
    assert error.code == "model_not_found" and error.param == "model"
    error = expect(openai.BadRequestError, lambda: chat(model="free", messages=user("word " * 20000)))
    assert error.code == "context_length_exceeded"
    expect(openai.BadRequestError, lambda: chat(model="free", messages=user("x"), temperature=-1), "temperature")


def openai_respond():
    answer = gpt.responses.create(model="free", input=TASK, instructions="Answer with code.", temperature=0)
    assert "def add" in answer.output_text and answer.status == "completed"
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert not answer.model_dump().get("store")
    return answer


def openai_respond_stream():
    whole = openai_respond().output_text
    with gpt.responses.stream(model="free", input=TASK, instructions="Answer with code.", temperature=0) as stream:
        said = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert said == whole == stream.get_final_response().output_text


def openai_respond_structured():
    form = {"type": "json_schema", "name": "kind", "strict": True, "schema": SCHEMA}
    answer = gpt.responses.create(model="free", input="Classify: crash", text={"format": form}, temperature=1.5)
    assert json.loads(answer.output_text)["kind"] in ("BUG", "FEAT", "TASK")


def openai_respond_tools():
    fields = dict(
        model="free",
        tools=[{"type": "function", "name": "weather", "parameters": PLACE, "strict": True}],
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False,
        max_output_tokens=200,
    )
    input = user("Weather in Oslo?")
    answer = gpt.responses.create(input=input, **fields)
    call = answer.output[0]
    assert call.type == "function_call" and call.name == "weather" and call.status == "completed"
    valid(json.loads(call.arguments))
    with gpt.responses.stream(input=input, **fields) as stream:
        valid(json.loads(stream.get_final_response().output[0].arguments))
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}
    fields["tool_choice"] = "none"
    assert gpt.responses.create(input=input + answer.output + [result], **fields).output_text is not None


def openai_respond_errors():
    make = lambda **fields: gpt.responses.create(**{"model": "free", "input": "x"} | fields)
    expect(openai.BadRequestError, lambda: make(previous_response_id="resp_1"), "nothing is stored")
    expect(openai.BadRequestError, lambda: make(tools=[{"type": "web_search"}]), "web_search")
    assert make(max_output_tokens=1).incomplete_details.reason == "max_output_tokens"


def openai_async():
    async def main():
        client = openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
        texts = await asyncio.gather(
            *(client.chat.completions.create(model="free", messages=user(TASK), temperature=0) for _ in range(8))
        )
        assert len({text.choices[0].message.content for text in texts}) == 1

    asyncio.run(main())


def anthropic_message():
    answer = claude.messages.create(model="claude-sonnet-5-5", max_tokens=200, messages=user(TASK), extra_body=GREEDY)
    assert "def add" in answer.content[0].text
    assert answer.stop_reason == "end_turn" and answer.usage.output_tokens > 0
    return answer.content[0].text


def anthropic_stream():
    whole = anthropic_message()
    with claude.messages.stream(model="claude-x", max_tokens=200, messages=user(TASK), extra_body=GREEDY) as stream:
        assert "".join(stream.text_stream) == whole
        final = stream.get_final_message()
    assert final.content[0].text == whole and final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 0


def anthropic_models():
    ids = [model.id for model in claude.models.list()]
    assert "free" in ids and claude.models.retrieve("free").display_name == "free"


def anthropic_count():
    counted = claude.messages.count_tokens(model="claude-x", messages=user(TASK)).input_tokens
    usage = claude.messages.create(model="claude-x", max_tokens=1, messages=user(TASK)).usage
    assert counted == usage.input_tokens + usage.cache_read_input_tokens


def anthropic_cache():
    system = [{"type": "text", "text": "Be kind. " * 60, "cache_control": {"type": "ephemeral"}}]
    ask = lambda: claude.messages.create(model="claude-x", max_tokens=1, system=system, messages=user("hi")).usage
    ask()
    assert ask().cache_read_input_tokens > 60


def anthropic_tools():
    fields = dict(
        model="claude-x",
        max_tokens=200,
        messages=user("Weather in Oslo?"),
        tools=[{"name": "weather", "description": "Tells the weather.", "input_schema": PLACE}],
        tool_choice={"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
    )
    answer = claude.messages.create(**fields)
    assert answer.stop_reason == "tool_use"
    call = answer.content[0]
    assert call.type == "tool_use" and call.name == "weather"
    valid(call.input)
    with claude.messages.stream(**fields) as stream:
        final = stream.get_final_message()
    valid(final.content[0].input)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny."}
    fields |= {
        "messages": fields["messages"]
        + [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}],
        "tool_choice": {"type": "none"},
    }
    assert claude.messages.create(**fields).stop_reason in ("end_turn", "max_tokens")


def anthropic_stop():
    answer = claude.messages.create(
        model="claude-x", max_tokens=200, messages=user(TASK), extra_body=GREEDY, stop_sequences=["("]
    )
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "(")


def anthropic_errors():
    make = lambda **fields: claude.messages.create(**{"model": "claude-x", "max_tokens": 5, "messages": user("x")} | fields)
    expect(anthropic.NotFoundError, lambda: make(model="nobody"), "nobody")
    expect(anthropic.BadRequestError, lambda: make(messages=user("word " * 20000)), "prompt is too long")
    expect(anthropic.BadRequestError, lambda: make(messages=[]), "messages")


run(dict(globals()), {client.__name__: f"{client.__name__} {client.__version__}" for client in (openai, anthropic)})
