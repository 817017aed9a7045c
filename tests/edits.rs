//! Edits that always apply: whatever a model's weights are, its search/replace blocks fit the file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use coder_engine::{
    EditFile, EditGrammar, Engine, Finish, Grammar, Limit, Mask, Matcher, Options, SamplerOptions, Source,
    TextModel, Tokenizer,
};
use coder_tasks::ReplyShape;
use coder_tasks::edit::{self, Base, Form};

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % n
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const NAMES: [&str; 12] =
    ["total", "count", "price", "größe", "名前", "index", "value", "left", "right", "path", "node", "🦀"];

/// A file of so many lines, many of which repeat: with tabs, either kind of line end or both, with or without an end
/// of the last line, sometimes with a byte order mark and with lines that look like delimiters.
fn file(lines: usize, random: &mut Random) -> String {
    let ends = [["\n", "\n"], ["\r\n", "\r\n"], ["\n", "\n"], ["\n", "\r\n"]][random.below(4)];
    let headings = random.below(4) == 0;
    let mut text = if random.below(8) == 0 { "\u{feff}".to_owned() } else { String::new() };
    for i in 0..lines {
        let (a, b) = (random.pick(&NAMES), random.pick(&NAMES));
        text += &match random.below(14) {
            0 | 1 => String::new(),
            2 => "    }".to_owned(),
            3 => "}".to_owned(),
            4 => "\t\treturn 0;".to_owned(),
            5 => format!("fn {a}_{i}() {{"),
            6 => format!("\t{a} += {};", random.below(5)),
            7 => format!("    let {a} = {b};"),
            8 => format!("  // {a} {i}  "),
            9 => format!("{a}({b})"),
            10 if headings => "=".repeat(3 + random.below(8)),
            11 if headings => format!("{} {a}", random.pick(&["<<<<<<<", ">>>>>>>", "<<<<<<<<", "===="])),
            _ => format!("    {a}[{i}] = {b}"),
        };
        text += ends[random.below(2)];
    }
    if random.below(3) == 0 {
        // As many editors leave it: without an end, but not blank.
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
    }
    if text.trim_start_matches('\u{feff}').is_empty() { "x = 1\n".to_owned() } else { text }
}

fn edits(content: &str) -> EditGrammar {
    let file = EditFile { path: "src/a.py".to_owned(), content: content.to_owned() };
    EditGrammar { files: vec![file], marker: edit::marker([content]) }
}

/// Applies a reply as a task does and checks what must not change. Gives the number of blocks.
fn apply(content: &str, reply: &str) -> usize {
    let marker = edit::marker([content]);
    let shape = ReplyShape { files: vec![], fence: "```".to_owned(), language: "python".to_owned() };
    let base = [Base { path: "src/a.py", content: Some(content) }];
    let changes = edit::read(reply, &Form::Diff { marker }, &shape, &base);
    let changes = changes.unwrap_or_else(|error| panic!("{error}: {reply:?}\nin {content:?}"));
    assert_eq!(changes.len(), 1, "{reply:?}");
    let new = changes[0].content.as_deref().expect("a content");
    assert_ne!(new, content);
    assert_eq!(new.starts_with('\u{feff}'), content.starts_with('\u{feff}'));
    if content.matches("\r\n").count() == content.matches('\n').count() && content.contains('\n') {
        assert_eq!(new.matches("\r\n").count(), new.matches('\n').count(), "{reply:?}");
    } else if !content.contains('\r') {
        assert!(!new.contains('\r'), "{reply:?}");
    }
    // Every line that is in no block is still there.
    let opening = format!("{} SEARCH", "<".repeat(marker));
    let (divider, closing) = ("=".repeat(marker), format!("{} REPLACE", ">".repeat(marker)));
    let mut counts: HashMap<&str, isize> = HashMap::new();
    content.trim_start_matches('\u{feff}').lines().for_each(|line| *counts.entry(line).or_default() += 1);
    let (mut blocks, mut side) = (0, 0);
    for line in reply.lines() {
        match side {
            0 if line == opening => (blocks, side) = (blocks + 1, -1),
            -1 if line == divider => side = 1,
            1 if line == closing => side = 0,
            side => *counts.entry(line).or_default() += side,
        }
    }
    new.trim_start_matches('\u{feff}').lines().for_each(|line| *counts.entry(line).or_default() -= 1);
    counts.retain(|line, count| *count != 0 && !line.is_empty());
    assert!(counts.is_empty(), "{counts:?} for {reply:?}");
    blocks
}

