//! Requests of Anthropic's Messages API (platform.claude.com/docs/en/api/messages), made of OpenAI's chat completions
//! (platform.openai.com/docs/api-reference/chat/create).

use serde_json::{Map, Value, json};

use super::{Notes, Part, inline, parts, wrong};
use crate::Result;

/// Levels of effort that both know.
const EFFORTS: [&str; 4] = ["low", "medium", "high", "xhigh"];

pub(super) fn request(mut from: Part, notes: &mut Notes) -> Result<Map<String, Value>> {
    let mut to = Map::new();
    let Conversation { system, turns } = conversation(&mut from, notes)?;
    if !system.is_empty() {
        to.insert("system".to_owned(), system.into());
    }
    let turn = |(role, content): (&str, Vec<Value>)| json!({ "role": role, "content": content });
    to.insert("messages".to_owned(), turns.into_iter().map(turn).collect());
    let tools = from.parts("tools")?.into_iter().map(tool).collect::<Result<Vec<_>>>()?;
    if let Some(choice) = choice(&mut from, !tools.is_empty())? {
        to.insert("tool_choice".to_owned(), choice);
    }
    if !tools.is_empty() {
        to.insert("tools".to_owned(), tools.into());
    }
    for field in ["model", "stream", "top_k", "top_p"] {
        to.extend(from.take(field).map(|value| (field.to_owned(), value)));
    }
    // The newer of the two names counts.
    let most = (from.take("max_completion_tokens"), from.take("max_tokens"));
    to.extend(most.0.or(most.1).map(|most| ("max_tokens".to_owned(), most)));
    if let Some(temperature) = from.take("temperature") {
        if temperature.as_f64().is_none_or(|temperature| temperature > 1.0) {
            return Err(from.none("temperature` above `1", "lower it"));
        }
        to.insert("temperature".to_owned(), temperature);
    }
    let stop = match from.take("stop") {
        Some(Value::String(text)) => vec![text.into()],
        Some(Value::Array(texts)) => texts,
        Some(_) => return Err(wrong("stop", "must be a text or a list of texts")),
        None => Vec::new(),
    };
    if !stop.is_empty() {
        to.insert("stop_sequences".to_owned(), stop.into());
    }
    if let Some(user) = user(&mut from, notes)? {
        to.insert("metadata".to_owned(), json!({ "user_id": user }));
    }
    effort(&mut from, &mut to)?;
    form(&mut from, &mut to)?;
    // Of these the answer is made, on its way back.
    from.take("stream_options");
    for hint in ["prompt_cache_key", "safety_identifier", "store", "prediction", "verbosity"] {
        from.note(hint, notes);
    }
    from.usual("service_tier", |tier| *tier == "auto" || *tier == "default")?;
    from.usual("n", |n| *n == 1)?;
    from.usual("logprobs", |logprobs| *logprobs == false)?;
    from.usual("top_logprobs", |top| *top == 0)?;
    for penalty in ["frequency_penalty", "presence_penalty", "min_p"] {
        from.usual(penalty, |penalty| penalty.as_f64() == Some(0.0))?;
    }
    from.end().map(|()| to)
}

