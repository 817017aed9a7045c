use serde::{Deserialize, Serialize};

use crate::{Error, Result, Rung};

/// What models and electricity cost: data with a date, which a file of the user's changes in part or whole.
///
/// Prices are US dollars per million tokens. A price of 0 means that it costs nothing, never that a budget is used up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Prices {
    /// When they were looked up, such as "2026-11-21".
    pub date: String,
    /// Where.
    pub source: String,
    /// At most one for each rung.
    pub models: Vec<Price>,
    /// Of this machine; nobody knows it unless the user says it.
    pub electricity: Electricity,
}

/// A rung's model and what it costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The rung.
    pub rung: Rung,
    /// The name by which the vendor knows the model.
    pub model: String,
    /// A million tokens of prompts.
    pub input_usd: f64,
    /// A million tokens of prompts that the vendor had in its cache.
    pub cached_usd: f64,
    /// A million tokens of replies.
    pub output_usd: f64,
    /// Other prices for requests with long prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long: Option<LongPrice>,
}

/// Prices of requests whose prompt is longer than a limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongPrice {
    /// The limit in tokens; a prompt of this length is not long yet.
    pub above_tokens: u64,
    /// As in [`Price`].
    pub input_usd: f64,
    /// As in [`Price`].
    pub cached_usd: f64,
    /// As in [`Price`].
    pub output_usd: f64,
}

/// What this machine takes while its model works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Electricity {
    /// Watts of the whole machine.
    pub watts: Option<f64>,
    /// US dollars of a kilowatt hour.
    pub kwh_usd: Option<f64>,
}

impl Prices {
    /// The table that is part of the program.
    pub fn bundled() -> Prices {
        // A test reads it.
        Prices::parse(include_str!("../prices.json")).unwrap_or_default()
    }

    /// Reads a table; everything in it may be left out.
    pub fn parse(text: &str) -> Result<Prices> {
        let bad = |problem: String| Error::BadPrices { problem };
        let prices: Prices = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
        for (at, price) in prices.models.iter().enumerate() {
            let long = price.long.iter().flat_map(|long| [long.input_usd, long.cached_usd, long.output_usd]);
            let mut all = [price.input_usd, price.cached_usd, price.output_usd].into_iter().chain(long);
            if !all.all(is_amount) {
                return Err(bad(format!("a price of `{}` is less than 0", price.rung)));
            }
            if prices.models[..at].iter().any(|other| other.rung == price.rung) {
                return Err(bad(format!("`{}` has two entries", price.rung)));
            }
        }
        let Electricity { watts, kwh_usd } = prices.electricity;
        if !watts.into_iter().chain(kwh_usd).all(is_amount) {
            return Err(bad("electricity is less than 0".to_owned()));
        }
        Ok(prices)
    }

    /// These prices where `other` says nothing, and its own where it does.
    pub fn overridden_by(mut self, other: Prices) -> Prices {
        for price in other.models {
            match self.models.iter_mut().find(|old| old.rung == price.rung) {
                Some(old) => *old = price,
                None => self.models.push(price),
            }
        }
        if !other.date.is_empty() {
            (self.date, self.source) = (other.date, other.source);
        }
        self.electricity.watts = other.electricity.watts.or(self.electricity.watts);
        self.electricity.kwh_usd = other.electricity.kwh_usd.or(self.electricity.kwh_usd);
        self
    }

    /// What a rung costs; None if nobody said.
    pub fn of(&self, rung: Rung) -> Option<&Price> {
        self.models.iter().find(|price| price.rung == rung)
    }
}

impl Price {
    /// US dollars of one request. `prompt_tokens` counts the cached ones too.
    pub fn usd(&self, prompt_tokens: u64, cached_tokens: u64, output_tokens: u64) -> f64 {
        let short = (self.input_usd, self.cached_usd, self.output_usd);
        let long = self.long.as_ref().filter(|long| prompt_tokens > long.above_tokens);
        let (input, cached, output) =
            long.map_or(short, |long| (long.input_usd, long.cached_usd, long.output_usd));
        let fresh = prompt_tokens.saturating_sub(cached_tokens);
        let hit = prompt_tokens.min(cached_tokens);
        (fresh as f64 * input + hit as f64 * cached + output_tokens as f64 * output) / 1e6
    }
}

fn is_amount(number: f64) -> bool {
    number.is_finite() && number >= 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_table_has_every_rung_and_a_date() {
        let prices = Prices::bundled();
        assert!(Rung::ALL.iter().all(|rung| prices.of(*rung).is_some()));
        assert_eq!(prices.date.len(), "2026-11-21".len());
        assert_eq!(prices.of(Rung::Local).map(|price| price.usd(1000, 0, 1000)), Some(0.0));
        assert_eq!(prices.electricity, Electricity::default());
    }

    #[test]
    fn a_request_costs_what_its_tokens_cost() {
        let price = Price {
            rung: Rung::Haiku,
            model: "m".into(),
            input_usd: 1.0,
            cached_usd: 0.1,
            output_usd: 5.0,
            long: Some(LongPrice { above_tokens: 1000, input_usd: 2.0, cached_usd: 0.2, output_usd: 10.0 }),
        };
        let close = |usd: f64, expected: f64| assert!((usd - expected).abs() < 1e-12, "{usd} {expected}");
        close(price.usd(1000, 0, 100), 1.5e-3);
        close(price.usd(1000, 400, 100), 0.6e-3 + 0.04e-3 + 0.5e-3);
        close(price.usd(1001, 0, 100), 2.002e-3 + 1e-3);
        // More cached tokens than there are: all of them.
        close(price.usd(1000, 9000, 0), 0.1e-3);
    }

    #[test]
    fn a_file_changes_what_it_names() {
        let file = r#"{"models": [{"rung": "best", "model": "x", "input_usd": 15, "cached_usd": 1.5, "output_usd": 75}],
                       "electricity": {"watts": 575}}"#;
        let prices = Prices::bundled().overridden_by(Prices::parse(file).unwrap());
        assert_eq!(prices.of(Rung::Opus).map(|price| price.usd(1_000_000, 0, 0)), Some(15.0));
        assert_eq!(prices.of(Rung::Sonnet), Prices::bundled().of(Rung::Sonnet));
        assert_eq!((prices.electricity.watts, prices.electricity.kwh_usd), (Some(575.0), None));
        assert_eq!(prices.date, Prices::bundled().date);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let model = |rung: &str, usd: f64| {
            format!(
                r#"{{"rung": "{rung}", "model": "", "input_usd": {usd}, "cached_usd": 0, "output_usd": 0}}"#
            )
        };
        for (text, word) in [
            (format!(r#"{{"models": [{}]}}"#, model("opus", -1.0)), "less than 0"),
            (format!(r#"{{"models": [{}, {}]}}"#, model("opus", 1.0), model("best", 1.0)), "two"),
            (r#"{"electricity": {"watts": -5}}"#.to_owned(), "electricity"),
            (r#"{"price": 1}"#.to_owned(), "price"),
            ("[".to_owned(), "line 1"),
        ] {
            let error = Prices::parse(&text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
