//! `model_list`, `router_settings` and `model_max_budget`.

use serde_json::{Map, Value};

use super::{Draft, VARIABLE, is_here};
use crate::Dialect;

/// Vendors that LiteLLM knows the address of. Where they are is no secret and no model's identity.
const VENDORS: [(&str, &str, &str); 2] = [
    ("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    ("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
];

pub(super) fn read(config: &Value, draft: &mut Draft<'_>) {
    // The list alone, as one pastes it.
    let list = config.get("model_list").unwrap_or(config).as_array();
    let mut routes = Vec::new();
    for (at, entry) in list.into_iter().flatten().enumerate() {
        model(at, entry, draft, &mut routes);
    }
    if !routes.is_empty() {
        draft.set(&["routes"], routes);
    }
    for (key, value) in config.as_object().into_iter().flatten() {
        match key.as_str() {
            "model_list" => {}
            "router_settings" | "litellm_settings" | "general_settings" => settings(key, value, draft),
            "model_max_budget" => budgets(value, draft),
            _ => draft.note(format!("left out: `{key}`")),
        }
    }
}

fn text<'a>(params: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    params.get(key).and_then(Value::as_str)
}

fn model(at: usize, entry: &Value, draft: &mut Draft<'_>, routes: &mut Vec<toml::Value>) {
    let name = entry.get("model_name").and_then(Value::as_str);
    let params = entry.get("litellm_params").and_then(Value::as_object);
    let (Some(name), Some(params)) = (name, params) else {
        return draft.note(format!(
            "left out: entry {} of `model_list`, without `model_name` or `litellm_params`",
            at + 1
        ));
    };
    let Some(rung) = rung(name, params, draft) else { return };
    for (key, value) in params {
        match key.as_str() {
            "model" | "api_base" | "api_key" | "input_cost_per_token" | "output_cost_per_token" => {}
            "tags" => {
                for tag in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    let tagged = toml::Table::from_iter([("tag".to_owned(), tag.into())]);
                    let route = [
                        ("match".to_owned(), toml::Value::Table(tagged)),
                        ("rung".to_owned(), rung.clone().into()),
                    ];
                    routes.push(toml::Value::Table(toml::Table::from_iter(route)));
                }
            }
            "max_tokens" if value.as_u64().is_some() => {
                let tokens = value.as_u64().and_then(|tokens| i64::try_from(tokens).ok()).unwrap_or(i64::MAX);
                draft.set(&["rungs", &rung, "max_tokens"], tokens);
            }
            "request_timeout" | "timeout" => timeout(name, &rung, value, draft),
            _ => draft.note(format!("left out: `{key}` of `{name}`")),
        }
    }
    for key in entry.as_object().into_iter().flat_map(|entry| entry.keys()) {
        if !["model_name", "litellm_params"].contains(&key.as_str()) {
            draft.note(format!("left out: `{key}` of `{name}`"));
        }
    }
}

/// A time that a model has is its endpoint's here; one in this process has its own.
fn timeout(name: &str, rung: &str, value: &Value, draft: &mut Draft<'_>) {
    let endpoint =
        draft.table["rungs"][rung].get("endpoint").and_then(toml::Value::as_str).map(str::to_owned);
    let is_own = |endpoint: &&String| {
        draft.table.get("endpoints").is_some_and(|all| all.get(endpoint.as_str()).is_some())
    };
    let place = match &endpoint {
        None => Some(["rungs", rung, "deadline_s"]),
        Some(_) => endpoint.as_ref().filter(is_own).map(|endpoint| ["endpoints", endpoint, "deadline_s"]),
    };
    match (place, value.as_f64()) {
        (Some(place), Some(seconds)) if seconds > 0.0 => draft.set(&place, seconds.ceil() as i64),
        _ => {
            draft.note(format!("left out: the time limit of `{name}`; no rung or endpoint of its own has it"))
        }
    }
}

