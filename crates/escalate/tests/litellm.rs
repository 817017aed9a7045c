//! Against LiteLLM's proxy, a server that others wrote, in both dialects, streamed and whole. It is not on every
//! machine, so this does not run by itself: `tests/litellm.sh` installs and starts one, and runs this.

use std::sync::atomic::AtomicBool;

use coder_escalate::{Ask, Client, Dialect, End, Endpoint, Options, Outgoing, Said, Speaker};

/// What each of the proxy's mock models says.
const TEXT: &str = "Hello from the proxy, Wörld";

/// What a model of the proxy has to come to.
struct Row {
    model: &'static str,
    outcome: &'static str,
    attempts: u32,
}

/// `mock` is answered by the proxy itself, `translated` by way of another server and the other dialect, so that its
/// streams are made by the proxy; the others fail.
const ROWS: [Row; 6] = [
    Row { model: "mock", outcome: "answered", attempts: 1 },
    Row { model: "translated", outcome: "answered", attempts: 1 },
    Row { model: "limited", outcome: "rate_limited", attempts: 3 },
    Row { model: "broken", outcome: "server", attempts: 3 },
    Row { model: "too-long", outcome: "too_long", attempts: 1 },
    Row { model: "unknown", outcome: "rejected", attempts: 1 },
];

/// Asks one model; the line of the table, and whether it is as it must be.
fn ask(url: &str, dialect: Dialect, stream: bool, row: &Row) -> (String, bool) {
    let base = if dialect == Dialect::Openai { format!("{url}/v1") } else { url.to_owned() };
    let mut endpoint = Endpoint::new(dialect, base);
    endpoint.stream = stream;
    endpoint.key_env = Some("LITELLM_KEY".to_owned());
    let said = |by, text: &str| Said { by, text: text.to_owned() };
    let question = Ask {
        id: format!("litellm-{}", row.model),
        model: row.model.to_owned(),
        messages: vec![said(Speaker::System, "Be brief."), said(Speaker::User, "Say hello.")],
        max_tokens: 100,
        schema: None,
        effort: None,
    };
    let outgoing = Outgoing::prepare(&endpoint, &question).unwrap();
    let client = Client::new(Options::default());
    let result = client.ask(&outgoing, &AtomicBool::new(false), &mut |_| true);
    let form = if stream { "stream" } else { "whole" };
    let begin = format!("| {dialect:?} | {form} | {} |", row.model);
    match result {
        Ok(answer) => {
            let tokens = answer.tokens;
            let good = row.outcome == "answered"
                && (answer.text.as_str(), answer.end) == (TEXT, End::Stop)
                && (answer.counted, answer.attempts) == (true, row.attempts)
                && tokens.prompt() > 0
                && tokens.output > 0;
            let counts = format!("{} | {}", tokens.prompt(), tokens.output);
            (format!("{begin} answered | {} | {counts} | {} |", answer.attempts, answer.text), good)
        }
        Err(failure) => {
            let name = failure.fault.name();
            let attempts = failure.attempts.len();
            let good = (name, attempts) == (row.outcome, row.attempts as usize);
            let words: String = failure.to_string().chars().take(90).collect();
            (format!("{begin} {name} | {attempts} | | | {}… |", words.replace('|', "/")), good)
        }
    }
}

fn url() -> String {
    std::env::var("LITELLM_URL").expect("LITELLM_URL is not set: run tests/litellm.sh")
}

#[test]
#[ignore = "needs LiteLLM's proxy, whose authority is trusted: run tests/litellm.sh"]
fn trusted_litellm_in_both_dialects() {
    let url = url();
    let mut wrong = 0;
    println!("| dialect | form | model | outcome | attempts | prompt | answer | text or error |");
    println!("|---|---|---|---|---|---|---|---|");
    for dialect in [Dialect::Anthropic, Dialect::Openai] {
        for stream in [true, false] {
            for row in &ROWS {
                let (line, good) = ask(&url, dialect, stream, row);
                println!("{line}{}", if good { "" } else { " WRONG" });
                wrong += u32::from(!good);
            }
        }
    }
    assert_eq!(wrong, 0, "rows that are not as they must be");
}

#[test]
#[ignore = "needs LiteLLM's proxy, whose authority is not trusted: run tests/litellm.sh"]
fn untrusted_litellm_gets_nothing() {
    let row = Row { model: "mock", outcome: "unreachable", attempts: 3 };
    let (line, good) = ask(&url(), Dialect::Anthropic, true, &row);
    println!("Untrusted, the same proxy is refused: {}", line.replace('|', "·"));
    assert!(good && line.contains("certificate"), "{line}");
}
