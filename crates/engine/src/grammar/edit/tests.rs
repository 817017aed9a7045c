use std::sync::Arc;

use llguidance::toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use proptest::prelude::*;

use super::*;

/// All bytes, and some tokens that cross the borders between the parts of a reply.
struct Toy(TokTrie);

const END: u32 = 256;

const WORDS: [&str; 24] = [
    "\n\n",
    "\n=",
    "=======",
    "=======\n",
    "=======\n\n",
    "\n=======",
    "<<<<<<<",
    " SEARCH",
    " SEARCH\n",
    "SEARCH\na",
    ">>>>>>>",
    " REPLACE",
    ">>>>>>> ",
    "\n>>>>>>> REPLACE",
    ">>>>>>> REPLACE\n<",
    "REPLACE\n",
    "a\nb",
    "a\n",
    "ab",
    "    ",
    "é",
    "====",
    "a.py\n",
    "x\n=======\n>>>>>>> REPLACE",
];

impl TokenizerEnv for Toy {
    fn tok_trie(&self) -> &TokTrie {
        &self.0
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.0.greedy_tokenize(bytes)
    }
}

fn toy() -> TokEnv {
    let mut words: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    words[255].clear();
    words.push(b"\xff<end>".to_vec());
    words.extend(WORDS.iter().map(|word| word.as_bytes().to_vec()));
    let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, END), &words);
    Arc::new(Toy(trie))
}

fn grammar(files: &[(&str, &str)], marker: usize) -> EditGrammar {
    let file =
        |(path, content): &(&str, &str)| EditFile { path: path.to_string(), content: content.to_string() };
    EditGrammar { files: files.iter().map(file).collect(), marker }
}

fn one(content: &str) -> EditGrammar {
    grammar(&[("a.py", content)], 7)
}

fn matcher(grammar: &EditGrammar, limit: usize) -> EditMatcher {
    EditMatcher::new(&toy(), grammar, limit).unwrap()
}

/// Whether the whole of `text` is a reply, byte by byte.
fn accepts(grammar: &EditGrammar, text: &str) -> bool {
    let mut matcher = matcher(grammar, usize::MAX);
    for byte in text.bytes() {
        let allowed = matcher.mask().allows(u32::from(byte));
        assert_eq!(matcher.accept(u32::from(byte)).is_ok(), allowed, "{text:?} at {byte:?}");
        if !allowed {
            return false;
        }
    }
    assert_eq!(matcher.mask().allows(END), matcher.is_complete());
    matcher.is_complete()
}

fn block(search: &str, replace: &str) -> String {
    format!("<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE")
}

#[test]
fn lines_that_stand_once_are_searched() {
    let file = one("a\nb\na\nc\n  a\n\n");
    for search in
        ["b\n", "a\nb\n", "a\nb\na\n", "b\na\n", "c\n", "a\nc\n  a\n", "  a\n", "\n", "a\nb\na\nc\n  a\n\n"]
    {
        assert!(accepts(&file, &block(search, "x\n")), "{search:?}");
    }
    for search in ["a\n", "", "x\n", "a", "b", "b\nc\n", "\n\n", " a\n", "a\n\n"] {
        assert!(!accepts(&file, &block(search, "x\n")), "{search:?}");
    }
}

#[test]
fn blocks_do_not_share_lines_and_change_something() {
    let file = one("a\nb\na\nc\n");
    let two = |first: &str, second: &str| {
        accepts(&file, &format!("{}\n{}", block(first, "x\n"), block(second, "")))
    };
    assert!(two("b\n", "c\n") && two("c\n", "a\nb\n") && two("a\nb\n", "a\nc\n"));
    assert!(
        !two("b\n", "b\n")
            && !two("b\n", "a\nb\n")
            && !two("a\nb\n", "b\na\n")
            && !two("a\nb\na\nc\n", "b\n")
    );
    assert!(accepts(&file, &block("b\n", "")) && accepts(&file, &block("b\n", "b\n\n")));
    assert!(!accepts(&file, &block("b\n", "b\n")) && !accepts(&file, &block("a\nb\n", "a\nb\n")));
    assert!(accepts(&file, &block("a\nb\n", "a\n")));
    let mut all = matcher(&one("a\n"), usize::MAX);
    block("a\n", "x\n").bytes().for_each(|byte| all.accept(u32::from(byte)).unwrap());
    assert!(all.must_end() && all.is_complete(), "no line is left");
    all.accept(END).unwrap();
    all.rollback(3).unwrap();
    assert!(!all.is_complete() && !all.must_end());
}