/// A conversation whose roles alternate.
#[derive(Default)]
struct Conversation {
    system: Vec<Value>,
    turns: Vec<(&'static str, Vec<Value>)>,
}

impl Conversation {
    /// Adds to the last turn, if it is of the same role: results of several tools are one turn, and so is what the user says
    /// after them.
    fn add(&mut self, role: &'static str, content: Vec<Value>) {
        match self.turns.last_mut() {
            Some((last, all)) if *last == role => all.extend(content),
            _ => self.turns.push((role, content)),
        }
    }
}

fn conversation(from: &mut Part, notes: &mut Notes) -> Result<Conversation> {
    let mut conversation = Conversation::default();
    for mut said in from.parts("messages")? {
        let role = said.needed("role")?;
        let mut content = content(&mut said, notes)?;
        match role.as_str() {
            "system" | "developer" if conversation.turns.is_empty() => conversation.system.extend(content),
            // Not every model hears a system between turns, and each one its user.
            "system" | "developer" => {
                notes.insert("role");
                if !content.is_empty() {
                    conversation.add("user", content);
                }
            }
            "user" if content.is_empty() => {
                return Err(wrong(&said.name("content"), "is empty; say something"));
            }
            "user" => conversation.add("user", content),
            "assistant" => {
                // What was refused was said; and thoughts, which only its own server could take back, are the model's.
                content.extend(said.text("refusal")?.filter(|text| !text.is_empty()).map(plain));
                said.note("reasoning_content", notes);
                said.note("reasoning", notes);
                content.extend(said.parts("tool_calls")?.into_iter().map(call).collect::<Result<Vec<_>>>()?);
                // An answer that was empty is no turn.
                if !content.is_empty() {
                    conversation.add("assistant", content);
                }
            }
            "tool" => {
                let mut result =
                    json!({ "type": "tool_result", "tool_use_id": said.needed("tool_call_id")? });
                if !content.is_empty() {
                    result["content"] = content.into();
                }
                // The call has the name.
                said.take("name");
                conversation.add("user", vec![result]);
            }
            _ => return Err(wrong(&said.name("role"), "is none that is known")),
        }
        said.end()?;
    }
    Ok(conversation)
}

fn plain(text: String) -> Value {
    json!({ "type": "text", "text": text })
}

/// Blocks; empty texts are none, for they are refused.
fn content(said: &mut Part, notes: &mut Notes) -> Result<Vec<Value>> {
    let at = said.name("content");
    match said.take("content") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => {
            Ok(Some(text).filter(|text| !text.is_empty()).map(plain).into_iter().collect())
        }
        Some(Value::Array(list)) => {
            let blocks = parts(list, &at, said.to)?.into_iter().map(|part| block(part, notes));
            blocks.filter_map(Result::transpose).collect()
        }
        Some(_) => Err(wrong(&at, "must be a text or a list of parts")),
    }
}

fn block(mut part: Part, notes: &mut Notes) -> Result<Option<Value>> {
    let kind = part.needed("type")?;
    let mut block = match kind.as_str() {
        "text" | "refusal" => {
            let text = part.needed(&kind)?;
            if text.is_empty() {
                return Ok(None);
            }
            plain(text)
        }
        "image_url" => json!({ "type": "image", "source": picture(&mut part, notes)? }),
        "file" => document(&mut part)?,
        _ => return Err(part.unknown(&kind, "leave it out")),
    };
    // No field of OpenAI's, but clients that know who answers send it.
    if let Some(mark) = part.take("cache_control") {
        block["cache_control"] = mark;
    }
    part.end().map(|()| Some(block))
}

fn picture(part: &mut Part, notes: &mut Notes) -> Result<Value> {
    let field = part.name("image_url");
    let url = match part.take("image_url") {
        Some(Value::String(url)) => url,
        Some(holder) => {
            let mut holder = Part::of(holder, field.clone(), part.to)?;
            holder.note("detail", notes);
            let url = holder.needed("url")?;
            holder.end()?;
            url
        }
        None => return Err(wrong(&field, "is missing")),
    };
    match inline(&url) {
        Some((kind, data)) => Ok(json!({ "type": "base64", "media_type": kind, "data": data })),
        None if url.starts_with("https://") || url.starts_with("http://") => {
            Ok(json!({ "type": "url", "url": url }))
        }
        None => Err(wrong(&field, "must be an address, or `data:` with a type and base64")),
    }
}

fn document(part: &mut Part) -> Result<Value> {
    let Some(mut file) = part.part("file")? else { return Err(wrong(&part.name("file"), "is missing")) };
    let (title, data) = (file.text("filename")?, file.text("file_data")?);
    if file.map.contains_key("file_id") {
        return Err(file.none(&file.name("file_id"), "send its bytes as `file_data`"));
    }
    let source = match data.as_deref().and_then(inline) {
        Some((kind, data)) => json!({ "type": "base64", "media_type": kind, "data": data }),
        None => return Err(wrong(&file.name("file_data"), "must be `data:` with a type and base64")),
    };
    file.end()?;
    let mut document = json!({ "type": "document", "source": source });
    if let Some(title) = title {
        document["title"] = title.into();
    }
    Ok(document)
}

fn call(mut call: Part) -> Result<Value> {
    if let Some(kind) = call.text("type")?.filter(|kind| kind != "function") {
        return Err(call.unknown(&kind, "offer functions"));
    }
    let id = call.needed("id")?;
    // Its place in the list, which clients keep that have heard a stream.
    call.take("index");
    let Some(mut function) = call.part("function")? else {
        return Err(wrong(&call.name("function"), "is missing"));
    };
    let (name, arguments) = (function.needed("name")?, function.text("arguments")?.unwrap_or_default());
    let input = match arguments.trim() {
        "" => json!({}),
        text => serde_json::from_str(text).unwrap_or_default(),
    };
    if !input.is_object() {
        return Err(wrong(&function.name("arguments"), "must be the text of a JSON object"));
    }
    function.end()?;
    call.end().map(|()| json!({ "type": "tool_use", "id": id, "name": name, "input": input }))
}

