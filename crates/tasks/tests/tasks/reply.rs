//! The grammar of replies and the reader of replies are each other's inverse.

use std::sync::LazyLock;

use coder_tasks::ReplyShape;
use coder_tasks::edit::{self, Base, Form};
use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use proptest::prelude::*;
use toktrie::ApproximateTokEnv;

static FACTORY: LazyLock<ParserFactory> = LazyLock::new(|| {
    let mut factory = ParserFactory::new_simple(&ApproximateTokEnv::single_byte_env()).unwrap();
    factory.quiet();
    factory
});

fn shape(backticks: usize, language: &str) -> ReplyShape {
    ReplyShape { files: vec![], fence: "`".repeat(backticks), language: language.into() }
}

fn matcher(shape: &ReplyShape) -> Matcher {
    let matcher = Matcher::new(FACTORY.create_parser(TopLevelGrammar::from_lark(shape.lark())));
    assert_eq!(matcher.get_error(), None, "{}", shape.lark());
    matcher
}

/// Whether a reply is a whole sentence of the grammar.
fn accepts(shape: &ReplyShape, reply: &str) -> bool {
    let mut matcher = matcher(shape);
    let tokens: Vec<u32> = reply.bytes().map(u32::from).collect();
    matcher.try_consume_tokens(&tokens).unwrap() == tokens.len() && matcher.is_accepting().unwrap()
}

#[test]
fn replies_of_the_shape_are_sentences() {
    let python = shape(3, "python");
    for content in [
        "x = 1\n",
        "\n\n x\n\n",
        "``\n",
        "`` x\n",
        " ```\n",
        "\t``` x `````\n",
        "a ``` b\n",
        "ä€😀\n",
        "a\r\n",
    ] {
        assert!(accepts(&python, &python.wrap(content)), "{content:?}");
    }
    assert!(accepts(&shape(4, "markdown"), "````markdown\n# a\n```sh\nls\n```\n````"));
    assert!(accepts(&shape(3, ""), "```\nx\n```"));
}

/// Covers S1-24, S1-39.
#[test]
fn replies_of_several_files_name_each() {
    let files = vec!["a.py".to_owned(), "src/b.js".to_owned()];
    let shape = ReplyShape { files: files.clone(), ..shape(3, "python") };
    let both = "```python a.py\nx = 1\n```\n\n```javascript src/b.js\nlet x;\n```";
    assert!(accepts(&shape, &shape.wrap("x = 1\n")) && accepts(&shape, both));
    let read = edit::parse_files(both, &files).unwrap();
    assert_eq!(read.iter().map(|draft| draft.content.as_str()).collect::<Vec<_>>(), ["x = 1\n", "let x;\n"]);
    for reply in
        ["```python\nx\n```", "```python c.py\nx\n```", "```python a.py\nx\n```\n```python a.py\nx\n```"]
    {
        assert!(!accepts(&shape, reply), "{reply:?}");
    }
}

#[test]
fn everything_else_is_not() {
    let python = shape(3, "python");
    for reply in [
        "",
        "x = 1",
        "Here:\n```python\nx\n```",
        "```\nx\n```",
        "```python\n```",
        "```python\n\n \t\n```",
        "```python\nx```",
        "```python\nx\n",
        "```python\nx\n```\n",
        "```python\nx\n```\nDone.",
        "```python\nx\n````",
        "```python\nx\n```js\ny\n```",
        "```python\na\0b\n```",
        "```python\na\u{7f}b\n```",
        "```python\na\u{85}b\n```",
        "```python\na\u{1b}[0m\n```",
        "```python\na\u{b}\n```",
    ] {
        assert!(!accepts(&python, reply), "{reply:?}");
    }
}

/// A walk through the grammar: any allowed byte, and after the wishes the shortest way to the end.
fn walk(shape: &ReplyShape, wishes: &[u8]) -> String {
    let mut matcher = matcher(shape);
    let mut reply = Vec::new();
    for step in 0..wishes.len() + 100 {
        if matcher.is_accepting().unwrap() {
            break;
        }
        let mask = matcher.compute_mask().unwrap();
        let begins_line =
            reply.rsplit(|byte| *byte == b'\n').next().is_some_and(|line| line.iter().all(|b| *b == b'`'));
        let wish = *wishes.get(step).unwrap_or(if begins_line { &b'`' } else { &b'\n' });
        let any = (0..=255u8).map(|step| wish.wrapping_add(step));
        let byte = any.into_iter().find(|byte| mask.is_allowed(u32::from(*byte))).unwrap();
        matcher.consume_token(u32::from(byte)).unwrap();
        reply.push(byte);
    }
    String::from_utf8(reply).unwrap()
}

