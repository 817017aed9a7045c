use proptest::prelude::*;

use super::*;

const NO_HISTORY: History<'_> = History { prompt: &[], generated: &[] };

fn options() -> SamplerOptions {
    SamplerOptions { temperature: 1.0, ..SamplerOptions::default() }
}

fn sampler(options: &SamplerOptions, vocab: usize) -> Sampler {
    Sampler::new(options, vocab).unwrap()
}

fn choose(options: &SamplerOptions, logits: &[f32], mask: Option<&Mask>, history: History<'_>) -> u32 {
    sampler(options, logits.len()).sample(logits, mask, history).unwrap().token
}

/// How often each token is drawn in `n` draws.
fn frequencies(options: &SamplerOptions, logits: &[f32], n: usize) -> Vec<f64> {
    let mut sampler = sampler(options, logits.len());
    let mut counts = vec![0.0; logits.len()];
    for _ in 0..n {
        counts[sampler.sample(logits, None, NO_HISTORY).unwrap().token as usize] += 1.0;
    }
    counts
}

/// The specification of temperature and filters, in double precision and with a full sort.
fn distribution(options: &SamplerOptions, logits: &[f32]) -> Vec<f64> {
    let temperature = f64::from(options.temperature);
    let weight = |x: f32, max: f32| ((f64::from(x) - f64::from(max)) / temperature).exp();
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    if options.top_k > 0 {
        order.truncate(options.top_k);
    }
    let total: f64 = order.iter().map(|&i| weight(logits[i], max)).sum();
    let mut sum = 0.0;
    let mut kept = Vec::new();
    for &i in &order {
        kept.push(i);
        sum += weight(logits[i], max) / total;
        if options.top_p < 1.0 && sum >= f64::from(options.top_p) - 1e-6 {
            break;
        }
    }
    kept.retain(|&i| weight(logits[i], max) >= f64::from(options.min_p));
    let total: f64 = kept.iter().map(|&i| weight(logits[i], max)).sum();
    let mut probabilities = vec![0.0; logits.len()];
    kept.iter().for_each(|&i| probabilities[i] = weight(logits[i], max) / total);
    probabilities
}

#[test]
fn greedy_takes_the_lowest_of_equals() {
    let greedy = SamplerOptions::default();
    assert_eq!(choose(&greedy, &[1.0, 3.0, 3.0, 2.0], None, NO_HISTORY), 1);
    let mask = Mask::new(4, [3, 2]);
    assert_eq!(choose(&greedy, &[1.0, 3.0, 3.0, 2.0], Some(&mask), NO_HISTORY), 2);
    let infinite = [f32::NEG_INFINITY, -5.0, f32::NEG_INFINITY];
    assert_eq!(choose(&greedy, &infinite, None, NO_HISTORY), 1);
    assert_eq!(choose(&options(), &infinite, None, NO_HISTORY), 1);
}

#[test]
fn draws_follow_the_distribution() {
    let logits: Vec<f32> = (0..20).map(|i| (i as f32 * 0.7).sin() * 2.0).collect();
    for changed in [
        options(),
        SamplerOptions { temperature: 0.6, ..options() },
        SamplerOptions { temperature: 1.7, top_k: 9, ..options() },
        SamplerOptions { top_p: 0.8, seed: 3, ..options() },
        SamplerOptions { min_p: 0.1, seed: 4, ..options() },
    ] {
        let n = 50_000;
        let expected = distribution(&changed, &logits);
        let counts = frequencies(&changed, &logits, n);
        let mut chi2 = 0.0;
        for (count, p) in counts.iter().zip(&expected) {
            match *p > 0.0 {
                true => chi2 += (count - p * n as f64).powi(2) / (p * n as f64),
                false => assert_eq!(*count, 0.0, "{changed:?}"),
            }
        }
        // The 99.9th percentile of chi-square with 19 degrees of freedom, the most there can be here.
        assert!(chi2 < 43.8, "{changed:?}: {chi2}");
    }
}

#[test]
fn the_same_seed_gives_the_same_tokens() {
    let logits: Vec<f32> = (0..1000).map(|i| ((i * 37 % 101) as f32) * 0.05).collect();
    let tokens = |seed| {
        let mut sampler = sampler(&SamplerOptions { seed, top_p: 0.95, ..options() }, 1000);
        (0..12).map(|_| sampler.sample(&logits, None, NO_HISTORY).unwrap().token).collect::<Vec<_>>()
    };
    assert_eq!(tokens(7), tokens(7));
    assert_ne!(tokens(7), tokens(8));
    // Computed in Python, from the algorithms' definitions: the tokens must not change with the machine, the compiler
    // or the version.
    assert_eq!(tokens(7), [60, 524, 690, 330, 157, 562, 993, 341, 479, 464, 292, 524]);
}

