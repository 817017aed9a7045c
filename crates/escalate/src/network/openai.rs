//! Answers of OpenAI's chat completions, streamed (platform.openai.com/docs/api-reference/chat-streaming) and whole
//! (…/api-reference/chat/object), with the differences of servers that imitate them.

use serde_json::Value;

use super::heard::{Ended, Heard, json, line, malformed};
use super::said;
use super::sse::Event;
use crate::{Fault, Tokens, translate};

/// Takes in one event of a stream.
pub(super) fn event(heard: &mut Heard, event: &Event) -> Result<(), Fault> {
    match event.data.trim() {
        "" => return Ok(()),
        "[DONE]" => {
            heard.done = true;
            return Ok(());
        }
        _ => {}
    }
    let value = json(&event.data)?;
    fail(&value, &event.name)?;
    take(heard, &value);
    Ok(())
}

/// Takes in an answer that came as one JSON document.
pub(super) fn whole(heard: &mut Heard, body: &str) -> Result<(), Fault> {
    let value = json(body)?;
    fail(&value, "")?;
    if !value["choices"].is_array() {
        return Err(malformed("it has no `choices`"));
    }
    take(heard, &value);
    heard.done = true;
    Ok(())
}

fn fail(value: &Value, name: &str) -> Result<(), Fault> {
    let has_error = value.get("error").is_some_and(|error| !error.is_null());
    if has_error || name == "error" || value["object"] == "error" {
        return Err(said::mid_stream(value));
    }
    // OpenRouter ends a choice with what its vendor said.
    let choice = &value["choices"][0];
    if choice["error"].is_object() {
        return Err(said::mid_stream(choice));
    }
    if choice["finish_reason"] == "error" {
        return Err(Fault::Server { status: 502, message: "it ended the answer with an error".to_owned() });
    }
    Ok(())
}

/// A document or a chunk of one: they differ in the name of what holds the text.
fn take(heard: &mut Heard, value: &Value) {
    if let Some(model) = value["model"].as_str().filter(|model| !model.is_empty()) {
        heard.model = line(model);
    }
    usage(heard, &value["usage"]);
    // There is one choice; the last chunk has only the usage.
    let Some(choice) = value["choices"].get(0) else { return };
    heard.begun = true;
    for holder in [&choice["delta"], &choice["message"]] {
        heard.text += &translate::words(&holder["content"]);
        if let Some(refusal) = holder["refusal"].as_str().filter(|refusal| !refusal.is_empty()) {
            match &mut heard.ended {
                Some(Ended::Refused(said)) => said.push_str(refusal),
                ended => *ended = Some(Ended::Refused(refusal.to_owned())),
            }
        }
    }
    let refused = matches!(heard.ended, Some(Ended::Refused(_)));
    if let (Some(reason), false) = (choice["finish_reason"].as_str(), refused) {
        heard.ended = Some(match reason {
            // The others are how some servers call the end of a turn.
            "stop" | "end_turn" | "eos" | "eos_token" => Ended::Stop,
            "length" => Ended::Length,
            "content_filter" => Ended::Refused("a content filter stopped the answer".to_owned()),
            other => Ended::Other(other.to_owned()),
        });
    }
}

/// Counts, if it has both.
fn usage(heard: &mut Heard, usage: &Value) {
    if usage["prompt_tokens"].is_u64() && usage["completion_tokens"].is_u64() {
        let tokens = translate::tokens(usage);
        heard.prompt = Some(Tokens { output: 0, ..tokens });
        heard.output = Some(tokens.output);
    }
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

    #[test]
    fn chunks_make_an_answer() {
        let mut heard = stream(&[
            r#"{"model":"m","choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
            r#"{"choices":[{"delta":{"reasoning_content":"hm","content":null}}]}"#,
            r#"{"choices":[{"delta":{"content":"Hel"}}]}"#,
            r#"{"choices":[{"delta":{"content":[{"type":"text","text":"lo"},{"type":"x","text":"no"}]}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4}}}"#,
            "[DONE]",
        ])
        .unwrap();
        assert!(heard.done);
        assert_eq!(heard.prompt, Some(Tokens { input: 6, cache_write: 0, cache_read: 4, output: 0 }));
        assert_eq!((heard.output, heard.model.as_str()), (Some(5), "m"));
        assert_eq!(heard.finish(), Ok(("Hello".to_owned(), End::Stop)));
    }

    #[test]
    fn every_reason_to_stop() {
        let finish = |reason: &str| {
            let chunk = format!(r#"{{"choices":[{{"delta":{{}},"finish_reason":"{reason}"}}]}}"#);
            stream(&[&chunk]).unwrap().finish()
        };
        assert_eq!(finish("length"), Ok((String::new(), End::Length)));
        assert!(matches!(finish("content_filter"), Err(Fault::Refused { .. })));
        assert!(matches!(finish("tool_calls"), Err(Fault::Malformed { .. })));
        let refusal = stream(&[
            r#"{"choices":[{"delta":{"refusal":"I "}}]}"#,
            r#"{"choices":[{"delta":{"refusal":"won't"},"finish_reason":"stop"}]}"#,
        ]);
        assert_eq!(refusal.unwrap().finish(), Err(Fault::Refused { message: "I won't".to_owned() }));
        let cut = stream(&[r#"{"choices":[{"delta":{"content":"Hel"}}]}"#, "[DONE]"]);
        assert!(matches!(cut.unwrap().finish(), Err(Fault::CutOff { .. })));
    }

    #[test]
    fn errors_come_mid_stream_too() {
        let error = stream(&[r#"{"error":{"code":502,"message":"upstream"},"choices":[]}"#]);
        assert_eq!(error, Err(Fault::Server { status: 502, message: "upstream".to_owned() }));
        let error =
            stream(&[r#"{"choices":[{"error":{"code":429,"message":"slow"},"finish_reason":"error"}]}"#]);
        assert_eq!(error, Err(Fault::RateLimited { message: "slow".to_owned(), after_s: None }));
        let error = stream(&[r#"{"choices":[{"delta":{},"finish_reason":"error"}]}"#]);
        assert!(matches!(error, Err(Fault::Server { status: 502, .. })));
        let mut heard = Heard::default();
        let data = r#"{"code":400,"message":"the request exceeds the available context size"}"#;
        let llama = Event { name: "error".to_owned(), data: data.to_owned() };
        assert!(matches!(event(&mut heard, &llama), Err(Fault::TooLong { .. })));
        let error = stream(&[r#"{"object":"error","message":"boom","code":500}"#]);
        assert_eq!(error, Err(Fault::Server { status: 500, message: "boom".to_owned() }));
    }

    #[test]
    fn a_whole_answer_and_counts_that_cannot_be() {
        let mut heard = Heard::default();
        let body = r#"{"model":"m","choices":[{"message":{"content":"ab","refusal":null},"finish_reason":"stop"}],
            "usage":{"prompt_tokens":3,"completion_tokens":2,"cache_creation_input_tokens":9,
                     "prompt_tokens_details":{"cached_tokens":2}}}"#;
        whole(&mut heard, body).unwrap();
        assert_eq!(heard.prompt, Some(Tokens { input: 0, cache_write: 1, cache_read: 2, output: 0 }));
        assert_eq!(heard.finish(), Ok(("ab".to_owned(), End::Stop)));
        for body in ["{}", "[]", "null", r#"{"choices":7}"#, "<html>"] {
            assert!(matches!(whole(&mut Heard::default(), body), Err(Fault::Malformed { .. })), "{body}");
        }
    }
}
