use super::*;
use crate::config::{Source, Trust, Vocabulary};
use crate::secrets::tests::{encodings, planted};
use crate::{Ask, Said, Speaker};

fn config(text: &str) -> Config {
    let text = format!(
        "{text}\n[endpoints.proxy]\ndialect = \"openai\"\nurl = \"http://localhost:4000/v1\"\n\
         [endpoints.cluster]\ndialect = \"openai\"\nurl = \"http://10.0.0.7:8000/v1\"\nprivate = true\n"
    );
    let source = Source { name: "coder.toml", text: &text, trust: Trust::Own };
    Config::layered(&[source], &Vocabulary::default()).unwrap()
}

fn egress(text: &str) -> Egress {
    Egress::of(&config(text)).unwrap()
}

/// A request to an endpoint that says this.
fn outgoing(endpoint: &str, text: &str) -> Outgoing {
    let messages = vec![
        Said { by: Speaker::System, text: "Be exact.".to_owned() },
        Said { by: Speaker::User, text: text.to_owned() },
    ];
    let ask = Ask {
        id: "a-1".to_owned(),
        model: "m".to_owned(),
        messages,
        max_tokens: 100,
        schema: None,
        effort: None,
    };
    Outgoing::prepare(&config("").endpoints[endpoint], &ask).unwrap()
}

fn opus() -> RungName {
    RungName::new("opus").unwrap()
}