#[test]
fn delimiters_are_never_text() {
    let file = one("a\n");
    for text in [
        "=======\n",
        "======= x\n",
        "<<<<<<< SEARCH\n",
        ">>>>>>> REPLACE\n",
        "||||||| x\n",
        "\0\n",
        "a\r\n",
        "\u{85}\n",
    ] {
        assert!(!accepts(&file, &block("a\n", text)), "{text:?}");
    }
    for text in
        ["======\n", "========\n", " =======\n", ">>>>>> REPLACE\n", "```\n", "\t\n", "日本\u{1f600}\n"]
    {
        assert!(accepts(&file, &block("a\n", text)), "{text:?}");
    }
    assert!(!accepts(&file, &block("a\n", "x")));
    let heading = "Title\n=====\n=======\n========\n";
    assert!(EditMatcher::new(&toy(), &one(heading), usize::MAX).is_err());
    let longer = grammar(&[("a.md", heading)], 9);
    let text = "<<<<<<<<< SEARCH\n=====\n=======\n=========\n=====\n========\n>>>>>>>>> REPLACE";
    assert!(accepts(&longer, text));
    assert!(!accepts(&longer, &text.replace("\n========\n", "\n=======\n")), "a conflict marker");
}

#[test]
fn several_files_and_new_ones() {
    let files = grammar(&[("src/a.py", "a\nsame\n"), ("src/b.py", "same\n"), ("new.py", "")], 7);
    let reply = |path: &str, search: &str| format!("{path}\n{}", block(search, "x\n"));
    assert!(accepts(&files, &reply("src/a.py", "same\n")) && accepts(&files, &reply("src/b.py", "same\n")));
    assert!(!accepts(&files, &reply("src/b.py", "a\n")) && !accepts(&files, &reply("src/c.py", "a\n")));
    assert!(!accepts(&files, &block("a\n", "x\n")));
    assert!(accepts(&files, &reply("new.py", "")) && !accepts(&files, &reply("src/a.py", "")));
    assert!(!accepts(&files, &format!("new.py\n{}", block("", ""))), "a new file has a line");
    let twice = |path: &str, search: &str| format!("{}\n{}", reply(path, search), reply(path, search));
    assert!(!accepts(&files, &twice("new.py", "")) && !accepts(&files, &twice("src/b.py", "same\n")));
    assert!(accepts(&files, &format!("{}\n{}", reply("new.py", ""), reply("src/b.py", "same\n"))));
}

#[test]
fn what_cannot_be_edited_is_an_error() {
    let reason = |grammar: &EditGrammar, limit| match EditMatcher::new(&toy(), grammar, limit) {
        Err(Error::Grammar(reason)) => reason,
        _ => panic!("{grammar:?}"),
    };
    assert!(reason(&one(&"long ".repeat(100)), 400).contains("`400` are allowed"));
    assert!(reason(&grammar(&[], 7), 400).contains("no file"));
    assert!(reason(&grammar(&[("a", "x\n"), ("a", "y\n")], 7), 400).contains("two files"));
    assert!(reason(&grammar(&[("a", "x\n"), ("b\nc", "y\n")], 7), 400).contains("one line"));
    assert!(reason(&grammar(&[("a", "x\n")], 6), 400).contains("`6`"));
    assert!(reason(&grammar(&[("a", "x\n>>>>>>> y\r\n")], 7), 400).contains("line `2`"));
}

#[test]
fn text_without_a_choice_is_forced() {
    let mut matcher = matcher(&one("def f():\n    pass\ndef f():\n    return\n"), usize::MAX);
    let trie = toy();
    let decode = |tokens: &[u32]| String::from_utf8(trie.tok_trie().decode(tokens)).unwrap();
    let forced = matcher.forced().unwrap();
    assert_eq!(decode(&forced), "<<<<<<<", "a token may hold the end of the delimiter and more");
    assert!(matcher.forced().unwrap().is_empty());
    for byte in " SEARCH\ndef".bytes() {
        matcher.accept(u32::from(byte)).unwrap();
    }
    let forced = matcher.forced().unwrap();
    assert_eq!(decode(&forced), " f():\n", "blanks may be part of a longer token");
    assert!(matcher.forced().unwrap().is_empty());
    for byte in "    p".bytes() {
        matcher.accept(u32::from(byte)).unwrap();
    }
    let forced = matcher.forced().unwrap();
    assert_eq!(decode(&forced), "ass");
}

/// A small generator of numbers, because a test that fails must fail again.
fn next(seed: &mut u64) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed >> 16) as usize
}

/// What the bytes say about a token, without the tree: the tokens that a mask may leave out are those that go on
/// after the end of a block or after its closing run.
fn by_bytes(matcher: &EditMatcher, token: u32) -> (bool, bool) {
    let trie = matcher.env.tok_trie();
    let (start, left) = (matcher.phase(), matcher.left());
    let (mut phase, mut crossed) = (start, false);
    for &byte in trie.token(token) {
        crossed |= phase != start && matches!(phase, Phase::End { .. } | Phase::Close { .. });
        match matcher.form.step(phase, byte, left) {
            Some(next) => phase = next,
            None => return (false, crossed),
        }
    }
    let starts =
        matches!(start, Phase::Replace(_)) && matches!(phase, Phase::Close { .. } | Phase::End { .. });
    (matcher.form.is_affordable(phase, left - 1), crossed || starts)
}

