use super::*;
use crate::Config;
use crate::config::{Routed, Source, Trust, Vocabulary};

fn read(text: &str) -> (Config, Imported) {
    let imported = import("file", text, Config::bundled().names()).unwrap();
    let source = Source { name: "coder.toml", text: &imported.toml, trust: Trust::Own };
    let phases = ["setup", "red", "green", "refactor", "verify"].map(str::to_owned).to_vec();
    let vocabulary = Vocabulary { types: Vec::new(), phases };
    let config =
        Config::layered(&[source], &vocabulary).unwrap_or_else(|error| panic!("{error}\n{}", imported.toml));
    (config, imported)
}

fn noted(imported: &Imported, words: &[&str]) -> bool {
    imported.notes.iter().any(|note| words.iter().all(|word| note.contains(word)))
}

/// As S0 has it.
const ROUTER: &str = r#"{
  "modelRouter": {
    "rules": [
      {
        "match": { "taskPhase": "setup" },
        "model": "local:qwen2.5-coder-32b"
      },
      {
        "match": { "taskPhase": "red" },
        "model": "local:qwen2.5-coder-32b"
      },
      {
        "match": { "taskPhase": "green" },
        "model": "local:qwen2.5-coder-32b"
      },
      {
        "match": { "taskPhase": "verify" },
        "model": "claude-opus-4-5-20251101"
      }
    ]
  },
  "localModels": {
    "qwen2.5-coder-32b": {
      "endpoint": "http://localhost:11434/v1",
      "apiKey": "ollama"
    }
  }
}"#;

/// Covers S0-08, S0-09.
#[test]
fn the_router_of_claude_code() {
    let (config, imported) = read(ROUTER);
    let (name, rung) = config.rung("local").unwrap();
    assert_eq!(rung.reach, crate::Reach::Engine("qwen2.5-coder-32b".into()));
    let to = |phase| config.route(&Routed { phase: Some(phase), ..Routed::default() });
    for phase in ["setup", "red", "green"] {
        assert_eq!(to(phase), Some(&name));
    }
    assert_eq!(to("verify").map(RungName::as_str), Some("opus"));
    assert_eq!(to("refactor"), None);
    assert!(noted(&imported, &["claude-opus-4-5-20251101", "`opus`"]));
    assert!(noted(&imported, &["localhost:11434", "this process"]));
    assert_eq!(imported.notes.len(), 2, "{:?}", imported.notes);
    assert!(!imported.toml.contains("ollama"));
}

/// As S2 has it, put together, with a tier of each kind around it.
const LITELLM: &str = r#"
model_list:
  # FREE — local model: classification, triage, wave planning, write-agents
  # Requires Ollama running on host with qwen3-coder:30b
  # Falls back to cheap (Haiku) if Ollama is unavailable
  - model_name: free
    litellm_params:
      model: ollama/qwen3-coder:30b
      api_base: http://host.docker.internal:11434
      tags: ["local"]
      input_cost_per_token: 0
      output_cost_per_token: 0
      request_timeout: 120

  - model_name: cheap
    litellm_params:
      model: bedrock/anthropic.claude-haiku
      aws_region_name: us-east-1

  - model_name: balanced
    litellm_params:
      model: openai/glm-5
      api_base: http://10.0.0.7:8000/v1
      api_key: os.environ/CLUSTER_KEY
      input_cost_per_token: 0.0000003
      output_cost_per_token: 1.2e-6
      request_timeout: 90
      rpm: 10

  - model_name: special
    litellm_params:
      model: anthropic/claude-opus-5-5
      api_key: sk-ant-0000-in-the-open

router_settings:
  fallbacks:
    - free: [cheap, balanced]
    - balanced: [cheap]
  context_window_fallbacks:
    - free: [cheap]

model_max_budget:
  free: 0                  # Local model, no cloud cost
  cheap: 0
  balanced: 2.5

general_settings:
  master_key: sk-litellm-changeme
"#;