#[test]
fn bias_as_good_as_forbids_and_forces() {
    let logits = [5.0, 9.0, -3.0, 0.0];
    for temperature in [0.0, 1.0] {
        let forbid = SamplerOptions { logit_bias: vec![(1, -100.0)], temperature, ..options() };
        let force = SamplerOptions { logit_bias: vec![(2, 100.0)], temperature, ..options() };
        for seed in 0..200 {
            assert_ne!(choose(&SamplerOptions { seed, ..forbid.clone() }, &logits, None, NO_HISTORY), 1);
            assert_eq!(choose(&SamplerOptions { seed, ..force.clone() }, &logits, None, NO_HISTORY), 2);
        }
    }
    // A bias does not bring back what the grammar forbids.
    let (force, mask) = (SamplerOptions { logit_bias: vec![(2, 100.0)], ..options() }, Mask::new(4, [0]));
    assert_eq!(choose(&force, &logits, Some(&mask), NO_HISTORY), 0);
}

fn penalized(changed: SamplerOptions, logits: &[f32], history: History<'_>) -> Vec<f32> {
    let mut sampler = sampler(&changed, logits.len());
    sampler.adjust(logits, None, history);
    assert!(sampler.counts.iter().all(|&count| count == 0), "nothing is left over for the next token");
    sampler.work
}

#[test]
fn penalties_follow_their_formulas() {
    let logits = [2.0, -2.0, 4.0, 1.0];
    let history = History { prompt: &[0, 1, 77], generated: &[2, 2, 1] };
    // CTRL: divided if positive, else multiplied; prompt and answer; however often.
    let repetition = SamplerOptions { repetition_penalty: 2.0, ..options() };
    assert_eq!(penalized(repetition.clone(), &logits, history), [1.0, -4.0, 2.0, 1.0]);
    // OpenAI: mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence, the answer only.
    let openai = SamplerOptions { presence_penalty: 0.5, frequency_penalty: 0.25, ..options() };
    assert_eq!(penalized(openai.clone(), &logits, history), [2.0, -2.75, 3.0, 1.0]);
    let negative = SamplerOptions { presence_penalty: -1.0, ..options() };
    assert_eq!(penalized(negative, &logits, history), [2.0, -1.0, 5.0, 1.0]);
    // The last two tokens, and the last four: the prompt's end comes before the answer.
    let window = |base: &SamplerOptions, n| SamplerOptions { penalty_window: Some(n), ..base.clone() };
    assert_eq!(penalized(window(&openai, 2), &logits, history), [2.0, -2.75, 3.25, 1.0]);
    assert_eq!(penalized(window(&repetition, 5), &logits, history), [2.0, -4.0, 2.0, 1.0]);
    assert_eq!(penalized(window(&repetition, 0), &logits, history), logits);
    // Repetition first, then the others.
    let both = SamplerOptions { repetition_penalty: 2.0, ..openai };
    assert_eq!(penalized(both, &logits, history), [1.0, -4.75, 1.0, 1.0]);
}

#[test]
fn log_probabilities_are_those_of_the_model() {
    let logits = [0.5, 2.0, 2.0, -1.0, f32::NEG_INFINITY];
    let changed = SamplerOptions {
        logprobs: Some(3),
        temperature: 0.3,
        logit_bias: vec![(3, 100.0)],
        ..SamplerOptions::default()
    };
    let sampled = sampler(&changed, 5).sample(&logits, None, NO_HISTORY).unwrap();
    let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
    let expected = |id: usize| (f64::from(logits[id]) - sum.ln()) as f32;
    assert_eq!(sampled.token, 3);
    assert!((sampled.logprob - expected(3)).abs() < 1e-6);
    assert_eq!(sampled.top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 2, 0]);
    assert!(sampled.top.iter().all(|&(id, logprob)| (logprob - expected(id as usize)).abs() < 1e-6));
    let all = SamplerOptions { logprobs: Some(100), ..options() };
    assert_eq!(sampler(&all, 5).sample(&logits, None, NO_HISTORY).unwrap().top.len(), 5);
    assert_eq!(sampler(&options(), 5).sample(&logits, None, NO_HISTORY).unwrap().top, []);
}

