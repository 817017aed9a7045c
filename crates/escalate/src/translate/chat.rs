//! Requests of OpenAI's chat completions (platform.openai.com/docs/api-reference/chat/create), made of Anthropic's Messages
//! API (platform.claude.com/docs/en/api/messages).

use serde_json::{Map, Value, json};

use super::{Notes, Part, parts, wrong};
use crate::Result;

/// The longest name of whoever asks that OpenAI takes.
const LONGEST_USER: usize = 64;

/// A line that Claude Code puts before the prompt. It changes with every request, so with it no server's cache would ever
/// know a conversation; and it says nothing to a model.
const BILLING: &str = "x-anthropic-billing-header:";

/// Edits of a conversation that only save what is sent again.
const EDITS: [&str; 2] = ["clear_thinking_", "clear_tool_uses_"];

pub(super) fn request(mut from: Part, notes: &mut Notes) -> Result<Map<String, Value>> {
    let mut to = Map::new();
    to.insert("messages".to_owned(), conversation(&mut from, notes)?.into());
    for field in ["max_tokens", "model", "stream", "temperature", "top_p"] {
        to.extend(from.take(field).map(|value| (field.to_owned(), value)));
    }
    let stop = from.take("stop_sequences").filter(|stop| stop.as_array().is_none_or(|stop| !stop.is_empty()));
    to.extend(stop.map(|stop| ("stop".to_owned(), stop)));
    let tools = from.parts("tools")?.into_iter().map(|one| tool(one, notes)).collect::<Result<Vec<_>>>()?;
    choice(&mut from, !tools.is_empty(), &mut to)?;
    if !tools.is_empty() {
        to.insert("tools".to_owned(), tools.into());
    }
    if let Some(mut metadata) = from.part("metadata")? {
        match metadata.text("user_id")? {
            Some(user) if user.len() <= LONGEST_USER => drop(to.insert("user".to_owned(), user.into())),
            Some(_) => drop(notes.insert("user_id")),
            None => {}
        }
        metadata.end()?;
    }
    // How a model thinks is set where it runs.
    from.note("thinking", notes);
    from.usual("service_tier", |tier| *tier == "auto" || *tier == "standard_only")?;
    from.note("cache_control", notes);
    edits(&mut from, notes)?;
    form(&mut from, &mut to)?;
    from.end().map(|()| to)
}

fn edits(from: &mut Part, notes: &mut Notes) -> Result<()> {
    let Some(mut management) = from.part("context_management")? else { return Ok(()) };
    for mut edit in management.parts("edits")? {
        let kind = edit.needed("type")?;
        if !EDITS.iter().any(|begin| kind.starts_with(begin)) {
            return Err(edit.unknown(&kind, "leave it out"));
        }
    }
    notes.insert("context_management");
    management.end()
}

/// Effort and form of the answer, by the names that they had and have.
fn form(from: &mut Part, to: &mut Map<String, Value>) -> Result<()> {
    let mut config = from.part("output_config")?;
    let effort = config.as_mut().map(|config| config.text("effort")).transpose()?.flatten();
    if let Some(effort) = effort {
        if effort == "max" {
            return Err(from.none("output_config.effort` of `max", "say `xhigh`, or less"));
        }
        to.insert("reasoning_effort".to_owned(), effort.into());
    }
    let format = config.as_mut().map(|config| config.part("format")).transpose()?.flatten();
    if let Some(mut format) = format.or(from.part("output_format")?) {
        let (kind, schema) = (format.needed("type")?, format.take("schema"));
        let Some(schema) = schema.filter(|_| kind == "json_schema") else {
            return Err(format.unknown(&kind, "send a `json_schema`"));
        };
        let named = json!({ "name": "answer", "strict": true, "schema": schema });
        to.insert("response_format".to_owned(), json!({ "type": "json_schema", "json_schema": named }));
        format.end()?;
    }
    config.map_or(Ok(()), Part::end)
}

