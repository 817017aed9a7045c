use serde::{Deserialize, Serialize};

use crate::{Error, Names, Result, Rung, RungName, Tokens};

/// What models and electricity cost: data with a date, which a file of the user's changes in part or whole.
///
/// Prices are US dollars per million tokens. A price of 0 means that it costs nothing, never that a budget is used up
/// (decision 5); a price that nobody said is an error, never 0.
#[derive(Clone, Debug, Default, PartialEq)]
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
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    /// The rung.
    pub rung: RungName,
    /// The name by which the vendor knows the model; empty where the price is for whatever model the rung has.
    pub model: String,
    /// What its tokens cost.
    pub rates: Rates,
    /// What they cost in requests with long prompts.
    pub long: Option<Long>,
}

/// US dollars for a million tokens of each kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Of a prompt.
    pub input_usd: f64,
    /// Of a prompt, written to the vendor's cache. None: as `input_usd`, as vendors have it who ask nothing for writing.
    pub cache_write_usd: Option<f64>,
    /// Of a prompt, read from the vendor's cache.
    pub cache_read_usd: f64,
    /// Of an answer.
    pub output_usd: f64,
}

/// Prices of requests whose prompt is longer than a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Long {
    /// The limit in tokens; a prompt of this length is not long yet.
    pub above_tokens: u64,
    /// What tokens cost then.
    pub rates: Rates,
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

/// A table as it is written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Written {
    date: String,
    source: String,
    models: Vec<WrittenModel>,
    electricity: Electricity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenModel {
    rung: String,
    model: String,
    input_usd: f64,
    /// Reading from the cache.
    cached_usd: Option<f64>,
    cache_write_usd: Option<f64>,
    output_usd: f64,
    long: Option<WrittenLong>,
}

/// A rung's price as `coder.toml` has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenPrice {
    input_usd: f64,
    cached_usd: Option<f64>,
    cache_write_usd: Option<f64>,
    output_usd: f64,
    long: Option<WrittenLong>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLong {
    above_tokens: u64,
    input_usd: f64,
    cached_usd: Option<f64>,
    cache_write_usd: Option<f64>,
    output_usd: f64,
}

impl WrittenPrice {
    /// The price, or why there can be no such one.
    pub(crate) fn price(self, rung: &RungName, model: &str) -> Result<Price, &'static str> {
        let WrittenPrice { input_usd, cached_usd, cache_write_usd, output_usd, long } = self;
        let rates = Rates::of(input_usd, cached_usd, cache_write_usd, output_usd)?;
        let long = long.map(WrittenLong::long).transpose()?;
        Ok(Price { rung: rung.clone(), model: model.to_owned(), rates, long })
    }
}

impl WrittenLong {
    fn long(self) -> Result<Long, &'static str> {
        let rates = Rates::of(self.input_usd, self.cached_usd, self.cache_write_usd, self.output_usd)?;
        Ok(Long { above_tokens: self.above_tokens, rates })
    }
}

impl Rates {
    /// A file that says nothing of reading from a cache gets no discount for it.
    fn of(
        input: f64,
        cached: Option<f64>,
        cache_write: Option<f64>,
        output: f64,
    ) -> Result<Rates, &'static str> {
        let rates = Rates {
            input_usd: input,
            cache_write_usd: cache_write,
            cache_read_usd: cached.unwrap_or(input),
            output_usd: output,
        };
        let all = [input, rates.cache_read_usd, output, cache_write.unwrap_or(0.0)];
        if all.into_iter().all(is_amount) { Ok(rates) } else { Err("is less than 0") }
    }

    const FREE: Rates = Rates { input_usd: 0.0, cache_write_usd: None, cache_read_usd: 0.0, output_usd: 0.0 };

    fn write(&self) -> f64 {
        self.cache_write_usd.unwrap_or(self.input_usd)
    }

    fn dearest_input(&self) -> f64 {
        self.input_usd.max(self.write()).max(self.cache_read_usd)
    }

    /// These rates where the price of writing is as much dearer than reading anew as in `other`, unless they say it.
    fn writing_as(&mut self, other: &Rates) {
        if let (None, Some(write)) = (self.cache_write_usd, other.cache_write_usd)
            && other.input_usd > 0.0
        {
            self.cache_write_usd = Some(self.input_usd * write / other.input_usd);
        }
    }
}

impl Prices {
    /// The table that is part of the program.
    pub fn bundled() -> Prices {
        // A test reads it.
        let written = serde_json::from_str(include_str!("../prices.json")).unwrap_or_default();
        Prices::read(written, RungName::new).unwrap_or_default()
    }

    /// Reads a table, in which rungs may have any of their names; everything in it may be left out.
    pub fn parse(text: &str, names: &Names) -> Result<Prices> {
        let written =
            serde_json::from_str(text).map_err(|error| Error::BadPrices { problem: error.to_string() })?;
        Prices::read(written, |name| names.resolve(name))
    }

