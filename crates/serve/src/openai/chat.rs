//! POST /v1/chat/completions

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use coder_engine::{Message, SamplerOptions, Tool, ToolChoice};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    DONE, Format, Head, PING, Sampling, StreamOptions, Texts, event, finish_reason, form, logprobs, refuse,
    some_tokens, usage,
};
use crate::answer::{Answers, End, Event, Logprob, Part, Piece, What};
use crate::ask::{Ask, Chat, Prompt};
use crate::body::Fields;
use crate::dialect::{Dialect, json_response};
use crate::elsewhere::answered;
use crate::tools::Tools;
use crate::{Error, Result, Server, stream};

/// The most log-probabilities of one token, as the API says.
const TOP: usize = 20;

#[derive(Debug, Deserialize)]
pub(crate) struct Body {
    model: Option<String>,
    messages: Vec<Said>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    n: Option<usize>,
    stop: Option<Texts>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    response_format: Option<Format>,
    json_schema: Option<Value>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Choose>,
    parallel_tool_calls: Option<bool>,
    reasoning_effort: Option<String>,
    chat_template_kwargs: Option<Map<String, Value>>,
    audio: Option<Value>,
    function_call: Option<Value>,
    functions: Option<Value>,
    grammar: Option<String>,
    modalities: Option<Vec<String>>,
    moderation: Option<Value>,
    web_search_options: Option<Value>,
}

/// Whether tools are called, and which.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected `auto`, `none`, `required`, or the name of a function")]
enum Choose {
    Word(Word),
    Named { function: Function },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Auto,
    None,
    Required,
}

#[derive(Debug, Deserialize)]
struct Function {
    name: String,
}

/// A message as clients send it.
#[derive(Debug, Deserialize)]
struct Said {
    role: Role,
    content: Option<Content>,
    name: Option<String>,
    reasoning_content: Option<String>,
    /// Another name for it; clients that know both send both.
    reasoning: Option<String>,
    tool_calls: Option<Vec<Value>>,
    tool_call_id: Option<String>,
    refusal: Option<String>,
    audio: Option<Value>,
    function_call: Option<Value>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    Developer,
    System,
    User,
    Assistant,
    Tool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected text or a list of parts, each with a `type`")]
enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Debug, Deserialize)]
struct ContentPart {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
}

