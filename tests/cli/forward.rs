//! `coder serve` between models here and rungs elsewhere: rules, names, budget, egress, and answers as they come.

use std::io::Read;
use std::process::Command;

use serde_json::{Value, json};

use crate::rungs::quokka;
use crate::serve::{Serving, started};
use crate::server::{Answer, Server};
use crate::user::User;

const RULES: &str = "egress.policy = \"allow\"\negress.forwards = [\"fake\"]\n\
    [[routes]]\nmatch.phase = \"verify\"\nrung = \"opus\"\n\
    [[routes]]\nmatch.tag = \"local\"\nrung = \"local\"\n";

/// Nobody comes after `opus`.
const ALONE: &str = "ladders.availability = [\"opus\"]\n";

pub(crate) fn serve(user: &User, args: &[&str]) -> Serving {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coder"));
    command.args(["serve", "--port", "0", "--log", "none"]).args(args).env_remove("CODER_API_KEY");
    command.env("XDG_CONFIG_HOME", user.config.path()).env("XDG_STATE_HOME", user.state.path());
    command.current_dir(user.work.path());
    started(command)
}

pub(crate) fn ask(serving: &Serving, path: &str, body: &Value) -> (u16, String) {
    let answer = serving.ask(&format!("POST {path}"), &body.to_string());
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), text.to_owned())
}