/// Writes a reply of random tokens and gives its text. Every mask on the way is held against the bytes.
fn babble(grammar: &EditGrammar, limit: usize, seed: &mut u64, forced: bool) -> String {
    let mut matcher = matcher(grammar, limit);
    let mut tokens = Vec::new();
    loop {
        if forced {
            tokens.extend(matcher.forced().unwrap());
        }
        if matcher.must_end() || matcher.is_complete() && next(seed).is_multiple_of(3) {
            break;
        }
        let mask = matcher.mask().clone();
        let vocab = 256 + 1 + WORDS.len() as u32;
        let closing =
            matches!(matcher.phase(), Phase::Replace(_)) && matcher.left() <= matcher.form.most_to_close();
        for token in (0..vocab).filter(|token| *token != END && *token != 255) {
            let (fits, crosses) = by_bytes(&matcher, token);
            assert!(fits || !mask.allows(token), "{:?} {token}", matcher.phase());
            assert!(mask.allows(token) || !fits || crosses || closing, "{:?} {token}", matcher.phase());
        }
        let mut allowed: Vec<u32> = (0..vocab).filter(|token| *token != END && mask.allows(*token)).collect();
        assert!(!allowed.is_empty(), "{:?}", matcher.phase());
        // Long words and the ends of lines would be rare otherwise.
        if next(seed).is_multiple_of(2)
            && allowed.iter().any(|token| *token > END || *token == 10 || *token == 62)
        {
            allowed.retain(|token| *token > END || *token == 10 || *token == 62);
        }
        let token = allowed[next(seed) % allowed.len()];
        matcher.accept(token).unwrap();
        tokens.push(token);
        if next(seed).is_multiple_of(16) {
            let back = (next(seed) % 4).min(tokens.len());
            matcher.rollback(back).unwrap();
            tokens.truncate(tokens.len() - back);
            let mut fresh = self::matcher(grammar, limit);
            tokens.iter().for_each(|token| fresh.accept(*token).unwrap());
            assert_eq!(matcher.phase(), fresh.phase());
            assert_eq!(matcher.mask(), fresh.mask());
        }
    }
    assert!(matcher.is_complete() && tokens.len() <= limit);
    String::from_utf8(matcher.env.tok_trie().decode(&tokens)).unwrap()
}

/// Reads a reply without any leniency and checks all that is promised.
fn check_reply(reply: &str, file: &[&str]) {
    let lines: Vec<&str> = reply.split('\n').collect();
    let mut taken = vec![false; file.len()];
    let mut at = 0;
    while at < lines.len() {
        let find = |what: &str, from: usize| {
            (from..lines.len()).find(|i| lines[*i] == what).unwrap_or_else(|| panic!("{what} in {reply:?}"))
        };
        assert_eq!(lines[at], "<<<<<<< SEARCH", "{reply:?}");
        let divide = find("=======", at);
        let close = find(">>>>>>> REPLACE", divide);
        let (search, replace) = (&lines[at + 1..divide], &lines[divide + 1..close]);
        let places: Vec<usize> = (0..file.len()).filter(|i| file[*i..].starts_with(search)).collect();
        assert_eq!(places.len(), 1, "{search:?} in {file:?}");
        assert!(!search.is_empty() && search != replace, "{reply:?}");
        for line in &mut taken[places[0]..places[0] + search.len()] {
            assert!(!std::mem::replace(line, true), "{reply:?}");
        }
        assert!(!replace.iter().any(|line| ["<<<<<<< SEARCH", "======="].contains(line)), "{reply:?}");
        at = close + 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(5), ..ProptestConfig::default() })]

    #[test]
    fn nonsense_applies(
        lines in prop::collection::vec(prop::sample::select(vec!["", "a", "b", "ab", "====", "=", "    a", "é", "x", "<<<<"]), 1..12),
        crlf in any::<bool>(), open in any::<bool>(), forced in any::<bool>(), limit in 60usize..200, seed in 1..u64::MAX,
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut content: String = lines.iter().flat_map(|line| [*line, end]).collect();
        if open && !lines.last().unwrap().is_empty() {
            content.truncate(content.len() - end.len());
        }
        let reply = babble(&one(&content), limit, &mut seed.clone(), forced);
        check_reply(&reply, &lines);
    }

    #[test]
    fn every_run_that_stands_once_can_be_searched(
        lines in prop::collection::vec(prop::sample::select(vec!["", "a", "b", "ab", "======", "é"]), 1..16),
        first in any::<prop::sample::Index>(), last in any::<prop::sample::Index>(),
    ) {
        let content: String = lines.iter().flat_map(|line| [*line, "\n"]).collect();
        let first = first.index(lines.len());
        let run = &lines[first..first + 1 + last.index(lines.len() - first)];
        let search: String = run.iter().flat_map(|line| [*line, "\n"]).collect();
        let once = lines.windows(run.len()).filter(|window| *window == run).count() == 1;
        prop_assert_eq!(accepts(&one(&content), &block(&search, "x\n")), once, "{:?}", search);
    }
}
