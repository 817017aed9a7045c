//! A server that fails in every way, and what the client makes of it: the right fault, no more attempts than allowed,
//! in bounded time, and never a word of the key. Run with `--nocapture` to see the table.

mod server;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use coder_escalate::{
    Answer, Ask, Client, Dialect, End, Endpoint, Failure, FailureClass, Fault, Options, Outgoing, Said,
    Speaker, Spent, Tokens,
};

use server::{FaultServer, Reply, Seen, Then, document, error, events, events_ending};

const KEY: &str = "sk-sesame-0123456789";

fn options() -> Options {
    Options {
        // No test waits because a server asks for it.
        longest_wait: Duration::from_millis(1),
        longest_answer: 1 << 20,
        env: |name| (name == "FAULTS_KEY").then(|| KEY.to_owned()),
        ..Options::default()
    }
}

fn endpoint(url: &str, dialect: Dialect) -> Endpoint {
    let path = if dialect == Dialect::Openai { "/v1" } else { "" };
    let mut endpoint = Endpoint::new(dialect, format!("{url}{path}"));
    endpoint.key_env = Some("FAULTS_KEY".to_owned());
    endpoint.deadline_s = 20;
    endpoint.idle_s = 1;
    endpoint
}

fn outgoing(endpoint: &Endpoint) -> Outgoing {
    let said = |by, text: &str| Said { by, text: text.to_owned() };
    let ask = Ask {
        id: "run-7-ask-1".to_owned(),
        model: "fake".to_owned(),
        messages: vec![said(Speaker::System, "Be brief."), said(Speaker::User, "Say hello.")],
        max_tokens: 100,
        schema: None,
        effort: None,
    };
    Outgoing::prepare(endpoint, &ask).unwrap()
}

fn ask(client: &Client, endpoint: &Endpoint) -> Result<Answer, Failure> {
    client.ask(&outgoing(endpoint), &AtomicBool::new(false), &mut |_| true)
}

/// What a case has to come to.
struct Case {
    name: &'static str,
    reply: fn(&Seen, usize) -> Reply,
    /// "answered", or the fault's name.
    outcome: &'static str,
    /// Requests that the server saw.
    attempts: usize,
    /// Seconds; the time limits are 1 s without a byte and 20 s in all.
    within_s: f64,
    /// Whether it may have cost something.
    costs: bool,
}

const fn case(
    name: &'static str,
    reply: fn(&Seen, usize) -> Reply,
    outcome: &'static str,
    attempts: usize,
    costs: bool,
) -> Case {
    Case { name, reply, outcome, attempts, within_s: 10.0, costs }
}