#[test]
fn what_cannot_be_sampled_is_an_error() {
    for options in [SamplerOptions::default(), options()] {
        let mut sampler = sampler(&options, 3);
        let mut fail = |logits: &[f32], mask: Option<&Mask>, expected: &str| {
            let error = sampler.sample(logits, mask, NO_HISTORY).unwrap_err();
            assert!(matches!(&error, Error::Logits(problem) if problem.contains(expected)), "{error}");
        };
        fail(&[0.0, f32::NAN, 1.0], None, "token `1` is `NaN`");
        fail(&[0.0, 0.0, f32::INFINITY], None, "token `2` is `inf`");
        fail(&[f32::NEG_INFINITY; 3], None, "every token is impossible");
        fail(&[0.0; 2], None, "expected `3`");
        fail(&[0.0; 3], Some(&Mask::new(3, [])), "no token is both");
        fail(&[0.0; 3], Some(&Mask::new(0, [])), "no token is both");
        fail(&[0.0, 0.0, f32::NEG_INFINITY], Some(&Mask::new(3, [2])), "no token is both");
        // It can go on afterwards.
        assert!(sampler.sample(&[0.0; 3], None, NO_HISTORY).is_ok());
    }
}

#[test]
fn options_out_of_range_are_errors() {
    let base = SamplerOptions::default();
    let cases: [(&str, SamplerOptions); 13] = [
        ("temperature", SamplerOptions { temperature: -0.1, ..base.clone() }),
        ("temperature", SamplerOptions { temperature: f32::NAN, ..base.clone() }),
        ("temperature", SamplerOptions { temperature: f32::INFINITY, ..base.clone() }),
        ("top_p", SamplerOptions { top_p: 1.1, ..base.clone() }),
        ("top_p", SamplerOptions { top_p: -0.1, ..base.clone() }),
        ("min_p", SamplerOptions { min_p: 1.5, ..base.clone() }),
        ("repetition_penalty", SamplerOptions { repetition_penalty: 0.0, ..base.clone() }),
        ("presence_penalty", SamplerOptions { presence_penalty: 2.5, ..base.clone() }),
        ("frequency_penalty", SamplerOptions { frequency_penalty: -2.5, ..base.clone() }),
        ("logprobs", SamplerOptions { logprobs: Some(101), ..base.clone() }),
        ("logit_bias", SamplerOptions { logit_bias: vec![(0, 101.0)], ..base.clone() }),
        ("logit_bias", SamplerOptions { logit_bias: vec![(0, f32::NAN)], ..base.clone() }),
        ("logit_bias", SamplerOptions { logit_bias: vec![(10, 1.0)], ..base.clone() }),
    ];
    for (expected, options) in cases {
        let error = Sampler::new(&options, 10).unwrap_err();
        assert!(matches!(&error, Error::Request { field, .. } if *field == expected), "{error}");
    }
}

#[test]
fn extreme_temperatures() {
    let logits = [1.0, 1.5, -60.0, 60.0];
    let cold = SamplerOptions { temperature: f32::MIN_POSITIVE, ..options() };
    assert_eq!(choose(&cold, &logits, None, NO_HISTORY), 3);
    let hot = SamplerOptions { temperature: f32::MAX, ..options() };
    assert!(frequencies(&hot, &logits, 4000).iter().all(|&count| (900.0..1100.0).contains(&count)));
}

/// Draws of one seed, as [`Sampler::sample`] makes them of whole rows and [`Sampler::sample_of`] of what is picked of them.
/// Gives how many were made of less than all.
fn both_ways(options: &SamplerOptions, logits: &[f32], mask: Option<&Mask>, draws: usize) -> usize {
    let (mut whole, mut picking) = (sampler(options, logits.len()), sampler(options, logits.len()));
    let mut choice = Choice::new(logits.len());
    choice.of(logits, &picking.pick(mask));
    for _ in 0..draws {
        let expected = whole.sample(logits, mask, NO_HISTORY);
        if !choice.is_clear() {
            // Only where there is nothing to choose.
            return if expected.is_err() { draws } else { 0 };
        }
        let (expected, got) = (expected.unwrap(), picking.sample_of(&choice).unwrap());
        assert_eq!(got, expected, "{options:?}");
        assert_eq!(got.logprob.to_bits(), expected.logprob.to_bits());
    }
    draws
}

#[test]
fn the_best_tokens_say_what_all_of_them_say() {
    let noise = |i: usize, seed: usize| ((i * 7919 + seed * 104_729) % 1009) as f32;
    let mut fewer = 0;
    for vocab in [5, 300, 3000] {
        for seed in 0..40usize {
            // Smooth, and with so few values that most are equal; some tokens are impossible.
            let (step, divisor) = if seed.is_multiple_of(2) { (0.02, 7.0) } else { (0.001, 1.0) };
            let value = |i| (noise(i, seed) * step).round() / divisor + 0.25;
            let mut logits: Vec<f32> = (0..vocab).map(value).collect();
            (0..vocab).step_by(5).for_each(|i| logits[i] = f32::NEG_INFINITY);
            let mask = Mask::new(vocab, (0..vocab as u32).filter(|&i| noise(i as usize, seed + 1) < 500.0));
            for (temperature, top_k) in [(0.0, 0), (0.7, 1), (1.0, 5), (0.01, 20), (1.3, 127)] {
                for (top_p, min_p) in [(1.0, 0.0), (0.9, 0.0), (1.0, 0.2), (0.5, 0.3)] {
                    let seed = seed as u64;
                    let options = SamplerOptions { temperature, top_k, top_p, min_p, seed, ..options() };
                    fewer += both_ways(&options, &logits, None, 6);
                    fewer += both_ways(&options, &logits, Some(&mask), 6);
                }
            }
        }
    }
    assert_eq!(fewer, 3 * 40 * 5 * 4 * 2 * 6, "rows whose best tokens did not say it");
}

