//! A client's own request on its way to somebody else: what may be in it, and how it is bound.
//!
//! Its bytes are made anew, so that the model is the rung's, the answer has a limit, and nothing is in it whose price
//! nobody could bound before it is sent: fields that are not known here, tools that a server runs itself, and content that
//! is somewhere else.

use serde_json::{Map, Value};

use super::content::Content;
use super::{ADDED_TOKENS, LONGEST_BODY, Outgoing, bad, openai};
use crate::translate::{self, Notes};
use crate::{Dialect, Endpoint, LimitName, Result, RungName};

/// Fields that are passed on, by dialect.
const ANTHROPIC: [&str; 16] = [
    "cache_control",
    "context_management",
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
];
const OPENAI: [&str; 27] = [
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "min_p",
    "model",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "user",
    "verbosity",
];
const BOTH: [&str; 2] = ["service_tier", "top_p"];

/// Tiers of service that have the prices of the table.
const TIERS: [&str; 3] = ["auto", "default", "standard_only"];

/// What only routes look at.
const OF_ROUTES: [&str; 3] = ["tags", "taskPhase", "phase"];

/// Models that refuse to be told how to sample, by what is in their names.
const UNSAMPLED: &str = include_str!("../../unsampled.txt");

/// Tools of Anthropic's that run on the client's side, by the beginnings of their types.
const CLIENT_TOOLS: [&str; 5] = ["custom", "bash_", "text_editor_", "computer_", "memory_"];

impl Outgoing {
    /// Makes a request of a client's `body`, which speaks the dialect `spoken`, for `model` of `rung` and at most
    /// `max_tokens` tokens of each answer. It is translated where the endpoint speaks the other one, and what is sent is what
    /// is checked and bound. `beta` is what the client's header `anthropic-beta` says.
    ///
    /// # Errors
    /// [`Error::BadAsk`](crate::Error::BadAsk) and [`Error::NoCounterpart`](crate::Error::NoCounterpart) naming what cannot be
    /// passed on.
    pub fn forward(
        endpoint: &Endpoint,
        (id, model): (String, &str),
        (rung, max_tokens): (&RungName, u32),
        (spoken, mut body): (Dialect, Map<String, Value>),
        beta: Option<String>,
    ) -> Result<Outgoing> {
        body.retain(|_, value| !value.is_null());
        if !body.get("messages").is_some_and(Value::is_array) {
            return Err(bad("`messages` is not a list".to_owned()));
        }
        forget_routes(&mut body);
        let mut left_out = Notes::new();
        if spoken != endpoint.dialect {
            (body, left_out) = translate::request(endpoint.dialect, body)?;
        }
        // A guess of the answer makes it come sooner, and what is wrong in it is charged, beyond every limit.
        if body.remove("prediction").is_some() {
            left_out.insert("prediction");
        }
        if spoken != endpoint.dialect && is_unsampled(model) {
            let sampling = ["temperature", "top_k", "top_p"].into_iter();
            left_out.extend(sampling.filter(|field| body.remove(*field).is_some()));
        }
        check_fields(endpoint.dialect, &body)?;
        body.get("tools").map_or(Ok(()), |tools| check_tools(endpoint.dialect, tools))?;
        let content = Content::of(endpoint.dialect, &body)?;
        body.insert("model".to_owned(), model.into());
        let stream = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
        let Limited { bound, asked } = limit(endpoint, &mut body, rung, max_tokens, stream)?;
        let base = endpoint.url.trim_end_matches('/');
        let url = match endpoint.dialect {
            Dialect::Anthropic => format!("{base}/v1/messages"),
            Dialect::Openai => format!("{base}/chat/completions"),
        };
        let body = serde_json::to_vec(&body).map_err(|problem| bad(problem.to_string()))?;
        if body.len() > LONGEST_BODY {
            return Err(bad(format!(
                "it has `{}` bytes, the limit is `{LONGEST_BODY}`; send less",
                body.len()
            )));
        }
        let endpoint = Endpoint { stream, ..endpoint.clone() };
        let plain =
            |beta: &String| beta.len() <= 1000 && beta.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let beta = beta.filter(|_| spoken == endpoint.dialect && spoken == Dialect::Anthropic).filter(plain);
        let prompt = body.len() as u64 - content.pixels + content.tokens + ADDED_TOKENS;
        let text = (body.len() as u64).saturating_sub(content.pixels + content.papers);
        let (model, left_out) = (model.to_owned(), left_out.into_iter().collect());
        Ok(Outgoing {
            endpoint,
            url,
            id,
            model,
            prompt,
            text,
            max_tokens: bound,
            asked,
            left_out,
            body,
            beta,
        })
    }
}

