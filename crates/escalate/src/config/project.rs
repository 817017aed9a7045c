//! What a project's file may do: lower, forbid, and choose among the user's rungs. Everything else is refused by name, so
//! that a key that comes later is refused too until somebody has thought about it.

use toml::{Table, Value};

use super::layer::{Layer, Merged, key};
use crate::egress::Policy;
use crate::{Error, Result};

/// The part that chooses, which later layers may change, and the part that restricts, which holds to the end.
pub(super) fn split(layer: Layer) -> Result<(Layer, Layer)> {
    let Layer { table, origins } = layer;
    let mut restriction = Layer { table: Table::new(), origins };
    let mut chosen = Layer { table: Table::new(), origins: restriction.origins.clone() };
    // What only restricts says where a value comes from if it has changed it.
    chosen.origins.retain(|steps, _| steps.first().is_some_and(|part| part == "ladders"));
    for (name, value) in table {
        match name.as_str() {
            "ladders" => drop(chosen.table.insert(name, value)),
            "egress" | "budget" => drop(restriction.table.insert(name, value)),
            _ => return Err(untrusted(&restriction, &[name])),
        }
    }
    Ok((chosen, restriction))
}

/// Lowers what stands in `merged`, and never raises it.
pub(super) fn restrict(merged: &mut Merged, restriction: Layer) -> Result<()> {
    for (part, value) in &restriction.table {
        let Value::Table(settings) = value else {
            return Err(restriction.bad(std::slice::from_ref(part), "must be a table"));
        };
        for (name, value) in settings {
            let steps = [part.clone(), name.clone()];
            match (part.as_str(), name.as_str(), value) {
                ("egress", "policy", value) => policy(merged, &restriction, &steps, value)?,
                ("egress", "deny", Value::Array(globs)) => {
                    let all = place(merged, &steps)?.or_insert_with(|| Value::Array(Vec::new()));
                    if let Value::Array(all) = all {
                        all.extend(globs.iter().cloned());
                    }
                }
                ("egress", "deny", _) => return Err(restriction.bad(&steps, "must be a list of patterns")),
                ("budget", "run_usd" | "day_usd", value) => lower(merged, &restriction, &steps, value)?,
                ("budget", "rungs", Value::Table(rungs)) => {
                    for (rung, value) in rungs {
                        lower(merged, &restriction, &[part.clone(), name.clone(), rung.clone()], value)?;
                    }
                }
                _ => return Err(untrusted(&restriction, &steps)),
            }
        }
    }
    Ok(())
}

/// The stricter of the two.
fn policy(merged: &mut Merged, restriction: &Layer, steps: &[String], value: &Value) -> Result<()> {
    let wanted = value.clone().try_into::<Policy>();
    let wanted = wanted.map_err(|_| restriction.bad(steps, "must be `never` or `ask`"))?;
    if wanted == Policy::Allow {
        // The key itself may be set, to less.
        return Err(match untrusted(restriction, steps) {
            Error::Untrusted { at, key } => Error::Untrusted { at, key: format!("{key} = \"allow\"") },
            other => other,
        });
    }
    let has = place(merged, steps)?.or_insert_with(|| value.clone()).clone().try_into::<Policy>();
    if has.is_ok_and(|has| wanted < has) {
        replace(merged, restriction, steps, value)?;
    }
    Ok(())
}

/// The lower of the two amounts.
fn lower(merged: &mut Merged, restriction: &Layer, steps: &[String], value: &Value) -> Result<()> {
    let amount = |value: &Value| value.as_float().or(value.as_integer().map(|whole| whole as f64));
    let Some(wanted) = amount(value).filter(|wanted| *wanted >= 0.0) else {
        return Err(restriction.bad(steps, "must be an amount of US dollars"));
    };
    let has = amount(place(merged, steps)?.or_insert_with(|| value.clone()));
    if has.is_none_or(|has| wanted <= has) {
        replace(merged, restriction, steps, value)?;
    }
    Ok(())
}

fn replace(merged: &mut Merged, restriction: &Layer, steps: &[String], value: &Value) -> Result<()> {
    *place(merged, steps)?.or_insert_with(|| value.clone()) = value.clone();
    if let Some(origin) = restriction.origin(steps) {
        merged.origins.insert(steps.to_vec(), origin.clone());
    }
    Ok(())
}

/// The place of a key in what is there already.
fn place<'a>(merged: &'a mut Merged, steps: &[String]) -> Result<toml::map::Entry<'a, String, Value>> {
    let (last, way) = steps.split_last().expect("a key has at least one step");
    let mut table = &mut merged.table;
    for (at, step) in way.iter().enumerate() {
        let inner = table.entry(step.clone()).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = inner else {
            let at = key(&way[..=at]);
            return Err(Error::BadConfig {
                at: "coder.toml".to_owned(),
                problem: format!("`{at}` must be a table"),
            });
        };
        table = inner;
    }
    Ok(table.entry(last.clone()))
}

fn untrusted(layer: &Layer, steps: &[String]) -> Error {
    let at = layer.origin(steps).map_or("coder.toml".to_owned(), ToString::to_string);
    Error::Untrusted { at, key: key(steps) }
}