fn limited(_: &Seen, _: usize) -> Reply {
    Reply::status(429, r#"{"error":{"type":"rate_limit_error","message":"slow down, {key}"}}"#)
}

fn good(seen: &Seen, _: usize) -> Reply {
    Reply::stream(events(seen.is_anthropic(), "Hello, Wörld"))
}

fn failing(seen: &Seen, status: u16, kind: &str) -> Reply {
    Reply::status(status, &error(seen.is_anthropic(), kind, "no, {key}"))
}

fn ending(seen: &Seen, anthropic: &str, openai: &str) -> Reply {
    let is = seen.is_anthropic();
    Reply::stream(events_ending(is, "He", if is { anthropic } else { openai }))
}

/// Anthropic has a reason to stop for it, others send an error.
fn context_full(seen: &Seen) -> Reply {
    if seen.is_anthropic() {
        return Reply::stream(events_ending(true, "He", "model_context_window_exceeded"));
    }
    let error = error(false, "context_length_exceeded", "maximum context length is 10 tokens");
    let good = Reply::stream(events(false, "He")).first(2);
    Reply { pieces: good.pieces.iter().cloned().chain([format!("data: {error}\n\n")]).collect(), ..good }
}

fn with_error(seen: &Seen) -> Reply {
    let is = seen.is_anthropic();
    let error = format!("event: error\ndata: {}\n\n", error(is, "overloaded_error", "no, {key}"));
    let good = Reply::stream(events(is, "Hello")).first(2);
    Reply { pieces: good.pieces.iter().cloned().chain([error]).collect(), ..good }
}

const CASES: [Case; 36] = [
    case("streamed", good, "answered", 1, true),
    case(
        "whole",
        |s, _| Reply::status(200, &document(s.is_anthropic(), "Hello, Wörld")),
        "answered",
        1,
        true,
    ),
    case("stays open after the end", |s, n| good(s, n).then(Then::Hang), "answered", 1, true),
    case(
        "cut after the reason to stop",
        |s, n| good(s, n).first(if s.is_anthropic() { 7 } else { 3 }).then(Then::Cut),
        "answered",
        1,
        true,
    ),
    case("429, then good", |s, n| if n == 0 { limited(s, n) } else { good(s, n) }, "answered", 2, true),
    case(
        "cut, then good",
        |s, n| if n == 0 { good(s, n).first(1).then(Then::Cut) } else { good(s, n) },
        "answered",
        2,
        true,
    ),
    case("429", limited, "rate_limited", 3, false),
    case("429 retry-after-ms", |s, n| limited(s, n).with("retry-after-ms", "1500"), "rate_limited", 3, false),
    case("429 retry-after: seconds", |s, n| limited(s, n).with("retry-after", "2"), "rate_limited", 3, false),
    case(
        "429 retry-after: a date",
        |s, n| limited(s, n).with("retry-after", &in_an_hour()),
        "rate_limited",
        3,
        false,
    ),
    case(
        "429 x-should-retry: false",
        |s, n| limited(s, n).with("x-should-retry", "false"),
        "rate_limited",
        1,
        false,
    ),
    case("408", |s, _| failing(s, 408, "timeout"), "server", 3, false),
    case("409", |s, _| failing(s, 409, "conflict"), "server", 3, false),
    case("500", |s, _| failing(s, 500, "api_error"), "server", 3, false),
    case("529", |s, _| failing(s, 529, "overloaded_error"), "server", 3, false),
    case(
        "502 as HTML",
        |_, _| Reply::status(502, "<html>Bad gateway {key}</html>").with("content-type", "text/html"),
        "server",
        3,
        false,
    ),
    case("400", |s, _| failing(s, 400, "invalid_request_error"), "rejected", 1, false),
    case(
        "400 x-should-retry: true",
        |s, _| failing(s, 400, "invalid_request_error").with("x-should-retry", "true"),
        "rejected",
        3,
        false,
    ),
    case("401, quoting the key", |s, _| failing(s, 401, "authentication_error"), "key_refused", 1, false),
    case("402", |s, _| failing(s, 402, "billing_error"), "out_of_credit", 1, false),
    case("429 without quota", |s, _| failing(s, 429, "insufficient_quota"), "out_of_credit", 1, false),
    case(
        "context exceeded",
        |_, _| {
            Reply::status(
                400,
                r#"{"error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
            )
        },
        "too_long",
        1,
        false,
    ),
    case("context full mid-answer", |s, _| context_full(s), "too_long", 1, true),
    case("refusal", |s, _| ending(s, "refusal", "content_filter"), "refused", 1, true),
    case("calls a tool", |s, _| ending(s, "tool_use", "tool_calls"), "malformed", 1, true),
    case(
        "redirect to another host",
        |_, _| Reply::status(307, "").with("location", "https://evil.example/v1"),
        "redirected",
        1,
        false,
    ),
    case("hang", |_, _| Reply::silence(), "timed_out", 3, true),
    case("hang after the first event", |s, n| good(s, n).first(1).then(Then::Hang), "timed_out", 3, true),
    case("cut after the first event", |s, n| good(s, n).first(1).then(Then::Cut), "cut_off", 3, true),
    case("ends after the first event", |s, n| good(s, n).first(1), "cut_off", 3, true),
    case("error after the first event", |s, _| with_error(s), "server", 3, true),
    case("wrong JSON", |_, _| Reply::status(200, r#"{"a": {key}"#), "malformed", 1, true),
    case(
        "wrong JSON in a stream",
        |_, _| Reply::stream(["data: {\"type\": {key}\n\n".to_owned()]),
        "malformed",
        1,
        true,
    ),
    case(
        "wrong type",
        |_, _| Reply::status(200, "<html>{key}</html>").with("content-type", "text/html"),
        "malformed",
        1,
        true,
    ),
    case("empty", |_, _| Reply::status(200, ""), "malformed", 1, true),
    case("huge", |_, _| Reply::status(200, &" ".repeat(1 << 19)).then(Then::Again(1)), "malformed", 1, true),
];

fn in_an_hour() -> String {
    httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600))
}

/// Asks one server of its own; a line of the table, or what is wrong.
fn run(case: &Case, dialect: Dialect) -> Result<String, String> {
    let server = FaultServer::start(case.reply);
    let endpoint = endpoint(&server.url(), dialect);
    let began = Instant::now();
    let result = ask(&Client::new(options()), &endpoint);
    let seconds = began.elapsed().as_secs_f64();
    let seen = server.seen();
    let (name, class, spent, words) = match &result {
        Ok(answer) => ("answered", "-".to_owned(), answer.spent(), format!("{answer:?}")),
        Err(failure) => {
            let class = format!("{:?}", failure.class());
            (failure.fault.name(), class, failure.spent(), format!("{failure} {failure:?}"))
        }
    };
    let line = format!(
        "{:9} {:29} {name:13} {class:12} {:8} {seconds:6.2} {:>8} {:>8} {}",
        format!("{dialect:?}"),
        case.name,
        seen.len(),
        spent.tokens.prompt(),
        spent.tokens.output,
        if spent.counted { "counted" } else { "at most" },
    );
    let attempts =
        result.as_ref().map_or_else(|failure| failure.attempts.len(), |answer| answer.attempts as usize);
    let checks = [
        (name == case.outcome, "outcome"),
        (seen.len() == case.attempts, "requests at the server"),
        (attempts == case.attempts, "attempts in the report"),
        (seconds < case.within_s, "time"),
        ((spent != Spent::NOTHING) == case.costs, "cost"),
        (!words.contains("sesame"), "the key is shown"),
        (name != "key_refused" || words.contains("`FAULTS_KEY`"), "where the key is from"),
        (seen.iter().all(|seen| seen.key() == KEY), "the key is sent"),
        (seen.iter().all(|seen| seen.header("x-request-id") == "run-7-ask-1"), "request id"),
        (seen.iter().all(|seen| seen.body == outgoing(&endpoint).body()), "bytes of the body"),
        ((name == "refused") == (class == "Quality"), "class"),
    ];
    match checks.iter().find(|(good, _)| !good) {
        None => Ok(line),
        Some((_, what)) => Err(format!("{line}\n  wrong: {what}: {words}")),
    }
}

#[test]
fn every_fault_is_told_apart_in_bounded_time() {
    let lines = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (at, case) in CASES.iter().enumerate() {
            for dialect in [Dialect::Anthropic, Dialect::Openai] {
                let lines = &lines;
                scope.spawn(move || {
                    let line = run(case, dialect);
                    lines.lock().unwrap().push(((dialect as u8, at), line));
                });
            }
        }
    });
    let mut lines = lines.into_inner().unwrap();
    lines.sort_by_key(|(place, _)| *place);
    println!(
        "dialect   case                          outcome       class        requests seconds  prompt   output tokens"
    );
    let mut wrong = 0;
    for (_, line) in &lines {
        wrong += usize::from(line.is_err());
        println!("{}", line.as_ref().unwrap_or_else(|line| line));
    }
    assert_eq!((lines.len(), wrong), (2 * CASES.len(), 0), "lines that say `wrong`");
}

