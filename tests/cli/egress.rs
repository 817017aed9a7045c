//! What may leave, and what it may cost: nothing that is refused reaches the server.

use serde_json::{Value, json};

use crate::server::{Answer, Server};
use crate::support::folder;
use crate::user::{REVIEW_OFF, User, fenced, task};

/// Covers S0-34, S2-10: a budget refuses before anything is sent, and what is sent counts for the day.
#[test]
fn a_budget_refuses_before_sending() {
    let server = Server::start(|_| Answer::Say(fenced("a quokka"), 1000, 100));
    let user = User::new(&server, REVIEW_OFF, &[("task.json", &task("quokka"))]);
    let (_, result, _) = user.run(&["task.json", "--budget", "0.0001"]);
    assert_eq!((&result["outcome"], server.asked().len()), (&"blocked".into(), 0), "{result}");
    let reasons = result["history"].to_string();
    assert!(reasons.contains("budget.run_usd"), "{reasons}");
    // A limit for the day holds across runs.
    let day = format!("{REVIEW_OFF}\nbudget.day_usd = 0.2\nbudget.run_usd = 5");
    let user = User::new(&server, &day, &[("task.json", &task("quokka"))]);
    let mut done = 0;
    while done < 100 {
        let (code, result, _) = user.run(&["task.json", "--attempts", "1"]);
        if code != Some(0) {
            assert!(result["history"].to_string().contains("budget.day_usd"), "{result}");
            break;
        }
        done += 1;
        std::fs::remove_file(user.work.path().join("out.txt")).unwrap();
    }
    let spent: f64 = user
        .log()
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|task| task["requests"].as_array().unwrap())
        .map(|request| request["cost_usd"].as_f64().unwrap())
        .sum();
    assert!(done > 0 && done < 100 && spent <= 0.2, "{done} {spent}");
}

/// Covers S0-34: the day's limit holds for all processes together, and nothing is sent of which there is no row.
#[test]
fn a_budget_holds_across_processes() {
    let server = Server::start(|_| Answer::Say(fenced("a quokka"), 1000, 100));
    // Room for one request at its most, $0.16; each process alone would have had it.
    let day = format!("{REVIEW_OFF}\nbudget.day_usd = 0.17\nbudget.run_usd = 5");
    let user = User::new(&server, &day, &[("task.json", &task("quokka"))]);
    let busy = Server::start(|_| Answer::Hang);
    let config = user.config.path().join("coder/coder.toml");
    let hanging = std::fs::read_to_string(&config).unwrap().replace(&server.url, &busy.url);
    std::fs::write(&config, hanging.replace("idle_s = 1", "idle_s = 15")).unwrap();
    let args = ["run", "task.json", "--no-sandbox", "--attempts", "1"];
    let mut first = std::process::Command::new(env!("CARGO_BIN_EXE_coder"));
    first.args(args).current_dir(user.work.path()).stdout(std::process::Stdio::null());
    first.env("XDG_CONFIG_HOME", user.config.path()).env("XDG_STATE_HOME", user.state.path());
    let mut first = first.stderr(std::process::Stdio::null()).spawn().unwrap();
    while busy.asked().is_empty() {
        assert!(first.try_wait().unwrap().is_none(), "the first ended before it asked");
        std::thread::yield_now();
    }
    let other = folder(&[("task.json", &task("quokka"))]);
    let output = user
        .command(&["run", "task.json", "--no-sandbox", "--attempts", "1", "--output-format", "json"])
        .current_dir(other.path())
        .output()
        .unwrap();
    let second: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(second["history"].to_string().contains("budget.day_usd"), "{second}");
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(busy.asked().len(), 1);
    // What was under way when its process was killed counts with the most that it can have cost.
    let (_, third, _) = user.run(&["task.json", "--attempts", "1"]);
    assert!(third["history"].to_string().contains("budget.day_usd"), "{third}");
    let user = User::new(&server, REVIEW_OFF, &[("task.json", &task("quokka"))]);
    let (code, result, _) = user.run(&["task.json", "--no-ledger"]);
    assert_eq!((code, server.asked().len()), (Some(1), 0), "{result}");
    assert!(result["history"].to_string().contains("--no-ledger"), "{result}");
}

