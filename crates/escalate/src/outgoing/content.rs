//! What a client's messages hold beside text. What nobody could bound before it is sent is refused by name; of the rest it
//! is known how many tokens it can have.

use serde_json::{Map, Value};

use super::bad;
use crate::{Dialect, Result};

/// The most tokens of a picture, which its bytes do not tell. Anthropic makes larger ones smaller, to 4,784
/// (platform.claude.com/docs/en/build-with-claude/vision); of OpenAI's models gpt-4o-mini counts most, 2,833 and 5,667 for
/// each of up to eight tiles (platform.openai.com/docs/guides/images-vision).
fn picture(dialect: Dialect) -> u64 {
    match dialect {
        Dialect::Anthropic => 5_000,
        Dialect::Openai => 50_000,
    }
}

/// Tokens of a document beside those of its bytes, since its pages are pictures as well: enough for about fifty. What a
/// longer one has more is known when the server has counted it.
const DOCUMENT: u64 = 100_000;

/// What changes a conversation on the server and asks the model nothing
/// (platform.claude.com/docs/en/build-with-claude/context-editing).
const EDITS: [&str; 2] = ["clear_thinking_", "clear_tool_uses_"];

/// What is known of content that is no text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// Bytes of pictures, which are no tokens.
    pub(super) pixels: u64,
    /// Bytes of documents, which may be fewer tokens than those of a text.
    pub(super) papers: u64,
    /// The most tokens of all pictures, and of documents beside their bytes.
    pub(super) tokens: u64,
}

impl Content {
    /// That of a request.
    pub(super) fn of(dialect: Dialect, body: &Map<String, Value>) -> Result<Content> {
        check_edits(body.get("context_management"))?;
        check_cache(body)?;
        for tool in body.get("tools").and_then(Value::as_array).into_iter().flatten() {
            tool.as_object().map_or(Ok(()), check_cache)?;
        }
        let mut content = Content::default();
        for said in ["system", "messages"] {
            body.get(said).map_or(Ok(()), |value| content.add(dialect, value))?;
        }
        Ok(content)
    }