fn shared(path: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.ancestors().skip(1).map(|folder| folder.join("shared/data").join(path)).find(|path| path.exists())
}

fn bundled() -> Engine {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/coder-tiny.gguf");
    Engine::open(&Options::new(path)).expect("the bundled model")
}

/// Models with random weights from the data set, or the bundled one, which knows nothing about edits either.
fn models() -> Vec<Engine> {
    let names = ["qwen2-Q8_0", "qwen3-Q4_K_M", "qwen3moe-Q8_0", "qwen2-untied-F16"];
    let found = names.iter().filter_map(|name| shared(&format!("vectors/models/tiny-{name}.gguf")));
    let open = |path| {
        let mut options = Options::new(path);
        options.context = Some(512);
        Engine::open(&options).expect("a model")
    };
    let models: Vec<Engine> = found.map(open).collect();
    if models.is_empty() { vec![bundled()] } else { models }
}

/// 1,000 of 1,000 replies parse and apply, at temperature 1.5, within a few tokens. Random weights write until they
/// must end, so these have one block each; the engine's own tests have replies of several.
///
/// Covers S0-11.
#[test]
fn a_thousand_edits_of_random_weights_apply() {
    let mut random = Random(0x5EED);
    let models = models();
    let (mut tokens, mut blocks, mut lines) = (0, 0, 0);
    for seed in 0..1000u64 {
        // From 10 to 5,000 lines, most of them below a thousand.
        let length = (10.0 * 500f64.powf(random.below(1001) as f64 / 1000.0)) as usize;
        let content = file(length, &mut random);
        let engine = &models[seed as usize % models.len()];
        let limit = 110 + random.below(80);
        // Without a push, random weights seldom end a line and never a block before they must.
        let push = if seed % 2 == 0 { vec![] } else { bias(engine.tokenizer()) };
        let sampler =
            SamplerOptions { temperature: 1.5, seed, logit_bias: push, ..SamplerOptions::default() };
        let request = engine.prompt("Edit:").expect("tokens").sampler(sampler).limit(Limit::UpTo(limit));
        let request = request.grammar(Grammar::Edit(edits(&content)));
        let answer = engine.generate(request).expect("a generation").finish().expect("a completion");
        assert_eq!(answer.summary.finish, Finish::Stop, "{:?}", answer.text);
        assert!(answer.tokens.len() < limit);
        blocks += apply(&content, &answer.text);
        tokens += answer.tokens.len();
        lines += length;
    }
    println!(
        "1000 of 1000 replies apply: {blocks} blocks, {tokens} tokens, files of {} lines on average",
        lines / 1000
    );
}

/// Line ends and delimiters, a little more likely.
fn bias(tokenizer: &Tokenizer) -> Vec<(u32, f32)> {
    let tokens = (0..tokenizer.vocab_size() as u32).filter(|&id| !tokenizer.is_special(id));
    let wanted = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(|byte| b"\n>=".contains(byte));
    tokens.filter(|&id| wanted(tokenizer.token_bytes(id))).map(|id| (id, 6.0)).collect()
}

/// Times of one kind, in microseconds.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn at(&mut self, part: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        self.0[((self.0.len() - 1) as f64 * part) as usize]
    }
}

/// The shortest of three, because other programs run too.
fn timed<T>(mut work: impl FnMut() -> T) -> f64 {
    let once = |work: &mut dyn FnMut() -> T| {
        let begin = Instant::now();
        std::hint::black_box(work());
        begin.elapsed().as_secs_f64() * 1e6
    };
    (0..3).map(|_| once(&mut work)).fold(f64::INFINITY, f64::min)
}