/// A task that forbids it climbs to nobody elsewhere, and who is asked for all the same says who forbids it.
#[test]
fn a_task_that_sends_nothing_says_so_itself() {
    let server = Server::start(|_| Answer::Say(fenced("a quokka"), 10, 10));
    let more = format!("egress.forwards = [\"fake\"]\negress.policy = \"allow\"\n{REVIEW_OFF}");
    let spec = |front: &str| {
        format!(
            "---\nname: sea\negress: never\n{front}---\n# Task: Sea\n\n## Objective\nWrite a text about the sea\n\n\
             ## File to modify\nout.txt\n\n## Verification\nRun: grep -q quokka out.txt\n"
        )
    };
    let user = User::new(&server, &more, &[("task.md", &spec("")), ("named.md", &spec("model: opus\n"))]);
    let (_, result, _) = user.run(&["task.md", "--attempts", "1"]);
    let history = result["history"].as_array().unwrap();
    assert!(history.iter().all(|attempt| attempt["draft"]["tier"] == "local"), "{result}");
    let (_, result, _) = user.run(&["named.md"]);
    assert!(result["error"].as_str().unwrap().contains("the task says `egress: never`"), "{result}");
    assert!(server.asked().is_empty());
}

/// Covers S0-34: where what was spent was forgotten, the day's limit has no room.
#[test]
fn a_damaged_ledger_is_no_new_budget() {
    let server = Server::start(|_| Answer::Say(fenced("a quokka"), 1000, 100));
    let user = User::new(&server, REVIEW_OFF, &[("task.json", &task("quokka"))]);
    let ledger = user.state.path().join("coder/ledger.db");
    std::fs::create_dir_all(ledger.parent().unwrap()).unwrap();
    std::fs::write(&ledger, "no database, and long enough for a header of one hundred bytes; ".repeat(4))
        .unwrap();
    for _ in 0..2 {
        let (code, result, _) = user.run(&["task.json", "--attempts", "1"]);
        assert_eq!((code, server.asked().len()), (Some(1), 0), "{result}");
        assert!(result["history"].to_string().contains("damaged today"), "{result}");
    }
    let aside = std::fs::read_dir(ledger.parent().unwrap()).unwrap().flatten().map(|entry| entry.path());
    let aside = aside.filter(|path| path.display().to_string().contains(".damaged-"));
    aside.for_each(|path| std::fs::remove_file(path).unwrap());
    assert_eq!(user.run(&["task.json", "--attempts", "1"]).0, Some(0));
}

