//! Hostile answers: whatever a server sends, there is an answer or a fault, never a panic, and never more tokens than
//! can be added up.

use proptest::prelude::*;

use super::heard::Heard;
use super::sse::Stream;
use super::{anthropic, openai};
use crate::Dialect;

const DIALECTS: [Dialect; 2] = [Dialect::Anthropic, Dialect::Openai];

/// Good streams of both dialects, to be damaged.
const GOOD: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"usage\":{\"input_tokens\":9}}}\n\n",
    "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"H\\u00e9\"}}\n\n",
    "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\r\n\r\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"lo\",\"refusal\":null},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\n",
    "data: {\"error\":{\"message\":\"maximum context length is 9 tokens\",\"code\":\"x\"}}\n\n",
);

fn hear(dialect: Dialect, chunks: &[&[u8]]) -> Heard {
    let (mut heard, mut stream) = (Heard::default(), Stream::default());
    let hear = match dialect {
        Dialect::Anthropic => anthropic::event,
        Dialect::Openai => openai::event,
    };
    'all: for chunk in chunks {
        let Ok(events) = stream.push(chunk) else { break };
        for event in events {
            if hear(&mut heard, &event).is_err() || heard.done {
                break 'all;
            }
        }
    }
    if let Ok(Some(event)) = stream.end() {
        let _ = hear(&mut heard, &event);
    }
    let _ = heard.finish();
    heard
}

/// JSON with the fields that are looked for, and anything in them.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let field = prop::sample::select(vec![
        "type",
        "message",
        "usage",
        "input_tokens",
        "output_tokens",
        "delta",
        "text",
        "stop_reason",
        "stop_details",
        "content_block",
        "choices",
        "content",
        "refusal",
        "finish_reason",
        "error",
        "code",
        "detail",
        "model",
        "prompt_tokens",
        "completion_tokens",
        "prompt_tokens_details",
        "cached_tokens",
        "cache_creation_input_tokens",
    ]);
    let word = prop::sample::select(vec![
        "message_start",
        "content_block_delta",
        "text_delta",
        "message_delta",
        "error",
        "text",
        "refusal",
        "stop",
        "é",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<u64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        word.prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(serde_json::Value::from),
            prop::collection::vec((field.clone(), inner), 0..6).prop_map(|fields| fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_streams(damage in prop::collection::vec((0..GOOD.len(), any::<u8>()), 0..6), cut in 0..GOOD.len()) {
        let mut bytes = GOOD.as_bytes().to_vec();
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        for dialect in DIALECTS {
            hear(dialect, &[&bytes[..cut], &bytes[cut..]]);
        }
    }

    #[test]
    fn any_json_in_events_and_documents(values in prop::collection::vec(json(), 1..5)) {
        let text: String = values.iter().map(|value| format!("data: {value}\n\n")).collect();
        for dialect in DIALECTS {
            let heard = hear(dialect, &[text.as_bytes()]);
            let _ = heard.prompt.unwrap_or_default().prompt();
        }
        for value in values {
            let _ = anthropic::whole(&mut Heard::default(), &value.to_string());
            let _ = openai::whole(&mut Heard::default(), &value.to_string());
            let _ = super::said::response(400, &value.to_string()).to_string();
        }
    }
}

#[test]
fn deep_json_is_refused() {
    let deep = format!("data: {}\n\n", "{\"error\":".repeat(200_000));
    for dialect in DIALECTS {
        assert_eq!(hear(dialect, &[deep.as_bytes()]), Heard::default());
    }
}
