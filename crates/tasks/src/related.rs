//! Which passages of a project belong to a text: those that share its words, and the more so the rarer these are (S3-28, S3-34).
//!
//! The measure is BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009) over the parts
//! of identifiers, so that `parse_config`, `parseConfig` and "parsing a config" meet. Words are counted when something is asked,
//! and no index is kept: nothing is ever out of date. Reads no file; [`project`](crate::project) does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use crate::language;
use crate::prompt::fence;

/// How soon more of the same word says no more, and how much less it says in a longer passage: k1 and b of BM25.
const SATURATION: f64 = 1.5;
const LENGTH: f64 = 0.75;

/// How often the words of a path count in each passage of its file.
const PATH: u32 = 5;

/// Lines of a passage: with as many it ends where something begins in the first column, and it has no more than those.
const LINES: Range<usize> = 12..60;

/// The most bytes of a passage of several lines: what a model can be shown beside a question.
const BYTES: usize = 8 << 10;

/// The most characters of a word; what is longer is data.
const LONGEST: usize = 40;

/// Endings of English words that change little of their meaning, longer ones first.
const ENDINGS: [&str; 10] = ["ations", "ation", "ings", "ing", "ies", "ed", "es", "s", "e", "y"];

/// Words that say nothing about what is asked.
const EMPTY: [&str; 28] = [
    "an", "and", "are", "as", "be", "by", "for", "from", "how", "if", "in", "is", "it", "not", "of", "on",
    "or", "that", "the", "this", "to", "was", "what", "when", "where", "which", "who", "with",
];

/// Characters that an ending leaves, at least.
const STEM: usize = 3;

/// Some lines of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Passage<'a> {
    /// The file's path as it was given.
    pub path: &'a str,
    /// The lines, counted from 0.
    pub lines: Range<usize>,
    /// Their text.
    pub text: &'a str,
    /// How well it belongs to what was asked: to be compared within one answer only.
    pub score: f64,
}

impl Passage<'_> {
    /// Where it is, with lines counted from 1: `src/main.rs:12-40`.
    pub fn place(&self) -> String {
        format!("{}:{}-{}", self.path, self.lines.start + 1, self.lines.end)
    }

    /// As a model is shown it: a heading, and the text in a fence that it cannot close.
    pub fn block(&self) -> String {
        let (text, language) = (self.text.trim_end_matches('\n'), language::of(self.path));
        let fence = fence(3, [text]);
        let (from, to) = (self.lines.start + 1, self.lines.end);
        format!("### {}, lines {from} to {to}\n{fence}{language}\n{text}\n{fence}\n", self.path)
    }
}

#[derive(Debug)]
struct Place<'a> {
    path: &'a str,
    lines: Range<usize>,
    text: &'a str,
    /// Words in it, those of the path among them.
    words: u32,
}

/// The passages of files, each given by its path and its text, that share a word with `text`: the best first, equal ones in
/// the order of the files.
pub fn passages<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>, text: &str) -> Vec<Passage<'a>> {
    let asked = Asked::of(text);
    let (mut places, mut total) = (Vec::new(), 0);
    // For each word that is asked for the places that have it, and how often.
    let mut having: Vec<Vec<(usize, u32)>> = vec![Vec::new(); asked.times.len()];
    for (path, text) in files {
        let mut of_path = Counts::default();
        words(path, |word| of_path.add(&asked, word, PATH));
        for (lines, text) in cut(text) {
            let mut counts = of_path.clone();
            words(text, |word| counts.add(&asked, word, 1));
            for (number, count) in counts.asked {
                having[number].push((places.len(), count));
            }
            total += u64::from(counts.all);
            places.push(Place { path, lines, text, words: counts.all });
        }
    }
    let found = scores(&asked, &having, &places, total);
    let passage = |(at, score): (usize, f64)| {
        let Place { path, ref lines, text, .. } = places[at];
        Passage { path, lines: lines.clone(), text, score }
    };
    found.into_iter().map(passage).collect()
}

/// The files of passages that are in the order of [`passages`]: a file is as good as its best passage.
pub fn files<'a>(found: Vec<Passage<'a>>) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    found.into_iter().map(|passage| passage.path).filter(|path| seen.insert(*path)).collect()
}