fn conversation(from: &mut Part, notes: &mut Notes) -> Result<Vec<Value>> {
    let mut messages = Vec::new();
    let mut system = Blocks::of(from, "system", notes)?.said;
    system.retain(|part| !super::text(part, "text").starts_with(BILLING));
    messages.extend(spoken("system", system));
    for mut said in from.parts("messages")? {
        let role = said.needed("role")?;
        let Blocks { said: parts, calls, results } = Blocks::of(&mut said, "content", notes)?;
        let misplaced = |what: &str| {
            wrong(&said.name("content"), &format!("has {what}, which the role `{role}` has not"))
        };
        match role.as_str() {
            "assistant" if results.is_empty() => messages.extend(answer(parts, calls)),
            "assistant" => return Err(misplaced("results")),
            "user" | "system" if !calls.is_empty() => return Err(misplaced("calls")),
            "system" if !results.is_empty() => return Err(misplaced("results")),
            "user" | "system" => {
                // Results follow their calls, and what else is said follows the results.
                messages.extend(results);
                messages.extend(spoken(&role, parts));
            }
            _ => return Err(wrong(&said.name("role"), "is none that is known")),
        }
        said.end()?;
    }
    Ok(messages)
}

/// A message of these parts, if there are some. Texts alone are one text, which every server understands.
fn spoken(role: &str, parts: Vec<Value>) -> Option<Value> {
    if parts.is_empty() {
        return None;
    }
    let texts: Option<Vec<&str>> = parts.iter().map(|part| part["text"].as_str()).collect();
    let content = texts.map_or_else(|| Value::Array(parts.clone()), |texts| texts.join("\n\n").into());
    Some(json!({ "role": role, "content": content }))
}

fn answer(parts: Vec<Value>, calls: Vec<Value>) -> Option<Value> {
    if calls.is_empty() {
        return spoken("assistant", parts);
    }
    let mut message =
        spoken("assistant", parts).unwrap_or_else(|| json!({ "role": "assistant", "content": null }));
    message["tool_calls"] = calls.into();
    Some(message)
}

/// What a message holds, by what becomes of it.
#[derive(Default)]
struct Blocks {
    /// Parts of a message.
    said: Vec<Value>,
    /// Calls of tools.
    calls: Vec<Value>,
    /// Messages of tools.
    results: Vec<Value>,
}

impl Blocks {
    fn of(said: &mut Part, field: &str, notes: &mut Notes) -> Result<Blocks> {
        let at = said.name(field);
        let mut blocks = Blocks::default();
        match said.take(field) {
            None => {}
            Some(Value::String(text)) => blocks.text(text),
            Some(Value::Array(list)) => {
                for block in parts(list, &at, said.to)? {
                    blocks.add(block, notes)?;
                }
            }
            Some(_) => return Err(wrong(&at, "must be a text or a list of blocks")),
        }
        Ok(blocks)
    }

    fn text(&mut self, text: String) {
        if !text.is_empty() {
            self.said.push(json!({ "type": "text", "text": text }));
        }
    }

    fn add(&mut self, mut block: Part, notes: &mut Notes) -> Result<()> {
        let kind = block.needed("type")?;
        block.note("cache_control", notes);
        match kind.as_str() {
            "text" => {
                let text = block.needed("text")?;
                self.text(text);
            }
            "image" => self.said.push(picture(&mut block)?),
            "document" => self.said.push(document(&mut block)?),
            "tool_use" => self.calls.push(call(&mut block)?),
            "tool_result" => self.result(&mut block, notes)?,
            // Only the server that signed them takes thoughts back, and it needs them for nothing but its cache.
            "thinking" | "redacted_thinking" => {
                notes.insert("thinking");
                return Ok(());
            }
            kind => return Err(block.unknown(kind, "leave it out")),
        }
        block.end()
    }

    /// A tool's message has text alone; pictures of it are said after it.
    fn result(&mut self, block: &mut Part, notes: &mut Notes) -> Result<()> {
        let (id, failed) = (block.needed("tool_use_id")?, block.flag("is_error")? == Some(true));
        let Blocks { said, calls, results } = Blocks::of(block, "content", notes)?;
        if !calls.is_empty() || !results.is_empty() {
            return Err(wrong(
                &block.name("content"),
                "has calls or results; only texts, pictures and documents belong there",
            ));
        }
        let (texts, others): (Vec<Value>, Vec<Value>) =
            said.into_iter().partition(|part| part["text"].is_string());
        let mut words: Vec<&str> = texts.iter().map(|part| super::text(part, "text")).collect();
        if failed {
            words.insert(0, "The tool failed.");
        }
        if !others.is_empty() {
            words.push("Its pictures follow.");
        }
        self.results.push(json!({ "role": "tool", "tool_call_id": id, "content": words.join("\n\n") }));
        self.said.extend(others);
        Ok(())
    }
}

