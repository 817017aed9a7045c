use super::*;
use crate::egress::Policy;
use crate::{Error, Reach};

fn own<'a>(name: &'a str, text: &'a str) -> Source<'a> {
    Source { name, text, trust: Trust::Own }
}

fn project(text: &str) -> Source<'_> {
    Source { name: "coder.toml", text, trust: Trust::Project }
}

const TYPES: [&str; 4] = ["implement_function", "debug_failures", "add_test_module", "run_formatter"];

fn vocabulary() -> Vocabulary {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Vocabulary { types: words(&TYPES), phases: words(&["red", "verify"]) }
}

fn read(sources: &[Source<'_>]) -> Config {
    Config::layered(sources, &vocabulary()).unwrap()
}

fn error(sources: &[Source<'_>]) -> String {
    Config::layered(sources, &vocabulary()).unwrap_err().to_string()
}

fn names(ladder: &[RungName]) -> Vec<&str> {
    ladder.iter().map(RungName::as_str).collect()
}

#[test]
fn a_key_is_in_one_place() {
    let file = own("a", "[endpoints.anthropic]\nkey_file = \"/keys/a\"");
    let variable = own("b", "[endpoints.anthropic]\nkey_env = \"ANTHROPIC_API_KEY\"");
    let place = |sources: &[Source<'_>]| {
        let config = read(sources);
        let (_, endpoint) = config.endpoints.iter().find(|(name, _)| *name == "anthropic").unwrap();
        (endpoint.key_env.clone(), endpoint.key_file.as_ref().map(|path| path.display().to_string()))
    };
    assert_eq!(place(&[file]), (None, Some("/keys/a".to_owned())));
    assert_eq!(place(&[file, variable]), (Some("ANTHROPIC_API_KEY".to_owned()), None));
    let both = "[endpoints.anthropic]\nkey_file = \"/keys/a\"\nkey_env = \"K\"";
    assert!(error(&[own("a", both)]).contains("keep one"));
}

/// Covers S2-12, S2-21.
#[test]
fn an_address_comes_from_the_variable_that_is_named() {
    let written = |more: &str| format!("[endpoints.x]\ndialect = \"openai\"\nurl_env = \"X_HOST\"\n{more}");
    let url = |more: &str, value: Option<&str>| {
        let config = read(&[own("a", &written(more))]).located(|name| {
            assert_eq!(name, "X_HOST");
            value.map(str::to_owned)
        });
        config.map(|config| config.endpoints["x"].url.clone()).map_err(|error| error.to_string())
    };
    let fallback = "url = \"http://localhost:1/v1\"";
    for (more, value, is) in [
        (fallback, None, "http://localhost:1/v1"),
        (fallback, Some(" "), "http://localhost:1/v1"),
        ("", None, ""),
        (fallback, Some("127.0.0.1:11434"), "http://127.0.0.1:11434/v1"),
        ("", Some("https://host:4000/"), "https://host:4000/v1"),
        ("", Some("https://host/api/v2/"), "https://host/api/v2"),
        ("private = true", Some("http://10.0.0.7:8000"), "http://10.0.0.7:8000/v1"),
        // As Ollama reads its own: the usual port, and where it listens at all addresses.
        (fallback, Some("127.0.0.1"), "http://127.0.0.1:1/v1"),
        (fallback, Some(":11434"), "http://localhost:11434/v1"),
        (fallback, Some("::1"), "http://[::1]:1/v1"),
        (fallback, Some("0.0.0.0"), "http://127.0.0.1:1/v1"),
        (fallback, Some("0.0.0.0:11434"), "http://127.0.0.1:11434/v1"),
        (fallback, Some("http://0.0.0.0:11434"), "http://127.0.0.1:11434/v1"),
        (fallback, Some("[::]:11434"), "http://[::1]:11434/v1"),
        // With a scheme the port is its own.
        (fallback, Some("http://localhost"), "http://localhost/v1"),
        ("", Some(":11434"), "http://127.0.0.1:11434/v1"),
        ("", Some("localhost"), "http://localhost/v1"),
    ] {
        assert_eq!(url(more, value).as_deref(), Ok(is), "{more} {value:?}");
    }
    for (value, word) in [("http://10.0.0.7:8000", "private"), ("https://me:hunter2@host", "password")] {
        let error = url("", Some(value)).unwrap_err();
        assert!(error.contains("a, line 3: `endpoints.x.url_env` names `X_HOST`"), "{error}");
        assert!(error.contains(word) && !error.contains("hunter2") && !error.contains("10.0"), "{error}");
    }
    // Who asks what holds is told the address that is asked.
    let located = read(&[own("a", &written(fallback))]).located(|_| Some("0.0.0.0".to_owned())).unwrap();
    let shown = located.settings().into_iter().find(|setting| setting.key == "endpoints.x.url").unwrap();
    assert_eq!(shown.value, "\"http://127.0.0.1:1/v1\"");
    assert_eq!(shown.origin.to_string(), "the variable `X_HOST`");
    let nowhere = "[endpoints.x]\ndialect = \"openai\"";
    assert!(error(&[own("a", nowhere)]).contains("`endpoints.x.url` must be an address"));
    let pasted = "[endpoints.x]\ndialect = \"openai\"\nurl_env = \"http://host\"";
    assert!(error(&[own("a", pasted)]).contains("not the address itself"));
    // Who changes the address does not inherit the key, nor the other address.
    let user = own("b", "[endpoints.anthropic]\nurl_env = \"X_HOST\"");
    let anthropic = read(&[user]).endpoints["anthropic"].clone();
    assert_eq!((anthropic.url.as_str(), anthropic.key_env), ("", None));
}

const USER: &str = r#"
egress = "allow"

[endpoints.cluster]
dialect = "openai"
url = "http://10.0.0.7:8000/v1"
private = true

[rungs.cluster]
endpoint = "cluster"
model = "glm"
aliases = ["big"]
effort = "high"
price = { input_usd = 0, output_usd = 0 }

[rungs.big-local]
engine = "qwen2.5-coder-32b.gguf"

[ladders]
quality = ["local", "big-local", "big", "best"]

[ladders.types]
debug_failures = ["opus"]

[budget]
day_usd = 5.5
rungs = { best = 2 }

[[routes]]
match = { phase = "red", tag = "PARSER" }
rung = "free"

[[routes]]
match = { phase = "verify" }
rung = "best"
"#;

/// Covers S0-26, S2-40: the four names and their tiers; nothing is sent unless a file says so.
#[test]
fn the_defaults_send_nothing() {
    let config = Config::bundled();
    for (tier, rung) in [("free", "local"), ("cheap", "haiku"), ("balanced", "sonnet"), ("best", "opus")] {
        assert_eq!(config.rung(tier).unwrap().0.as_str(), rung);
    }
    assert_eq!(names(&config.ladders.availability), ["local", "haiku", "sonnet"]);
    assert_eq!(names(&config.ladders.quality), ["local", "sonnet", "opus"]);
    assert_eq!((config.egress.policy, config.review.rung.as_str()), (Policy::Never, "haiku"));
    assert_eq!(config.endpoints["anthropic"].key_env.as_deref(), Some("ANTHROPIC_API_KEY"));
    assert_eq!(read(&[own("user", "egress = \"ask\"")]).egress.policy, Policy::Ask);
    assert_eq!(read(&[own("user", "[egress]\npolicy = \"allow\"")]).egress.policy, Policy::Allow);
}

/// Covers S0-40: the types whose fallback is not the next rung of the ladder have ladders of their own, until the user writes
/// ladders.
#[test]
fn types_of_tasks_have_fallbacks() {
    let types = |sources: &[Source<'_>]| {
        let types = read(sources).ladders.types;
        types.iter().map(|(kind, ladder)| (kind.clone(), names(ladder).join(" "))).collect::<Vec<_>>()
    };
    let known = ["add_test_module", "run_formatter"];
    let bundled = known.map(|kind| (kind.to_owned(), "local haiku sonnet opus".to_owned()));
    assert_eq!(types(&[]), bundled);
    assert_eq!(types(&[own("user", "[ladders.types]\nrun_formatter = [\"local\"]")])[1].1, "local");
    let ladder = "[ladders]\nquality = [\"local\", \"best\"]";
    assert!(types(&[own("user", ladder)]).is_empty() && types(&[project(ladder)]).is_empty());
    // What the user says of a type stays, whoever writes a ladder after it.
    assert_eq!(
        types(&[own("user", USER), project(ladder)]),
        [("debug_failures".to_owned(), "opus".to_owned())]
    );
    let both = format!("{ladder}\n[ladders.types]\nrun_formatter = [\"local\", \"best\"]");
    assert_eq!(types(&[own("user", &both)]), [("run_formatter".to_owned(), "local opus".to_owned())]);
}

#[test]
fn any_rung_can_be_defined() {
    let config = read(&[own("user", USER)]);
    assert_eq!(names(&config.ladders.quality), ["local", "big-local", "cluster", "opus"]);
    assert_eq!(names(&config.ladders.types["debug_failures"]), ["opus"]);
    let (_, rung) = config.rung("BIG").unwrap();
    assert_eq!(rung.reach, Reach::Endpoint { endpoint: "cluster".into(), model: "glm".into() });
    assert_eq!(config.rung("big-local").unwrap().1.reach, Reach::Engine("qwen2.5-coder-32b.gguf".into()));
    assert_eq!(
        config.budget.rungs.iter().map(|(rung, usd)| (rung.as_str(), *usd)).collect::<Vec<_>>(),
        [("opus", 2.0)]
    );
    // What the file says nothing of stays.
    assert_eq!((config.budget.run_usd, config.budget.day_usd), (1.0, 5.5));
    let (name, rung) = config.rung("cluster").unwrap();
    let tokens = crate::Tokens { input: 1000, output: 1000, ..Default::default() };
    assert_eq!(config.prices().of_rung(&name, rung).unwrap().most_usd(&tokens), 0.0);
}

/// Covers S0-08: rules by phase, of which the first that fits counts.
#[test]
fn routes_send_tasks_to_rungs() {
    let config = read(&[own("user", USER)]);
    let tags = ["ui".to_owned(), "parser".to_owned()];
    let to = |phase: Option<&'static str>, tags: &[String]| {
        config.route(&Routed { phase, tags, task_type: None }).map(|rung| rung.as_str().to_owned())
    };
    assert_eq!(to(Some("red"), &tags).as_deref(), Some("local"));
    assert_eq!(to(Some("verify"), &[]).as_deref(), Some("opus"));
    assert_eq!((to(Some("red"), &[]), to(None, &tags)), (None, None));
}

#[test]
fn an_error_has_file_line_and_the_nearest_name() {
    for (text, line, words) in [
        ("\n[egres]\npolicy = \"ask\"", 2, &["`egres`", "did you mean `egress`"][..]),
        ("[egress]\n\npolicies = \"ask\"", 3, &["`egress.policies`", "did you mean `policy`"]),
        ("[egress]\npolicy = \"maybe\"", 2, &["egress.policy", "`never`"]),
        ("[rungs.big]\nengine = \"x\"\nmodle = \"y\"", 3, &["`rungs.big.modle`", "did you mean `model`"]),
        ("[rungs.big]\nmodel = \"y\"", 1, &["rungs.big", "either"]),
        ("[rungs.big]\nmodel = \"y\"\nendpoint = \"antropic\"", 3, &["did you mean `anthropic`"]),
        ("[rungs.local]\nengine = \"x\"\nmodel = \"y\"", 1, &["either"]),
        ("[rungs.local]\ndeadline_s = 0", 1, &["from 1"]),
        ("[rungs.haiku]\ndeadline_s = 5", 1, &["the endpoint's"]),
        ("[rungs.Big]\nengine = \"x\"", 1, &["lower case"]),
        ("[rungs.mechanical]\nengine = \"x\"", 1, &["mechanical"]),
        ("[rungs.big]\nengine = \"x\"\naliases = [\"haiku\"]", 3, &["`haiku` already"]),
        ("[ladders]\nquality = [\"local\", \"opsu\"]", 2, &["did you mean `opus`", "haiku (cheap)"]),
        ("[ladders]\nquality = [\"local\", \"free\"]", 2, &["twice"]),
        ("[ladders]\nquality = []", 2, &["at least one"]),
        ("[ladders.types]\nimplement_functions = [\"local\"]", 2, &["did you mean `implement_function`"]),
        ("[[routes]]\nmatch = { phase = \"rde\" }\nrung = \"opus\"", 1, &["`rde`", "`red`"]),
        ("[[routes]]\nmatch = { }\nrung = \"opus\"", 1, &["nothing"]),
        ("[[routes]]\nmatch = { phse = \"red\" }\nrung = \"opus\"", 2, &["routes[0].match.phse`", "`phase`"]),
        ("[budget]\nrun_usd = -1", 2, &["0 or more"]),
        ("[budget]\nrungs = { opsu = 1 }", 2, &["opus"]),
        ("[review]\nrung = \"local\"", 2, &["do not review"]),
        ("[egress]\ndeny = [\"a[\"]", 2, &["`a[`"]),
        ("[egress]\nforwards = [\"proxy\"]", 2, &["no endpoint"]),
        ("[endpoints.x]\ndialect = \"openai\"", 1, &["`endpoints.x.url` must be an address"]),
        ("[endpoints.x]\ndialect = \"openai\"\nurl = \"http://1.2.3.4/v1\"", 3, &["private"]),
        ("[endpoints.anthropic]\nidle_s = 0", 2, &["from 1"]),
        ("a = 1\n\n= 2", 3, &[]),
        ("a = 1\na = 2", 2, &["duplicate"]),
    ] {
        let error = error(&[own("me.toml", text)]);
        assert!(error.starts_with(&format!("me.toml, line {line}: ")), "{text}\n{error}");
        assert!(words.iter().all(|word| error.contains(word)), "{text}\n{error}");
    }
}

/// The defaults' ladders have two names that may be one rung's.
#[test]
fn one_rung_may_have_the_names_of_several() {
    let glm = "[rungs.glm]\nendpoint = \"anthropic\"\nmodel = \"glm\"\naliases = [\"cheap\", \"best\"]";
    let ladders = read(&[own("me.toml", glm)]).ladders;
    let of = |ladder: &[RungName]| ladder.iter().map(|rung| rung.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(of(&ladders.types["add_test_module"]), ["local", "glm", "sonnet"]);
    assert_eq!(of(&ladders.quality), ["local", "sonnet", "glm"]);
    let written = format!("{glm}\n[ladders.types]\nadd_test_module = [\"cheap\", \"best\"]");
    assert!(error(&[own("me.toml", &written)]).contains("has `glm` twice"));
}

/// A key in a wrong place does not get into errors.
#[test]
fn an_error_shows_no_key() {
    for text in [
        "[endpoints.anthropic]\nkey_env = \"sk-ant-hunter2\"",
        "[endpoints.anthropic]\nurl = \"https://u:hunter2@example.com\"",
        "[endpoints.anthropic]\napi_key = \"hunter2\"",
        "[endpoints.anthropic]\ndeadline_s = \"hunter2\"",
        "[endpoints.anthropic]\nkey_file = [\"hunter2\"]",
        "[egress]\nallow_secrets = [\"hunter2\"]",
        "[egress]\npolicy = 3\nhunter = \"hunter2",
    ] {
        let error = error(&[own("me.toml", text)]);
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_file_takes_over_what_it_names() {
    let gateway = "[endpoints.anthropic]\nurl = \"https://gateway.example.com\"";
    // The key is for another address.
    assert_eq!(read(&[own("user", gateway)]).endpoints["anthropic"].key_env, None);
    let same = "[endpoints.anthropic]\nurl = \"https://api.anthropic.com\"\nidle_s = 7";
    let config = read(&[own("user", same)]);
    assert_eq!(config.endpoints["anthropic"].idle_s, 7);
    assert!(config.endpoints["anthropic"].key_env.is_some());
    // Another model has another price; one here has no endpoint.
    let config =
        read(&[own("user", "[rungs.haiku]\nmodel = \"other\"\n[rungs.sonnet]\nengine = \"big.gguf\"")]);
    let (name, rung) = config.rung("cheap").unwrap();
    assert!(matches!(config.prices().of_rung(&name, rung), Err(Error::UnknownPrice { .. })));
    assert_eq!(config.rung("balanced").unwrap().1.reach, Reach::Engine("big.gguf".into()));
    // A tier can be somebody else, and the ladders follow.
    let config = read(&[own("user", "[rungs.big]\nengine = \"x\"\naliases = [\"balanced\"]")]);
    assert_eq!(names(&config.ladders.quality), ["local", "big", "opus"]);
    let config = read(&[own("user", "[rungs.cheap]\nengine = \"x\"")]);
    assert_eq!(names(&config.ladders.availability), ["local", "cheap", "sonnet"]);
}

/// A repository cannot make anybody send something, or spend more.
#[test]
fn a_project_only_restricts() {
    let forbidden = [
        "egress = \"allow\"",
        "[egress]\npolicy = \"allow\"",
        "[egress]\nallow_secrets = [\"0123456789abcdef\"]",
        "[egress]\nforwards = []",
        "[endpoints.anthropic]\nurl = \"https://evil.example.com\"",
        "[endpoints.anthropic]\nkey_env = \"AWS_SECRET_ACCESS_KEY\"",
        "[endpoints.anthropic]\nkey_file = \"/home/me/.ssh/id_ed25519\"",
        "endpoints = {}",
        "[rungs.haiku]\nmodel = \"dear\"",
        "[rungs.haiku]\naliases = [\"free\"]",
        "[rungs.local]\nengine = \"./evil.gguf\"",
        "[rungs.opus.price]\ninput_usd = 0\noutput_usd = 0",
        "[review]\nwhen = \"always\"",
        "[planner]\nrung = \"opus\"",
        "[[routes]]\nmatch = { phase = \"red\" }\nrung = \"opus\"",
        "[budget]\nmonth_usd = 3",
        "[something]\nnew = 1",
    ];
    for text in forbidden {
        let error = Config::layered(&[own("user", USER), project(text)], &vocabulary()).unwrap_err();
        assert!(matches!(error, Error::Untrusted { .. }), "{text}\n{error}");
        assert!(error.to_string().starts_with("coder.toml, line "), "{error}");
    }
    let allow = error(&[own("user", USER), project("egress = \"allow\"")]);
    assert!(allow.contains("`egress.policy = \"allow\"` cannot be set by a project"), "{allow}");
    for text in ["[budget]\nrun_usd = nan", "[budget]\nrun_usd = \"x\"", "[egress]\npolicy = 1", "budget = 1"]
    {
        let error = Config::layered(&[own("user", USER), project(text)], &vocabulary()).unwrap_err();
        assert!(matches!(error, Error::BadConfig { .. }), "{text}\n{error}");
    }
    assert!(error(&[own("user", USER), project("[ladders]\nquality = [\"evil\"]")]).contains("`evil`"));
}

#[test]
fn a_projects_restrictions_hold_to_the_end() {
    let text = "egress = \"ask\"\n[budget]\nrun_usd = 0.5\nday_usd = 100\nrungs = { opus = 1, cluster = 3 }\n\
                [ladders]\nquality = [\"local\", \"best\"]";
    let restricted = project("[egress]\ndeny = [\"secret/**\"]");
    let line = own("the command line", "egress = \"allow\"\n[budget]\nrun_usd = 50");
    let config = read(&[own("user", USER), project(text), restricted, line]);
    assert_eq!(config.egress.policy, Policy::Ask);
    assert_eq!((config.budget.run_usd, config.budget.day_usd), (0.5, 5.5));
    let budget = |name: &str| config.budget.rungs[&RungName::new(name).unwrap()];
    assert_eq!((budget("opus"), budget("cluster")), (1.0, 3.0));
    assert_eq!(config.egress.deny, ["secret/**"]);
    assert_eq!(names(&config.ladders.quality), ["local", "opus"]);
    // The user's stricter policy and lower budget stay.
    let loose = project("egress = \"ask\"\n[budget]\nrun_usd = 3\nrungs = { best = 9 }");
    let config = read(&[own("user", "[budget]\nrungs = { opus = 2 }"), loose]);
    assert_eq!((config.egress.policy, config.budget.run_usd), (Policy::Never, 1.0));
    assert_eq!(config.budget.rungs[&RungName::new("opus").unwrap()], 2.0);
    // Ladders are a choice, which the command line may change.
    let ladder = own("the command line", "[ladders]\nquality = [\"local\"]");
    let config = read(&[own("user", USER), project("[ladders]\nquality = [\"best\"]"), ladder]);
    assert_eq!(names(&config.ladders.quality), ["local"]);
}

#[test]
fn every_value_has_a_place() {
    let sources = [own("user.toml", USER), project("[budget]\nrun_usd = 0.25")];
    let settings = read(&sources).settings();
    let at = |key: &str| {
        let setting = settings.iter().find(|setting| setting.key == key).unwrap_or_else(|| panic!("{key}"));
        (setting.value.as_str(), setting.origin.to_string())
    };
    assert_eq!(at("budget.run_usd"), ("0.25", "coder.toml, line 2".into()));
    assert_eq!(at("budget.day_usd"), ("5.5", "user.toml, line 26".into()));
    assert_eq!(at("egress.policy"), ("\"allow\"", "user.toml, line 2".into()));
    assert_eq!(at("rungs.big-local.engine").1, "user.toml, line 17");
    assert!(at("rungs.haiku.model").1.starts_with("the defaults, line "));
    // The settings are a file that says the same.
    let text: String =
        settings.iter().map(|Setting { key, value, .. }| format!("{key} = {value}\n")).collect();
    let again = read(&[own("again", &text)]);
    assert_eq!((again.rungs, again.budget.run_usd), (read(&sources).rungs, 0.25));
}

#[test]
fn hostile_text_is_an_error() {
    let deep = format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let dotted = format!("{}a = 1", "a.".repeat(100_000));
    let tables = format!("[{}a]\nb = 1", "a.".repeat(5_000));
    for text in [deep.as_str(), &dotted, &tables, "\u{0}", "a = \"\\ud800\"", "[", "\u{feff}[x]"] {
        for source in [own("own", text), project(text)] {
            assert!(Config::layered(&[source], &vocabulary()).is_err());
        }
    }
}
