use proptest::prelude::*;

use super::to_lark;
use crate::grammar::tests::{follow, toy_tokenizer};
use crate::{Error, Grammar};

fn takes(grammar: &str, text: &str) -> bool {
    let bytes: Vec<u32> = text.bytes().map(u32::from).collect();
    follow(toy_tokenizer(), &Grammar::Gbnf(grammar.to_owned()), &bytes)
}

#[test]
fn what_a_grammar_takes() {
    let arithmetic = "root  ::= (expr \"=\" term \"\\n\")+\nexpr  ::= term ([-+*/] term)*\nterm  ::= num | \"(\" expr \")\"\nnum   ::= [0-9]+ # digits\n";
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("root ::= \"abc\" | [a-z]", &["abc", "a", "z"], &["", "ab", "abd", "A"]),
        // The longest lexeme would be the wrong one.
        ("root ::= [a-z]* \"x\" [a-z]", &["xa", "aaxb", "xxx", "xaxa"], &["x", "ax", "aa"]),
        (
            "root ::= \"a\"? (\"b\" | ) [^a-y\\n]{2}",
            &["zz", "abzz", "b.é", "aZ9"],
            &["ab", "zzz", "z\n", "zy"],
        ),
        (
            "root ::=\n  item{2,} |\n  item{,1} \"!\"\nitem ::= \"-\" .",
            &["-a-b", "-a-b--", "!", "-é!"],
            &["-a", "-a-b!"],
        ),
        ("root ::= \"\\x41\\u00e9\\U0001F600\\\"\\\\\"", &["Aé😀\"\\"], &["A"]),
        ("root ::= ([\\]\\\\^-] | \"(\"){3}", &["]\\^", "---", "(-]"], &["a--"]),
        ("root ::= \"\" | \"a\" root \"b\"", &["", "ab", "aaabbb"], &["a", "aab", "ba"]),
        ("a-b_2 ::= \"x\" \r\n\r\n# nothing\nroot ::= a-b_2{3}\n", &["xxx"], &["xx", "xxxx"]),
        (arithmetic, &["1=2\n", "(1+2)*3=9\n4=4\n"], &["1=\n", "(1=2\n", "1=2"]),
    ];
    for (grammar, good, bad) in cases {
        good.iter().for_each(|text| assert!(takes(grammar, text), "{grammar}: {text:?}"));
        bad.iter().for_each(|text| assert!(!takes(grammar, text), "{grammar}: {text:?}"));
    }
}

#[test]
fn what_cannot_be_read_is_an_error_with_its_line() {
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(100), ")".repeat(100));
    for (grammar, word) in [
        ("", "no rule `root`"),
        ("a ::= \"x\"", "no rule `root`"),
        ("root ::= b\n\nc ::= \"x\"", "line 1: there is no rule `b`"),
        ("root ::= \"x\"\nroot ::= \"y\"", "two rules `root`"),
        ("root ::= \"x", "ends in the middle"),
        ("root ::= \"x\ny", "ends in the middle"),
        ("root ::= []", "empty"),
        ("root ::= [b-a]", "before it begins"),
        ("root ::= \"\\q\"", "no escape"),
        ("root ::= \"\\ud800\"", "no character"),
        ("root ::= \"\\x4\"", "more digits"),
        ("root ::= (\"a\"", "`)` is missing"),
        ("root ::= \"a\")", "where a rule's name"),
        ("root := \"a\"", "`:` is missing"),
        ("root ::= \"a\"{3,2}", "larger"),
        ("root ::= \"a\"{9999}", "2000"),
        ("root ::= \"a\"{99999999999}", "too large"),
        ("root ::= \"a\"{}", "wants a number"),
        ("root ::= \"a\"*+", "two operators"),
        ("root ::= <think> \"a\"", "tokens"),
        (&deep, "64 groups"),
    ] {
        match to_lark(grammar) {
            Err(Error::Grammar(reason)) => assert!(reason.contains(word), "{grammar}: {reason}"),
            other => panic!("{grammar}: {other:?}"),
        }
    }
}

