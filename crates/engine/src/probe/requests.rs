//! Measuring what users of the engine see: several requests at once, a beginning that is cached, an edit that is
//! mostly a copy.

use crate::load::{self, LoadProgress, Loaded, ModelInfo, Options};
use crate::model::{Outcome, Runner};
use crate::{Completion, Engine, Error, Event, Limit, Request, Result, SpecialTokens};
use coder_kernels::{Batch, Pick};
use std::time::Instant;

/// What to measure with requests.
#[derive(Clone, Debug, Default)]
pub struct RequestPlan {
    /// Numbers of requests at the same time.
    pub parallel: Vec<usize>,
    /// Tokens of each of their prompts.
    pub prompt: usize,
    /// Tokens of each answer.
    pub generate: usize,
    /// Tokens that two requests, one after the other, begin with.
    pub shared_prefix: Option<usize>,
    /// Whether to rewrite a file of 200 lines of which 5 change.
    pub edit: bool,
}

/// The 50th, 95th and 99th percentile, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Percentiles {
    /// Half are below.
    pub p50: f64,
    /// 95 of 100 are below.
    pub p95: f64,
    /// 99 of 100 are below.
    pub p99: f64,
}

impl Percentiles {
    /// `None` of nothing.
    fn of(mut seconds: Vec<f64>) -> Option<Self> {
        seconds.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let rank = (part * seconds.len() as f64).ceil() as usize;
            Some(1e3 * *seconds.get(rank.max(1) - 1)?)
        };
        Some(Self { p50: at(0.50)?, p95: at(0.95)?, p99: at(0.99)? })
    }
}

/// What one test with requests showed.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct RequestMeasurement {
    /// `parallel16`: so many requests at once. `prefix2000 first`, `prefix2000 second`: one after the other. `edit`,
    /// `edit guessed`: without and with guessed tokens.
    pub test: String,
    /// Requests.
    pub requests: usize,
    /// Tokens of their prompts.
    pub prompt_tokens: usize,
    /// How many of them were cached.
    pub cached_tokens: usize,
    /// Tokens of their answers.
    pub completion_tokens: usize,
    /// From the first request to the last answer's end.
    pub seconds: f64,
    /// Answer tokens per second while all answers grow: from the last first token to the first end, of parallel requests
    /// when they are made once more, with their prompts cached. `None` for answers too short to tell.
    pub decode_tok_s: Option<f64>,
    /// From a request to its first token.
    pub first_token_ms: Percentiles,
    /// Between two tokens of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between_tokens_ms: Option<Percentiles>,
    /// Forward passes.
    pub passes: u64,
    /// Answer tokens per forward pass.
    pub tokens_per_pass: f64,
    /// Tokens that were guessed and verified.
    pub drafted_tokens: usize,
    /// How many of them were right.
    pub accepted_tokens: usize,
    /// Speed as a multiple of the comparable test's: of one request alone, of the first, of no guesses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speedup: Option<f64>,
}

/// All that was measured with requests.
#[derive(Clone, Debug)]
pub struct RequestReport {
    /// The model.
    pub info: ModelInfo,
    /// The tests.
    pub measurements: Vec<RequestMeasurement>,
}