fn picture(block: &mut Part) -> Result<Value> {
    let Some(mut source) = block.part("source")? else {
        return Err(wrong(&block.name("source"), "is missing"));
    };
    let url = match source.needed("type")?.as_str() {
        "base64" => format!("data:{};base64,{}", source.needed("media_type")?, source.needed("data")?),
        "url" => source.needed("url")?,
        kind => return Err(source.unknown(kind, "send its bytes as `base64`")),
    };
    source.end()?;
    Ok(json!({ "type": "image_url", "image_url": { "url": url } }))
}

fn document(block: &mut Part) -> Result<Value> {
    let Some(mut source) = block.part("source")? else {
        return Err(wrong(&block.name("source"), "is missing"));
    };
    let (title, context) = (block.text("title")?, block.text("context")?);
    if let Some(mut citations) = block.part("citations")? {
        if citations.flag("enabled")? == Some(true) {
            return Err(block.none(&block.name("citations"), "leave it out"));
        }
        citations.end()?;
    }
    let made = match source.needed("type")?.as_str() {
        "base64" => {
            let data = format!("data:{};base64,{}", source.needed("media_type")?, source.needed("data")?);
            let name = title.unwrap_or_else(|| "document".to_owned());
            if context.is_some() {
                return Err(block.none(&block.name("context"), "say it as a text beside the document"));
            }
            json!({ "type": "file", "file": { "filename": name, "file_data": data } })
        }
        "text" => {
            source.take("media_type");
            let text =
                [title, context, Some(source.needed("data")?)].into_iter().flatten().collect::<Vec<_>>();
            json!({ "type": "text", "text": text.join("\n\n") })
        }
        kind => return Err(source.unknown(kind, "send its bytes as `base64`, or its `text`")),
    };
    source.end().map(|()| made)
}

fn call(block: &mut Part) -> Result<Value> {
    let input = block.take("input").unwrap_or_else(|| json!({}));
    // Who called it, which is the model where no server runs tools.
    block.usual("caller", |caller| caller["type"] == "direct")?;
    let function = json!({ "name": block.needed("name")?, "arguments": input.to_string() });
    Ok(json!({ "id": block.needed("id")?, "type": "function", "function": function }))
}

fn tool(mut tool: Part, notes: &mut Notes) -> Result<Value> {
    if let Some(kind) = tool.text("type")?.filter(|kind| kind != "custom") {
        return Err(tool.unknown(&kind, "describe it with an `input_schema`"));
    }
    tool.note("cache_control", notes);
    tool.note("eager_input_streaming", notes);
    tool.note("input_examples", notes);
    tool.usual("defer_loading", |deferred| *deferred == false)?;
    let schema = tool.take("input_schema").unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
    let mut function = json!({ "name": tool.needed("name")?, "parameters": schema });
    if let Some(description) = tool.text("description")? {
        function["description"] = description.into();
    }
    if tool.flag("strict")? == Some(true) {
        function["strict"] = true.into();
    }
    tool.end().map(|()| json!({ "type": "function", "function": function }))
}

fn choice(from: &mut Part, has_tools: bool, to: &mut Map<String, Value>) -> Result<()> {
    let Some(mut choice) = from.part("tool_choice")? else { return Ok(()) };
    let made = match choice.needed("type")?.as_str() {
        "auto" => None,
        "none" => Some("none".into()),
        "any" => Some("required".into()),
        "tool" => Some(json!({ "type": "function", "function": { "name": choice.needed("name")? } })),
        _ => return Err(wrong("tool_choice.type", "must be `auto`, `any`, `tool` or `none`")),
    };
    let alone = choice.flag("disable_parallel_tool_use")? == Some(true);
    choice.end()?;
    // Servers refuse a choice among no tools.
    if has_tools {
        to.extend(made.map(|made| ("tool_choice".to_owned(), made)));
        to.extend(alone.then(|| ("parallel_tool_calls".to_owned(), false.into())));
    } else if made.is_some_and(|made| made != "none") {
        return Err(wrong("tool_choice", "asks for a call, and `tools` offers none"));
    }
    Ok(())
}
