//! Models elsewhere, as a run uses them: who is asked after whom, what it adds up to, and what a person is left with.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::server::{Answer, Server};
use crate::support::{copy_into, stderr, stdout, text};
use crate::user::{REVIEW_OFF, User, asks_for, fenced, said, task};

/// Covers S0-19, S0-26, S0-31, S1-40, S2-32, S2-38: what the local model gets wrong twice goes to the next rung, with its last work.
#[test]
fn wrong_work_goes_to_the_next_rung() {
    let server = Server::start(|_| Answer::Say(fenced("a quokka"), 1000, 100));
    let user = User::new(&server, REVIEW_OFF, &[("task.json", &task("quokka"))]);
    let (code, result, said_on_stderr) = user.run(&["task.json"]);
    assert_eq!(code, Some(0), "{result} {said_on_stderr}");
    assert_eq!((&result["tier"], &result["attempts"]), (&"sonnet".into(), &3.into()), "{result}");
    assert_eq!(server.models(), ["model-sonnet"]);
    assert!((result["cost_usd"].as_f64().unwrap() - 0.003).abs() < 1e-9, "{result}");
    for line in ["local failed, trying next...", "Local failed on T-001 at test. Escalated."] {
        assert!(said_on_stderr.contains(line), "{line}: {said_on_stderr}");
    }
    let asked = server.asked();
    assert!(said(&asked[0]).contains("grep -q quokka"), "{}", asked[0]);
    assert!(asked[0].get("temperature").is_none() && asked[0].get("seed").is_none());
    let log = user.log();
    let request = &log[0]["requests"][0];
    assert_eq!((&request["purpose"], &request["host"]), (&"draft".into(), &"127.0.0.1".into()), "{log}");
    assert_eq!(request["files"], json!(["out.txt"]));
    assert_eq!(request["sha256"].as_str().unwrap().len(), 64);
    assert!(request["bytes"].as_u64().unwrap() > 100 && request["error"] == "", "{request}");
    // The rule about escalations sees it, also where nothing runs.
    let ticket = "# Task: Let the exporter write gzip\n\n## File to modify\nexport.py\n";
    std::fs::write(user.work.path().join("ticket.md"), ticket).unwrap();
    let check = user.command(&["check", "ticket.md"]).output().unwrap();
    let fact = "1 of the last 1 tasks of the local model were not done by it, allowed is less than 0.30 once there are 10";
    assert!(stdout(&check).contains(&format!("local   escalations S2-32: {fact}")), "{}", stdout(&check));
}

/// Covers S0-40: what follows on the local model is for the type of the task to say.
#[test]
fn a_type_of_task_has_a_ladder_of_its_own() {
    let server = Server::start(|_| Answer::Say(fenced("a quokka"), 1000, 100));
    let spec = task("quokka").replace("Write a text about the sea", "Write unit tests for the sea");
    let user = User::new(&server, REVIEW_OFF, &[("task.json", &spec)]);
    let (code, result, said_on_stderr) = user.run(&["task.json"]);
    assert_eq!((code, &result["tier"]), (Some(0), &"haiku".into()), "{result} {said_on_stderr}");
    assert_eq!(server.models(), ["model-haiku"]);
}