fn tool(mut tool: Part) -> Result<Value> {
    let kind = tool.needed("type")?;
    let Some(mut function) = tool.part("function")?.filter(|_| kind == "function") else {
        return Err(tool.unknown(&kind, "offer it as a `function`"));
    };
    let schema = function.take("parameters").unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
    let mut made = json!({ "name": function.needed("name")?, "input_schema": schema });
    if let Some(description) = function.text("description")? {
        made["description"] = description.into();
    }
    if function.flag("strict")? == Some(true) {
        made["strict"] = true.into();
    }
    if let Some(mark) = tool.take("cache_control") {
        made["cache_control"] = mark;
    }
    function.end()?;
    tool.end().map(|()| made)
}

/// Whether tools are called, and how many at a time; nothing where there are none.
fn choice(from: &mut Part, has_tools: bool) -> Result<Option<Value>> {
    let alone = from.flag("parallel_tool_calls")? == Some(false);
    let mut made = match from.take("tool_choice") {
        None => json!({ "type": "auto" }),
        Some(Value::String(word)) => match word.as_str() {
            "auto" | "none" => json!({ "type": word }),
            "required" => json!({ "type": "any" }),
            _ => {
                return Err(wrong(
                    "tool_choice",
                    "must be `auto`, `none`, `required` or the name of a function",
                ));
            }
        },
        Some(named) => {
            let mut named = Part::of(named, "tool_choice".to_owned(), from.to)?;
            let kind = named.needed("type")?;
            let Some(mut function) = named.part("function")?.filter(|_| kind == "function") else {
                return Err(named.unknown(&kind, "name a `function`, or offer fewer tools"));
            };
            let name = function.needed("name")?;
            function.end()?;
            named.end()?;
            json!({ "type": "tool", "name": name })
        }
    };
    let usual = made["type"] == "auto" && !alone;
    if !has_tools && made["type"] != "auto" && made["type"] != "none" {
        return Err(wrong("tool_choice", "asks for a call, and `tools` offers none"));
    }
    if alone && made["type"] != "none" {
        made["disable_parallel_tool_use"] = true.into();
    }
    Ok((has_tools && !usual).then_some(made))
}

/// Who asks whoever asks; the rest of `metadata` is for a list of requests that a server keeps.
fn user(from: &mut Part, notes: &mut Notes) -> Result<Option<String>> {
    let mut metadata = from.part("metadata")?;
    let named = metadata.as_mut().map(|metadata| metadata.text("user_id")).transpose()?.flatten();
    if metadata.is_some_and(|metadata| !metadata.map.is_empty()) {
        notes.insert("metadata");
    }
    Ok(from.text("user")?.or(named))
}

fn effort(from: &mut Part, to: &mut Map<String, Value>) -> Result<()> {
    match from.text("reasoning_effort")?.as_deref() {
        None => {}
        Some("none") => drop(to.insert("thinking".to_owned(), json!({ "type": "disabled" }))),
        Some(effort) if EFFORTS.contains(&effort) => config(to, "effort", effort.into()),
        Some(effort) => {
            let field = format!("reasoning_effort` of `{effort}");
            return Err(from.none(&field, "say `none`, `low`, `medium`, `high` or `xhigh`"));
        }
    }
    Ok(())
}

/// The form of the answer (platform.claude.com/docs/en/build-with-claude/structured-outputs).
fn form(from: &mut Part, to: &mut Map<String, Value>) -> Result<()> {
    let Some(mut format) = from.part("response_format")? else { return Ok(()) };
    match format.needed("type")?.as_str() {
        "text" => {}
        "json_schema" => {
            let mut named = format.part("json_schema")?;
            let Some(schema) = named.as_mut().and_then(|named| named.take("schema")) else {
                return Err(wrong("response_format.json_schema.schema", "is missing"));
            };
            config(to, "format", json!({ "type": "json_schema", "schema": schema }));
        }
        kind => {
            return Err(
                format.unknown(kind, "send a `json_schema`, or a tool whose arguments are the answer")
            );
        }
    }
    format.end()
}

fn config(to: &mut Map<String, Value>, field: &str, value: Value) {
    let config = to.entry("output_config").or_insert_with(|| json!({}));
    config[field] = value;
}
