//! What tools cost with a real vocabulary.

use super::schemas::fifty;
use super::*;
use coder_engine::{Matcher, ToolChoice};
use std::time::Instant;

/// Microseconds that `work` took this thread, waiting for the processor not counted where the system tells.
fn timed<T>(work: impl FnOnce() -> T) -> f64 {
    let computed = || -> Option<f64> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    };
    let before = computed();
    let start = Instant::now();
    std::hint::black_box(work());
    let elapsed = start.elapsed().as_secs_f64() * 1e6;
    match (before, computed()) {
        // Reading it takes longer than most of what is measured.
        (Some(before), Some(after)) if elapsed > 2e3 => (after - before) / 1e3,
        _ => elapsed,
    }
}

fn at(times: &mut [f64], part: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    times[((times.len() - 1) as f64 * part) as usize]
}

/// The bounds are asserted where the optimiser ran.
#[test]
fn tools_cost_nearly_nothing_until_one_is_called() {
    let tokenizer = tokenizer();
    // The tree of the vocabulary is made once for all grammars.
    tokenizer.trie_env().expect("a tree");
    let prose =
        "The file `src/a.rs` has a function that adds two numbers, and a test.\n\nI would change it.\n"
            .repeat(20);
    for format in [CallFormat::Json, CallFormat::Xml] {
        // Each time another name, because what was compiled once is kept.
        let named = |i: usize| {
            let mut tools = fifty();
            tools.push(tool(&format!("another_{i}"), json!({})));
            Arc::new(ToolSet::new(tools, format).expect("tools"))
        };
        let set = named(0);
        let grammar = set.grammar().expect("a grammar");
        let compile = |set: &Arc<ToolSet>| {
            let grammar = set.grammar().expect("a grammar");
            timed(|| Matcher::new(tokenizer, &grammar).expect("it compiles"))
        };
        let mut builds: Vec<f64> = (0..5).map(|i| compile(&named(i))).collect();
        let mut again: Vec<f64> = (0..5).map(|_| compile(&set)).collect();
        let mut matcher = Matcher::new(tokenizer, &grammar).expect("it compiles");
        let mut free = Vec::new();
        for token in tokens(tokenizer, &prose) {
            free.push(timed(|| matcher.mask().map(|_| ()).and_then(|()| matcher.accept(token))));
        }
        let required = Arc::new(ToolSet::clone(&set).choice(ToolChoice::Required).expect("tools"));
        let call = match format {
            CallFormat::Json => "\n{\"name\": \"tool_0\", \"arguments\": {\"path\": \"",
            CallFormat::Xml => "\n<function=tool_0>\n<parameter=path>\n",
        };
        let text = format!("<tool_call>{call}{}", prose.replace('\n', " "));
        let mut matcher =
            Matcher::new(tokenizer, &required.grammar().expect("a grammar")).expect("it compiles");
        let (mut within, mut opened) = (Vec::new(), Vec::new());
        for (i, token) in
            tokenizer.encode(&text, SpecialTokens::Plain).expect("tokens").into_iter().enumerate()
        {
            let time = timed(|| matcher.mask().map(|_| ()).and_then(|()| matcher.accept(token)));
            if i < 16 { opened.push(time) } else { within.push(time) }
        }
        println!(
            "{format:?}, vocabulary of {}: 50 tools in {:.1} ms (least {:.1}), again in {:.2}; free text p50 {:.2} µs, p95 {:.2} µs; \
             beginning of a call at most {:.0} µs; in a value p50 {:.1} µs, p95 {:.1} µs, at most {:.0} µs",
            tokenizer.vocab_size(),
            at(&mut builds, 0.5) / 1e3,
            builds[0] / 1e3,
            at(&mut again, 0.5) / 1e3,
            at(&mut free, 0.5),
            at(&mut free, 0.95),
            at(&mut opened, 1.0),
            at(&mut within, 0.5),
            at(&mut within, 0.95),
            at(&mut within, 1.0),
        );
        if !cfg!(debug_assertions) {
            assert!(at(&mut builds, 0.5) < 80e3 && at(&mut free, 0.95) < 10.0 && at(&mut within, 0.95) < 1e3);
        }
    }
}