/// POST /v1/chat/completions
pub(crate) async fn complete(
    State(server): State<Server>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response> {
    answered(&server, Dialect::OpenAi, &headers, &fields, |named| here(&server, &fields, named)).await
}

/// What a model here answers: `named`, or the one in the request.
async fn here(server: &Server, fields: &Fields, named: Option<String>) -> Result<Response> {
    let body: Body = fields.get()?;
    let (model, streams) = (named.or_else(|| body.model.clone()), body.stream.unwrap_or(false));
    let include_usage = body.stream_options.as_ref().is_some_and(StreamOptions::include_usage);
    let shown = Shown { logprobs: body.logprobs.unwrap_or(false) };
    let ask = body.into_ask(fields.get::<Sampling>()?.options(server)?)?;
    let count = ask.count;
    let answers = Answers::begin(server, model.as_deref(), ask).await?;
    let head = Head::new("chatcmpl", &answers.model);
    if streams {
        Ok(send(answers, head, shown, count, include_usage))
    } else {
        whole(answers, head, shown, count).await
    }
}

impl Body {
    fn into_ask(self, (mut sampler, seed): (SamplerOptions, Option<u64>)) -> Result<Ask> {
        refuse("audio", self.audio.as_ref(), "")?;
        refuse("function_call", self.function_call.as_ref(), "; use `tool_choice`")?;
        refuse("functions", self.functions.as_ref(), "; use `tools`")?;
        refuse("moderation", self.moderation.as_ref(), "")?;
        refuse("web_search_options", self.web_search_options.as_ref(), "")?;
        if self.modalities.iter().flatten().any(|kind| kind != "text") {
            return Err(Error::request("modalities", "`modalities`: only `text` is supported"));
        }
        if self.messages.is_empty() {
            return Err(Error::request("messages", "`messages` is empty; say something"));
        }
        let declared = self.tools.iter().flatten().map(Tool::from_openai).collect::<Result<_, _>>()?;
        let choice = match self.tool_choice {
            None | Some(Choose::Word(Word::Auto)) => ToolChoice::Auto,
            Some(Choose::Word(Word::None)) => ToolChoice::None,
            Some(Choose::Word(Word::Required)) => ToolChoice::Required,
            Some(Choose::Named { function }) => ToolChoice::Named(function.name),
        };
        let parallel = self.parallel_tool_calls.unwrap_or(true);
        let mut chat = Chat { tools: Tools::new(declared, choice, parallel)?, ..Chat::default() };
        // Of tools, since the last answer.
        let mut has_results = false;
        for (at, said) in self.messages.into_iter().enumerate() {
            has_results = match said.role {
                Role::Assistant => false,
                Role::Tool => true,
                Role::Developer | Role::System | Role::User => has_results,
            };
            chat.messages.push(said.into_message(at, has_results)?);
        }
        if self.reasoning_effort.as_deref() == Some("none") {
            chat.set("enable_thinking".to_owned(), Value::Bool(false))?;
        }
        for (name, value) in self.chat_template_kwargs.into_iter().flatten() {
            chat.set(name, value)?;
        }
        let top = self.top_logprobs.unwrap_or(0);
        if top > TOP || (top > 0 && self.logprobs != Some(true)) {
            let problem = format!("`top_logprobs`: must be between `0` and `{TOP}`, with `logprobs` true");
            return Err(Error::request("top_logprobs", problem));
        }
        sampler.logprobs = self.logprobs.unwrap_or(false).then_some(top);
        let (grammar, grammar_field) = form(self.response_format, self.json_schema, self.grammar)?;
        Ok(Ask {
            max_tokens: some_tokens("max_completion_tokens", self.max_completion_tokens)?
                .or(some_tokens("max_tokens", self.max_tokens)?),
            sampler,
            seed,
            stop: self.stop.map(Texts::into_vec).unwrap_or_default(),
            grammar,
            grammar_field,
            count: self.n.unwrap_or(1),
            ..Ask::new(Prompt::Chat(chat))
        })
    }
}

impl Said {
    /// Refuses what no model would be shown.
    fn check(&self, at: usize) -> Result<()> {
        let wrong = |field: String, problem: &str| {
            let field = format!("messages[{at}].{field}");
            Err(Error::Request { problem: format!("`{field}` {problem}"), field: Some(field) })
        };
        if self.audio.is_some() {
            return wrong("audio".to_owned(), "is not supported; only text is");
        }
        if self.function_call.is_some() {
            return wrong("function_call".to_owned(), "is not supported; use `tool_calls`");
        }
        let is_named = |call: &Value| call["function"]["name"].is_string();
        match self.tool_calls.iter().flatten().position(|call| !is_named(call)) {
            Some(call) => wrong(
                format!("tool_calls[{call}]"),
                "is not the call of a function; it has a `function` with a `name`",
            ),
            None => Ok(()),
        }
    }

    fn into_message(self, at: usize, beside_result: bool) -> Result<Message> {
        self.check(at)?;
        let role = match self.role {
            Role::Developer | Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        let text = match self.content {
            None => self.refusal.unwrap_or_default(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => {
                let parts = parts.into_iter().enumerate();
                let parts = parts.map(|(i, part)| part.into_text(at, i, beside_result));
                parts.collect::<Result<Vec<_>>>()?.join("\n")
            }
        };
        Ok(Message {
            reasoning_content: self.reasoning_content.or(self.reasoning),
            tool_calls: self.tool_calls.filter(|calls| !calls.is_empty()),
            tool_call_id: self.tool_call_id,
            name: self.name,
            ..Message::new(role, text)
        })
    }
}

impl ContentPart {
    /// The text of a part. A picture in a tool's result, or in what clients show behind it, is no fault of who asks, and a
    /// refusal would end the conversation for good; so the model is told that there is one.
    fn into_text(self, message: usize, at: usize, beside_result: bool) -> Result<String> {
        match self.kind.as_str() {
            "text" | "refusal" => Ok(self.text.or(self.refusal).unwrap_or_default()),
            kind @ ("image_url" | "file") if beside_result => {
                Ok(format!("[{kind}: this model cannot see it]"))
            }
            kind => {
                let field = format!("messages[{message}].content[{at}]");
                let kind: String = kind.chars().take(100).collect();
                let problem = format!("`{field}`: a part of type `{kind}` is not supported; only `text` is");
                Err(Error::Request { field: Some(field), problem })
            }
        }
    }
}

/// What of an answer the client wants to see.
#[derive(Clone, Copy)]
struct Shown {
    logprobs: bool,
}

/// One of the answers to a request, as it grows.
#[derive(Default)]
struct Choice {
    text: String,
    thought: String,
    calls: Vec<Call>,
    tokens: Vec<Logprob>,
}

/// A call of a tool. Its arguments are the text of a JSON object, of which the end is missing where the answer was cut.
struct Call {
    id: String,
    name: String,
    arguments: String,
}

impl Choice {
    fn add(&mut self, piece: Piece) {
        for part in piece.parts {
            match part {
                Part::Text(text) => self.text += &text,
                Part::Thought(text) => self.thought += &text,
                Part::Call { id, name, .. } => self.calls.push(Call { id, name, arguments: String::new() }),
                Part::Arguments { delta, .. } => {
                    if let Some(call) = self.calls.last_mut() {
                        call.arguments += &delta;
                    }
                }
                Part::CallEnd { .. } => {}
            }
        }
        self.tokens.extend(piece.tokens);
    }

    fn json(&self, index: usize, end: &End, shown: Shown) -> Value {
        let mut message = json!({ "role": "assistant", "content": self.text, "refusal": null });
        if !self.thought.is_empty() {
            message["reasoning_content"] = self.thought.as_str().into();
        }
        if !self.calls.is_empty() {
            if self.text.is_empty() {
                message["content"] = Value::Null;
            }
            let call = |Call { id, name, arguments }: &Call| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
            message["tool_calls"] = self.calls.iter().map(call).collect();
        }
        json!({
            "index": index,
            "message": message,
            "logprobs": if shown.logprobs { logprobs(&self.tokens) } else { Value::Null },
            "finish_reason": finish_reason(&end.reason),
        })
    }
}

/// The whole answer at once.
async fn whole(mut answers: Answers, head: Head, shown: Shown, count: usize) -> Result<Response> {
    let choices = answers.gather(count, Choice::add).await?;
    let ends: Vec<End> = choices.iter().map(|(_, end)| end.clone()).collect();
    let numbered = choices.iter().enumerate();
    let choices: Vec<Value> = numbered.map(|(index, (choice, end))| choice.json(index, end, shown)).collect();
    Ok(json_response(&json!({
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": choices,
        "usage": usage(&ends),
    })))
}

/// The answer as it grows.
fn send(answers: Answers, head: Head, shown: Shown, count: usize, include_usage: bool) -> Response {
    let chunk = move |choices: Vec<Value>, usage: Value| {
        let mut chunk = json!({
            "id": head.id,
            "object": "chat.completion.chunk",
            "created": head.created,
            "model": head.model,
            "choices": choices,
        });
        if include_usage {
            chunk["usage"] = usage;
        }
        event(&chunk)
    };
    let delta = |index: usize, delta: Value, logprobs: Value, finish: Value| {
        vec![json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish })]
    };
    let begin = |index| delta(index, json!({ "role": "assistant", "content": "" }), Value::Null, Value::Null);
    let first = (0..count).map(|index| chunk(begin(index), Value::Null)).collect();
    let mut ends = Vec::new();
    stream::events(answers, first, PING, move |heard| match heard {
        Some(Ok(Event { index, what: What::Piece(piece) })) => {
            let mut tokens = shown.logprobs.then(|| logprobs(&piece.tokens));
            let mut parts: Vec<Value> = piece.parts.into_iter().filter_map(say).collect();
            if parts.is_empty() && tokens.is_some() {
                parts.push(json!({ "content": "" }));
            }
            let chunks = parts.into_iter().map(|part| {
                let tokens = tokens.take().unwrap_or_default();
                chunk(delta(index, part, tokens, Value::Null), Value::Null)
            });
            chunks.collect()
        }
        Some(Ok(Event { index, what: What::End(end) })) => {
            let reason = finish_reason(&end.reason);
            ends.push(end);
            chunk(delta(index, json!({}), Value::Null, reason.into()), Value::Null)
        }
        Some(Err(error)) => event(&Dialect::OpenAi.error_body(&error)),
        None if include_usage => chunk(Vec::new(), usage(&ends)) + DONE,
        None => DONE.to_owned(),
    })
}

/// What a part adds to the message; nothing for the end of a call, which is where something else begins.
fn say(part: Part) -> Option<Value> {
    Some(match part {
        Part::Text(text) => json!({ "content": text }),
        Part::Thought(text) => json!({ "reasoning_content": text }),
        Part::Call { index, id, name } => json!({ "tool_calls": [{
            "index": index, "id": id, "type": "function", "function": { "name": name, "arguments": "" },
        }] }),
        Part::Arguments { index, delta } => {
            json!({ "tool_calls": [{ "index": index, "function": { "arguments": delta } }] })
        }
        Part::CallEnd { .. } => return None,
    })
}