/// Covers S0-30, S1-58, S2-03, S2-07, S2-15, S3-32: each fault leads to the right rung, and none counts as wrong work.
#[test]
fn a_fault_leads_to_the_next_rung() {
    type Reply = fn() -> Answer;
    let faults: [(&str, Reply, usize); 8] = [
        ("429", || Answer::Fail(429, "slow down"), 3),
        ("500", || Answer::Fail(500, "oops"), 3),
        ("529", || Answer::Fail(529, "Overloaded"), 3),
        ("401", || Answer::Fail(401, "invalid key"), 1),
        ("402", || Answer::Fail(402, "insufficient credit"), 1),
        ("context", || Answer::Fail(400, "maximum context length is 10 tokens, requested 20"), 1),
        ("hang", || Answer::Hang, 3),
        ("cut", || Answer::Cut, 3),
    ];
    println!("{:<10} {:<14} {:>5} {:>8}  then", "fault", "class", "tries", "seconds");
    for (name, reply, most) in faults {
        let server = Server::start(move |body| match asks_for(body) {
            "haiku" => reply(),
            _ => Answer::Say(fenced("a quokka"), 10, 10),
        });
        let user = User::new(&server, REVIEW_OFF, &[("task.json", &task("quokka"))]);
        // A file that is no model: the local rung cannot be used.
        let config = user.config.path().join("coder/coder.toml");
        let broken = std::fs::read_to_string(&config).unwrap()
            + "[rungs.local-broken]\nengine = \"/nonexistent.gguf\"\n\
               [ladders]\navailability = [\"local-broken\", \"haiku\", \"sonnet\"]\n\
               [[routes]]\nmatch = { tag = \"broken\" }\nrung = \"local-broken\"\n";
        std::fs::write(&config, broken).unwrap();
        let spec = task("quokka").replace("\"task_id\"", "\"tags\":[\"broken\"],\"task_id\"");
        std::fs::write(user.work.path().join("task.json"), spec).unwrap();
        let began = std::time::Instant::now();
        let (code, result, said) = user.run(&["task.json"]);
        assert_eq!(code, Some(0), "{name}: {result} {said}");
        assert!(said.contains("local-broken failed, trying next..."), "{name}: {said}");
        let history = result["history"].as_array().unwrap();
        let at = history.iter().position(|record| record["draft"]["tier"] == "haiku");
        let at = at.unwrap_or_else(|| panic!("{name}: {result}"));
        let class = &history[at]["verdict"]["failed"]["class"];
        let tries = server.models().iter().filter(|model| *model == "model-haiku").count();
        let next = &history[at + 1]["draft"]["tier"];
        println!(
            "{name:<10} {:<14} {tries:>5} {:>8.1}  {}",
            class.as_str().unwrap(),
            began.elapsed().as_secs_f64(),
            next.as_str().unwrap()
        );
        assert_eq!((class, next), (&"availability".into(), &"sonnet".into()), "{name}: {result}");
        assert!(tries >= 1 && tries <= most, "{name}: {tries}");
    }
}

/// Covers S0-32, S0-33: in the end a person gets all that is known.
#[test]
fn all_models_failed() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        Answer::Say(fenced(&format!("wombat {number}")), 1000, 100)
    });
    let user = User::new(&server, REVIEW_OFF, &[("task.json", &task("quokka"))]);
    let (code, result, _) = user.run(&["task.json"]);
    assert_eq!(code, Some(1));
    let end = (&result["status"], &result["outcome"], &result["error"]);
    assert_eq!(end, (&"failed".into(), &"blocked".into(), &"All models failed".into()), "{result}");
    assert_eq!(server.models(), ["model-sonnet", "model-sonnet", "model-opus", "model-opus"]);
    assert!(!user.work.path().join("out.txt").exists());
    let handover = std::fs::read_to_string(result["handover"].as_str().unwrap()).unwrap();
    for part in [
        "# T-001: a person is needed",
        "Write a text about the sea",
        "`grep -q quokka out.txt`",
        "## Attempt 6: opus (model-opus)",
        "exit status 1",
        "+wombat 3",
        "All 6 drafts were refused by `test`",
    ] {
        assert!(handover.contains(part), "{part}: {handover}");
    }
}

/// Covers S3-32: with the cloud out of reach, work that was meant for it goes on here, and says so.
#[test]
fn without_the_cloud_work_goes_on_here() {
    let server = Server::start(|_| Answer::Fail(503, "down"));
    let spec = |model: &str| {
        format!(
            "---\nname: slug\nmodel: {model}\n---\n# Task: Slugs\n\n## Objective\nWrite a function `slugify` that converts \
             `title` to lower case and replaces spaces with dashes.\n\n## File to modify\nsrc/slugify.rs\n"
        )
    };
    let user = User::new(&server, REVIEW_OFF, &[("task.md", &spec("opus"))]);
    let (code, result, said) = user.run(&["task.md"]);
    assert_eq!((code, &result["tier"]), (Some(0), &"local".into()), "{result}");
    assert!(said.contains("opus failed, trying next..."), "{said}");
    // Where nothing may be sent at all, nobody else was meant.
    let user = User::new(&server, "egress.forwards = [\"fake\"]", &[("task.md", &spec("opus"))]);
    let before = server.asked().len();
    let (code, result, _) = user.run(&["task.md"]);
    assert_eq!((code, &result["outcome"]), (Some(1), &"unavailable".into()), "{result}");
    assert!(result["error"].as_str().unwrap().contains("never"), "{result}");
    assert_eq!(server.asked().len(), before);
}