/// The places that have a word that is asked for, the best first.
fn scores(
    asked: &Asked,
    having: &[Vec<(usize, u32)>],
    places: &[Place<'_>],
    total: u64,
) -> Vec<(usize, f64)> {
    let all = places.len() as f64;
    let mean = total as f64 / all;
    let mut scores: HashMap<usize, f64> = HashMap::new();
    for (times, having) in asked.times.iter().zip(having) {
        let few = having.len() as f64;
        let rarity = (1.0 + (all - few + 0.5) / (few + 0.5)).ln();
        // A word that is asked for several times counts more, but not so many times.
        let weight = rarity * (1.0 + (*times as f64).ln()) * (SATURATION + 1.0);
        for &(at, count) in having {
            let (count, words) = (f64::from(count), f64::from(places[at].words));
            let length = 1.0 - LENGTH + LENGTH * words / mean;
            *scores.entry(at).or_default() += weight * count / (count + SATURATION * length);
        }
    }
    let mut found: Vec<(usize, f64)> = scores.into_iter().collect();
    found.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    found
}

/// The words that are asked for. No other words are kept, so that a large project takes no more memory than its passages.
struct Asked {
    /// Numbers of the words.
    numbers: HashMap<String, usize>,
    /// How often each is asked for.
    times: Vec<usize>,
}

impl Asked {
    fn of(text: &str) -> Asked {
        let mut all = Vec::new();
        words(text, |word| all.push(word.to_owned()));
        all.sort_unstable();
        let mut asked = Asked { numbers: HashMap::new(), times: Vec::new() };
        for same in all.chunk_by(|a, b| a == b) {
            asked.numbers.insert(same[0].clone(), asked.times.len());
            asked.times.push(same.len());
        }
        asked
    }
}

/// The words of a passage.
#[derive(Clone, Default)]
struct Counts {
    all: u32,
    /// How often it has those that are asked for, by their numbers.
    asked: BTreeMap<usize, u32>,
}

impl Counts {
    fn add(&mut self, asked: &Asked, word: &str, times: u32) {
        self.all += times;
        if let Some(number) = asked.numbers.get(word) {
            *self.asked.entry(*number).or_default() += times;
        }
    }
}

/// Cuts a text into passages, without a line left over.
fn cut(text: &str) -> Vec<(Range<usize>, &str)> {
    let mut found = Vec::new();
    // Where the present passage begins, in bytes and lines, and where the present line does.
    let (mut from, mut first, mut at) = (0, 0, 0);
    let mut after_blank = false;
    let mut number = 0;
    for line in text.split_inclusive('\n') {
        let begins = after_blank && !line.starts_with([' ', '\t', '}', ')', ']']);
        let length = number - first;
        let long = at > from && at - from + line.len() > BYTES;
        if length >= LINES.end || length >= LINES.start && begins || long {
            found.push((first..number, &text[from..at]));
            (from, first) = (at, number);
        }
        after_blank = line.trim().is_empty();
        at += line.len();
        number += 1;
    }
    if at > from {
        found.push((first..number, &text[from..]));
    }
    found
}

/// Gives `each` the words of a text: the parts of its identifiers, in lower case and without endings.
fn words(text: &str, mut each: impl FnMut(&str)) {
    let mut lower = String::new();
    for identifier in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        for part in parts(identifier) {
            lower.clear();
            lower.extend(part.chars().flat_map(char::to_lowercase));
            let long = lower.chars().take(LONGEST + 1).count();
            let says = !lower.chars().all(char::is_numeric) && !EMPTY.contains(&lower.as_str());
            if (2..=LONGEST).contains(&long) && says {
                each(stem(&lower));
            }
        }
    }
}

/// The words that an identifier was put together from by capitals: `readHTTPBody` is `read`, `HTTP`, `Body`.
fn parts(identifier: &str) -> impl Iterator<Item = &str> {
    let mut rest = identifier;
    std::iter::from_fn(move || {
        let mut before = rest.chars().next()?;
        let mut chars = rest.char_indices().skip(1).peekable();
        let mut end = rest.len();
        while let Some((at, c)) = chars.next() {
            let starts_word =
                !before.is_uppercase() || chars.peek().is_some_and(|(_, next)| next.is_lowercase());
            if c.is_uppercase() && starts_word {
                end = at;
                break;
            }
            before = c;
        }
        let (part, others) = rest.split_at(end);
        rest = others;
        Some(part)
    })
}