/// Covers S1-54, S4-33: secrets in context, in the file itself and in test output never leave, unless they are listed.
#[test]
fn secrets_do_not_leave() {
    // Put together here, so that no scanner takes this file for a leak.
    let secret = ["ghp", "_", "q8Zr3LkX0vTn5YbWc7Ms1PdGh4Jf6Ua9EiRo"].concat();
    let context = format!("token = \"{secret}\"\n");
    let spec = |command: Value| {
        json!({
            "task_id": "T-001", "description": "Write a text about the sea", "output_file": "out.txt",
            "context_files": ["notes.toml"], "test_command": command,
        })
        .to_string()
    };
    let forwards = "egress.forwards = [\"fake\"]\nreview.when = \"never\"\n";
    let grep = json!(["grep", "-q", "quokka", "out.txt"]);
    let noisy = json!(["sh", "-c", format!("echo 'password: {secret}'; grep -q quokka out.txt")]);
    let places = [
        ("context", spec(grep.clone()), context.as_str(), ""),
        ("output", spec(noisy), "plain = 1\n", ""),
        ("file", spec(grep), "plain = 1\n", context.as_str()),
    ];
    for (place, spec, notes, own) in &places {
        for policy in ["never", "ask", "allow"] {
            let server = Server::start(|_| Answer::Say(fenced("a quokka"), 10, 10));
            let mut files = vec![("task.json", spec.as_str()), ("notes.toml", notes)];
            if !own.is_empty() {
                files.push(("out.txt", own));
            }
            let user = User::new(&server, &format!("{forwards}egress.policy = \"{policy}\"\n"), &files);
            let (code, result, _) = user.run(&["task.json"]);
            assert_eq!(code, Some(1), "{place} {policy}: {result}");
            assert_eq!(server.asked().len(), 0, "{place} {policy}");
            if policy == "allow" {
                let history = result["history"].to_string();
                assert!(history.contains("what looks like secrets"), "{place}: {history}");
                let refusal = history.split("nothing was sent").nth(1).unwrap();
                assert!(!refusal.split("remove them").next().unwrap().contains(&secret), "{refusal}");
            }
        }
    }
    // What the user lists by its fingerprint may leave.
    let server = Server::start(|_| Answer::Say(fenced("a quokka"), 10, 10));
    let (_, spec, notes, _) = &places[0];
    let files = [("task.json", spec.as_str()), ("notes.toml", *notes)];
    let user = User::new(&server, &format!("{forwards}egress.policy = \"allow\"\n"), &files);
    let (_, result, _) = user.run(&["task.json"]);
    let history = result["history"].to_string();
    let line = history.split("notes.toml` line 1 (").nth(1).unwrap_or_else(|| panic!("{history}"));
    let fingerprint = line.split(')').next().unwrap();
    let config = user.config.path().join("coder/coder.toml");
    let listed =
        format!("egress.allow_secrets = [\"{fingerprint}\"]\n{}", std::fs::read_to_string(&config).unwrap());
    std::fs::write(&config, listed).unwrap();
    let (code, result, said_on_stderr) = user.run(&["task.json"]);
    assert_eq!(code, Some(0), "{result} {said_on_stderr}");
    assert_eq!(server.models(), ["model-sonnet"]);
}

/// Nobody need agree to what cannot be sent.
#[test]
fn a_key_that_is_missing_is_said_before_anybody_is_asked() {
    let server = Server::start(|_| Answer::Say(fenced("a quokka"), 10, 10));
    let more = "egress.forwards = [\"fake\"]\negress.policy = \"ask\"\n";
    let spec = task("quokka").replacen('{', "{\"model\": \"sonnet\", ", 1);
    let user = User::new(&server, more, &[("task.json", &spec)]);
    let file = user.config.path().join("coder/coder.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace("idle_s = 1", "idle_s = 1\nkey_env = \"CODER_TEST_NO_KEY\""))
        .unwrap();
    let (code, result, _) = user.run(&["task.json", "--attempts", "1"]);
    assert_eq!((code, server.asked().len()), (Some(1), 0), "{result}");
    let history = result["history"].to_string();
    assert!(history.contains("no key from the variable `CODER_TEST_NO_KEY`"), "{history}");
    assert!(!history.contains("nobody could be asked"), "{history}");
}

/// A file that never leaves is no context of a task that does.
#[test]
fn denied_files_do_not_leave() {
    let server = Server::start(|_| Answer::Say(fenced("a quokka"), 10, 10));
    let more = "egress.forwards = [\"fake\"]\nreview.when = \"never\"\negress.policy = \"allow\"\negress.deny = [\"*.toml\"]\n";
    let spec =
        task("quokka").replace("\"test_command\"", "\"context_files\":[\"notes.toml\"],\"test_command\"");
    let user = User::new(&server, more, &[("task.json", &spec), ("notes.toml", "a = 1\n")]);
    let (code, result, _) = user.run(&["task.json"]);
    assert_eq!((code, server.asked().len()), (Some(1), 0), "{result}");
    assert!(result["history"].to_string().contains("`notes.toml` is never sent"), "{result}");
}