/// Defines the rung of a model, and says its name.
fn rung(name: &str, params: &Map<String, Value>, draft: &mut Draft<'_>) -> Option<String> {
    let Some(model) = text(params, "model") else {
        draft.note(format!("left out: `{name}`, which has no `model`"));
        return None;
    };
    let (vendor, rest) = model.split_once('/').unwrap_or(("", model));
    let (base, key) = (text(params, "api_base"), params.get("api_key"));
    let is_ollama = vendor == "ollama" || vendor == "ollama_chat";
    if is_ollama && base.is_none_or(is_here) {
        let rung = draft.engine(rest, name)?;
        draft.note(format!("`{name}` runs `{rest}` in this process, as rung `{rung}`; no Ollama is asked"));
        if key.is_some() {
            draft.note(format!("the key of `{name}` was not copied; none is needed"));
        }
        return Some(rung);
    }
    let rung = draft.rung_name(name)?;
    if draft.has_rung(&rung) {
        draft.note(format!("left out: another `{name}` (`{model}`); a rung has one model"));
        return None;
    }
    let openai = |draft: &mut Draft<'_>, url: &str| draft.endpoint(name, Dialect::Openai, url, key);
    let endpoint = match (vendor, base) {
        ("anthropic", None) => anthropic(name, key, draft)?,
        ("anthropic", Some(url)) => {
            draft.endpoint(name, Dialect::Anthropic, url.trim_end_matches("/v1"), key)?
        }
        ("ollama" | "ollama_chat", Some(url)) if url.starts_with(VARIABLE) => {
            let endpoint = openai(draft, url)?;
            // Where Ollama is as long as nobody says it; and wherever it is, it speaks `http`.
            draft.set(&["endpoints", &endpoint, "url"], "http://localhost:11434/v1");
            draft.set(&["endpoints", &endpoint, "private"], true);
            let (variable, rest) = (url.trim_start_matches(VARIABLE), toml::Value::from(rest));
            draft.note(format!(
                "`{name}` is asked at the address in `{variable}`; to run it in this process, let rung `{rung}` have \
                 `engine = {rest}` in place of `endpoint` and `model`"
            ));
            endpoint
        }
        ("ollama" | "ollama_chat", Some(url)) => openai(draft, &format!("{}/v1", url.trim_end_matches('/')))?,
        ("openai" | "hosted_vllm" | "litellm_proxy" | "openrouter" | "", Some(url)) => openai(draft, url)?,
        (vendor, None) if VENDORS.iter().any(|(name, ..)| *name == vendor) => {
            let (_, url, variable) = VENDORS.into_iter().find(|(name, ..)| *name == vendor)?;
            let usual = Value::from(format!("{VARIABLE}{variable}"));
            draft.endpoint(name, Dialect::Openai, url, Some(key.unwrap_or(&usual)))?
        }
        _ => {
            draft.note(format!(
                "left out: `{name}` (`{model}`): only Anthropic's and OpenAI's dialects are spoken; put a proxy before it"
            ));
            return None;
        }
    };
    // With a vendor's prefix, the rest is the name that its server knows.
    let model = if vendor.is_empty() { model } else { rest };
    draft.set(&["rungs", &rung, "endpoint"], endpoint);
    draft.set(&["rungs", &rung, "model"], model);
    let usd = |key: &str| params.get(key).and_then(Value::as_f64).map(|usd| usd * 1e6);
    match (usd("input_cost_per_token"), usd("output_cost_per_token")) {
        (Some(input), Some(output)) => {
            // A millionth of a cent is as exact as prices are.
            let round = |usd: f64| (usd * 1e8).round() / 1e8;
            draft.set(&["rungs", &rung, "price", "input_usd"], round(input));
            draft.set(&["rungs", &rung, "price", "output_usd"], round(output));
        }
        _ => draft.note(format!("`{name}` has no price; without one it is not asked: `rungs.{rung}.price`")),
    }
    Some(rung)
}

/// The endpoint that is there without being defined, unless the key is elsewhere.
fn anthropic(name: &str, key: Option<&Value>, draft: &mut Draft<'_>) -> Option<String> {
    match key.and_then(Value::as_str).map(|key| key.strip_prefix(VARIABLE)) {
        None | Some(Some("ANTHROPIC_API_KEY")) => {}
        Some(Some(variable)) => draft.set(&["endpoints", "anthropic", "key_env"], variable),
        Some(None) => {
            draft.note(format!("the key of `{name}` was not copied; put it into ANTHROPIC_API_KEY"))
        }
    }
    Some("anthropic".to_owned())
}

fn settings(part: &str, settings: &Value, draft: &mut Draft<'_>) {
    for (key, value) in settings.as_object().into_iter().flatten() {
        match key.as_str() {
            "fallbacks" => fallbacks("availability", value, draft),
            "context_window_fallbacks" => fallbacks("context", value, draft),
            "model_max_budget" => budgets(value, draft),
            "master_key" => draft.note("the master key was not copied; there is no proxy to protect"),
            _ => draft.note(format!("left out: `{part}.{key}`")),
        }
    }
}

/// The fallbacks of the local model are the ladder of this name; those of others have no place.
fn fallbacks(which: &str, value: &Value, draft: &mut Draft<'_>) {
    let entries = value.as_array().into_iter().flatten().filter_map(Value::as_object).flatten();
    let mut first = true;
    for (from, to) in entries {
        let Some(begin) = draft.known(from) else {
            draft.note(format!("left out: the fallbacks of `{from}`, which is no rung"));
            continue;
        };
        if !first {
            draft.note(format!(
                "left out: the fallbacks of `{from}`; there is one ladder of `{which}`, that of the first entry"
            ));
            continue;
        }
        first = false;
        let mut ladder = vec![begin];
        for name in to.as_array().into_iter().flatten().filter_map(Value::as_str) {
            match draft.known(name) {
                Some(rung) if !ladder.contains(&rung) => ladder.push(rung),
                Some(_) => {}
                None => {
                    draft.note(format!("left out: `{name}` among the fallbacks of `{from}`: it is no rung"))
                }
            }
        }
        draft.set(&["ladders", which], ladder);
    }
}

/// Budgets of a day. 0 says that a model costs nothing, and never that its budget is used up (decision 5).
fn budgets(value: &Value, draft: &mut Draft<'_>) {
    for (name, budget) in value.as_object().into_iter().flatten() {
        let limit = budget.get("budget_limit").or_else(|| budget.get("max_budget")).unwrap_or(budget);
        let period =
            budget.get("time_period").or_else(|| budget.get("budget_duration")).and_then(Value::as_str);
        let (Some(rung), Some(usd)) = (draft.known(name), limit.as_f64().filter(|usd| *usd >= 0.0)) else {
            draft.note(format!("left out: the budget of `{name}`: no such rung, or no amount"));
            continue;
        };
        if period.is_some_and(|period| !["1d", "24h", "daily"].contains(&period)) {
            draft.note(format!("left out: the budget of `{name}`: budgets here are of a day"));
            continue;
        }
        let is_engine = draft
            .table
            .get("rungs")
            .and_then(|all| all.get(&rung))
            .is_some_and(|rung| rung.get("engine").is_some());
        if usd == 0.0 && !is_engine && rung != "local" {
            draft.note(format!("left out: the budget 0 of `{name}`, which means that it costs nothing"));
            continue;
        }
        draft.set(&["budget", "rungs", &rung], usd);
    }
}