fn stem(word: &str) -> &str {
    let without = |ending: &&str| {
        let stem = word.strip_suffix(*ending)?;
        (stem.chars().count() >= STEM && !(*ending == "s" && stem.ends_with('s'))).then_some(stem)
    };
    ENDINGS.iter().find_map(without).unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all_words(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        words(text, |word| found.push(word.to_owned()));
        found
    }

    #[test]
    fn identifiers_and_prose_have_the_same_words() {
        for text in [
            "parse_config",
            "parseConfig",
            "ParseConfig",
            "PARSE_CONFIG",
            "parsing the configs",
            "parsed.config",
        ] {
            let found = all_words(text);
            assert!(
                found.contains(&"pars".to_owned()) && found.contains(&"config".to_owned()),
                "{text}: {found:?}"
            );
        }
        let of = |text| parts(text).collect::<Vec<_>>();
        assert_eq!(of("readHTTPBody2Json"), ["read", "HTTP", "Body2", "Json"]);
        assert_eq!(of("IO"), ["IO"]);
        assert_eq!(of("Übergröße"), ["Übergröße"]);
        // Ends that would leave too little stay, and so does a double s.
        assert_eq!(all_words("es class of the bed 12 x 0x1f"), ["es", "class", "bed", "0x1f"]);
        assert_eq!(all_words(&"a".repeat(41)), Vec::<String>::new());
    }

    #[test]
    fn passages_end_where_something_begins_in_the_first_column() {
        let function = |name: &str| format!("fn {name}() {{\n{}}}\n\n", "    step();\n".repeat(12));
        let text = [function("a"), function("b"), function("c")].concat();
        let found = cut(&text);
        assert_eq!(found.iter().map(|(lines, _)| lines.clone()).collect::<Vec<_>>(), [0..15, 15..30, 30..45]);
        assert!(found[1].1.starts_with("fn b()"), "{}", found[1].1);
        // One that never ends is cut.
        assert_eq!(cut(&"x\n".repeat(130)).len(), 3);
        assert_eq!(cut(""), []);
        // So is one of long lines, but not a line.
        let long = format!("{}\n", "x".repeat(BYTES / 4)).repeat(5) + &"y".repeat(2 * BYTES);
        assert_eq!(cut(&long).into_iter().map(|(lines, _)| lines).collect::<Vec<_>>(), [0..3, 3..5, 5..6]);
    }

    proptest! {
        #[test]
        fn passages_are_the_text_and_words_are_words(text in "(?s).{0,400}", lines in "([ a-z}]{0,3}\n){0,200}") {
            for text in [text, lines] {
                let found = cut(&text);
                prop_assert_eq!(found.iter().map(|(_, text)| *text).collect::<String>(), text.as_str());
                let ends = found.iter().map(|(lines, _)| lines.end);
                prop_assert!(found.iter().skip(1).map(|(lines, _)| lines.start).eq(ends.take(found.len().saturating_sub(1))));
                prop_assert_eq!(found.last().map_or(0, |(lines, _)| lines.end), text.split_inclusive('\n').count());
                for word in all_words(&text) {
                    prop_assert!(!word.is_empty() && word.chars().count() <= LONGEST, "{}", word);
                }
            }
        }
    }

    #[test]
    fn rare_words_and_names_of_files_decide() {
        let common = "fn open() { read(); write(); }\n";
        let files = [
            ("src/store.rs", common),
            ("src/budget.rs", "fn check(limit: f64) { read(); }\n"),
            ("src/net.rs", "fn sendRequest() { read(); budgetLeft(); }\n"),
            ("src/far.rs", "fn nothing() {}\n"),
        ];
        let of = |text: &str| super::files(passages(files, text));
        assert_eq!(
            of("Where is the budget checked before a request is sent?"),
            ["src/budget.rs", "src/net.rs"]
        );
        assert_eq!(of("read"), ["src/store.rs", "src/budget.rs", "src/net.rs"]);
        assert_eq!(of("unheard"), Vec::<&str>::new());
        let best = &passages(files, "check the limit")[0];
        assert_eq!((best.place().as_str(), best.text), ("src/budget.rs:1-1", files[1].1));
        let shown = "### src/budget.rs, lines 1 to 1\n```rust\nfn check(limit: f64) { read(); }\n```\n";
        assert_eq!(best.block(), shown);
        assert_eq!(passages([], "anything"), []);
    }

    #[test]
    fn a_file_is_as_good_as_its_best_passage() {
        let filler = "fn other() {\n    one();\n}\n\n".repeat(40);
        let long = format!("{filler}fn rotate_keys() {{\n    rotate(keys);\n}}\n");
        let files = [("a.rs", filler.as_str()), ("b.rs", long.as_str()), ("c.rs", "fn keys() {}\n")];
        let found = passages(files, "rotate keys");
        assert_eq!(found[0].path, "b.rs");
        assert!(found[0].text.contains("rotate(keys)") && found[0].lines.start > 100, "{found:?}");
    }
}
