//! `coder ask` and `coder complete` with the bundled model.

use serde_json::{Value, json};

use crate::support::{coder, folder, json as run_json, output, stderr, stdout, text};

/// Covers S2-23.
#[test]
fn an_unknown_argument_is_named() {
    for (args, said) in [
        (&["ask", "--frobnicate"][..], "Unknown arg: --frobnicate\n"),
        (&["ask", "--user", "hi", "--frobnicate=1"], "Unknown arg: --frobnicate=1\n"),
        (&["ask", "hello"], "Unknown arg: hello\n"),
    ] {
        let output = output(args);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(1), said));
        assert_eq!(stdout(&output), "");
    }
}

/// A full disk takes no words, and costs no answer.
#[cfg(target_os = "linux")]
#[test]
fn an_answer_needs_no_standard_error() {
    for args in [&["ask", "--user", "x", "--max-tokens", "1"][..], &["models", "--all"], &["ask", "--regex"]]
    {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_coder"));
        command.env("HF_HOME", "/nonexistent").stdin(std::process::Stdio::null());
        let status = command.args(args).stdout(std::process::Stdio::null()).stderr(full).status().unwrap();
        assert_eq!(status.code(), output(args).status.code(), "{args:?}");
    }
}

#[test]
fn numbers_that_cannot_be_are_told_by_their_options() {
    for (args, named) in [
        (&["ask", "--user", "x", "--max-tokens", "0"][..], "--max-tokens"),
        (&["ask", "--user", "x", "--temperature", "-1"], "temperature"),
        (&["bench", "-n", "18446744073709551615"], "context"),
        (&["bench", "--shared-prefix", "18446744073709551615"], "context"),
        (&["bench", "--parallel", "18446744073709551615"], "parallel"),
    ] {
        let output = output(args);
        assert!([Some(1), Some(2)].contains(&output.status.code()), "{args:?}");
        assert!(stderr(&output).contains(named), "{args:?}: {}", stderr(&output));
    }
}

/// Covers S2-22.
#[test]
fn something_must_be_asked() {
    for args in [&["ask"][..], &["ask", "--file", "/nonexistent"], &["ask", "--user", ""]] {
        let output = output(args);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stderr(&output), "Error: provide --user, --file, or pipe stdin\n");
    }
}