pub(crate) fn chat(serving: &Serving, more: Value) -> (u16, Value) {
    let mut body = json!({ "messages": [{ "role": "user", "content": "Classify: crash" }], "max_tokens": 5 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, text) = ask(serving, "/v1/chat/completions", &body);
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

pub(crate) fn costs(user: &User) -> Value {
    let output = user.command(&["stats", "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Covers S0-07, S0-08, S2-02, S3-21: phases and tags, then names, then the default say who answers.
#[test]
fn rules_and_names_say_who_answers() {
    let server = Server::start(|_| Answer::Say("from elsewhere".to_owned(), 100, 10));
    let user = User::new(&server, RULES, &[]);
    let serving = serve(
        &user,
        &["--default", "sonnet", "--alias", "claude-haiku-*=haiku", "--alias", "small=coder-tiny"],
    );
    for (more, expected) in [
        (json!({}), None),
        (json!({ "model": "free" }), None),
        (json!({ "model": "small" }), None),
        (json!({ "model": "local:coder-tiny" }), None),
        (json!({ "model": "opus" }), Some("model-opus")),
        (json!({ "model": "cheap" }), Some("model-haiku")),
        (json!({ "model": "claude-haiku-5" }), Some("model-haiku")),
        (json!({ "model": "gpt-unknown" }), Some("model-sonnet")),
        (json!({ "model": "gpt-unknown", "metadata": { "tags": ["Local"] } }), None),
        (json!({ "model": "free", "metadata": { "taskPhase": "verify" } }), Some("model-opus")),
        (json!({ "model": "opus", "metadata": { "taskPhase": "red", "tags": ["local"] } }), None),
    ] {
        let before = server.asked().len();
        let (status, answer) = chat(&serving, more.clone());
        assert_eq!(status, 200, "{more}: {answer}");
        let asked = server.asked().split_off(before);
        match expected {
            None => assert!(asked.is_empty() && answer["model"] == "coder-tiny", "{more}: {answer}"),
            Some(model) => {
                assert_eq!(asked.len(), 1, "{more}");
                assert_eq!(
                    (&asked[0]["model"], &asked[0]["max_tokens"]),
                    (&json!(model), &json!(5)),
                    "{more}"
                );
                assert_eq!(asked[0].get("metadata"), None, "{more}");
                assert_eq!(answer["choices"][0]["message"]["content"], "from elsewhere");
            }
        }
    }
    // 100 tokens and 10 of each answer, at the prices of the rungs: what was counted, though 5 were the limit.
    let stats = costs(&user);
    for (rung, requests, usd) in [("haiku", 2, 0.0003), ("sonnet", 1, 0.0003), ("opus", 2, 0.0012)] {
        let asked = &stats["counts"]["questions"][rung];
        assert_eq!(asked["requests"], requests, "{stats:#}");
        assert!((asked["cost_usd"].as_f64().unwrap() - usd).abs() < 1e-9, "{stats:#}");
    }
    serving.signal("-TERM");
    assert_eq!(serving.end().0, Some(0));
}

#[test]
fn names_of_rungs_are_told_and_other_paths_say_where_to_ask() {
    let server = Server::start(|_| Answer::Say("from elsewhere".to_owned(), 1, 1));
    let user = User::new(&server, RULES, &[]);
    let serving = serve(&user, &["--alias", "claude-opus-*=opus", "--alias", "big=opus"]);
    let list = serving.ask("GET /v1/models", "");
    for name in ["coder-tiny", "opus", "sonnet", "big"] {
        assert!(list.contains(&format!(r#""id":"{name}""#)), "{list}");
    }
    assert!(!list.contains("claude-opus"), "{list}");
    assert!(serving.ask("GET /v1/models/claude-opus-5", "").starts_with("HTTP/1.1 200"));
    assert!(serving.ask("GET /v1/models/claude-x", "").starts_with("HTTP/1.1 404"));
    let messages = json!([{ "role": "user", "content": "hi" }]);
    for (path, body) in [
        ("/v1/responses", json!({ "input": "hi", "metadata": { "taskPhase": "verify" } })),
        ("/v1/completions", json!({ "prompt": "hi", "model": "opus" })),
        ("/v1/messages/count_tokens", json!({ "messages": messages, "model": "claude-opus-5" })),
    ] {
        let (status, text) = ask(&serving, path, &body);
        assert!(status == 400 && text.contains("`opus` answers elsewhere"), "{path}: {text}");
    }
    let local = json!({ "input": "hi", "model": "local:coder-tiny", "max_output_tokens": 1 });
    assert_eq!(ask(&serving, "/v1/responses", &local).0, 200);
    assert!(server.asked().is_empty());
    // Where nothing may be sent they are no names.
    let never = User::new(&server, "egress.forwards = [\"fake\"]", &[]);
    let list = serve(&never, &[]).ask("GET /v1/models", "");
    assert!(!list.contains("opus"), "{list}");
}

/// Covers S0-08, S3-07, S3-16, S3-21: rungs in this process are models beside those of the command line.
#[test]
fn rungs_in_this_process_answer_with_their_own_models() {
    let server = Server::start(|_| Answer::Say("from elsewhere".to_owned(), 1, 1));
    let (_folder, path) = quokka();
    // Nobody comes after the one that is not there.
    let more = format!(
        "ladders.availability = [\"gone\"]\n[rungs.big-local]\nengine = \"{path}\"\n[rungs.gone]\nengine = \"/nonexistent/gone\"\n\
         [[routes]]\nmatch.tag = \"big\"\nrung = \"big-local\"\n"
    );
    let user = User::new(&server, &more, &[]);
    let serving = serve(&user, &["--alias", "gpt-*=big-local", "--alias", "o1=free"]);
    for (more, expected) in [
        (json!({}), "coder-tiny"),
        (json!({ "model": "big-local" }), "quokka-1b"),
        (json!({ "model": "gpt-5" }), "quokka-1b"),
        (json!({ "model": "o1" }), "coder-tiny"),
        (json!({ "model": "local:quokka:1b" }), "quokka-1b"),
        (json!({ "model": "Quokka-1B" }), "quokka-1b"),
        (json!({ "model": "local:big-local" }), "quokka-1b"),
        (json!({ "model": "free", "metadata": { "tags": ["big"] } }), "quokka-1b"),
    ] {
        let (status, answer) = chat(&serving, more.clone());
        assert_eq!((status, &answer["model"]), (200, &expected.into()), "{more}: {answer}");
    }
    let list = serving.ask("GET /v1/models", "");
    assert!(list.contains(r#""id":"big-local""#) && !list.contains(r#""id":"gone""#), "{list}");
    let (status, answer) = chat(&serving, json!({ "model": "gone" }));
    let reason = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(status == 503 && reason.contains("rung `gone`") && reason.contains("`coder models`"), "{answer}");
    assert_eq!(chat(&serving, json!({ "model": "local:opus" })).0, 404);
    assert!(server.asked().is_empty());
    serving.signal("-TERM");
    let (code, said) = serving.end();
    assert!(code == Some(0) && said.contains("warning: rung `gone`: no model `/nonexistent/gone`"), "{said}");
    // The words are the first model's, whatever that is.
    let serving = serve(&user, &["--model", path, "--alias", "gpt-*=free", "--alias", "small=local"]);
    for name in ["gpt-4", "small", "free", "local", "local:free"] {
        assert_eq!(chat(&serving, json!({ "model": name })).1["model"], "quokka-1b", "{name}");
    }
}

/// Covers S2-07, S2-15: a local model that cannot be opened is no end where others answer.
#[test]
fn without_its_first_model_a_server_begins_if_others_answer() {
    if coder_kernels::cuda::Library::linked().is_some() {
        return;
    }
    let server = Server::start(|_| Answer::Say("from elsewhere".to_owned(), 1, 1));
    let user = User::new(&server, RULES, &[]);
    let serving = serve(&user, &["--device", "cuda"]);
    assert_eq!(chat(&serving, json!({ "model": "opus" })).0, 200);
    let (status, answer) = chat(&serving, json!({ "model": "free" }));
    assert_eq!((status, &answer["model"]), (200, &json!("model-haiku")), "{answer}");
    let (status, answer) = chat(&serving, json!({ "model": "local:coder-tiny" }));
    assert!(status == 500 && answer.to_string().contains("--features cuda"), "{answer}");
    serving.signal("-TERM");
    let (code, said) = serving.end();
    assert!(code == Some(0) && said.contains("warning: model `coder-tiny`: "), "{said}");
    let never = User::new(&server, "egress.forwards = [\"fake\"]", &[]);
    let alone =
        never.command(&["serve", "--port", "0", "--log", "none", "--device", "cuda"]).output().unwrap();
    assert_eq!(alone.status.code(), Some(1));
}

/// Covers S2-15: nor is one that is not on this machine.
#[test]
fn a_local_model_that_is_not_here_is_no_end_where_others_answer() {
    let server = Server::start(|_| Answer::Say("from elsewhere".to_owned(), 1, 1));
    let gone = "[rungs.local]\nengine = \"/nonexistent/gone\"\n";
    let user = User::new(&server, &format!("{RULES}{gone}"), &[]);
    let serving = serve(&user, &[]);
    assert_eq!(chat(&serving, json!({ "model": "opus" })).0, 200);
    assert_eq!(chat(&serving, json!({ "model": "local:free" })).0, 500);
    serving.signal("-TERM");
    let (code, said) = serving.end();
    let warning = "warning: model `local`: the model of coder config: no model `/nonexistent/gone`";
    assert!(code == Some(0) && said.contains(warning), "{said}");
    let never = User::new(&server, &format!("egress.forwards = [\"fake\"]\n{gone}"), &[]);
    let alone = never.command(&["serve", "--port", "0", "--log", "none"]).output().unwrap();
    assert_eq!(alone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&alone.stderr).contains("no model `/nonexistent/gone`"));
}

/// A stream comes event by event, without the count that only this server asked for.
#[test]
fn a_stream_is_passed_on_as_it_comes() {
    let chunk = |delta: Value, finish: Value| {
        json!({ "id": "c", "model": "m", "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] }).to_string()
    };
    let server = Server::start(move |_| {
        let call = json!({ "tool_calls": [{ "index": 0, "id": "t", "type": "function", "function": { "name": "f", "arguments": "{}" } }] });
        let count =
            json!({ "choices": [], "usage": { "prompt_tokens": 7, "completion_tokens": 2 } }).to_string();
        Answer::Stream(vec![
            chunk(call, Value::Null),
            chunk(json!({}), json!("tool_calls")),
            count,
            "[DONE]".to_owned(),
        ])
    });
    let user = User::new(&server, RULES, &[]);
    let serving = serve(&user, &[]);
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } });
    for counts in [false, true] {
        let mut body = json!({ "model": "sonnet", "stream": true, "tools": [tool], "messages": [{ "role": "user", "content": "go" }] });
        if counts {
            body["stream_options"] = json!({ "include_usage": true });
        }
        let (status, text) = ask(&serving, "/v1/chat/completions", &body);
        assert_eq!(status, 200, "{text}");
        assert!(
            text.contains(r#""name":"f""#)
                && text.contains("\"tool_calls\"")
                && text.contains("data: [DONE]"),
            "{text}"
        );
        assert_eq!(text.contains("prompt_tokens"), counts, "{text}");
        assert_eq!(server.asked().last().unwrap()["stream_options"]["include_usage"], true);
    }
}

/// Covers S0-34: nothing leaves that the policy, the scanner or the budget does not let, and the client is told why.
#[test]
fn what_may_not_leave_does_not() {
    let server = Server::start(|_| Answer::Say("no".to_owned(), 1, 1));
    let never = User::new(&server, "egress.forwards = [\"fake\"]", &[]);
    let serving = serve(&never, &[]);
    let (status, answer) = chat(&serving, json!({ "model": "opus" }));
    assert!(status == 403 && answer["error"]["message"].as_str().unwrap().contains("`never`"), "{answer}");
    let asks = serve(&never, &["--egress", "ask"]);
    let (status, answer) = chat(&asks, json!({ "model": "opus" }));
    assert!(
        status == 403 && answer["error"]["message"].as_str().unwrap().contains("--egress allow"),
        "{answer}"
    );

    let user = User::new(&server, &format!("{ALONE}{RULES}"), &[]);
    let serving = serve(&user, &["--budget", "0.0001"]);
    let secret = json!([{ "role": "user", "content": format!("AKIA{}", "IOSFODNN7QWERTYU") }]);
    let (status, answer) = chat(&serving, json!({ "model": "opus", "messages": secret }));
    assert!(status == 403 && answer["error"]["message"].as_str().unwrap().contains("secret"), "{answer}");
    let (status, answer) = chat(&serving, json!({ "model": "opus", "max_tokens": 1000 }));
    assert!(
        status == 402 && answer["error"]["message"].as_str().unwrap().contains("budget.run_usd"),
        "{answer}"
    );
    let (status, answer) = chat(&serving, json!({ "model": "opus", "service_tier": "priority" }));
    assert!(
        status == 400 && answer["error"]["message"].as_str().unwrap().contains("service_tier"),
        "{answer}"
    );
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

/// What goes wrong elsewhere is said in a status that clients know, and a client that goes away ends its request.
#[test]
fn what_goes_wrong_elsewhere_is_said() {
    let server = Server::start(|body| match body["model"].as_str().unwrap() {
        "model-opus" => Answer::Fail(401, "bad key"),
        "model-sonnet" => Answer::Cut,
        _ => Answer::Hang,
    });
    let user = User::new(&server, &format!("{ALONE}{RULES}"), &[]);
    let serving = serve(&user, &[]);
    let (status, answer) = chat(&serving, json!({ "model": "opus" }));
    assert!(status == 502 && answer["error"]["type"] == "server_error", "{answer}");
    let (status, answer) = chat(&serving, json!({ "model": "sonnet" }));
    assert!(status == 502 && answer["error"]["message"].as_str().unwrap().contains("cut off"), "{answer}");
    let body = json!({ "model": "haiku", "messages": [{ "role": "user", "content": "hi" }] }).to_string();
    let gone = serving.begin("POST /v1/chat/completions", &body);
    while !server.models().contains(&"model-haiku".to_owned()) {
        std::thread::yield_now();
    }
    drop(gone);
    let mut open = String::new();
    // Its endpoint would have been waited for a second and more; the open request ends with its client.
    while !open.contains("coder_open_requests 0") {
        open.clear();
        serving.begin("GET /metrics", "").read_to_string(&mut open).unwrap();
    }
}

/// Covers S2-03, S2-07, S2-08, S2-09, S3-32: along the ladder goes what a model cannot answer, from here to elsewhere and back,
/// and each rung's own rules hold.
#[test]
fn who_cannot_answer_is_followed_along_the_ladder() {
    let server = Server::start(|body| match body["model"].as_str().unwrap() {
        "model-haiku" if body["messages"][0]["content"].as_str().is_some_and(|text| text.contains("ill")) => {
            Answer::Fail(401, "bad key")
        }
        "model-sonnet" => Answer::Fail(404, "no such model"),
        "model-opus" => Answer::Fail(400, "temperature: wrong"),
        _ => Answer::Say("from elsewhere".to_owned(), 1, 1),
    });
    let user = User::new(&server, RULES, &[]);
    let serving = serve(&user, &["--context", "200", "--max-tokens", "4"]);
    let said = |text: &str| json!([{ "role": "user", "content": text }]);
    let long = "ill word ".repeat(400);
    for (more, model, asked) in [
        // Too long for the model here, and the next one answers.
        (
            json!({ "model": "free", "messages": said(&"word ".repeat(400)) }),
            "model-haiku",
            &["model-haiku"][..],
        ),
        // The cloud is out of reach, or the budget of a rung is used up: back to the model here.
        (
            json!({ "model": "sonnet", "messages": said("ill") }),
            "coder-tiny",
            &["model-sonnet", "model-haiku"],
        ),
        (
            json!({ "model": "cheap", "messages": said("ill") }),
            "coder-tiny",
            &["model-haiku", "model-sonnet"],
        ),
    ] {
        let before = server.asked().len();
        let (status, answer) = chat(&serving, more.clone());
        assert_eq!((status, &answer["model"]), (200, &json!(model)), "{more}: {answer}");
        assert_eq!(server.models()[before..], *asked, "{more}");
    }
    // Nobody can: the first one's reason counts.
    let (status, answer) = chat(&serving, json!({ "model": "free", "messages": said(&long) }));
    let error = &answer["error"];
    assert_eq!((status, &error["code"]), (400, &json!("context_length_exceeded")), "{answer}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("; then `haiku`: ") && message.contains("`sonnet`: "), "{message}");
    // What is the request's own fault is nobody else's.
    let before = server.asked().len();
    let (status, answer) = chat(&serving, json!({ "model": "opus" }));
    assert!(status == 400 && answer.to_string().contains("temperature: wrong"), "{answer}");
    assert_eq!(server.models()[before..], ["model-opus"]);
}

/// Covers S2-09: a rung whose context cannot hold a request is not asked, since its server may cut it in silence.
#[test]
fn a_rung_without_room_is_not_asked() {
    let server = Server::start(|_| Answer::Say("from elsewhere".to_owned(), 1, 1));
    let small = "[rungs.small]\nendpoint = \"fake\"\nmodel = \"model-small\"\ncontext = 100\n\
                 price = { input_usd = 1, output_usd = 1 }\n";
    let long = json!([{ "role": "user", "content": "word ".repeat(400) }]);
    let user = User::new(&server, &format!("ladders.context = [\"small\", \"opus\"]\n{RULES}{small}"), &[]);
    let serving = serve(&user, &[]);
    for (more, model) in [(json!({ "messages": long }), "model-opus"), (json!({}), "model-small")] {
        let mut body = json!({ "model": "small" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, answer) = chat(&serving, body);
        assert_eq!((status, &answer["model"]), (200, &json!(model)), "{more}: {answer}");
    }
    assert_eq!(server.models(), ["model-opus", "model-small"]);
    // Where nobody comes after it, the words are those by which clients know that they have to send less.
    let user = User::new(&server, &format!("ladders.context = [\"small\"]\n{RULES}{small}"), &[]);
    let serving = serve(&user, &[]);
    let (status, answer) = chat(&serving, json!({ "model": "small", "messages": long }));
    let error = &answer["error"];
    assert_eq!((status, &error["code"]), (400, &json!("context_length_exceeded")), "{answer}");
    assert!(error["message"].as_str().unwrap().contains("`100` tokens of `small`'s context"), "{answer}");
    let body = json!({ "model": "small", "max_tokens": 5, "messages": long });
    let (status, text) = ask(&serving, "/v1/messages", &body);
    assert!(status == 400 && text.contains(r#""message":"prompt is too long: `"#), "{text}");
    assert_eq!(server.asked().len(), 2);
}

/// Covers S2-09, S2-10: a ladder of its own for what is too long, a budget of its own for each rung, and each step in the log.
#[test]
fn ladders_and_budgets_are_each_rungs_own() {
    let server = Server::start(|_| Answer::Say("from elsewhere".to_owned(), 1, 1));
    let rules = format!(
        "ladders.context = [\"local\", \"opus\"]\nbudget.rungs = {{ haiku = 0.0, local = 0.0 }}\n{RULES}"
    );
    let user = User::new(&server, &rules, &[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_coder"));
    command.args(["serve", "--port", "0", "--context", "200"]).env_remove("CODER_API_KEY");
    command.env("XDG_CONFIG_HOME", user.config.path()).env("XDG_STATE_HOME", user.state.path());
    command.current_dir(user.work.path());
    let serving = started(command);
    let long = json!([{ "role": "user", "content": "word ".repeat(400) }]);
    let model = |more: Value| chat(&serving, more).1["model"].clone();
    assert_eq!(model(json!({ "model": "free", "messages": long })), "model-opus");
    assert_eq!(model(json!({ "model": "free" })), "coder-tiny");
    assert_eq!(model(json!({ "model": "haiku" })), "model-sonnet");
    serving.signal("-TERM");
    let (code, said) = serving.end();
    assert_eq!(code, Some(0));
    for words in [
        ["from=\"local\"", "to=\"opus\"", "kind=\"too long\""],
        ["from=\"haiku\"", "to=\"sonnet\"", "kind=\"budget\""],
    ] {
        let has = |line: &str| line.contains("falls back") && words.iter().all(|word| line.contains(word));
        assert!(said.lines().any(has), "{words:?}: {said}");
    }
    assert!(!said.contains("word word"), "{said}");
}