#[test]
fn what_is_heard_is_the_answer_and_its_tokens() {
    for dialect in [Dialect::Anthropic, Dialect::Openai] {
        let server = FaultServer::start(good);
        let answer = ask(&Client::new(options()), &endpoint(&server.url(), dialect)).unwrap();
        let tokens = Tokens { input: 20, cache_write: 0, cache_read: 10, output: 7 };
        assert_eq!((answer.text.as_str(), answer.end), ("Hello, Wörld", End::Stop));
        assert_eq!((answer.tokens, answer.counted, answer.attempts), (tokens, true, 1));
        assert_eq!(answer.model, "fake-1");
        let seen = &server.seen()[0];
        match dialect {
            Dialect::Anthropic => assert_eq!(seen.header("anthropic-version"), "2023-06-01"),
            Dialect::Openai => assert_eq!(seen.path, "/v1/chat/completions"),
        }
    }
}

#[test]
fn a_server_without_streams_is_asked_without() {
    for dialect in [Dialect::Anthropic, Dialect::Openai] {
        let server = FaultServer::start(|seen, _| {
            let streams = String::from_utf8_lossy(&seen.body).contains(r#""stream":true"#);
            match streams {
                true => failing(seen, 400, "streaming is not supported"),
                false => Reply::status(200, &document(seen.is_anthropic(), "Hello")),
            }
        });
        let mut endpoint = endpoint(&server.url(), dialect);
        endpoint.stream = false;
        assert_eq!(ask(&Client::new(options()), &endpoint).unwrap().text, "Hello");
    }
}

#[test]
fn an_endless_drip_ends_at_the_deadline() {
    for dialect in [Dialect::Anthropic, Dialect::Openai] {
        let server = FaultServer::start(|seen, n| good(seen, n).first(2).then(Then::Again(50)));
        let mut endpoint = endpoint(&server.url(), dialect);
        endpoint.deadline_s = 2;
        let failure = ask(&Client::new(options()), &endpoint).unwrap_err();
        assert!(matches!(failure.fault, Fault::TimedOut { limit: "deadline_s", .. }), "{failure}");
        assert!(failure.seconds < 4.0, "{failure:?}");
        assert_eq!((server.seen().len(), failure.spent().counted), (1, false));
    }
}

#[test]
fn a_retry_that_would_outlast_the_deadline_is_not_waited_for() {
    let server = FaultServer::start(|seen, n| limited(seen, n).with("retry-after", "3600"));
    let patient = Client::new(Options { longest_wait: Duration::MAX, ..options() });
    let failure = ask(&patient, &endpoint(&server.url(), Dialect::Anthropic)).unwrap_err();
    assert!(matches!(failure.fault, Fault::RateLimited { after_s: Some(3600), .. }), "{failure}");
    assert!(failure.seconds < 5.0);
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn each_broken_attempt_is_counted_and_the_caller_may_stop() {
    let server = FaultServer::start(|seen, n| good(seen, n).first(1).then(Then::Cut));
    let (client, endpoint) = (Client::new(options()), endpoint(&server.url(), Dialect::Anthropic));
    let failure = ask(&client, &endpoint).unwrap_err();
    // The server said what the prompt took; the answer may have gone on to its limit.
    let one = Tokens { input: 20, cache_write: 0, cache_read: 10, output: 100 };
    assert!(failure.attempts.iter().all(|attempt| attempt.spent == Spent { tokens: one, counted: false }));
    assert_eq!(failure.spent().tokens, one.plus(one).plus(one));
    let mut asked = Vec::new();
    let no = AtomicBool::new(false);
    let failure = client.ask(&outgoing(&endpoint), &no, &mut |spent| {
        asked.push(spent.tokens);
        false
    });
    assert_eq!((failure.unwrap_err().attempts.len(), asked), (1, vec![one]));
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn cancelling_ends_it_within_a_tenth_of_a_second() {
    let server = FaultServer::start(good);
    let never = outgoing(&endpoint(&server.url(), Dialect::Openai));
    let failure = Client::new(options()).ask(&never, &AtomicBool::new(true), &mut |_| true).unwrap_err();
    assert_eq!((failure.fault.name(), failure.attempts.len(), server.seen().len()), ("cancelled", 0, 0));
    let replies: [fn(&Seen, usize) -> Reply; 3] = [
        |_, _| Reply::silence(),
        |seen, n| good(seen, n).first(1).then(Then::Hang),
        // While it waits before another attempt.
        |seen, n| limited(seen, n).with("retry-after", "15"),
    ];
    for reply in replies {
        let cancel = Arc::new(AtomicBool::new(false));
        let (arrived, flag) = (std::sync::mpsc::channel(), cancel.clone());
        let sender = Mutex::new(arrived.0);
        let server = FaultServer::start(move |seen, n| {
            let _ = sender.lock().unwrap().send(());
            reply(seen, n)
        });
        let mut endpoint = endpoint(&server.url(), Dialect::Openai);
        endpoint.idle_s = 20;
        let patient = Client::new(Options { longest_wait: Duration::MAX, ..options() });
        let setter = std::thread::spawn(move || {
            arrived.1.recv().unwrap();
            flag.store(true, Ordering::Relaxed);
            Instant::now()
        });
        let failure = patient.ask(&outgoing(&endpoint), &cancel, &mut |_| true).unwrap_err();
        let late = setter.join().unwrap().elapsed();
        assert_eq!(failure.fault, Fault::Cancelled);
        println!("cancelled after {late:?}");
        // A tenth of a second, and room for a machine that does many other things.
        assert!(late < Duration::from_secs(1), "{late:?}");
    }
}

#[test]
fn tasks_share_a_client() {
    let server = FaultServer::start(good);
    let (client, endpoint) = (Client::new(options()), endpoint(&server.url(), Dialect::Openai));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(ask(&client, &endpoint).unwrap().text, "Hello, Wörld"));
        }
    });
    assert_eq!(server.seen().len(), 8);
}

