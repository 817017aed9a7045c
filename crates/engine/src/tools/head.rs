//! How a call begins, as far as it can be told from its first characters.

use serde_json::{Map, Value};

use super::ToolSet;

/// What a text is the beginning of.
#[derive(Debug, PartialEq)]
pub(super) enum Head {
    /// No call.
    No,
    /// Perhaps a call.
    Maybe,
    /// `{"name": NAME, "arguments": `, with what follows `:` at this byte: the first of an object.
    Json { tool: usize, at: usize },
    /// An object that has to be read whole to know.
    Collect,
    /// `<function=NAME>`.
    Xml { tool: usize },
}

/// Longer beginnings are none.
const MOST_HEAD: usize = 1024;

/// What `text`, from its first character that is no white space, is the beginning of.
pub(super) fn head(text: &str, set: &ToolSet) -> Head {
    let start = text.trim_start();
    if text.len() > MOST_HEAD {
        return Head::No;
    }
    let Some(rest) = start.strip_prefix('{') else { return xml(start, set) };
    let found = json(rest, set).unwrap_or(Head::Maybe);
    match found {
        // Its place is counted from the end of the text.
        Head::Json { tool, at } => Head::Json { tool, at: text.len() - at },
        other => other,
    }
}

fn xml(text: &str, set: &ToolSet) -> Head {
    const BEGIN: &str = "<function=";
    let Some(name) = text.strip_prefix(BEGIN) else {
        return if BEGIN.starts_with(text) { Head::Maybe } else { Head::No };
    };
    match name.split_once('>') {
        Some((name, _)) => set.position(name).map_or(Head::No, |tool| Head::Xml { tool }),
        None if set.callable().any(|(_, tool)| tool.name.starts_with(name)) => Head::Maybe,
        None => Head::No,
    }
}

/// The same for what follows a `{`; nothing while it is undecided.
fn json(text: &str, set: &ToolSet) -> Option<Head> {
    const OTHERS: [&str; 5] = ["arguments", "parameters", "function", "type", "id"];
    let text = text.trim_start();
    let quoted = match text.chars().next()? {
        '"' => &text[1..],
        _ => return Some(Head::No),
    };
    let Some((key, rest)) = quoted.split_once('"') else {
        let possible = OTHERS.iter().chain(&["name"]).any(|key| key.starts_with(quoted));
        return (!possible).then_some(Head::No);
    };
    if OTHERS.contains(&key) {
        return Some(Head::Collect);
    }
    if key != "name" {
        return Some(Head::No);
    }
    let quoted = match after(rest, ':')? {
        Err(()) => return Some(Head::No),
        Ok(value) => match value.chars().next()? {
            '"' => &value[1..],
            _ => return Some(Head::No),
        },
    };
    let Some((name, rest)) = quoted.split_once('"') else {
        let possible = set.callable().any(|(_, tool)| tool.name.starts_with(quoted));
        return (!possible).then_some(Head::No);
    };
    let Some(tool) = set.position(name) else { return Some(Head::No) };
    let Ok(rest) = after(rest, ',')? else { return Some(Head::Collect) };
    let quoted = match rest.chars().next()? {
        '"' => &rest[1..],
        _ => return Some(Head::No),
    };
    let (key, rest) = quoted.split_once('"')?;
    let Ok(value) = after(rest, ':')? else { return Some(Head::No) };
    Some(match value.chars().next()? {
        '{' if key == "arguments" || key == "parameters" => Head::Json { tool, at: value.len() },
        _ => Head::Collect,
    })
}

/// What follows `sign` and white space; nothing while it is not there.
fn after(text: &str, sign: char) -> Option<Result<&str, ()>> {
    let text = text.trim_start();
    (!text.is_empty()).then(|| text.strip_prefix(sign).map(str::trim_start).ok_or(()))
}

/// The call that a whole object is: its tool and its arguments as JSON.
pub(super) fn whole(text: &str, set: &ToolSet) -> Option<(usize, String)> {
    let mut object: Map<String, Value> = serde_json::from_str(text).ok()?;
    if let Some(Value::Object(function)) = object.get_mut("function") {
        object = std::mem::take(function);
    }
    let tool = set.position(object.get("name")?.as_str()?)?;
    let arguments = ["arguments", "parameters"].iter().find_map(|key| object.remove(*key));
    let arguments = match arguments {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(map)) => map,
        // Arguments as the text of an object.
        Some(Value::String(text)) => serde_json::from_str(&text).ok()?,
        Some(_) => return None,
    };
    Some((tool, Value::Object(arguments).to_string()))
}
