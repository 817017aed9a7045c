//! The merged table as it is written, and what is made of it once everything that it names is there.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::Deserialize;

use super::layer::{Merged, Steps};
use super::{BUNDLED, Config, DEFAULTS, Review, Route, Vocabulary, When};
use crate::budget::Limits;
use crate::egress::{Address, Denied, Rules};
use crate::nearest::nearest;
use crate::price::WrittenPrice;
use crate::{Effort, Endpoint, Ladders, Names, Reach, Result, Rung, RungName};

/// The most tokens of an answer where nobody says it: room for a file and for thoughts.
const MAX_TOKENS: u32 = 16_000;

/// How long somebody may be waited for: up to a day.
const SECONDS: RangeInclusive<u64> = 1..=86_400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    endpoints: BTreeMap<String, Endpoint>,
    rungs: BTreeMap<String, WrittenRung>,
    ladders: WrittenLadders,
    budget: WrittenBudget,
    egress: Rules,
    review: WrittenReview,
    planner: WrittenPlanner,
    #[serde(default)]
    routes: Vec<WrittenRoute>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRung {
    endpoint: Option<String>,
    model: Option<String>,
    engine: Option<String>,
    #[serde(default)]
    aliases: Vec<String>,
    effort: Option<Effort>,
    max_tokens: Option<u32>,
    context: Option<u64>,
    deadline_s: Option<u64>,
    price: Option<WrittenPrice>,
}

