use proptest::prelude::*;

use super::*;
use crate::{Config, Reach};

fn names() -> Names {
    Config::bundled().names().clone()
}

fn name(name: &str) -> RungName {
    RungName::new(name).unwrap()
}

fn tokens(input: u64, cache_write: u64, cache_read: u64, output: u64) -> Tokens {
    Tokens { input, cache_write, cache_read, output }
}

fn price() -> Price {
    let rates = Rates { input_usd: 1.0, cache_write_usd: Some(1.25), cache_read_usd: 0.1, output_usd: 5.0 };
    let long = Rates { input_usd: 2.0, cache_write_usd: Some(2.5), cache_read_usd: 0.2, output_usd: 10.0 };
    let long = Some(Long { above_tokens: 1000, rates: long });
    Price { rung: name("haiku"), model: "m".into(), rates, long }
}

#[test]
fn the_bundled_table_has_every_rung_of_the_bundled_configuration_and_a_date() {
    let (prices, config) = (Prices::bundled(), Config::bundled());
    for (name, rung) in &config.rungs {
        assert!(prices.of_rung(name, rung).is_ok(), "{name}");
        let writes = prices.of(name).unwrap().rates.cache_write_usd;
        assert!(rung.is_local() || writes.is_some(), "{name}");
    }
    assert_eq!(prices.date.len(), "2026-11-21".len());
    assert_eq!(prices.of(&name("local")).unwrap().usd(&tokens(1000, 0, 0, 1000)), 0.0);
    assert_eq!(prices.electricity, Electricity::default());
}

#[test]
fn a_request_costs_what_its_tokens_cost() {
    let close = |tokens: Tokens, expected: f64| {
        let usd = price().usd(&tokens);
        assert!((usd - expected).abs() < 1e-12, "{usd} {expected}");
    };
    close(tokens(1000, 0, 0, 100), 1.5e-3);
    close(tokens(600, 0, 400, 100), 0.6e-3 + 0.04e-3 + 0.5e-3);
    close(tokens(600, 400, 0, 0), 0.6e-3 + 0.5e-3);
    // The three parts of a prompt are one length.
    close(tokens(1, 500, 500, 100), 2e-6 + 1.25e-3 + 0.1e-3 + 1e-3);
    assert!(price().usd(&tokens(u64::MAX, u64::MAX, u64::MAX, u64::MAX)).is_finite());
}

proptest! {
    /// No request costs more than what is asked for beforehand.
    #[test]
    fn the_bound_is_above_every_cost(
        prompt in 0u64..5000, write in 0u64..5000, read in 0u64..5000, output in 0u64..5000,
        rates in prop::array::uniform8(0.0f64..50.0), has_write in any::<bool>(), slack in 0u64..2000,
    ) {
        let [a, b, c, d, e, f, g, h] = rates;
        let rates = Rates { input_usd: a, cache_write_usd: has_write.then_some(b), cache_read_usd: c, output_usd: d };
        let long = Rates { input_usd: e, cache_write_usd: Some(f), cache_read_usd: g, output_usd: h };
        let price = Price { rates, long: Some(Long { above_tokens: 3000, rates: long }), ..price() };
        let cost = price.usd(&tokens(prompt, write, read, output));
        prop_assert!(cost <= price.most_usd(&tokens(prompt + write + read + slack, 0, 0, output + slack)) * (1.0 + 1e-12));
    }
}

#[test]
fn a_file_changes_what_it_names() {
    // Written before there were prices for writing to a cache.
    let file = r#"{"models": [{"rung": "best", "model": "x", "input_usd": 15, "cached_usd": 1.5, "output_usd": 75}],
                   "electricity": {"watts": 575}}"#;
    let prices = Prices::bundled().overridden_by(Prices::parse(file, &names()).unwrap());
    let opus = prices.of(&name("opus")).unwrap();
    assert_eq!(opus.usd(&tokens(1_000_000, 0, 0, 0)), 15.0);
    assert_eq!(opus.usd(&tokens(0, 1_000_000, 0, 0)), 18.75);
    assert_eq!(prices.of(&name("sonnet")), Prices::bundled().of(&name("sonnet")));
    assert_eq!((prices.electricity.watts, prices.electricity.kwh_usd), (Some(575.0), None));
    assert_eq!(prices.date, Prices::bundled().date);
}

#[test]
fn an_unknown_price_is_no_price() {
    let rung =
        |reach| Rung { reach, effort: None, max_tokens: 1, context: None, deadline_s: None, price: None };
    let at = |model: &str| rung(Reach::Endpoint { endpoint: "e".into(), model: model.into() });
    let prices = Prices::bundled();
    let error = prices.of_rung(&name("cluster"), &at("glm")).unwrap_err();
    assert!(error.to_string().contains("[rungs.\"cluster\".price]"), "{error}");
    // The table's price is that of another model.
    assert!(matches!(prices.of_rung(&name("opus"), &at("glm")), Err(Error::UnknownPrice { .. })));
    let free = prices.of_rung(&name("big"), &rung(Reach::Engine("big.gguf".into()))).unwrap();
    assert_eq!(free.most_usd(&tokens(1_000_000, 0, 0, 1_000_000)), 0.0);
}

#[test]
fn what_cannot_be_is_refused() {
    let model = |rung: &str, usd: f64| {
        format!(r#"{{"rung": "{rung}", "model": "", "input_usd": {usd}, "cached_usd": 0, "output_usd": 0}}"#)
    };
    for (text, word) in [
        (format!(r#"{{"models": [{}]}}"#, model("opus", -1.0)), "less than 0"),
        (format!(r#"{{"models": [{}, {}]}}"#, model("opus", 1.0), model("best", 1.0)), "two"),
        (format!(r#"{{"models": [{}]}}"#, model("opsu", 1.0)), "did you mean `opus`"),
        (r#"{"electricity": {"watts": -5}}"#.to_owned(), "electricity"),
        (r#"{"price": 1}"#.to_owned(), "price"),
        ("[".to_owned(), "line 1"),
    ] {
        let error = Prices::parse(&text, &names()).unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
}