    fn read(written: Written, name: impl Fn(&str) -> Result<RungName>) -> Result<Prices> {
        let bad = |problem: String| Error::BadPrices { problem };
        let mut models: Vec<Price> = Vec::new();
        for model in written.models {
            let rung = name(&model.rung).map_err(|error| bad(error.to_string()))?;
            if models.iter().any(|other| other.rung == rung) {
                return Err(bad(format!("`{rung}` has two entries")));
            }
            let WrittenModel { model, input_usd, cached_usd, cache_write_usd, output_usd, long, .. } = model;
            let price = WrittenPrice { input_usd, cached_usd, cache_write_usd, output_usd, long };
            let wrong = |what| bad(format!("a price of `{rung}` {what}"));
            models.push(price.price(&rung, &model).map_err(wrong)?);
        }
        let Electricity { watts, kwh_usd } = written.electricity;
        if !watts.into_iter().chain(kwh_usd).all(is_amount) {
            return Err(bad("electricity is less than 0".to_owned()));
        }
        let Written { date, source, electricity, .. } = written;
        Ok(Prices { date, source, models, electricity })
    }

    /// These prices where `other` says nothing, and its own where it does. A file that does not know of prices for writing
    /// to a cache gets them in the same proportion.
    pub fn overridden_by(mut self, other: Prices) -> Prices {
        for price in other.models {
            self.set(price);
        }
        if !other.date.is_empty() {
            (self.date, self.source) = (other.date, other.source);
        }
        self.electricity.watts = other.electricity.watts.or(self.electricity.watts);
        self.electricity.kwh_usd = other.electricity.kwh_usd.or(self.electricity.kwh_usd);
        self
    }

    /// A price that says nothing about writing to the vendor's cache asks as much more for it as the table's first one that
    /// does.
    pub(crate) fn writing_as_known(&self, price: &mut Price) {
        let known = self.models.iter().find(|known| known.rates.cache_write_usd.is_some());
        if let Some(known) = self.of(&price.rung).or(known) {
            price.rates.writing_as(&known.rates);
        }
    }

    /// One rung's price in place of the one there is.
    pub(crate) fn set(&mut self, mut price: Price) {
        match self.models.iter_mut().find(|old| old.rung == price.rung) {
            Some(old) => {
                price.rates.writing_as(&old.rates);
                if let Some(long) = &mut price.long {
                    long.rates.writing_as(&old.long.as_ref().map_or(old.rates, |long| long.rates));
                }
                *old = price;
            }
            None => self.models.push(price),
        }
    }

    /// What a rung costs by the table, whatever model it has; None if nobody said.
    pub fn of(&self, rung: &RungName) -> Option<&Price> {
        self.models.iter().find(|price| price.rung == *rung)
    }

    /// What a rung costs. Its model is the one that the table speaks of, or nobody knows; one in this process is free.
    pub fn of_rung(&self, name: &RungName, rung: &Rung) -> Result<Price> {
        let crate::Reach::Endpoint { model, .. } = &rung.reach else {
            return Ok(Price::free(name));
        };
        let known = self.of(name).filter(|price| price.model.is_empty() || price.model == *model);
        known.cloned().ok_or_else(|| Error::UnknownPrice { rung: name.to_string(), model: model.clone() })
    }
}

impl Price {
    fn free(rung: &RungName) -> Price {
        Price { rung: rung.clone(), model: String::new(), rates: Rates::FREE, long: None }
    }

    /// US dollars of one request.
    pub fn usd(&self, tokens: &Tokens) -> f64 {
        let long = self.long.as_ref().filter(|long| tokens.prompt() > long.above_tokens);
        let rates = long.map_or(self.rates, |long| long.rates);
        let usd = |tokens: u64, rate: f64| tokens as f64 * rate;
        (usd(tokens.input, rates.input_usd)
            + usd(tokens.cache_write, rates.write())
            + usd(tokens.cache_read, rates.cache_read_usd)
            + usd(tokens.output, rates.output_usd))
            / 1e6
    }

    /// The most US dollars that one attempt at a request can cost, if it takes at most these tokens (`Outgoing::most`):
    /// all of the prompt at the dearest price that can apply to it.
    pub fn most_usd(&self, most: &Tokens) -> f64 {
        let prompt = most.prompt();
        let long = self.long.as_ref().filter(|long| prompt > long.above_tokens);
        let at = |rates: &Rates| {
            (prompt as f64 * rates.dearest_input() + most.output as f64 * rates.output_usd) / 1e6
        };
        // Most long prompts are dearer, but nothing says that they are.
        long.map_or(0.0, |long| at(&long.rates)).max(at(&self.rates))
    }
}

fn is_amount(number: f64) -> bool {
    number.is_finite() && number >= 0.0
}

#[cfg(test)]
mod tests;