/// The rungs of the defaults.
#[derive(Default, Deserialize)]
struct Defaults {
    rungs: BTreeMap<String, WrittenRung>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLadders {
    availability: Vec<String>,
    context: Option<Vec<String>>,
    quality: Vec<String>,
    #[serde(default)]
    types: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBudget {
    run_usd: f64,
    day_usd: f64,
    #[serde(default)]
    rungs: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenReview {
    rung: String,
    when: When,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPlanner {
    rung: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRoute {
    r#match: WrittenMatch,
    rung: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMatch {
    phase: Option<String>,
    tag: Option<String>,
    r#type: Option<String>,
}

/// Makes a configuration of the merged table; errors name the file and the line.
pub(super) fn check(merged: Merged, vocabulary: &Vocabulary) -> Result<Config> {
    let table = toml::Value::Table(merged.table.clone());
    let written: Written = serde_path_to_error::deserialize(table).map_err(|error| merged.wrong(error))?;
    let check = Check { merged: &merged, vocabulary };
    check.endpoints(&written.endpoints)?;
    check.egress(&written.egress, &written.endpoints)?;
    let names = check.names(&written.rungs)?;
    let rungs = check.rungs(written.rungs, &written.endpoints)?;
    let ladders = check.ladders(&written.ladders, &names)?;
    let budget = check.budget(&written.budget, &names)?;
    let WrittenReview { rung, when } = &written.review;
    let review = Review { rung: check.meant(&names, rung, &steps(["review", "rung"]))?, when: *when };
    if when != &When::Never && rungs[&review.rung].is_local() {
        return Err(merged.bad(
            &steps(["review", "rung"]),
            "is a model in this process, and local models do not review; name a rung with an endpoint, or set `when` to \
             `never`",
        ));
    }
    let planner = check.meant(&names, &written.planner.rung, &steps(["planner", "rung"]))?;
    let routes = written.routes.iter().enumerate().map(|(at, route)| check.route(at, route, &names));
    let routes = routes.collect::<Result<_>>()?;
    let (endpoints, egress) = (written.endpoints, written.egress);
    Ok(Config { endpoints, rungs, ladders, budget, egress, review, planner, routes, names, merged })
}

fn steps<const N: usize>(steps: [&str; N]) -> Steps {
    steps.map(str::to_owned).to_vec()
}

struct Check<'a> {
    merged: &'a Merged,
    vocabulary: &'a Vocabulary,
}

impl Check<'_> {
    fn endpoints(&self, endpoints: &BTreeMap<String, Endpoint>) -> Result<()> {
        for (name, endpoint) in endpoints {
            let at = |key: &str| steps(["endpoints", name, key]);
            if RungName::new(name).is_err() {
                return Err(self.merged.bad(&steps(["endpoints", name]), "is no name; use a-z, 0-9, `-`"));
            }
            if !endpoint.url.is_empty() || endpoint.url_env.is_none() {
                Address::of(endpoint).map_err(|problem| self.merged.bad(&at("url"), problem))?;
            }
            let is_variable = |name: &String| {
                name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                    && (1..=128).contains(&name.len())
                    && !name.as_bytes()[0].is_ascii_digit()
            };
            for (key, variable, what) in
                [("key_env", &endpoint.key_env, "key"), ("url_env", &endpoint.url_env, "address")]
            {
                if !variable.as_ref().is_none_or(is_variable) {
                    let problem =
                        format!("is the name of a variable of the environment, not the {what} itself");
                    return Err(self.merged.bad(&at(key), problem));
                }
            }
            if endpoint.key_env.is_some() && endpoint.key_file.is_some() {
                return Err(self.merged.bad(&at("key_file"), "and `key_env` are both there; keep one"));
            }
            for (key, seconds) in [("deadline_s", endpoint.deadline_s), ("idle_s", endpoint.idle_s)] {
                if !SECONDS.contains(&seconds) {
                    return Err(self.merged.bad(&at(key), "must be from 1 to 86400"));
                }
            }
        }
        Ok(())
    }

    fn egress(&self, rules: &Rules, endpoints: &BTreeMap<String, Endpoint>) -> Result<()> {
        let bad = |key: &str, problem: String| self.merged.bad(&steps(["egress", key]), problem);
        Denied::new(&rules.deny).map_err(|problem| bad("deny", problem))?;
        let is_print = |text: &&String| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !rules.allow_secrets.iter().all(|text| is_print(&text)) {
            let problem = "has fingerprints of 16 hexadecimal digits, as a refusal names them; never secrets";
            return Err(bad("allow_secrets", problem.to_owned()));
        }
        if let Some(unknown) = rules.forwards.iter().find(|name| !endpoints.contains_key(*name)) {
            let near = crate::error::did_you_mean(&nearest(unknown, endpoints.keys().map(String::as_str)));
            return Err(bad("forwards", format!("names `{unknown}`, which is no endpoint{near}")));
        }
        Ok(())
    }

    /// Own names first, then aliases, and those of the defaults last: they make room for what the user calls so.
    fn names(&self, rungs: &BTreeMap<String, WrittenRung>) -> Result<Names> {
        let mut names = Names::default();
        let mut aliases = Vec::new();
        let defaults: Defaults = toml::from_str(DEFAULTS).unwrap_or_default();
        for (written, rung) in rungs {
            let name = self.name(written, &steps(["rungs", written]))?;
            if name.as_str() != written {
                let problem = format!("must be in lower case: `{name}`");
                return Err(self.merged.bad(&steps(["rungs", written]), problem));
            }
            names.add(&name, &name).expect("keys differ");
            for alias in &rung.aliases {
                let bundled = defaults.rungs.get(written).is_some_and(|rung| rung.aliases.contains(alias));
                aliases.push((bundled, alias, name.clone()));
            }
        }
        aliases.sort_by_key(|(bundled, ..)| *bundled);
        for (bundled, alias, rung) in aliases {
            let at = steps(["rungs", rung.as_str(), "aliases"]);
            match names.add(&self.name(alias, &at)?, &rung) {
                Err(other) if !bundled => {
                    return Err(self.merged.bad(&at, format!("has `{alias}`, which is `{other}` already")));
                }
                _ => {}
            }
        }
        Ok(names)
    }

    fn name(&self, name: &str, at: &[String]) -> Result<RungName> {
        RungName::new(name).map_err(|error| self.merged.bad(at, format!("does not fit: {error}")))
    }

    fn rungs(
        &self,
        written: BTreeMap<String, WrittenRung>,
        endpoints: &BTreeMap<String, Endpoint>,
    ) -> Result<BTreeMap<RungName, Rung>> {
        let rung = |(written, rung): (String, WrittenRung)| {
            let at = steps(["rungs", &written]);
            let name = self.name(&written, &at)?;
            Ok((name.clone(), self.rung(&name, rung, endpoints, &at)?))
        };
        written.into_iter().map(rung).collect()
    }

    fn rung(
        &self,
        name: &RungName,
        written: WrittenRung,
        endpoints: &BTreeMap<String, Endpoint>,
        at: &[String],
    ) -> Result<Rung> {
        let WrittenRung {
            endpoint,
            model,
            engine,
            aliases: _,
            effort,
            max_tokens,
            context,
            deadline_s,
            price,
        } = written;
        let bad = |problem: &str| Err(self.merged.bad(at, problem));
        let reach = match (endpoint, model, engine) {
            (None, None, None) if *name == RungName::local() => Reach::Here,
            (None, None, Some(engine)) if !engine.trim().is_empty() => Reach::Engine(engine),
            (Some(endpoint), Some(model), None) if !model.trim().is_empty() => {
                if !endpoints.contains_key(&endpoint) {
                    let near = nearest(&endpoint, endpoints.keys().map(String::as_str));
                    let near = crate::error::did_you_mean(&near);
                    let problem = format!("names `{endpoint}`, which is no endpoint{near}");
                    return Err(self.merged.bad(&[at, &steps(["endpoint"])].concat(), problem));
                }
                Reach::Endpoint { endpoint, model }
            }
            _ => {
                return bad("must have either `endpoint` and `model`, or `engine`: a model's file or name");
            }
        };
        if matches!(reach, Reach::Endpoint { .. }) && name.is_of_this_process() {
            return bad("is behind an endpoint; names that begin with `local` are of models in this process");
        }
        let (is_local, model) = match &reach {
            Reach::Endpoint { model, .. } => (false, model.as_str()),
            _ => (true, ""),
        };
        if is_local && price.is_some() {
            return bad("is a model in this process and has no price; electricity is in `coder stats`");
        }
        if !is_local && deadline_s.is_some() {
            return bad("is behind an endpoint; `deadline_s` is the endpoint's");
        }
        if deadline_s.is_some_and(|seconds| !SECONDS.contains(&seconds)) {
            return bad("must have a `deadline_s` from 1 to 86400");
        }
        if max_tokens == Some(0) || context == Some(0) {
            return bad("must have `max_tokens` and `context` above 0");
        }
        let price = price.map(|price| price.price(name, model)).transpose();
        let price = price.map_err(|problem| self.merged.bad(at, format!("has a price that {problem}")))?;
        let max_tokens = max_tokens.unwrap_or(MAX_TOKENS);
        Ok(Rung { reach, effort, max_tokens, context, deadline_s, price })
    }

    fn ladders(&self, written: &WrittenLadders, names: &Names) -> Result<Ladders> {
        let mut types = BTreeMap::new();
        for (kind, ladder) in &written.types {
            let at = steps(["ladders", "types", kind]);
            self.known("type of task", kind, &self.vocabulary.types, &at)?;
            types.insert(kind.clone(), self.ladder(ladder, names, &at)?);
        }
        let availability = self.ladder(&written.availability, names, &steps(["ladders", "availability"]))?;
        let quality = self.ladder(&written.quality, names, &steps(["ladders", "quality"]))?;
        let context = written.context.as_ref().unwrap_or(&written.availability);
        let context = self.ladder(context, names, &steps(["ladders", "context"]))?;
        Ok(Ladders { availability, context, quality, types })
    }

    fn ladder(&self, written: &[String], names: &Names, at: &[String]) -> Result<Vec<RungName>> {
        let mut ladder = Vec::new();
        for name in written {
            let rung = self.meant(names, name, at)?;
            if ladder.contains(&rung) {
                // A user may well call one rung by two names that the defaults know.
                if self.merged.origin(at).is_some_and(|origin| origin.file == BUNDLED) {
                    continue;
                }
                return Err(self.merged.bad(at, format!("has `{rung}` twice")));
            }
            ladder.push(rung);
        }
        if ladder.is_empty() { Err(self.merged.bad(at, "needs at least one rung")) } else { Ok(ladder) }
    }

    fn meant(&self, names: &Names, name: &str, at: &[String]) -> Result<RungName> {
        names.resolve(name).map_err(|error| self.merged.bad(at, format!("does not fit: {error}")))
    }

    fn known(&self, what: &str, name: &str, known: &[String], at: &[String]) -> Result<()> {
        // A caller that knows none has nothing to compare with.
        if known.is_empty() || known.iter().any(|known| known == name) {
            return Ok(());
        }
        let near = crate::error::did_you_mean(&nearest(name, known.iter().map(String::as_str)));
        let all = known.join("`, `");
        Err(self.merged.bad(at, format!("has `{name}`, which is no {what}{near}; there are `{all}`")))
    }

    /// Where a rung stands under two of its names, the lower amount holds.
    fn budget(&self, written: &WrittenBudget, names: &Names) -> Result<Limits> {
        let mut rungs: BTreeMap<RungName, f64> = BTreeMap::new();
        let amount = |usd: f64, at: Steps| {
            let fits = usd >= 0.0;
            if fits {
                Ok(usd)
            } else {
                Err(self.merged.bad(&at, "must be 0 or more US dollars; inf is no limit"))
            }
        };
        for (name, usd) in &written.rungs {
            let at = steps(["budget", "rungs", name]);
            let rung = self.meant(names, name, &at)?;
            let usd = amount(*usd, at)?;
            rungs.entry(rung).and_modify(|old| *old = old.min(usd)).or_insert(usd);
        }
        let run_usd = amount(written.run_usd, steps(["budget", "run_usd"]))?;
        let day_usd = amount(written.day_usd, steps(["budget", "day_usd"]))?;
        Ok(Limits { run_usd, day_usd, rungs })
    }

    fn route(&self, at: usize, written: &WrittenRoute, names: &Names) -> Result<Route> {
        let at = steps(["routes", &format!("[{at}]")]);
        let WrittenMatch { phase, tag, r#type } = &written.r#match;
        if phase.is_none() && tag.is_none() && r#type.is_none() {
            return Err(self.merged.bad(&at, "matches nothing; name a `phase`, a `tag` or a `type`"));
        }
        if let Some(phase) = phase {
            self.known("phase", phase, &self.vocabulary.phases, &at)?;
        }
        if let Some(kind) = r#type {
            self.known("type of task", kind, &self.vocabulary.types, &at)?;
        }
        let rung = self.meant(names, &written.rung, &at)?;
        Ok(Route { phase: phase.clone(), tag: tag.clone(), task_type: r#type.clone(), rung })
    }
}