/// Covers S2-20, S2-22, S2-26: direct, from a file, piped, with a system message.
#[test]
fn user_comes_before_file_before_standard_input() {
    let folder = folder(&[("question.md", "a question in a file\n")]);
    let file = text(folder.path().join("question.md"));
    let prompt = |args: &[&str], stdin: &str| {
        let mut all = vec!["ask", "--json", "--max-tokens", "1"];
        all.extend(args);
        let output = coder(&all).write_stdin(stdin).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        value["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let (short, filed, piped) =
        ("x", "a question in a file", "something much longer is piped into standard input");
    let alone = |question: &str| prompt(&["--user", question], "");
    assert!(alone(short) < alone(filed) && alone(filed) < alone(piped));
    assert_eq!(prompt(&["--user", short, "--file", file], piped), alone(short));
    assert_eq!(prompt(&["--file", file], piped), alone(filed));
    assert_eq!(prompt(&["--file", "/nonexistent"], piped), alone(piped));
    let missing =
        coder(&["ask", "--file", "/nonexistent", "--max-tokens", "1"]).write_stdin(piped).output().unwrap();
    assert!(stderr(&missing).contains("warning: `/nonexistent` is not there"), "{}", stderr(&missing));
    assert_eq!(prompt(&[], piped), alone(piped));
    assert!(prompt(&["--user", short, "--system", "You are terse."], "") > alone(short));
}

/// Covers S2-30: whether the free tier is there is asked as scripts ask it.
#[test]
fn the_free_tier_replies() {
    let output = output(&["ask", "--model", "free", "--user", "Reply OK", "--max-tokens", "10"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stdout(&output).trim().is_empty());
}

#[cfg(unix)]
#[test]
fn a_file_may_be_a_pipe_and_must_be_there_to_be_completed() {
    let piped = |command: &str| {
        let script = format!("\"$CODER\" {command} --max-tokens 1 --file <(printf %s 'def f')");
        let mut bash = assert_cmd::Command::new("bash");
        bash.args(["-c", &script]).env("CODER", env!("CARGO_BIN_EXE_coder")).output().unwrap()
    };
    for command in ["ask", "complete"] {
        let output = piped(command);
        assert!(output.status.success(), "{command}: {}", stderr(&output));
    }
    let missing = coder(&["complete", "--file", "nope.md"]).write_stdin("something else").output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).starts_with("error: `nope.md`: "), "{}", stderr(&missing));
}

/// Covers S2-18, S2-26: a classification is one of its classes.
#[test]
fn an_answer_follows_its_regular_expression() {
    let output = output(&["ask", "--user", "Classify: add a login button", "--regex", "BUG|FEAT|TASK"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(["BUG\n", "FEAT\n", "TASK\n"].contains(&stdout(&output).as_str()), "{:?}", stdout(&output));
}

#[test]
fn an_answer_fits_its_schema() {
    let schema = json!({
        "type": "object",
        "properties": {
            "kind": { "enum": ["bug", "feature"] },
            "title": { "type": "string", "maxLength": 12 },
            "lines": { "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": 9 }, "maxItems": 3 }
        },
        "required": ["kind", "title", "lines"],
        "additionalProperties": false
    });
    let folder = folder(&[("schema.json", &schema.to_string())]);
    let validator = jsonschema::validator_for(&schema).unwrap();
    for seed in ["1", "2", "3"] {
        let file = text(folder.path().join("schema.json"));
        let answer: Value = run_json(&[
            "ask",
            "--user",
            "A ticket",
            "--json-schema",
            file,
            "--temperature",
            "1.5",
            "--seed",
            seed,
        ]);
        assert!(validator.is_valid(&answer), "{answer}");
    }
}

#[test]
fn an_answer_follows_a_lark_grammar() {
    let folder = folder(&[("sum.lark", "start: NUMBER \" + \" NUMBER\nNUMBER: /[0-9]{1,3}/\n")]);
    let output = output(&["ask", "--user", "A sum", "--grammar", text(folder.path().join("sum.lark"))]);
    assert!(output.status.success(), "{}", stderr(&output));
    let parts: Vec<u32> = stdout(&output).trim().split(" + ").map(|number| number.parse().unwrap()).collect();
    assert_eq!(parts.len(), 2);
}

#[test]
fn a_grammar_that_does_not_compile_gives_no_text() {
    let output = output(&["ask", "--user", "hi", "--regex", "(unclosed"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    assert!(stderr(&output).starts_with("error: grammar"), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1);
}

#[test]
fn too_many_tokens_are_refused_with_both_numbers() {
    let output = output(&["ask", "--user", "hi", "--max-tokens", "1000000"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.starts_with("error: context too long") && said.contains("`1000000`"), "{said}");
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let ask = |more: &[&str]| {
        let mut args =
            vec!["ask", "--user", "q", "--temperature", "2", "--regex", "[a-z ]{24}", "--max-tokens", "40"];
        args.extend(more);
        stdout(&output(&args))
    };
    let first = ask(&["--seed", "5"]);
    assert_eq!(first, ask(&["--seed", "5"]));
    assert_eq!(first, ask(&["--seed", "5", "--no-stream"]));
    let others: Vec<_> = ["6", "7", "8"].iter().map(|seed| ask(&["--seed", seed])).collect();
    assert!(others.iter().any(|other| *other != first));
}

#[test]
fn json_tells_how_it_ended() {
    let answer = run_json(&["ask", "--user", "Write `f`", "--max-tokens", "3", "--json"]);
    assert!(answer["text"].is_string());
    assert!(["length", "stop"].contains(&answer["finish"].as_str().unwrap()));
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 0);
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() <= 3);
    assert!(answer["timings"]["prefill_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn raw_text_is_continued() {
    let output = output(&[
        "complete",
        "--prompt",
        "def add(a, b):\n    return",
        "--max-tokens",
        "4",
        "--temperature",
        "0",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!output.stdout.is_empty());
    let nothing = self::output(&["complete"]);
    assert_eq!(nothing.status.code(), Some(1));
}

#[test]
fn markers_in_raw_text_are_tokens_or_plain() {
    let prompt_tokens = |more: &[&str]| {
        let args = ["complete", "--prompt", "<|im_start|>", "--max-tokens", "1", "--json"];
        run_json(&[&args, more].concat())["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    assert_eq!(prompt_tokens(&[]), 1);
    assert!(prompt_tokens(&["--plain"]) > 1);
}

#[test]
fn a_conversation_may_be_piped() {
    let folder = folder(&[]);
    let mut command = coder(&["chat", "--max-tokens", "8"]);
    let command =
        command.env("XDG_STATE_HOME", folder.path()).write_stdin("/help\nhello\n/nonsense\nbye\n/exit\n");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("/clear"));
    assert!(stderr(&output).contains("no command `/nonsense`"));
    let history = std::fs::read_to_string(folder.path().join("coder/history")).unwrap();
    assert!(history.contains("hello") && history.contains("bye"));
}

/// Its answers to questions are nonsense, and whoever has just installed the program knows no other model.
#[test]
fn the_bundled_model_says_that_it_is_a_small_one() {
    let said = |args: &[&str]| {
        let output = coder(&[args, &["--max-tokens", "2"]].concat()).write_stdin("hi\n").output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        assert!(!stdout(&output).contains("note:"), "{args:?}: {}", stdout(&output));
        stderr(&output).lines().filter(|line| line.contains("coder pull")).count()
    };
    for args in [&["ask", "--user", "hi"][..], &["complete", "--prompt", "x"], &["chat"]] {
        assert_eq!(said(args), 1, "{args:?}");
    }
    for args in [&["ask", "--user", "hi", "--json"][..], &["ask", "--user", "hi", "--model", "coder-tiny"]] {
        assert_eq!(said(args), 0, "{args:?}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_coder"))
        .args([
            "ask",
            "--model",
            "coder-tiny",
            "--user",
            "Write a story",
            "--temperature",
            "1.5",
            "--max-tokens",
            "60",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

/// Covers S3-27: what one command computed of a prompt, the next one need not.
#[test]
fn a_prefix_cache_outlives_the_command() {
    let folder = folder(&[("notes.md", "no cache\n")]);
    let file = folder.path().join("cache");
    let question = "Write a Python function `add` that adds two numbers. ".repeat(8);
    let ask = |file: &std::path::Path, more: &[&str]| {
        let mut all = vec!["ask", "--json", "--max-tokens", "4", "--user", &question];
        all.extend(["--prefix-cache", text(file)]);
        all.extend(more);
        output(&all)
    };
    let cached = |more: &[&str]| {
        let output = ask(&file, more);
        assert!(output.status.success(), "{}", stderr(&output));
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        (value["usage"]["cached_tokens"].as_u64().unwrap(), value["text"].clone())
    };
    let (none, first) = cached(&[]);
    let (some, again) = cached(&[]);
    assert!(none == 0 && some >= 96, "{none}, then {some}");
    assert_eq!(first, again);
    assert_eq!(cached(&["--kv", "q8_0"]).0, 0);
    // A file of something else stays as it is.
    let notes = folder.path().join("notes.md");
    let refused = ask(&notes, &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("no prefix cache; name another file"), "{}", stderr(&refused));
    assert_eq!(std::fs::read_to_string(&notes).unwrap(), "no cache\n");
    // A file is of one model.
    let both = ["serve", "--model", "a.gguf", "--model", "b.gguf", "--prefix-cache", text(file.clone())];
    assert_eq!(output(&both).status.code(), Some(2));
}