/// The limit that answers got.
struct Limited {
    /// The most tokens of all answers together.
    bound: u32,
    /// What the client asked for, if it was more.
    asked: Option<u64>,
}

/// Gives each answer a limit of `most` tokens, or fewer if the client says so.
fn limit(
    endpoint: &Endpoint,
    body: &mut Map<String, Value>,
    rung: &RungName,
    most: u32,
    stream: bool,
) -> Result<Limited> {
    let given = |body: &Map<String, Value>, name: &str| body.get(name).and_then(Value::as_u64);
    let wanted = given(body, "max_tokens").or(given(body, "max_completion_tokens"));
    let tokens = wanted.map_or(most, |wanted| u32::try_from(wanted).unwrap_or(u32::MAX).min(most)).max(1);
    let asked = wanted.filter(|wanted| *wanted > u64::from(tokens));
    if endpoint.dialect == Dialect::Anthropic {
        fit_thoughts(body, wanted, tokens, rung)?;
        body.insert("max_tokens".to_owned(), tokens.into());
        return Ok(Limited { bound: tokens, asked });
    }
    let answers = match body.get("n") {
        None => 1,
        Some(n) => n
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| (1..=16).contains(n))
            .ok_or_else(|| bad("`n`: must be between `1` and `16`".to_owned()))?,
    };
    let name = match openai::limit_name(endpoint) {
        LimitName::MaxTokens => "max_tokens",
        LimitName::MaxCompletionTokens => "max_completion_tokens",
    };
    body.remove("max_tokens");
    body.remove("max_completion_tokens");
    body.insert(name.to_owned(), tokens.into());
    if stream {
        // Without its count, an answer would have to be taken for the longest that it can be.
        let options = body.entry("stream_options").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(options) = options {
            options.insert("include_usage".to_owned(), true.into());
        }
    }
    Ok(Limited { bound: tokens.saturating_mul(answers), asked })
}

/// Thoughts are a part of the answer: of one that may have fewer tokens than the client asked for, they get the same share.
/// A server would refuse those that do not fit, and knows no setting of this program's.
fn fit_thoughts(
    body: &mut Map<String, Value>,
    wanted: Option<u64>,
    tokens: u32,
    rung: &RungName,
) -> Result<()> {
    /// Servers take no less (platform.claude.com/docs/en/build-with-claude/extended-thinking).
    const LEAST: u64 = 1024;
    let Some(budget) = body.get_mut("thinking").and_then(|thinking| thinking.get_mut("budget_tokens")) else {
        return Ok(());
    };
    let Some(thoughts) = budget.as_u64() else { return Ok(()) };
    let tokens = u64::from(tokens);
    let fits = match wanted {
        Some(wanted) if wanted <= tokens => return Ok(()),
        Some(wanted) => (u128::from(thoughts) * u128::from(tokens) / u128::from(wanted)) as u64,
        None => thoughts,
    };
    if fits < LEAST && thoughts >= LEAST || wanted.is_none() && fits >= tokens {
        return Err(bad(format!(
            "`thinking`: `{thoughts}` tokens of thoughts do not fit into an answer of `{tokens}`; raise `rungs.\"{rung}\".max_tokens` \
             in coder.toml, or think less"
        )));
    }
    *budget = fits.into();
    Ok(())
}

/// Refuses what is not known, and what has another price.
fn check_fields(dialect: Dialect, body: &Map<String, Value>) -> Result<()> {
    let fields: &[&str] = match dialect {
        Dialect::Anthropic => &ANTHROPIC,
        Dialect::Openai => &OPENAI,
    };
    let is_known = |field: &String| fields.contains(&field.as_str()) || BOTH.contains(&field.as_str());
    if let Some(field) = body.keys().find(|field| !is_known(field)) {
        let field: String = field.chars().take(80).collect();
        return Err(bad(format!("`{field}` is not passed on to other servers; leave it out")));
    }
    match body.get("service_tier") {
        Some(tier) if !tier.as_str().is_some_and(|tier| TIERS.contains(&tier)) => {
            let tiers = TIERS.join("`, `");
            Err(bad(format!("`service_tier`: only `{tiers}` have the prices that are known; leave it out")))
        }
        _ => Ok(()),
    }
}