/// Measures all of `plan`. `done` is told of each result.
///
/// # Errors
/// Those of opening; [`Error::Request`] for numbers that cannot be.
pub fn requests(
    options: &Options,
    plan: &RequestPlan,
    mut progress: impl FnMut(LoadProgress),
    mut done: impl FnMut(&RequestMeasurement),
) -> Result<RequestReport> {
    if plan.parallel.contains(&0) || plan.prompt == 0 || plan.generate == 0 || plan.shared_prefix == Some(0) {
        let problem = "numbers of requests and tokens must be at least 1".to_owned();
        return Err(Error::Request { field: "bench", problem });
    }
    let options = with_room(options.clone(), plan);
    let mut measurements: Vec<RequestMeasurement> = Vec::new();
    let mut add = |measurement: RequestMeasurement| {
        done(&measurement);
        measurements.push(measurement);
    };
    let mut info = None;
    if !plan.parallel.is_empty() || plan.shared_prefix.is_some() {
        let engine = Engine::open_with(&options, &mut progress)?;
        info = Some(engine.info().clone());
        // The first steps are slower than the others, whatever they compute.
        run(&engine, vec![request(&engine, 0, WARM_UP.0, WARM_UP.1)])?;
        let (mut alone, mut next) = (None, 1);
        for &parallel in &plan.parallel {
            let requests = (next..next + parallel).map(|i| request(&engine, i, plan.prompt, plan.generate));
            let requests: Vec<_> = requests.collect();
            next += parallel;
            let mut measured = measure(&engine, format!("parallel{parallel}"), requests.clone())?;
            // The first ones may have ended before the last one began.
            let rate = rate(&run(&engine, requests)?.1);
            measured.decode_tok_s = rate;
            alone = alone.or(rate.filter(|_| parallel == 1));
            measured.speedup = rate.zip(alone).map(|(rate, alone)| rate / alone);
            add(measured);
        }
        if let Some(prefix) = plan.shared_prefix {
            let two = |i| {
                let mut request = request(&engine, next, prefix, plan.generate);
                request.prompt.extend(tokens(&engine, next + i, TAIL));
                vec![request]
            };
            let first = measure(&engine, format!("prefix{prefix} first"), two(1))?;
            let mut second = measure(&engine, format!("prefix{prefix} second"), two(2))?;
            second.speedup = Some(first.first_token_ms.p50 / second.first_token_ms.p50);
            add(first);
            add(second);
        }
    }
    if plan.edit {
        let (engine, request) = scripted_edit(&options, &mut progress)?;
        info.get_or_insert_with(|| engine.info().clone());
        let plain = Request { speculate: false, ..request.clone() };
        let (slow, without) = measure_answers(&engine, "edit".into(), vec![plain])?;
        let (mut fast, with) = measure_answers(&engine, "edit guessed".into(), vec![request])?;
        let ids = |answers: &[Completion]| answers[0].tokens.iter().map(|token| token.id).collect::<Vec<_>>();
        assert_eq!(ids(&without), ids(&with), "guesses never change an answer");
        fast.speedup = fast.decode_tok_s.zip(slow.decode_tok_s).map(|(fast, slow)| fast / slow);
        add(slow);
        add(fast);
    }
    match info {
        Some(info) => Ok(RequestReport { info, measurements }),
        None => Err(Error::Request { field: "bench", problem: "there must be something to measure".into() }),
    }
}

/// Room for all requests of `plan`. What is too much is told when the model is opened.
fn with_room(mut options: Options, plan: &RequestPlan) -> Options {
    let most = plan.parallel.iter().copied().max().unwrap_or(1);
    let own = plan.prompt.saturating_add(plan.generate);
    let behind = TAIL.saturating_add(plan.generate);
    let prefix = plan.shared_prefix.map_or(0, |prefix| prefix.saturating_add(behind));
    let context = options.context.unwrap_or(0).max(own).max(prefix).max(WARM_UP.0 + WARM_UP.1);
    options.context = Some(context);
    // So that nobody waits for blocks: that is not what is measured.
    options.cache = Some(most.saturating_mul(own.saturating_add(64)).saturating_add(context));
    (options.parallel, options.queue) = (options.parallel.max(most), options.queue.max(most));
    options
}

/// Tokens per second of `sequences` answers of `generate` tokens each that grow side by side, each with a prompt of its
/// own of `prompt` tokens: from the last first token to the first end.
///
/// # Errors
/// Those of the engine; [`Error::Request`] for answers too short to tell.
pub fn together(engine: &Engine, sequences: usize, prompt: usize, generate: usize) -> Result<f64> {
    // Prompts that no request before had.
    let first = 1 + engine.stats()?.ended as usize;
    let requests = (first..first + sequences).map(|number| request(engine, number, prompt, generate));
    let measured = measure(engine, String::new(), requests.collect())?;
    measured
        .decode_tok_s
        .ok_or(Error::Request { field: "generate", problem: "is too short to measure".into() })
}

/// Tokens of the prompt and the answer that are not measured.
const WARM_UP: (usize, usize) = (32, 4);

/// Tokens of a prompt behind what it has in common with another.
const TAIL: usize = 16;

/// Pseudo-random tokens, others for each number: a linear congruential generator (Knuth's MMIX constants).
fn tokens(engine: &Engine, number: usize, len: usize) -> Vec<u32> {
    let mut state = number as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % engine.info().vocab as u64) as u32
    };
    (0..len).map(|_| next()).collect()
}

