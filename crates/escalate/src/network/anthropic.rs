//! Answers of Anthropic's Messages API, streamed (platform.claude.com/docs/en/build-with-claude/streaming) and whole
//! (…/api/messages), with its reasons to stop (…/build-with-claude/handling-stop-reasons).
//!
//! Blocks are picked by type, never by position: text is the answer, thoughts and everything unknown is left out.

use serde_json::Value;

use super::heard::{Ended, Heard, json, line, malformed};
use super::said;
use super::sse::Event;
use crate::{Fault, Tokens};

/// Takes in one event of a stream. Unknown kinds are passed over, as the vendor asks.
pub(super) fn event(heard: &mut Heard, event: &Event) -> Result<(), Fault> {
    if event.data.trim().is_empty() {
        return Ok(());
    }
    if event.data.trim() == "[DONE]" {
        heard.done = true;
        return Ok(());
    }
    let value = json(&event.data)?;
    match value["type"].as_str() {
        Some("message_start") => {
            heard.begun = true;
            name(heard, &value["message"]);
            prompt(heard, &value["message"]["usage"]);
        }
        Some("content_block_start") => text(heard, &value["content_block"]),
        Some("content_block_delta") if value["delta"]["type"] == "text_delta" => {
            heard.begun = true;
            heard.text.push_str(value["delta"]["text"].as_str().unwrap_or_default());
        }
        Some("message_delta") => {
            heard.begun = true;
            ended(heard, &value["delta"]);
            prompt(heard, &value["usage"]);
            output(heard, &value["usage"]);
        }
        Some("message_stop") => heard.done = true,
        Some("error") => return Err(said::mid_stream(&value)),
        // LiteLLM passes on errors of other vendors in their own form.
        None if value.get("error").is_some_and(|error| !error.is_null()) => {
            return Err(said::mid_stream(&value));
        }
        _ => {}
    }
    Ok(())
}

/// Takes in an answer that came as one JSON document.
pub(super) fn whole(heard: &mut Heard, body: &str) -> Result<(), Fault> {
    let value = json(body)?;
    if value["type"] == "error" || value.get("error").is_some_and(|error| !error.is_null()) {
        return Err(said::mid_stream(&value));
    }
    let Some(blocks) = value["content"].as_array() else {
        return Err(malformed("it has no `content`"));
    };
    heard.begun = true;
    name(heard, &value);
    blocks.iter().for_each(|block| text(heard, block));
    ended(heard, &value);
    prompt(heard, &value["usage"]);
    output(heard, &value["usage"]);
    heard.done = true;
    Ok(())
}

fn name(heard: &mut Heard, message: &Value) {
    heard.model = line(message["model"].as_str().unwrap_or_default());
}

fn text(heard: &mut Heard, block: &Value) {
    if block["type"] == "text" {
        heard.text.push_str(block["text"].as_str().unwrap_or_default());
    }
}

fn ended(heard: &mut Heard, holder: &Value) {
    let Some(reason) = holder["stop_reason"].as_str() else { return };
    heard.ended = Some(match reason {
        "end_turn" | "stop_sequence" => Ended::Stop,
        "max_tokens" => Ended::Length,
        "model_context_window_exceeded" => Ended::ContextFull,
        "refusal" => {
            let why = ["explanation", "category"].map(|field| holder["stop_details"][field].as_str());
            Ended::Refused(why.into_iter().flatten().next().unwrap_or("it gave no reason").to_owned())
        }
        other => Ended::Other(other.to_owned()),
    });
}

/// `input_tokens` has neither what was read from nor what was written to the cache.
fn prompt(heard: &mut Heard, usage: &Value) {
    let Some(input) = usage["input_tokens"].as_u64() else { return };
    let before = heard.prompt.unwrap_or_default();
    let count = |field: &str, before: u64| usage[field].as_u64().unwrap_or(before);
    heard.prompt = Some(Tokens {
        input,
        cache_write: count("cache_creation_input_tokens", before.cache_write),
        cache_read: count("cache_read_input_tokens", before.cache_read),
        output: 0,
    });
}

/// The last count is that of the whole answer; the one that a stream begins with is not.
fn output(heard: &mut Heard, usage: &Value) {
    heard.output = usage["output_tokens"].as_u64().or(heard.output);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::End;

    fn stream(events: &[&str]) -> Result<Heard, Fault> {
        let mut heard = Heard::default();
        for data in events {
            event(&mut heard, &Event { name: String::new(), data: (*data).to_owned() })?;
        }
        Ok(heard)
    }

    const START: &str = r#"{"type":"message_start","message":{"model":"claude-x","content":[],"stop_reason":null,
        "usage":{"input_tokens":25,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}}"#;

    fn end(reason: &str) -> String {
        format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}"}},"usage":{{"output_tokens":15}}}}"#
        )
    }

    #[test]
    fn text_blocks_are_the_answer_and_thoughts_are_not() {
        let mut heard = stream(&[
            START,
            r#"{"type":"ping"}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","text":"no"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hel"}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"lo"}}"#,
            r#"{"type":"something_new"}"#,
            &end("end_turn"),
            r#"{"type":"message_stop"}"#,
        ])
        .unwrap();
        assert!(heard.done);
        assert_eq!(heard.prompt, Some(Tokens { input: 25, cache_write: 3, cache_read: 4, output: 0 }));
        assert_eq!((heard.output, heard.model.as_str()), (Some(15), "claude-x"));
        assert_eq!(heard.finish(), Ok(("Hello".to_owned(), End::Stop)));
    }

    #[test]
    fn every_reason_to_stop() {
        let finish = |reason: &str| stream(&[START, &end(reason)]).unwrap().finish();
        assert_eq!(finish("max_tokens"), Ok((String::new(), End::Length)));
        assert!(matches!(finish("refusal"), Err(Fault::Refused { .. })));
        assert_eq!(
            finish("model_context_window_exceeded"),
            Err(Fault::TooLong { tokens: Some(47), limit: None })
        );
        assert!(matches!(finish("tool_use"), Err(Fault::Malformed { .. })));
        assert!(matches!(stream(&[START]).unwrap().finish(), Err(Fault::CutOff { .. })));
        assert!(matches!(Heard::default().finish(), Err(Fault::Malformed { .. })));
    }

    #[test]
    fn errors_come_mid_stream_too() {
        let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        assert_eq!(
            stream(&[START, error]),
            Err(Fault::Server { status: 529, message: "Overloaded".to_owned() })
        );
    }

    #[test]
    fn a_whole_answer() {
        let mut heard = Heard::default();
        let body = r#"{"type":"message","model":"m","stop_reason":"refusal","stop_details":{"explanation":"no\nway"},
            "content":[{"type":"thinking","thinking":"x"},{"type":"text","text":"a"},{"type":"text","text":"b"}],
            "usage":{"input_tokens":1,"output_tokens":2}}"#;
        whole(&mut heard, body).unwrap();
        assert_eq!((heard.text.as_str(), heard.output), ("ab", Some(2)));
        assert_eq!(heard.finish(), Err(Fault::Refused { message: "no\nway".to_owned() }));
        assert!(matches!(whole(&mut Heard::default(), "{}"), Err(Fault::Malformed { .. })));
        let deep = "[".repeat(100_000);
        assert!(matches!(whole(&mut Heard::default(), &deep), Err(Fault::Malformed { .. })));
    }
}