/// Covers S0-08, S0-23, S0-26: `--model` says which model the local one is; who does a task is as the task and the rules say.
#[test]
fn a_model_on_the_command_line_takes_no_task_from_another() {
    let server = Server::start(|_| Answer::Say(fenced("a quokka"), 10, 10));
    let rules = "review.when = \"never\"\n[[routes]]\nmatch.tag = \"hard\"\nrung = \"sonnet\"\n";
    let with = |key: &str| task("quokka").replace("\"task_id\"", &format!("{key},\"task_id\""));
    let (named, routed) = (with("\"model\":\"opus\""), with("\"tags\":[\"hard\"]"));
    let user = User::new(&server, rules, &[("named.json", &named), ("routed.json", &routed)]);
    for (file, tier) in [("named.json", "opus"), ("routed.json", "sonnet")] {
        let (code, result, said) = user.run(&[file, "--model", "/nonexistent.gguf"]);
        assert_eq!((code, &result["tier"]), (Some(0), &tier.into()), "{result} {said}");
        assert_eq!(result["attempts"], 1, "{result}");
        std::fs::remove_file(user.work.path().join("out.txt")).unwrap();
    }
    let (_, result, _) = user.run(&["named.json", "--no-retry", "--force-local"]);
    assert_eq!(result["history"][0]["draft"]["tier"], "local", "{result}");
}

/// Covers S2-31, S2-36: another model reviews; what it finds goes back, and without it the result says so.
#[test]
fn local_work_is_reviewed() {
    let server = Server::start(|body| match said(body).contains("# Review of a change") {
        true => Answer::Say(json!({ "findings": [], "approved": true }).to_string(), 500, 20),
        false => Answer::Fail(500, "not asked for"),
    });
    let slug =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/slugify/task.md"))
            .unwrap();
    let slug = slug.split("## Verification").next().unwrap();
    let user = User::new(&server, "", &[("task.md", slug)]);
    let (code, result, said_on_stderr) = user.run(&["task.md"]);
    assert_eq!((code, &result["review"]), (Some(0), &"approved".into()), "{result} {said_on_stderr}");
    assert_eq!(server.models(), ["model-haiku"]);
    let asked = &server.asked()[0];
    assert!(said(asked).contains("fn slugify"), "{asked}");
    assert_eq!(asked["response_format"]["type"], "json_schema");
    assert!((result["cost_usd"].as_f64().unwrap() - 0.0006).abs() < 1e-9, "{result}");
    let stats = user.command(&["stats", "--json"]).output().unwrap();
    let stats: Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert!((stats["cost"]["cloud_usd"].as_f64().unwrap() - 0.0006).abs() < 1e-9, "{}", stats["cost"]);
    assert_eq!(stats["counts"]["offline"], 0);
    // Without a reviewer.
    let server = Server::start(|_| Answer::Fail(500, "down"));
    let user = User::new(&server, "", &[("task.md", slug)]);
    let (code, result, said_on_stderr) = user.run(&["task.md"]);
    assert_eq!((code, &result["review"]), (Some(0), &"unreviewed".into()), "{result}");
    assert!(said_on_stderr.contains("not reviewed"), "{said_on_stderr}");
}

/// Covers S1-27, S1-29, S0-22: a request becomes task files that the policy agrees with, or nothing.
#[test]
fn a_request_becomes_a_plan() {
    let task = |lines: u32| {
        json!({
            "task_id": "T-001", "description": "Write a function `slugify` that converts `title` to lower case",
            "output_files": ["src/slugify.rs"], "context_files": [], "constraints": [], "test_command": "cargo test",
            "depends_on": [], "estimated_lines": lines, "imports": 0, "model": "local", "reason": "",
        })
    };
    let answer = move |lines: u32| json!({ "notes": "One step.", "tasks": [task(lines)] }).to_string();
    let reply = answer;
    let server = Server::start(move |body| {
        let lines = if body["messages"].as_array().unwrap().len() == 1 { 400 } else { 20 };
        Answer::Say(reply(lines), 2000, 300)
    });
    let user = User::new(&server, "", &[("src/lib.rs", "mod slugify;\n")]);
    let output = user.command(&["plan", "Make slugs", "--out", "plans/slugs"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("Delegable to Local Model\n1. T-001: `src/slugify.rs`"),
        "{}",
        stdout(&output)
    );
    let asked = server.asked();
    assert_eq!((asked.len(), server.models()[0].as_str()), (2, "model-opus"));
    assert!(said(&asked[0]).contains("src/lib.rs") && said(&asked[1]).contains("400 lines"), "{}", asked[1]);
    let plan = user.work.path().join("plans/slugs");
    assert!(plan.join("batches.md").exists());
    let check = user.command(&["check", text(&plan)]).output().unwrap();
    assert!(check.status.success(), "{}", stdout(&check));
    // What never holds is not written.
    let server = Server::start(move |_| Answer::Say(answer(400), 2000, 300));
    let user = User::new(&server, "", &[]);
    let output = user.command(&["plan", "Make slugs", "--out", "plan"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("`lines`"), "{}", stderr(&output));
    assert!(!user.work.path().join("plan").exists());
}

/// Covers S2-33: a local model plans; if nothing comes of it, the next rung does.
#[test]
fn the_next_rung_plans_where_the_local_one_cannot() {
    let server = Server::start(|_| {
        let task = json!({
            "task_id": "T-001", "description": "Write a function `slugify` that converts `title` to lower case",
            "output_files": ["src/slugify.rs"], "context_files": [], "constraints": [], "test_command": "cargo test",
            "depends_on": [], "estimated_lines": 9, "imports": 0, "model": "local", "reason": "",
        });
        Answer::Say(json!({ "notes": "", "tasks": [task] }).to_string(), 100, 100)
    });
    let user = User::new(&server, "", &[]);
    let args = ["plan", "Make slugs", "--rung", "local", "--model", "/nonexistent.gguf", "--json"];
    let output = user.command(&args).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&plan["tasks"][0]["route"], server.models()),
        (&"local".into(), vec!["model-haiku".to_owned()])
    );
    assert!(stderr(&output).contains("trying next..."), "{}", stderr(&output));
}