    fn add(&mut self, dialect: Dialect, value: &Value) -> Result<()> {
        let map = match value {
            Value::Array(items) => return items.iter().try_for_each(|item| self.add(dialect, item)),
            Value::Object(map) => map,
            _ => return Ok(()),
        };
        check_cache(map)?;
        if map.get("file_id").is_some_and(|id| !id.is_null()) {
            return Err(elsewhere("`file_id`"));
        }
        self.source(dialect, map.get("source").unwrap_or(&Value::Null))?;
        for name in ["image_url", "video_url", "file"] {
            let Some(holder) = map.get(name) else { continue };
            let of = if name == "file" { "file_data" } else { "url" };
            if let Some(data) = holder.as_str().or(holder[of].as_str()) {
                let Some(data) = data.strip_prefix("data:") else {
                    return Err(elsewhere(&format!("`{name}`")));
                };
                self.bytes(dialect, data.starts_with("image/"), data);
            }
        }
        // What a tool was called with is data, whatever it looks like.
        let call = map.get("type").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("tool_use"));
        let parts = map.iter().filter(|(name, _)| !(call && *name == "input"));
        parts.map(|(_, part)| part).try_for_each(|part| self.add(dialect, part))
    }

    /// Where Anthropic's pictures and documents come from.
    fn source(&mut self, dialect: Dialect, source: &Value) -> Result<()> {
        match source["type"].as_str() {
            Some(kind @ ("url" | "file")) => Err(elsewhere(&format!("a `source` of type `{kind}`"))),
            Some("base64") => {
                let kind = source["media_type"].as_str().unwrap_or_default();
                self.bytes(dialect, kind.starts_with("image/"), source["data"].as_str().unwrap_or_default());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn bytes(&mut self, dialect: Dialect, is_picture: bool, data: &str) {
        if is_picture {
            self.pixels += data.len() as u64;
            self.tokens += picture(dialect);
        } else {
            self.papers += data.len() as u64;
            self.tokens += DOCUMENT;
        }
    }
}

fn elsewhere(what: &str) -> crate::Error {
    bad(format!("{what}: a picture or file that is somewhere else is not passed on; send its bytes"))
}

/// Refuses a summary that the server would let the model write before it answers: it is charged beside the answer.
fn check_edits(management: Option<&Value>) -> Result<()> {
    let edits = management.and_then(|management| management["edits"].as_array());
    for edit in edits.into_iter().flatten() {
        let kind = edit["type"].as_str().unwrap_or_default();
        if !EDITS.iter().any(|begin| kind.starts_with(begin)) {
            let kind: String = kind.chars().take(80).collect();
            return Err(bad(format!(
                "`context_management`: an edit of type `{kind}` may be charged beside the answer; leave it out"
            )));
        }
    }
    Ok(())
}

/// Refuses a mark whose price is not the one of the table, which is for five minutes.
fn check_cache(map: &Map<String, Value>) -> Result<()> {
    let ttl = map.get("cache_control").and_then(|mark| mark["ttl"].as_str());
    match ttl.filter(|ttl| *ttl != "5m") {
        Some(ttl) => {
            let ttl: String = ttl.chars().take(80).collect();
            Err(bad(format!(
                "`cache_control`: a `ttl` of `{ttl}` has another price; leave it out, or say `5m`"
            )))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(dialect: Dialect, block: Value) -> Result<Content> {
        let body = json!({ "messages": [{ "role": "user", "content": [block] }] });
        Content::of(dialect, body.as_object().unwrap())
    }

    #[test]
    fn pictures_and_documents_have_more_tokens_than_their_bytes_say() {
        let icon = "A".repeat(100);
        let url = format!("data:image/png;base64,{icon}");
        let picture = json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": icon } });
        let result = json!({ "type": "tool_result", "tool_use_id": "t", "content": [picture, picture] });
        let paper = json!({ "type": "document", "source": { "type": "base64", "media_type": "application/pdf", "data": icon } });
        let text = json!({ "type": "document", "source": { "type": "text", "media_type": "text/plain", "data": icon } });
        for (block, pixels, papers, tokens) in [
            (picture.clone(), 100, 0, 5_000),
            (result, 200, 0, 10_000),
            (paper, 0, 100, DOCUMENT),
            (text, 0, 0, 0),
            (
                json!({ "type": "document", "source": { "type": "content", "content": [picture] } }),
                100,
                0,
                5_000,
            ),
        ] {
            let expected = Content { pixels, papers, tokens };
            assert_eq!(of(Dialect::Anthropic, block.clone()).unwrap(), expected, "{block}");
        }
        let pixels = url.len() as u64 - 5;
        for (block, pixels, papers, tokens) in [
            (json!({ "type": "image_url", "image_url": { "url": url } }), pixels, 0, 50_000),
            (json!({ "type": "image_url", "image_url": url }), pixels, 0, 50_000),
            (
                json!({ "type": "file", "file": { "file_data": "data:application/pdf;base64,AA" } }),
                0,
                25,
                DOCUMENT,
            ),
            (json!({ "type": "text", "text": "image_url" }), 0, 0, 0),
        ] {
            let expected = Content { pixels, papers, tokens };
            assert_eq!(of(Dialect::Openai, block.clone()).unwrap(), expected, "{block}");
        }
    }

    #[test]
    fn what_is_somewhere_else_is_refused_by_name() {
        for (block, word) in [
            (json!({ "type": "image", "source": { "type": "url", "url": "https://x" } }), "`url`"),
            (json!({ "type": "document", "source": { "type": "file", "file_id": "f" } }), "`file`"),
            (json!({ "type": "container_upload", "file_id": "f" }), "`file_id`"),
            (json!({ "type": "file", "file": { "file_id": "f" } }), "`file_id`"),
            (json!({ "type": "file", "file": { "file_data": "https://x" } }), "`file`"),
            (json!({ "type": "image_url", "image_url": "https://x" }), "`image_url`"),
            (json!({ "type": "video_url", "video_url": { "url": "https://x" } }), "`video_url`"),
        ] {
            let error = of(Dialect::Openai, block.clone()).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("send its bytes"), "{block}: {error}");
        }
    }

    #[test]
    fn what_has_another_price_is_refused_by_name() {
        let hour = json!({ "type": "ephemeral", "ttl": "1h" });
        let edits =
            |kind: &str| json!({ "edits": [{ "type": "clear_thinking_20251015" }, { "type": kind }] });
        for (body, word) in [
            (json!({ "cache_control": hour }), "`1h`"),
            (json!({ "system": [{ "type": "text", "text": "a", "cache_control": hour }] }), "`1h`"),
            (json!({ "messages": [{ "content": [{ "text": "a", "cache_control": hour }] }] }), "`1h`"),
            (json!({ "tools": [{ "name": "f", "cache_control": hour }] }), "`1h`"),
            (json!({ "context_management": edits("compact_20260112") }), "`compact_20260112`"),
        ] {
            let error = Content::of(Dialect::Anthropic, body.as_object().unwrap()).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("leave it out"), "{body}: {error}");
        }
        let usual = json!({ "cache_control": { "type": "ephemeral", "ttl": "5m" }, "context_management": edits("clear_tool_uses_20250919"),
                            "system": [{ "type": "text", "text": "a", "cache_control": { "type": "ephemeral" } }],
                            "tools": [{ "name": "f", "input_schema": { "default": { "cache_control": hour } } }] });
        assert!(Content::of(Dialect::Anthropic, usual.as_object().unwrap()).is_ok());
    }
}