/// Lines that are likely to be taken for something else.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,20}",
        "[ \\t]{0,3}`{0,6}[a-z ]{0,5}`{0,4}",
        "\\PC{0,12}",
        Just(String::new()),
        Just("\tif x:\r".to_owned()),
        Just("***".to_owned()),
        Just("src/a.py".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn content_survives_the_way_through_a_reply(
        lines in prop::collection::vec(line(), 1..8),
        backticks in 3usize..6,
        language in prop::sample::select(vec!["", "python", "rust", "markdown"]),
    ) {
        let shape = shape(backticks, language);
        let lines: Vec<String> = lines.into_iter().filter(|line| !line.starts_with(&shape.fence)).collect();
        let content: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        prop_assume!(content.chars().any(|c| !" \t\r\n".contains(c)));
        let reply = shape.wrap(&content);
        prop_assert!(accepts(&shape, &reply), "{reply:?}");
        prop_assert_eq!(edit::parse(&reply, &shape, "a.py").unwrap().content, content);
    }

    #[test]
    fn every_sentence_is_read_back(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'`'), Just(b'\n'), Just(b' ')], 0..60), backticks in 3usize..5) {
        let shape = shape(backticks, "python");
        let reply = walk(&shape, &bytes);
        prop_assert!(accepts(&shape, &reply), "{reply:?}");
        let draft = edit::parse(&reply, &shape, "a.py");
        prop_assert!(draft.is_ok(), "{reply:?} {draft:?}");
        prop_assert_eq!(shape.wrap(&draft.unwrap().content), reply);
    }

    #[test]
    fn any_text_is_a_draft_or_an_error(text in "(\\PC|\n|`{1,5}|```python a\\.py\n|\t|\r){0,40}", markdown in any::<bool>()) {
        let shape = if markdown { shape(4, "markdown") } else { shape(3, "python") };
        if let Ok(draft) = edit::parse(&text, &shape, "a.py") {
            prop_assert!(!draft.content.trim_matches([' ', '\t', '\r', '\n']).is_empty());
            prop_assert!(draft.content.ends_with('\n'));
        }
    }
}

/// Covers S0-11.
#[test]
fn patches_of_the_shape_are_sentences_and_are_read_back() {
    let files = [Base { path: "a.py", content: Some("a\nb\n") }, Base { path: "b.py", content: Some("") }];
    let lark = edit::patch_lark(&files);
    let accepts = |reply: &str| {
        let mut matcher = Matcher::new(FACTORY.create_parser(TopLevelGrammar::from_lark(lark.clone())));
        assert_eq!(matcher.get_error(), None, "{lark}");
        let tokens: Vec<u32> = reply.bytes().map(u32::from).collect();
        matcher.try_consume_tokens(&tokens).unwrap() == tokens.len() && matcher.is_accepting().unwrap()
    };
    let body = "*** Update File: a.py\n@@ a\n a\n-b\n+é\n*** Add File: b.py\n+x\n+\n";
    let reply = format!("*** Begin Patch\n{body}*** End Patch");
    assert!(accepts(&reply));
    let files = [files[0], Base { content: None, ..files[1] }];
    let changes = edit::read(&reply, &Form::Patch, &shape(3, "python"), &files).unwrap();
    let contents: Vec<_> = changes.iter().map(|change| change.content.as_deref()).collect();
    assert_eq!(contents, [Some("a\né\n"), Some("x\n\n")]);
    for other in
        ["", "*** Update File: c.py\n@@\n-b\n", "*** Update File: a.py\nb\n", "*** Add File: b.py\n x\n"]
    {
        assert!(!accepts(&format!("*** Begin Patch\n{other}*** End Patch")), "{other:?}");
    }
}