#[test]
fn all_of_a_row_is_picked_where_more_is_asked_for_than_its_best_tokens_say() {
    let candidates = |changed: SamplerOptions| sampler(&changed, 300).pick(None).candidates;
    let greedy = SamplerOptions::default;
    let sampled = || SamplerOptions { top_k: 20, ..options() };
    assert_eq!((candidates(greedy()), candidates(sampled())), (1, 21));
    assert_eq!(candidates(SamplerOptions { logprobs: Some(0), ..sampled() }), 21);
    assert_eq!(candidates(SamplerOptions { top_k: MAX_CANDIDATES - 1, ..options() }), MAX_CANDIDATES);
    for changed in [
        options(),
        SamplerOptions { top_p: 0.9, ..options() },
        SamplerOptions { top_k: MAX_CANDIDATES, ..options() },
        SamplerOptions { logprobs: Some(1), ..sampled() },
        SamplerOptions { logit_bias: vec![(1, 1.0)], ..greedy() },
        SamplerOptions { repetition_penalty: 1.1, ..greedy() },
        SamplerOptions { presence_penalty: 0.1, ..sampled() },
        SamplerOptions { frequency_penalty: 0.1, ..sampled() },
    ] {
        assert_eq!(candidates(changed.clone()), 0, "{changed:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn only_what_the_filters_leave_is_drawn(
        // Steps of 1/8, so that equal logits are common and the two precisions agree on order.
        steps in prop::collection::vec(-40i32..40, 1..300),
        top_k in prop_oneof![Just(0usize), 1usize..20],
        top_p in prop_oneof![Just(1.0f32), 0.0f32..1.0],
        min_p in prop_oneof![Just(0.0f32), 0.0f32..1.0],
        temperature in 0.1f32..3.0,
        seed in any::<u64>(),
    ) {
        let logits: Vec<f32> = steps.iter().map(|&step| step as f32 / 8.0).collect();
        let changed = SamplerOptions { temperature, top_k, top_p, min_p, seed, ..SamplerOptions::default() };
        let mut sampler = sampler(&changed, logits.len());
        sampler.sample(&logits, None, NO_HISTORY).unwrap();
        let kept: std::collections::BTreeSet<usize> = sampler.ids.iter().map(|&id| id as usize).collect();
        // On the very border of top-p or min-p the two precisions may differ by one token: within a millionth of the total, as
        // exponentials of 32 bits have errors of 1e-7.
        let near = |factor: f32| {
            let near = SamplerOptions { top_p: (top_p + (factor - 1.0) * 1e-2).clamp(0.0, 1.0), min_p: min_p * factor, ..changed.clone() };
            let p = distribution(&near, &logits);
            // The sampler's exponentials end where 32-bit floats do: 87 below the largest.
            let least = p.iter().copied().fold(0.0, f64::max) * (-87f64).exp() * f64::from(factor);
            (0..logits.len()).filter(|&i| p[i] > least).collect::<std::collections::BTreeSet<_>>()
        };
        let (low, exact, high) = (near(0.9999), near(1.0), near(1.0001));
        prop_assert!(kept == exact || kept == low || kept == high, "{:?} {:?}", kept, exact);
    }

    #[test]
    fn a_forbidden_token_is_never_drawn(
        logits in prop::collection::vec(-5f32..5.0, 1..200),
        allowed in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
        masked in 1usize..200,
        seed in any::<u64>(),
        temperature in prop_oneof![Just(0.0f32), 0.1f32..3.0],
    ) {
        let allowed: Vec<u32> = allowed.iter().map(|index| index.index(logits.len()) as u32).collect();
        // The mask may be shorter than the vocabulary: models have rows without tokens.
        let mask = Mask::new(masked.min(logits.len()), allowed.iter().copied());
        let changed = SamplerOptions { temperature, seed, ..SamplerOptions::default() };
        let possible = allowed.iter().any(|&id| mask.allows(id));
        match Sampler::new(&changed, logits.len()).unwrap().sample(&logits, Some(&mask), NO_HISTORY) {
            Ok(sampled) => prop_assert!(mask.allows(sampled.token) && allowed.contains(&sampled.token)),
            Err(error) => prop_assert!(!possible, "{error}"),
        }
    }
}