/// Whether a model refuses to be told how to sample.
fn is_unsampled(model: &str) -> bool {
    let mut names = UNSAMPLED.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let model = model.replace('.', "-");
    names.any(|name| model.contains(name))
}

fn check_tools(dialect: Dialect, tools: &Value) -> Result<()> {
    for tool in tools.as_array().into_iter().flatten() {
        let kind = tool["type"].as_str();
        let runs_here = match dialect {
            Dialect::Anthropic => {
                kind.is_none_or(|kind| CLIENT_TOOLS.iter().any(|begin| kind.starts_with(begin)))
            }
            Dialect::Openai => matches!(kind, Some("function" | "custom")),
        };
        if !runs_here {
            let kind: String = kind.unwrap_or("none").chars().take(80).collect();
            return Err(bad(format!(
                "`tools`: one of type `{kind}` would be run and charged by the server; leave it out"
            )));
        }
    }
    Ok(())
}

/// Leaves out of `metadata` what was for this program.
fn forget_routes(body: &mut Map<String, Value>) {
    if let Some(Value::Object(metadata)) = body.get_mut("metadata") {
        metadata.retain(|name, _| !OF_ROUTES.contains(&name.as_str()));
        if metadata.is_empty() {
            body.remove("metadata");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn forward(dialect: Dialect, body: Value) -> Result<(Value, Outgoing)> {
        forward_to(dialect, 500, body)
    }

    fn forward_to(dialect: Dialect, most: u32, body: Value) -> Result<(Value, Outgoing)> {
        translated((dialect, dialect), most, body)
    }

    fn translated(
        (spoken, dialect): (Dialect, Dialect),
        most: u32,
        body: Value,
    ) -> Result<(Value, Outgoing)> {
        let (endpoint, rung) = (Endpoint::new(dialect, "https://h/v1"), RungName::new("best")?);
        let Value::Object(body) = body else { panic!("an object") };
        let outgoing = Outgoing::forward(
            &endpoint,
            ("id".into(), "big"),
            (&rung, most),
            (spoken, body),
            Some("a-2026, b".into()),
        )?;
        Ok((serde_json::from_slice(outgoing.body()).unwrap(), outgoing))
    }

    #[test]
    fn the_model_is_the_rungs_and_the_answer_is_bound() {
        let said = json!([{ "role": "user", "content": "hi" }]);
        let asked = json!({ "model": "any", "max_tokens": 9000, "messages": said, "stream": true, "stop_sequences": null,
                            "metadata": { "user_id": "u", "tags": ["x"], "taskPhase": "red" } });
        let (body, outgoing) = forward(Dialect::Anthropic, asked).unwrap();
        let expected = json!({ "model": "big", "max_tokens": 500, "messages": said, "stream": true, "metadata": { "user_id": "u" } });
        assert_eq!(body, expected);
        assert_eq!(
            (outgoing.most().output, outgoing.beta.as_deref(), outgoing.endpoint().stream),
            (500, Some("a-2026, b"), true)
        );
        assert_eq!(outgoing.asked(), Some(9000));

        let asked = json!({ "messages": said, "n": 3, "max_completion_tokens": 20, "stream": true, "metadata": { "tags": ["x"] } });
        let (body, outgoing) = forward(Dialect::Openai, asked).unwrap();
        let expected = json!({ "model": "big", "max_tokens": 20, "n": 3, "messages": said, "stream": true, "stream_options": { "include_usage": true } });
        assert_eq!(body, expected);
        assert_eq!((outgoing.most().output, outgoing.beta.as_deref(), outgoing.asked()), (60, None, None));
        let (body, outgoing) = forward(Dialect::Openai, json!({ "messages": said })).unwrap();
        assert_eq!((&body["max_tokens"], outgoing.endpoint().stream), (&json!(500), false));
    }

    /// Covers S0-34, S3-20: a translated request is checked, bound and counted as it is sent.
    #[test]
    fn a_translated_request_is_bound_as_it_is_sent() {
        let (to_anthropic, to_openai) =
            ((Dialect::Openai, Dialect::Anthropic), (Dialect::Anthropic, Dialect::Openai));
        let said = json!([{ "role": "user", "content": "hi" }]);
        let asked = json!({ "messages": said, "max_completion_tokens": 9000, "stream": true, "stop": null, "prompt_cache_key": "k",
                            "metadata": { "user_id": "u", "tags": ["x"] } });
        let (body, outgoing) = translated(to_anthropic, 500, asked).unwrap();
        let blocks = json!([{ "role": "user", "content": [{ "type": "text", "text": "hi" }] }]);
        let expected = json!({ "model": "big", "max_tokens": 500, "messages": blocks, "stream": true, "metadata": { "user_id": "u" } });
        assert_eq!(body, expected);
        assert_eq!(
            (outgoing.url(), outgoing.most().output, outgoing.asked()),
            ("https://h/v1/v1/messages", 500, Some(9000))
        );
        assert_eq!((outgoing.left_out(), outgoing.beta.as_deref()), (&["prompt_cache_key"][..], None));
        let asked = json!({ "messages": said, "max_tokens": 20, "stream": true, "system": "Be exact." });
        let (body, outgoing) = translated(to_openai, 500, asked).unwrap();
        let all = json!([{ "role": "system", "content": "Be exact." }, { "role": "user", "content": "hi" }]);
        let expected = json!({ "model": "big", "max_tokens": 20, "messages": all, "stream": true, "stream_options": { "include_usage": true } });
        assert_eq!(body, expected);
        assert_eq!((outgoing.most().output, outgoing.beta.as_deref()), (20, None));
        // What is somewhere else, in either dialect.
        let picture = json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "https://x" } }] }]);
        let error = translated(to_anthropic, 500, json!({ "messages": picture })).unwrap_err().to_string();
        assert!(error.contains("send its bytes"), "{error}");
    }

    #[test]
    fn thoughts_keep_their_share_of_a_shorter_answer() {
        let said = json!([{ "role": "user", "content": "hi" }]);
        let think = |most: u32, asked: Option<u64>, budget: u64| {
            let thinking = json!({ "type": "enabled", "budget_tokens": budget });
            let body = json!({ "messages": said, "max_tokens": asked, "thinking": thinking });
            forward_to(Dialect::Anthropic, most, body)
                .map(|(body, _)| body["thinking"]["budget_tokens"].as_u64())
        };
        for (most, asked, budget, expected) in [
            (16_000, Some(32_000), 31_999, 15_999),
            (16_000, Some(32_000), 10_000, 5_000),
            (16_000, Some(16_000), 10_000, 10_000),
            (16_000, None, 10_000, 10_000),
            (u32::MAX, Some(u64::MAX), u64::MAX / 2, u64::from(u32::MAX / 2)),
            // The client's own mistake is for the server to tell.
            (16_000, Some(2_000), 3_000, 3_000),
        ] {
            assert_eq!(think(most, asked, budget).unwrap(), Some(expected), "{most} {asked:?} {budget}");
        }
        for (most, asked, budget) in [(1_500, Some(32_000), 31_000 / 2), (16_000, None, 16_000)] {
            let error = think(most, asked, budget).unwrap_err().to_string();
            assert!(error.contains("`rungs.\"best\".max_tokens`"), "{error}");
        }
    }

    #[test]
    fn what_nobody_could_bound_is_refused_by_name() {
        let said = json!([{ "role": "user", "content": "hi" }]);
        let file = json!([{ "role": "user", "content": [{ "type": "document", "source": { "type": "url", "url": "https://x" } }] }]);
        let image = json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "https://x" } }] }]);
        for (dialect, body, word) in [
            (Dialect::Anthropic, json!({ "messages": said, "speed": "fast" }), "`speed`"),
            (Dialect::Anthropic, json!({ "messages": said, "mcp_servers": [] }), "`mcp_servers`"),
            (
                Dialect::Anthropic,
                json!({ "messages": said, "tools": [{ "type": "web_search_20250305", "name": "s" }] }),
                "web_search",
            ),
            (Dialect::Anthropic, json!({ "messages": file }), "somewhere else"),
            (Dialect::Anthropic, json!({ "messages": "hi" }), "`messages`"),
            (Dialect::Openai, json!({ "messages": said, "service_tier": "priority" }), "`service_tier`"),
            (Dialect::Openai, json!({ "messages": said, "service_tier": 7 }), "`service_tier`"),
            (Dialect::Anthropic, json!({ "messages": said, "service_tier": "priority" }), "`service_tier`"),
            (Dialect::Openai, json!({ "messages": said, "web_search_options": {} }), "`web_search_options`"),
            (Dialect::Openai, json!({ "messages": said, "n": 99 }), "`n`"),
            (Dialect::Openai, json!({ "messages": image }), "somewhere else"),
        ] {
            let error = forward(dialect, body.clone()).unwrap_err().to_string();
            assert!(error.contains(word), "{body}: {error}");
        }
    }

    #[test]
    fn hints_change_no_price_and_are_passed_on() {
        let said = json!([{ "role": "user", "content": "hi" }]);
        for (dialect, hints) in [
            (
                Dialect::Openai,
                json!({ "store": false, "service_tier": "auto", "verbosity": "low", "safety_identifier": "u" }),
            ),
            (Dialect::Openai, json!({ "service_tier": "default" })),
            (Dialect::Anthropic, json!({ "service_tier": "standard_only" })),
        ] {
            let mut asked = json!({ "messages": said, "prediction": { "type": "content", "content": "x" } });
            asked.as_object_mut().unwrap().extend(hints.as_object().unwrap().clone());
            let (body, outgoing) = forward(dialect, asked).unwrap();
            for (hint, value) in hints.as_object().unwrap() {
                assert_eq!(body[hint], *value, "{hint}");
            }
            assert_eq!((outgoing.left_out(), body.get("prediction")), (&["prediction"][..], None));
        }
    }

    #[test]
    fn who_refuses_to_be_told_how_to_sample_is_not_told() {
        let said = json!([{ "role": "user", "content": "hi" }]);
        let asked = json!({ "messages": said, "temperature": 0, "top_p": 0.9, "top_k": 3, "max_tokens": 5 });
        let rung = RungName::new("best").unwrap();
        let sent = |spoken: Dialect, model: &str| {
            let body = asked.as_object().unwrap().clone();
            let endpoint = Endpoint::new(Dialect::Anthropic, "https://h");
            let (id, most) = (("id".into(), model), (&rung, 500));
            let outgoing = Outgoing::forward(&endpoint, id, most, (spoken, body), None).unwrap();
            let body: Value = serde_json::from_slice(outgoing.body()).unwrap();
            (body.get("temperature").cloned(), outgoing.left_out().join(" "))
        };
        let all = "temperature top_k top_p".to_owned();
        assert_eq!(sent(Dialect::Openai, "claude-opus-5-5"), (None, all.clone()));
        assert_eq!(sent(Dialect::Openai, "anthropic/claude-haiku-5.5"), (None, all));
        for model in ["claude-haiku-4-5-20251001", "glm-4.7"] {
            assert_eq!(sent(Dialect::Openai, model), (Some(json!(0)), String::new()), "{model}");
        }
    }

    #[test]
    fn what_is_no_text_does_not_count_as_one() {
        let file = |kind: &str| json!({ "type": kind, "source": { "type": "base64", "media_type": "application/pdf", "data": "A".repeat(9000) } });
        let picture = json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "A".repeat(9000) } });
        let words = json!({ "type": "text", "text": "word ".repeat(1000) });
        let said = json!([{ "role": "user", "content": [file("document"), picture, words] }]);
        let (_, outgoing) = forward(Dialect::Anthropic, json!({ "messages": said })).unwrap();
        assert_eq!(outgoing.text_bytes(), outgoing.body().len() as u64 - 18_000);
        assert!((5000..6000).contains(&outgoing.text_bytes()));
    }

    #[test]
    fn what_tools_take_is_data() {
        let place = json!({ "source": { "type": "url", "url": "https://x" }, "image_url": "https://x" });
        let called = json!([
            { "role": "user", "content": "hi" },
            { "role": "assistant", "content": [{ "type": "tool_use", "id": "t", "name": "f", "input": place }] },
        ]);
        let tools = json!([{ "name": "f", "input_schema": { "examples": [place] } }, { "type": "bash_20250124", "name": "bash" }]);
        assert!(forward(Dialect::Anthropic, json!({ "messages": called, "tools": tools })).is_ok());
        let tools =
            json!([{ "type": "function", "function": { "name": "f", "parameters": { "default": place } } }]);
        let said = json!([{ "role": "user", "content": "hi" }]);
        assert!(forward(Dialect::Openai, json!({ "messages": said, "tools": tools })).is_ok());
    }
}
