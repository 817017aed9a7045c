//! `coder config`: the user's file, the project's, and those of other programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{coder, folder, stderr, stdout};

/// A folder to work in and one for the user's configuration.
struct Place {
    work: TempDir,
    home: TempDir,
}

impl Place {
    fn new(user: &str, project: &str) -> Place {
        let place = Place { work: folder(&[]), home: folder(&[("coder/coder.toml", user)]) };
        if !project.is_empty() {
            fs::write(place.work.path().join("coder.toml"), project).unwrap();
        }
        place
    }

    fn coder(&self, args: &[&str]) -> std::process::Output {
        let mut command = coder(&[&["config"], args].concat());
        command.env("XDG_CONFIG_HOME", self.home.path()).current_dir(self.work.path());
        command.env("ANTHROPIC_API_KEY", "sk-ant-of-nobody").env_remove("OTHER_KEY").output().unwrap()
    }
}

/// Covers S2-11: no output if all is well.
#[test]
fn check_says_nothing_or_what_is_wrong() {
    let place = Place::new("egress = \"ask\"\n", "[budget]\nrun_usd = 0.1\n");
    let output = place.coder(&["check"]);
    assert!(
        output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
        "{}",
        stderr(&output)
    );
    // A rung of which nobody knows what it costs is never asked.
    let place = Place::new("[rungs.sonnet]\nmodel = \"sonnet-9\"\n", "");
    let output = place.coder(&["check"]);
    assert!(output.status.success() && stdout(&output).is_empty());
    assert!(
        stderr(&output).starts_with("note: nobody knows what `sonnet-9` of rung `sonnet` costs"),
        "{}",
        stderr(&output)
    );
    let place = Place::new("[ladders.types]\nimplement_functio = [\"opus\"]\n", "");
    let output = place.coder(&["check"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
    let said = stderr(&output);
    assert!(
        said.contains("coder.toml, line 2") && said.contains("did you mean `implement_function`"),
        "{said}"
    );
    // What a project may not do is an error in its file.
    let place = Place::new("", "egress = \"allow\"\n");
    let said = stderr(&place.coder(&["check"]));
    assert!(said.contains("cannot be set by a project"), "{said}");
}

#[test]
fn show_says_where_values_come_from_and_no_key() {
    let user = "egress = \"allow\"\n[endpoints.other]\ndialect = \"openai\"\nurl = \"https://example.com/v1\"\nkey_env = \"OTHER_KEY\"\n";
    let place = Place::new(user, "egress = \"ask\"\n");
    let shown = stdout(&place.coder(&["show"]));
    let line = |key: &str| {
        shown.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key}\n{shown}"))
    };
    assert!(
        line("egress.policy").contains("\"ask\"") && line("egress.policy").contains("coder.toml, line 1")
    );
    assert!(line("rungs.opus.model").contains("# the defaults, line"));
    assert!(line("endpoints.anthropic.key_env").ends_with(", set"));
    assert!(line("endpoints.other.key_env").ends_with("line 5, not set"));
    let json: Value = serde_json::from_slice(&place.coder(&["show", "--json"]).stdout).unwrap();
    let find = |key: &str| json.as_array().unwrap().iter().find(|entry| entry["key"] == key).unwrap();
    assert_eq!(
        (&find("egress.policy")["line"], &find("endpoints.other.key_env")["set"]),
        (&1.into(), &false.into())
    );
    assert!(!shown.contains("of-nobody") && !json.to_string().contains("of-nobody"));
}

/// Covers S2-12: which variable has the address is shown, and a value that is none is an error that names it.
#[test]
fn an_address_may_be_in_a_variable() {
    let user = "[endpoints.here]\ndialect = \"openai\"\nurl_env = \"OTHER_KEY\"\n";
    let place = Place::new(user, "");
    let shown = stdout(&place.coder(&["show"]));
    assert!(
        shown.lines().any(|line| line.starts_with("endpoints.here.url_env") && line.ends_with("not set"))
    );
    let check = |value: &str| {
        let mut command = coder(&["config", "check"]);
        command.env("XDG_CONFIG_HOME", place.home.path()).current_dir(place.work.path());
        command.env("OTHER_KEY", value).output().unwrap()
    };
    assert!(check("localhost:11434").status.success());
    let said = stderr(&check("http://example.com"));
    assert!(said.contains("line 3") && said.contains("`OTHER_KEY`") && said.contains("https"), "{said}");
}

#[test]
fn the_users_own_file_is_no_project() {
    let place = Place::new("egress = \"allow\"\n", "");
    let home = place.home.path().join("coder");
    let output = place.coder(&["check", "--working-dir", home.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let path = stdout(&place.coder(&["path"]));
    assert_eq!(path.trim_end(), home.join("coder.toml").to_str().unwrap());
}

/// Covers S0-08, S0-09: what is imported can be used as it is.
#[test]
fn another_programs_configuration_becomes_ours() {
    let place = Place::new("", "");
    let router = r#"{"modelRouter": {"rules": [{"match": {"taskPhase": "red"}, "model": "local:qwen2.5-coder-32b"},
        {"match": {"taskPhase": "verify"}, "model": "claude-opus-4-5-20251101"}], "default": "x"},
        "localModels": {"qwen2.5-coder-32b": {"endpoint": "http://localhost:11434/v1", "apiKey": "ollama-key"}}}"#;
    fs::write(place.work.path().join("router.json"), router).unwrap();
    let output = place.coder(&["import", "router.json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("note: left out: `modelRouter.default`"), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(!text.contains("ollama-key") && !stderr(&output).contains("ollama-key"));
    let own = place.home.path().join("coder/coder.toml");
    let said = stderr(&place.coder(&["import", "router.json", "--write"]));
    assert!(said.contains("--replace") && !said.contains("note:"), "{said}");
    assert_eq!(fs::read_to_string(&own).unwrap(), "");
    // What is there is read before it is replaced: its names are known.
    let output = place.coder(&["import", "router.json", "--write", "--replace"]);
    assert_eq!((stdout(&output).trim_end(), output.status.code()), (own.to_str().unwrap(), Some(0)));
    assert_eq!(fs::read_to_string(&own).unwrap(), text);
    fs::write(&own, "egress = = \"ask\"\n").unwrap();
    assert!(!place.coder(&["import", "router.json"]).status.success());
    assert!(place.coder(&["import", "router.json", "--write", "--replace"]).status.success());
    assert_eq!(fs::read_to_string(&own).unwrap(), text);
    fs::remove_dir_all(own.parent().unwrap()).unwrap();
    assert!(place.coder(&["import", "router.json", "--write"]).status.success());
    assert_eq!(fs::read_to_string(&own).unwrap(), text);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(own.parent().unwrap()), mode(&own)), (0o700, 0o600));
    let shown = stdout(&place.coder(&["show"]));
    assert!(shown.contains("rungs.local.engine = \"qwen2.5-coder-32b\""), "{shown}");
    assert!(place.coder(&["check"]).status.success());
    fs::write(place.work.path().join("router.json"), "{\"x\": 1}").unwrap();
    let said = stderr(&place.coder(&["import", "router.json"]));
    assert!(said.contains("router.json: has neither"), "{said}");
}