/// What a piece of a grammar takes, found out by trying everything: the ends of what it takes from `at` on.
#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Set(bool, char, char),
    Seq(Vec<Piece>),
    Or(Vec<Piece>),
    Times(Box<Piece>, u32, u32),
}

impl Piece {
    fn write(&self) -> String {
        let list = |pieces: &[Piece], between: &str| {
            pieces.iter().map(Piece::write).collect::<Vec<_>>().join(between)
        };
        match self {
            Piece::Text(text) => format!("\"{text}\""),
            Piece::Set(not, first, last) => format!("[{}{first}-{last}]", if *not { "^" } else { "" }),
            Piece::Seq(pieces) => format!("({})", list(pieces, " ")),
            Piece::Or(pieces) => format!("({})", list(pieces, " | ")),
            Piece::Times(piece, least, most) => format!("({}){{{least},{most}}}", piece.write()),
        }
    }

    fn ends(&self, text: &[char], at: usize) -> std::collections::BTreeSet<usize> {
        let from = |piece: &Piece, starts: &std::collections::BTreeSet<usize>| {
            starts.iter().flat_map(|&at| piece.ends(text, at)).collect::<std::collections::BTreeSet<_>>()
        };
        match self {
            Piece::Text(piece) => {
                let piece: Vec<char> = piece.chars().collect();
                text[at..].starts_with(&piece).then_some(at + piece.len()).into_iter().collect()
            }
            Piece::Set(not, first, last) => {
                let fits = text.get(at).is_some_and(|c| (first..=last).contains(&c) != *not);
                fits.then_some(at + 1).into_iter().collect()
            }
            Piece::Seq(pieces) => pieces.iter().fold([at].into(), |starts, piece| from(piece, &starts)),
            Piece::Or(pieces) => pieces.iter().flat_map(|piece| piece.ends(text, at)).collect(),
            Piece::Times(piece, least, most) => {
                let mut starts = std::collections::BTreeSet::from([at]);
                let mut found = std::collections::BTreeSet::new();
                for times in 0..=*most {
                    if times >= *least {
                        found.extend(&starts);
                    }
                    starts = from(piece, &starts);
                }
                found
            }
        }
    }
}

fn piece() -> impl Strategy<Value = Piece> {
    let leaf = prop_oneof![
        "[ab]{1,3}".prop_map(Piece::Text),
        (any::<bool>(), prop_oneof![Just(('a', 'a')), Just(('a', 'b')), Just(('b', 'c'))])
            .prop_map(|(not, (first, last))| Piece::Set(not, first, last)),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(Piece::Seq),
            prop::collection::vec(inner.clone(), 1..3).prop_map(Piece::Or),
            (inner, 0..2u32, 0..3u32).prop_map(|(piece, least, more)| Piece::Times(
                piece.into(),
                least,
                least + more
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Another reading of the same grammar takes the same texts.
    #[test]
    fn it_takes_what_it_says(piece in piece(), texts in prop::collection::vec("[abc]{0,5}", 8)) {
        let grammar = format!("root ::= \"<\" {} \">\"", piece.write());
        for text in texts {
            let chars: Vec<char> = text.chars().collect();
            let expected = piece.ends(&chars, 0).contains(&chars.len());
            prop_assert_eq!(takes(&grammar, &format!("<{text}>")), expected, "{}: {}", grammar, text);
        }
    }

    /// Whatever is sent, reading ends, with a grammar or with an error.
    #[test]
    fn nothing_breaks_the_reader(source in "(root ::= )?[\\PC\n]{0,80}|(root ::= )?[\"\\[\\]()|*+?{},.a-c0-9:=# \\\\^x-]{0,80}") {
        let _ = to_lark(&source);
    }
}