/// A greedy request whose answer has exactly `generate` tokens, none of them guessed: random weights repeat
/// themselves, and that would be no measure of anything.
fn request(engine: &Engine, number: usize, prompt: usize, generate: usize) -> Request {
    let request = Request::new(tokens(engine, number, prompt)).limit(Limit::Require(generate));
    Request { ignore_end: true, speculate: false, ..request }
}

fn measure(engine: &Engine, test: String, requests: Vec<Request>) -> Result<RequestMeasurement> {
    measure_answers(engine, test, requests).map(|(measurement, _)| measurement)
}

/// Runs the requests at the same time.
fn measure_answers(
    engine: &Engine,
    test: String,
    requests: Vec<Request>,
) -> Result<(RequestMeasurement, Vec<Completion>)> {
    let before = engine.stats()?;
    let began = Instant::now();
    let (answers, times) = run(engine, requests)?;
    let seconds = began.elapsed().as_secs_f64();
    let passes = engine.stats()?.steps - before.steps;
    let sum = |count: fn(&Completion) -> usize| answers.iter().map(count).sum::<usize>();
    let completion_tokens = sum(|a| a.summary.usage.completion_tokens);
    let first: Vec<f64> = times.iter().filter_map(|times| times.first().copied()).collect();
    let between = times.iter().flat_map(|times| times.windows(2).map(|pair| pair[1] - pair[0])).collect();
    let measurement = RequestMeasurement {
        test,
        requests: answers.len(),
        prompt_tokens: sum(|a| a.summary.usage.prompt_tokens),
        cached_tokens: sum(|a| a.summary.usage.cached_tokens),
        completion_tokens,
        seconds,
        decode_tok_s: rate(&times),
        first_token_ms: Percentiles::of(first).ok_or(Error::Stopped)?,
        between_tokens_ms: Percentiles::of(between),
        passes,
        tokens_per_pass: completion_tokens as f64 / passes as f64,
        drafted_tokens: sum(|a| a.summary.usage.drafted_tokens),
        accepted_tokens: sum(|a| a.summary.usage.accepted_tokens),
        speedup: None,
    };
    Ok((measurement, answers))
}

/// Tokens per second from the last first token to the first end, if any came in that time.
fn rate(times: &[Vec<f64>]) -> Option<f64> {
    let all_grow = times.iter().filter_map(|times| times.first().copied()).fold(0.0, f64::max);
    let one_ends = times.iter().filter_map(|times| times.last().copied()).fold(f64::INFINITY, f64::min);
    let meanwhile = times.iter().flatten().filter(|&&time| time > all_grow && time <= one_ends).count();
    (meanwhile > 0).then(|| meanwhile as f64 / (one_ends - all_grow))
}

/// The answers, and the seconds after the start at which each of their tokens came.
fn run(engine: &Engine, requests: Vec<Request>) -> Result<(Vec<Completion>, Vec<Vec<f64>>)> {
    let began = Instant::now();
    let generations = requests.into_iter().map(|request| engine.generate(request));
    let generations = generations.collect::<Result<Vec<_>>>()?;
    let follow = |generation: crate::Generation| {
        let (mut text, mut tokens, mut times) = (String::new(), Vec::new(), Vec::new());
        for event in generation {
            match event? {
                Event::Prefill { .. } => {}
                Event::Token(token) => {
                    times.push(began.elapsed().as_secs_f64());
                    text.push_str(&token.text);
                    tokens.push(token);
                }
                Event::Done(summary) => return Ok((Completion { text, tokens, summary }, times)),
            }
        }
        Err(Error::Stopped)
    };
    let answers: Vec<Result<_>> = std::thread::scope(|scope| {
        let threads: Vec<_> = generations.into_iter().map(|g| scope.spawn(move || follow(g))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(Err(Error::Stopped))).collect()
    });
    Ok(answers.into_iter().collect::<Result<Vec<_>>>()?.into_iter().unzip())
}