#[test]
fn nobody_listens() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let failure = ask(&Client::new(options()), &endpoint(&url, Dialect::Anthropic)).unwrap_err();
    assert!(matches!(failure.fault, Fault::Unreachable { .. }), "{failure}");
    assert_eq!((failure.attempts.len(), failure.spent()), (3, Spent::NOTHING));
    assert_eq!(failure.class(), FailureClass::Availability);
}

#[test]
fn a_sick_endpoint_is_left_alone_and_then_probed() {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = well.clone();
    let server = FaultServer::start(move |seen, n| match is_well.load(Ordering::Relaxed) {
        true => good(seen, n),
        false => failing(seen, 500, "api_error"),
    });
    let rest = coder_escalate::Rest { after: 3, first: Duration::from_secs(600), ..Default::default() };
    let long = Client::new(Options { retries: 0, rest, ..options() });
    let endpoint = endpoint(&server.url(), Dialect::Anthropic);
    for _ in 0..3 {
        assert!(matches!(ask(&long, &endpoint).unwrap_err().fault, Fault::Server { .. }));
    }
    let failure = ask(&long, &endpoint).unwrap_err();
    assert!(matches!(failure.fault, Fault::CoolingDown { failures: 3, .. }), "{failure}");
    assert_eq!((server.seen().len(), failure.attempts.len()), (3, 0));
    // With a rest that is over at once, the next question is the probe, and heals it.
    let rest = coder_escalate::Rest { first: Duration::ZERO, longest: Duration::ZERO, ..rest };
    let short = Client::new(Options { retries: 0, rest, ..options() });
    for _ in 0..4 {
        assert!(matches!(ask(&short, &endpoint).unwrap_err().fault, Fault::Server { .. }));
    }
    well.store(true, Ordering::Relaxed);
    assert!(ask(&short, &endpoint).is_ok() && ask(&short, &endpoint).is_ok());
}

