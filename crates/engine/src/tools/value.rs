//! A value in the XML format: text to JSON, by the schema.

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::grammar::schema::types::Types;

/// `text` as JSON. Where a string may stand it is one, unless it is another type that may stand there; elsewhere it is
/// JSON, or what else is usual for it. A text that is nothing of that is given as a string: whoever called judges it.
pub(super) fn convert(text: &str, types: Types) -> String {
    if types.has(Types::STRING) {
        return other_than_string(text, types).unwrap_or_else(|| Value::from(text).to_string());
    }
    let trimmed = text.trim();
    match trimmed {
        "True" | "False" if types.has(Types::BOOLEAN) => return trimmed.to_lowercase(),
        "None" if types.has(Types::NULL) => return "null".to_owned(),
        _ => {}
    }
    if !is_json(trimmed) {
        return Value::from(text).to_string();
    }
    // A value whose JSON was written as a string once more.
    if let Ok(Value::String(inner)) = serde_json::from_str(trimmed)
        && is_json(&inner)
        && of_json(&inner).is_some_and(|kind| types.has(kind))
    {
        return inner;
    }
    trimmed.to_owned()
}

/// `text` as JSON of one of `types` that is no string, if it looks like one.
pub(super) fn other_than_string(text: &str, types: Types) -> Option<String> {
    let trimmed = text.trim_matches([' ', '\t', '\r', '\n']);
    let is_other = of_json(trimmed).is_some_and(|kind| kind != Types::STRING && types.has(kind));
    (is_other && is_json(trimmed)).then(|| trimmed.to_owned())
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
        && text.parse().is_ok_and(f64::is_finite) == is_number(text)
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// The type of JSON by its first character.
fn of_json(text: &str) -> Option<Types> {
    Some(match text.chars().next()? {
        '"' => Types::STRING,
        '{' => Types::OBJECT,
        '[' => Types::ARRAY,
        't' | 'f' => Types::BOOLEAN,
        'n' => Types::NULL,
        _ if !is_number(text) => return None,
        _ if text.contains(['.', 'e', 'E']) => Types::FRACTION,
        _ => Types::INTEGER,
    })
}