/// Covers S2-02, S2-03, S2-05, S2-08, S2-09, S2-10.
#[test]
fn the_proxy_of_litellm() {
    let (config, imported) = read(LITELLM);
    let (local, rung) = config.rung("free").unwrap();
    assert_eq!((local.as_str(), &rung.reach), ("local", &crate::Reach::Engine("qwen3-coder:30b".into())));
    assert_eq!(rung.deadline_s, Some(120));
    let names = |ladder: &[RungName]| ladder.iter().map(RungName::to_string).collect::<Vec<_>>();
    assert_eq!(names(&config.ladders.availability), ["local", "haiku", "balanced"]);
    assert_eq!(names(&config.ladders.context), ["local", "haiku"]);
    let tags = ["local".to_owned()];
    assert_eq!(config.route(&Routed { tags: &tags, ..Routed::default() }), Some(&local));
    let (name, cluster) = config.rung("balanced").unwrap();
    assert_eq!(cluster.reach, crate::Reach::Endpoint { endpoint: "balanced".into(), model: "glm-5".into() });
    let rates = config.prices().of_rung(&name, cluster).unwrap().rates;
    assert_eq!((rates.input_usd, rates.output_usd), (0.3, 1.2));
    let endpoint = &config.endpoints["balanced"];
    assert_eq!(
        (endpoint.key_env.as_deref(), endpoint.private, endpoint.deadline_s),
        (Some("CLUSTER_KEY"), true, 90)
    );
    assert_eq!(
        config.rung("special").unwrap().1.reach,
        crate::Reach::Endpoint { endpoint: "anthropic".into(), model: "claude-opus-5-5".into() }
    );
    // 0 is no budget that is used up.
    let budget = crate::Budget::new(&config.budget, &crate::SpentToday::default());
    assert!(budget.reserve(&local, 0.0).is_ok());
    let limits: Vec<(&str, f64)> =
        config.budget.rungs.iter().map(|(rung, usd)| (rung.as_str(), *usd)).collect();
    assert_eq!(limits, [("balanced", 2.5), ("local", 0.0)]);
    for words in [
        &["bedrock/anthropic.claude-haiku", "left out"][..],
        &["`rpm` of `balanced`"],
        &["key of `special` was not copied"],
        &["master key was not copied"],
        &["budget 0 of `cheap`"],
        &["fallbacks of `balanced`"],
    ] {
        assert!(noted(&imported, words), "{words:?}\n{:#?}", imported.notes);
    }
    let all = format!("{}{:?}", imported.toml, imported.notes);
    assert!(!all.contains("in-the-open") && !all.contains("changeme"), "{all}");
    // Nothing that is imported sends anything.
    assert_eq!(config.egress.policy, crate::Policy::Never);
}

/// The step of S2 as one pastes it: an entry of the list alone.
#[test]
fn an_entry_alone_can_be_pasted() {
    let from = LITELLM.find("  - model_name: free").unwrap();
    let to = LITELLM.find("  - model_name: cheap").unwrap();
    let (config, _) = read(&LITELLM[from..to]);
    assert_eq!(config.rung("local").unwrap().1.reach, crate::Reach::Engine("qwen3-coder:30b".into()));
}

/// Covers S2-12, S2-21: an address in a variable is named as the variable, and looked up when the configuration is used.
#[test]
fn an_address_in_a_variable_stays_there() {
    let (config, imported) = read(
        "model_list:
  - model_name: free
    litellm_params: {model: ollama/qwen3-coder:30b, api_base: os.environ/OLLAMA_HOST}
  - model_name: proxy
    litellm_params:
      {model: litellm_proxy/glm, api_base: os.environ/LITELLM_BASE_URL, api_key: os.environ/LITELLM_MASTER_KEY}
",
    );
    assert!(noted(&imported, &["OLLAMA_HOST", "`engine = \"qwen3-coder:30b\"`"]), "{:?}", imported.notes);
    assert_eq!(
        config.rung("free").unwrap().1.reach,
        crate::Reach::Endpoint { endpoint: "free".into(), model: "qwen3-coder:30b".into() }
    );
    let urls = |config: &Config| ["free", "proxy"].map(|name| config.endpoints[name].url.clone());
    assert_eq!(urls(&config), ["http://localhost:11434/v1", ""]);
    assert_eq!(config.endpoints["proxy"].key_env.as_deref(), Some("LITELLM_MASTER_KEY"));
    let env = |name: &str| match name {
        "OLLAMA_HOST" => Some("http://host.docker.internal:11434".to_owned()),
        "LITELLM_BASE_URL" => Some("http://localhost:8000/".to_owned()),
        _ => None,
    };
    let config = config.located(env).unwrap();
    assert_eq!(urls(&config), ["http://host.docker.internal:11434/v1", "http://localhost:8000/v1"]);
}

#[test]
fn what_is_something_else_is_an_error() {
    let names = Config::bundled();
    for (text, word) in [
        ("{\"modelRouter\": ", "line 1"),
        ("{\"a\": 1}", "neither"),
        ("a: [", ""),
        ("", ""),
        ("just text", "neither"),
        ("a: &a [*a, *a]", ""),
    ] {
        let error = import("f", text, names.names()).unwrap_err().to_string();
        assert!(error.starts_with("f: ") && error.contains(word), "{text}: {error}");
    }
    let nested = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    assert!(import("f", &nested, names.names()).is_err());
}

#[test]
fn what_makes_no_sense_is_noted() {
    for text in [
        "model_list: 3",
        "model_list: [3, {model_name: x}, {model_name: x, litellm_params: {}}]",
        "model_list: [{model_name: '!', litellm_params: {model: 'openai/x', api_base: 'http://u:p@h/'}}]",
        "model_list: []\nrouter_settings: {fallbacks: [{x: [y]}, 3]}\nmodel_max_budget: {x: y, free: -1}",
        "{\"modelRouter\": {\"rules\": [3, {\"match\": {\"x\": \"y\"}, \"model\": \"m\"}, {\"model\": \"m\"}]}}",
        "{\"localModels\": {\"mechanical\": {\"endpoint\": \"http://1.2.3.4/v1\", \"apiKey\": \"k\"}}}",
    ] {
        let (config, imported) = read(text);
        assert!(!imported.notes.is_empty() || text.ends_with('3'), "{text}");
        assert!(!config.rungs.is_empty());
    }
}