/// An engine whose model says what a script says, after it has computed what it would have said itself; and the
/// request that the script answers: all of the time is real, only the choice is not the model's.
fn scripted_edit(options: &Options, progress: impl FnMut(LoadProgress)) -> Result<(Engine, Request)> {
    let vocabulary = load::TextModel::open(&options.source)?.tokenizer;
    let encode = |text: &str| vocabulary.encode(text, SpecialTokens::Plain);
    let prompt = encode(&format!("{}\nThe same file with the five calls corrected:\n", source(false)))?;
    let answer = encode(&source(true))?;
    let script = [&prompt[..], &answer[..]].concat();
    let most = options.source.weights()?.config().context;
    if script.len() >= most {
        let problem = format!(
            "the file and its new version are `{}` tokens, more than the model's context of `{most}`",
            script.len()
        );
        return Err(Error::Request { field: "edit", problem });
    }
    let mut options =
        Options { context: Some(script.len() + 1), cache: None, prefix_cache: None, ..options.clone() };
    options.parallel = 1;
    let mut loaded: Loaded = load::open(&options, options.logits(), progress)?;
    let vocab = loaded.info.vocab;
    loaded.runner = Box::new(Scripted { inner: loaded.runner, script, vocab, logits: Vec::new() });
    let request = Request::new(prompt).limit(Limit::Require(answer.len()));
    Ok((Engine::start(&options, loaded, |_| ())?, Request { ignore_end: true, ..request }))
}

/// A file of 200 lines; with five of them changed.
fn source(changed: bool) -> String {
    const NAMES: [&str; 10] =
        ["parse", "header", "count", "offset", "merge", "buffer", "render", "token", "window", "index"];
    let name = |i: usize| NAMES[i * 7 % 10];
    let mut lines = Vec::new();
    for i in 0..25 {
        let (a, b, c) = (name(i), name(i / 3 + 1), name(i * i + 2));
        let call =
            if changed && i % 5 == 2 { format!("checked_{b}(&{c}, limit)?") } else { format!("{b}(&{c})") };
        lines.extend([
            format!("/// The {a} of `{b}`, at most {} of them.", 3 * i + 4),
            format!("pub fn {a}_{b}_{i}({c}: &str, limit: usize) -> Result<usize> {{"),
            format!("    let {a} = {call};"),
            format!("    if {a} > limit {{"),
            format!("        return Err(Error::TooMany {{ {a}, limit: {i} }});"),
            "    }".into(),
            format!("    Ok({a} + {c}.len() * {})", i + 2),
            "}".into(),
        ]);
    }
    lines.join("\n")
}

/// A runner whose logits say what follows in a script.
struct Scripted {
    inner: Box<dyn Runner>,
    /// Prompt and answer.
    script: Vec<u32>,
    vocab: usize,
    logits: Vec<f32>, // [batch.logits.len(), vocab]
}

impl Runner for Scripted {
    fn start(&mut self, batch: &Batch) -> Result<()> {
        self.inner.start(batch)?;
        self.logits.clear();
        self.logits.resize(batch.logits.len() * self.vocab, 0.0);
        for (logits, &row) in self.logits.chunks_exact_mut(self.vocab).zip(&batch.logits) {
            let next = batch.positions[row as usize] as usize + 1;
            if let Some(&token) = self.script.get(next) {
                logits[token as usize] = 20.0;
            }
        }
        Ok(())
    }

    fn logits(&mut self) -> Result<&[f32]> {
        self.inner.logits()?;
        Ok(&self.logits)
    }

    fn choose<'p>(&mut self, picks: &mut dyn Iterator<Item = Pick<'p>>) -> Result<Outcome<'_>> {
        self.inner.choose(picks)?;
        Ok(Outcome::whole(&self.logits, self.vocab))
    }

    fn hidden(&mut self) -> Result<&[f32]> {
        self.inner.hidden()
    }

    fn weight_bytes_per_token(&self) -> u64 {
        self.inner.weight_bytes_per_token()
    }

    fn arithmetic(&self) -> String {
        self.inner.arithmetic()
    }

    fn block_bytes(&self) -> usize {
        self.inner.block_bytes()
    }

    fn read_block(&mut self, block: u32, out: &mut [u8]) -> Result<()> {
        self.inner.read_block(block, out)
    }

    fn write_block(&mut self, block: u32, data: &[u8]) -> Result<()> {
        self.inner.write_block(block, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let seconds: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let found = Percentiles::of(seconds).expect("some");
        assert_eq!((found.p50, found.p95, found.p99), (50e3, 95e3, 99e3));
        assert_eq!(Percentiles::of(vec![]), None);
        assert_eq!(Percentiles::of(vec![2.0]).map(|p| p.p99), Some(2e3));
    }

    #[test]
    fn five_lines_of_two_hundred_change() {
        let (old, new) = (source(false), source(true));
        assert_eq!(old.lines().count(), 200);
        assert_eq!(old.lines().zip(new.lines()).filter(|(old, new)| old != new).count(), 5);
    }
}