/// Covers S0-24, S0-34, S0-35, S2-31: the plan of nine tasks, with a planner, reviews, and two tasks that only a cloud
/// model does; the report has every figure of S0-34's table.
#[test]
fn the_plan_of_nine_tasks_has_a_bill() {
    let server = Server::start(|body| {
        let said = said(body);
        match (said.contains("# Review of a change"), asks_for(body)) {
            (true, _) => Answer::Say(json!({ "findings": [], "approved": true }).to_string(), 1_500, 60),
            (false, "sonnet") if said.contains("ADMIN.md") => {
                Answer::Say("````markdown\n# Operations\n\nAsk the quokka.\n````".into(), 1_200, 900)
            }
            (false, rung) => panic!("{rung}: {said}"),
        }
    });
    let user = User::new(&server, "", &[]);
    copy_into("examples/reject_if_remote", user.work.path());
    // One more thing that no small model guesses.
    let hard = json!({
        "task_id": "010", "description": "Write ADMIN.md about operations", "output_file": "ADMIN.md",
        "test_command": ["grep", "-q", "quokka", "ADMIN.md"],
    });
    std::fs::write(user.work.path().join("plan/010.json"), hard.to_string()).unwrap();
    let batches = user.work.path().join("plan/batches.md");
    let text = std::fs::read_to_string(&batches).unwrap() + "- [ ] 010.json: operations\n";
    std::fs::write(&batches, text).unwrap();
    let (code, all, said_on_stderr) = user.run(&["plan"]);
    assert_eq!(code, Some(0), "{all} {said_on_stderr}");
    let results = all["results"].as_array().unwrap();
    let by = |tier: &str| results.iter().filter(|result| result["tier"] == tier).count();
    assert_eq!((results.len(), by("sonnet")), (10, 1), "{all}");
    let tiers: Vec<&Value> = results.iter().map(|result| &result["tier"]).collect();
    assert_eq!(by("local") + by("mechanical"), 9, "{tiers:?}");
    let reviewed = results.iter().filter(|result| result["review"] == "approved").count();
    assert_eq!(reviewed, by("local"));
    let report = user.command(&["stats", "--json", "--watts", "575", "--kwh-usd", "0.30"]).output().unwrap();
    let stats: Value = serde_json::from_slice(&report.stdout).unwrap();
    let spent = 1_200.0 * 2e-6 + 900.0 * 10e-6 + by("local") as f64 * (1_500.0 * 1e-6 + 60.0 * 5e-6);
    let cost = &stats["cost"];
    assert!((cost["cloud_usd"].as_f64().unwrap() - spent).abs() < 1e-9, "{cost} {spent}");
    let all_opus = stats["all_on_usd"]["opus"].as_f64().unwrap();
    let all_sonnet = stats["all_on_usd"]["sonnet"].as_f64().unwrap();
    assert!((all_opus - 2.0 * all_sonnet).abs() < 1e-9 && all_opus > 0.0, "{}", stats["all_on_usd"]);
    assert_eq!(cost["all_best_usd"], stats["all_on_usd"]["opus"]);
    let text = user.command(&["stats", "--watts", "575", "--kwh-usd", "0.30"]).output().unwrap();
    let text = stdout(&text);
    for part in [
        "for cloud models",
        "of electricity (575 W",
        "all of it on one rung: haiku $",
        "saved against the best model",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let electricity = cost["electricity_usd"].as_f64().unwrap();
    println!("S0-34, per plan of 9 tasks       said in the seed   here, 10 tasks, scripted answers");
    println!("  all Opus                       $15-20             ${all_opus:.4}");
    println!("  Opus and Sonnet, no local      $6-8               ${all_sonnet:.4} (all Sonnet)");
    println!(
        "  local where it can             $3-4 + $0.50       ${spent:.4} + ${electricity:.6} of electricity"
    );
}