/// Tokens that may end what a block consists of: without letters and digits, with an end of line or part of a marker.
fn ends(tokenizer: &Tokenizer) -> Vec<u32> {
    let ends = |id: u32| {
        let bytes = tokenizer.token_bytes(id);
        bytes.iter().any(|byte| b"\n>=".contains(byte)) && !bytes.iter().any(u8::is_ascii_alphanumeric)
    };
    (0..tokenizer.vocab_size() as u32).filter(|&id| ends(id)).collect()
}

/// A reply of tokens that are drawn without any model, each mask timed; two of three are `ends`, where one may stand.
fn babble(
    (tokenizer, ends): (&Tokenizer, &[u32]),
    grammar: &Grammar,
    random: &mut Random,
    masks: &mut Times,
) -> String {
    let mut matcher = Matcher::within(tokenizer, grammar, 250).expect("a grammar that compiles");
    let mut tokens = Vec::new();
    loop {
        tokens.extend(matcher.forced().expect("forced tokens"));
        if matcher.must_end() || matcher.is_complete() && random.below(8) == 0 {
            return String::from_utf8(tokenizer.decode(&tokens)).expect("UTF-8");
        }
        masks.0.push(timed(|| {
            matcher.rollback(0).expect("nothing to take back");
            matcher.mask().map(|_| ())
        }));
        let mask: &Mask = matcher.mask().expect("a mask");
        let allowed = |id: &u32| mask.allows(*id) && !tokenizer.is_end(*id);
        let mut from = Vec::new();
        if random.below(3) > 0 {
            from.extend(ends.iter().copied().filter(allowed));
        }
        if from.is_empty() {
            from.extend((0..tokenizer.vocab_size() as u32).filter(allowed));
        }
        let token = from[random.below(from.len())];
        matcher.accept(token).expect("the mask allows it");
        tokens.push(token);
    }
}

/// What the constraint costs with a real vocabulary. The bounds are asserted where the optimiser ran.
///
/// Covers S0-11.
#[test]
fn the_constraint_is_fast() {
    let (tokenizer, name) = match shared("qwen2.5") {
        Some(folder) => (Tokenizer::from_dir(folder).expect("a tokenizer"), "Qwen2.5"),
        None => {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/coder-tiny.gguf");
            (TextModel::open(&Source::Path(path)).expect("the bundled model").tokenizer, "the bundled")
        }
    };
    // The tree of the vocabulary is made once for all grammars.
    tokenizer.trie_env().expect("a tree");
    let mut random = Random(0xED17);
    let (mut builds, mut masks) = (Times::default(), Times::default());
    let words: String = (0..5000).map(|_| format!("{}\n", word(&mut random))).collect();
    let mut contents: Vec<String> = (0..8).map(|_| file(5000, &mut random)).collect();
    contents.extend([words, "x\n".repeat(4000) + "y\n" + &"x\n".repeat(999)]);
    let (ends, mut blocks) = (ends(&tokenizer), 0);
    for content in &contents {
        let grammar = Grammar::Edit(edits(content));
        builds.0.push(timed(|| Matcher::within(&tokenizer, &grammar, 250)));
        for _ in 0..2 {
            blocks += apply(content, &babble((&tokenizer, &ends), &grammar, &mut random, &mut masks));
        }
    }
    let (build, p50, p95, most) = (builds.at(1.0) / 1000.0, masks.at(0.5), masks.at(0.95), masks.at(1.0));
    println!(
        "{name} vocabulary of {}: built for 5000 lines in {build:.1} ms at most; {} masks, {blocks} blocks: \
         p50 {p50:.1} µs, p95 {p95:.1} µs, p99 {:.1} µs, max {most:.1} µs",
        tokenizer.vocab_size(),
        masks.0.len(),
        masks.at(0.99),
    );
    if !cfg!(debug_assertions) {
        assert!(build <= 20.0 && p50 <= 10.0 && p95 <= 200.0 && most <= 2000.0);
    }
}

/// A word that no other line is likely to be.
fn word(random: &mut Random) -> String {
    (0..4 + random.below(8)).map(|_| (b'a' + random.below(26) as u8) as char).collect()
}