#[test]
fn nothing_leaves_for_an_address_that_is_not_meant() {
    let client = Client::new(options());
    for (url, name) in [
        ("https://169.254.169.254", "private_address"),
        ("http://192.168.0.1", "bad_endpoint"),
        ("https://user:sesame@example.org", "bad_endpoint"),
    ] {
        let failure = ask(&client, &endpoint(url, Dialect::Anthropic)).unwrap_err();
        assert_eq!((failure.fault.name(), failure.attempts.len()), (name, 0), "{failure}");
        assert!(!failure.to_string().contains("sesame"));
    }
    let server = FaultServer::start(good);
    let mut keyless = endpoint(&server.url(), Dialect::Anthropic);
    keyless.key_env = Some("NOT_SET_ANYWHERE".to_owned());
    let failure = ask(&client, &keyless).unwrap_err();
    assert!(failure.to_string().contains("`NOT_SET_ANYWHERE`"), "{failure}");
    assert_eq!((failure.fault.name(), server.seen().len()), ("no_key", 0));
}

#[test]
fn tls_to_a_server_without_a_trusted_certificate_is_refused() {
    // It speaks no TLS at all, which is as bad.
    let server = FaultServer::start(good);
    let url = server.url().replace("http://", "https://");
    let failure = ask(&Client::new(options()), &endpoint(&url, Dialect::Anthropic)).unwrap_err();
    assert!(matches!(failure.fault, Fault::Unreachable { .. }), "{failure}");
    assert_eq!((server.seen().len(), failure.spent()), (0, Spent::NOTHING));
}
