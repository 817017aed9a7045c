//! `modelRouter` and `localModels`.

use serde_json::Value;

use super::{Draft, family, is_here};
use crate::Dialect;

pub(super) fn read(config: &Value, draft: &mut Draft<'_>) {
    for key in config.as_object().into_iter().flat_map(|object| object.keys()) {
        if !["modelRouter", "localModels"].contains(&key.as_str()) {
            draft.note(format!("left out: `{key}`"));
        }
    }
    let models = config.get("localModels").and_then(Value::as_object);
    let rules = config.get("modelRouter").and_then(|router| router.get("rules")).and_then(Value::as_array);
    let mut routes = Vec::new();
    for (at, rule) in rules.into_iter().flatten().enumerate() {
        if let Some(route) = route(at, rule, models, draft) {
            routes.push(toml::Value::Table(route));
        }
    }
    for name in models.into_iter().flat_map(|models| models.keys()) {
        // A model that no rule sends anything to is a rung all the same.
        local(name, models, draft);
    }
    if !routes.is_empty() {
        draft.set(&["routes"], routes);
    }
    for key in
        config.get("modelRouter").and_then(Value::as_object).into_iter().flat_map(|router| router.keys())
    {
        if key != "rules" {
            draft.note(format!("left out: `modelRouter.{key}`"));
        }
    }
}

type Models<'a> = Option<&'a serde_json::Map<String, Value>>;

fn route(at: usize, rule: &Value, models: Models<'_>, draft: &mut Draft<'_>) -> Option<toml::Table> {
    let mut wanted = toml::Table::new();
    for (key, value) in rule.get("match").and_then(Value::as_object).into_iter().flatten() {
        let ours = match key.as_str() {
            "taskPhase" | "phase" => "phase",
            "taskTag" | "tag" => "tag",
            "taskType" | "type" => "type",
            _ => "",
        };
        match value.as_str() {
            Some(value) if !ours.is_empty() => drop(wanted.insert(ours.to_owned(), value.into())),
            // A rule without one of its conditions would fit too much.
            _ => {
                draft.note(format!("left out: rule {} of `modelRouter`, which matches `{key}`", at + 1));
                return None;
            }
        }
    }
    let Some(model) = rule.get("model").and_then(Value::as_str).filter(|_| !wanted.is_empty()) else {
        draft.note(format!("left out: rule {} of `modelRouter`, which has no `match` or no `model`", at + 1));
        return None;
    };
    let rung = match model.strip_prefix("local:") {
        Some(name) => local(name, models, draft)?,
        None => cloud(model, draft)?,
    };
    let entries = [("match".to_owned(), toml::Value::Table(wanted)), ("rung".to_owned(), rung.into())];
    Some(toml::Table::from_iter(entries))
}

/// The rung of a model that `localModels` has: one in this process, unless its server is elsewhere.
fn local(name: &str, models: Models<'_>, draft: &mut Draft<'_>) -> Option<String> {
    let model = models.and_then(|models| models.get(name));
    let url = model.and_then(|model| model.get("endpoint")).and_then(Value::as_str);
    let Some(url) = url.filter(|url| !is_here(url)) else {
        let wanted = if draft.has_rung("local") { name } else { "local" };
        let rung = draft.engine(name, wanted)?;
        if let Some(url) = url {
            let note =
                format!("`{name}` runs in this process, as rung `{rung}`; no server at `{url}` is asked");
            if !draft.notes.contains(&note) {
                draft.note(note);
            }
        }
        return Some(rung);
    };
    let rung = draft.rung_name(name)?;
    if !draft.has_rung(&rung) {
        let key = model.and_then(|model| model.get("apiKey"));
        let endpoint = draft.endpoint(name, Dialect::Openai, url, key)?;
        draft.set(&["rungs", &rung, "endpoint"], endpoint);
        draft.set(&["rungs", &rung, "model"], name);
    }
    Some(rung)
}

/// The rung of a model of a vendor: its family, since ids age (decision 10).
fn cloud(model: &str, draft: &mut Draft<'_>) -> Option<String> {
    let Some(rung) = family(model, draft.names) else {
        draft.note(format!(
            "left out: rules for `{model}`, which is of no known family; define a rung for it"
        ));
        return None;
    };
    let note = format!(
        "`{model}` became rung `{rung}`, whatever model that is; to hold on to this one, set `rungs.{rung}.model`"
    );
    if !draft.notes.contains(&note) {
        draft.note(note);
    }
    Some(rung)
}