fn decide(rules: &str, endpoint: &str, text: &str, files: &[Shown<'_>], task: Policy) -> Decision {
    egress(rules).decide(&opus(), &outgoing(endpoint, text), files, task)
}

#[test]
fn the_stricter_policy_counts() {
    use Policy::{Allow, Ask, Never};
    for (own, task, wanted) in [
        ("never", Allow, "refused"),
        ("never", Ask, "refused"),
        ("ask", Allow, "ask"),
        ("ask", Never, "refused"),
        ("allow", Allow, "cleared"),
        ("allow", Ask, "ask"),
        ("allow", Never, "refused"),
    ] {
        for endpoint in ["anthropic", "cluster"] {
            let decision = decide(&format!("egress = \"{own}\""), endpoint, "Hello", &[], task);
            let is = match decision {
                Decision::Cleared(Clearance { leaves: true, .. }) => "cleared",
                Decision::AskFirst(_) => "ask",
                Decision::Refused(ref refusal @ Refusal::Policy { .. }) => {
                    // Who forbids it is who can allow it.
                    let of_task = refusal.to_string().contains("the task says `egress: never`");
                    assert_eq!(of_task, own != "never", "{own} {task:?}: {refusal}");
                    "refused"
                }
                _ => "wrong",
            };
            assert_eq!(is, wanted, "{own} {task:?} {endpoint}");
        }
    }
}

#[test]
fn this_machine_is_not_elsewhere_unless_it_sends_on() {
    let Decision::Cleared(clearance) = decide("", "proxy", "Hello", &[], Policy::Never) else { panic!() };
    assert!(!clearance.leaves);
    let rules = "egress = { forwards = [\"proxy\"] }";
    assert!(matches!(decide(rules, "proxy", "Hello", &[], Policy::Allow), Decision::Refused(_)));
}

#[test]
fn a_clearance_is_for_these_bytes() {
    let files = [Shown { path: "src/a.rs", text: "fn a() {}" }];
    let Decision::AskFirst(question) =
        decide("egress = \"ask\"", "anthropic", "Hello", &files, Policy::Allow)
    else {
        panic!()
    };
    assert_eq!(question.clearance().files, ["src/a.rs"]);
    let clearance = question.agreed();
    let request = outgoing("anthropic", "Hello");
    assert_eq!((clearance.bytes, clearance.host.as_str()), (request.body().len(), "api.anthropic.com"));
    assert_eq!(clearance.sha256.len(), 64);
    assert!(clearance.covers(&request));
    assert!(!clearance.covers(&outgoing("anthropic", "Hello!")));
    let written = serde_json::to_value(&clearance).unwrap();
    assert_eq!((&written["rung"], &written["leaves"]), (&"opus".into(), &true.into()));
}

#[test]
fn files_with_keys_never_leave() {
    let egress =
        egress("[egress]\npolicy = \"allow\"\ndeny = [\"private/\", \"docs/*.secret.md\", \"/plans\"]");
    for path in [
        ".env",
        ".env.local",
        "app/.env.production",
        ".ENV",
        "certs/server.pem",
        "id_rsa",
        "home/id_ed25519.pub",
        "a/b/tls.key",
        "credentials",
        "Credentials.json",
        "my-credentials.json",
        ".npmrc",
        ".netrc",
        "infra/terraform.tfstate",
        "infra/terraform.tfstate.backup",
        ".git/config",
        "sub/.git/hooks/pre-commit",
        "./.git/HEAD",
        "a\\.ssh\\config",
        "private/notes.md",
        "x/private/deep/er.md",
        "docs/a.secret.md",
        "plans/q3.md",
    ] {
        assert!(egress.denies(path).is_some(), "{path}");
        let file = [Shown { path, text: "x" }];
        let decision = egress.decide(&opus(), &outgoing("anthropic", "Hello"), &file, Policy::Allow);
        let Decision::Refused(Refusal::File { path: named, pattern }) = decision else { panic!("{path}") };
        assert!(named == path && !pattern.is_empty());
    }
    for path in [
        "src/environment.rs",
        "src/credentials.rs",
        "src/id_map.py",
        "Cargo.lock",
        ".gitignore",
        ".github/workflows/ci.yml",
        "docs/keys.md",
        "src/gcloud/mod.rs",
        "privateer.rs",
    ] {
        assert_eq!(egress.denies(path), None, "{path}");
    }
}

/// Show 4: whatever is planted, wherever and however it is encoded, nothing leaves with it.
#[test]
fn no_planted_secret_leaves() {
    let (never, ask, allow) = (egress(""), egress("egress = \"ask\""), egress("egress = \"allow\""));
    let harmless = "fn add(a: i32, b: i32) -> i32 {\n    a + b\n}\n";
    let (mut tried, mut refused) = (0, 0);
    for (at, (line, _)) in planted().into_iter().enumerate() {
        let all = encodings(&line);
        // Each secret in some of the codings, and all codings with some of the secrets: the scanner's own test has all.
        for (coding, text) in all.iter().enumerate().filter(|(coding, _)| (at + coding) % 3 == 0) {
            let text = &text.1;
            for prompt in [
                format!("### src/settings.py\n```python\nimport os\n{text}\n```\nFix it."),
                format!("The change:\n@@ -1,2 +1,3 @@\n {harmless}+{}\n", text.replace('\n', "\n+")),
                format!("running 1 test\nassertion failed:\n  left: {text}\n right: 1\n{harmless}"),
            ] {
                let request = outgoing("anthropic", &prompt);
                for egress in [&never, &ask, &allow] {
                    tried += 1;
                    match egress.decide(&opus(), &request, &[], Policy::Allow) {
                        Decision::Refused(refusal) => {
                            refused += 1;
                            assert!(!refusal.to_string().contains(&line));
                        }
                        _ => panic!("{coding}: {prompt}"),
                    }
                }
            }
        }
    }
    println!(
        "{tried} requests with a secret in context, diff or output, under never, ask and allow: {refused} refused"
    );
    assert_eq!(tried, refused);
    for egress in [ask, allow] {
        let decision = egress.decide(&opus(), &outgoing("anthropic", harmless), &[], Policy::Allow);
        assert!(!matches!(decision, Decision::Refused(_)));
    }
}

#[test]
fn what_is_listed_is_let_through_and_named() {
    let (line, secret) = planted().swap_remove(2);
    let text = format!("one\ntwo\n{line}\n");
    let file = [Shown { path: "tests/fixture.txt", text: &text }];
    let decision = decide("egress = \"allow\"", "anthropic", &format!("See:\n{text}"), &file, Policy::Allow);
    let Decision::Refused(refusal) = decision else { panic!() };
    let Refusal::Secrets { findings } = &refusal else { panic!() };
    assert_eq!((findings[0].place.as_str(), findings[0].line), ("tests/fixture.txt", 3));
    let said = refusal.to_string();
    assert!(said.contains(&findings[0].fingerprint) && !said.contains(&secret), "{said}");
    let rules =
        format!("egress = {{ policy = \"allow\", allow_secrets = [\"{}\"] }}", findings[0].fingerprint);
    let decision = decide(&rules, "anthropic", &format!("See:\n{text}"), &file, Policy::Allow);
    let Decision::Cleared(clearance) = decision else { panic!() };
    assert_eq!(clearance.listed, *findings);
    // Another one beside it is still refused.
    let (other, _) = planted().swap_remove(3);
    let decision = decide(&rules, "anthropic", &format!("{text}{other}"), &file, Policy::Allow);
    assert!(matches!(decision, Decision::Refused(Refusal::Secrets { findings }) if findings.len() == 1));
}
