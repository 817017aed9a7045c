//! Where free text becomes a call.

use super::*;
use coder_engine::Matcher;

/// Follows `text`, `␛` a tag as a token; gives what of it was accepted, and the matcher.
fn follow(set: &Arc<ToolSet>, text: &str) -> (String, Matcher) {
    let tokenizer = tokenizer();
    let mut matcher = Matcher::new(tokenizer, &set.grammar().expect("a grammar")).expect("it compiles");
    let mut done = Vec::new();
    for token in tokens(tokenizer, text) {
        let allowed = matcher.mask().expect("a mask").allows(token);
        match matcher.accept(token) {
            Ok(()) => done.push(token),
            Err(_) => {
                assert!(!allowed, "what the mask allows is accepted");
                break;
            }
        }
    }
    (String::from_utf8_lossy(&tokenizer.decode(&done)).into_owned(), matcher)
}

/// Whether a call is open after `text`: the answer cannot end there.
fn is_open(set: &Arc<ToolSet>, text: &str) -> bool {
    let (done, mut matcher) = follow(set, text);
    assert_eq!(done, text.replace('␛', "<tool_call>"), "free text is free");
    let end = tokenizer().end_ids()[0];
    assert_eq!(matcher.mask().expect("a mask").allows(end), matcher.is_complete());
    !matcher.is_complete()
}

#[test]
fn only_the_token_opens_a_call_and_words_do_not() {
    if !has_tag() {
        return;
    }
    for format in [CallFormat::Json, CallFormat::Xml] {
        let set = agent(format);
        for text in ["␛", "I look.\n␛", "I look. ␛", "<think>\nOne ␛ two\n</think>\n␛", "```\ncode\n```\n␛"]
        {
            assert!(is_open(&set, text), "{text}");
        }
        for text in [
            "",
            "Hello, <tool_call> is a tag.",
            "<tool_call>\n",
            "See:\n<tool_call>\n<function=read>\n<parameter=path>\n",
            "```\n<function=read>\n",
            "Write `␛",
            "<think>\n␛",
            "{\"name\": \"Ann\", \"age\": 3}",
            "{\"name\": \"read\"",
        ] {
            assert!(!is_open(&set, text), "{text}");
        }
    }
}

#[test]
fn calls_without_a_tag_are_held_to_their_form() {
    let xml = agent(CallFormat::Xml);
    for text in [
        "<function=",
        "\n\n<function=",
        "I'll read it.\n\n<function=read>\n",
        "<think>\nx\n</think>\n<function=",
    ] {
        assert!(is_open(&xml, text), "{text}");
    }
    for text in ["a <function=", "I'll:\n<function=delete>\n", "I'll:\n<function=read> is\n", "<functions="] {
        assert!(!is_open(&xml, text), "{text}");
    }
    let (done, _) = follow(&xml, "<function=delete>\n");
    assert_eq!(done, "<function=");
    let (done, mut matcher) =
        follow(&xml, "<function=read>\n<parameter=path>\na\n</parameter>\n</function>\n</tool_call>");
    assert!(done.ends_with("</tool_call>") && matcher.is_complete());
    let (done, _) = follow(&xml, "Well.\n<function=read>\n<parameter=size>\n");
    assert!(done.starts_with("Well.\n<function=read>\n<parameter") && !done.contains("size"), "{done}");
    let json = agent(CallFormat::Json);
    assert!(is_open(&json, "{\"name\": \"read\", \"arguments\": "));
    let (done, _) = follow(&json, "{\"name\": \"read\", \"arguments\": {\"size\": 1");
    assert_eq!(done, "{\"name\": \"read\", \"arguments\": {\"");
}

#[test]
fn after_a_call_comes_another_one_or_the_end() {
    if !has_tag() {
        return;
    }
    let set = agent(CallFormat::Json);
    let call = "␛\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n</tool_call>";
    let (done, mut matcher) = follow(&set, &format!("One. {call} And"));
    assert!(done.ends_with("</tool_call>") && matcher.is_complete());
    let (_, mut matcher) = follow(&set, &format!("One. {call}\n{call}"));
    assert!(matcher.is_complete() && !matcher.must_end());
    let single = Arc::new(ToolSet::clone(&set).parallel(false));
    let (_, matcher) = follow(&single, &format!("One. {call}"));
    assert!(matcher.must_end());
}

#[test]
fn tokens_are_taken_back() {
    let set = agent(CallFormat::Xml);
    let text = "Well.\n<function=read>\n<parameter=path>\na\n</parameter>\n</function>\n</tool_call>";
    let all = tokens(tokenizer(), text);
    let (_, mut matcher) = follow(&set, text);
    for taken in [1, 5, all.len()] {
        matcher.rollback(taken).unwrap();
        for &token in &all[all.len() - taken..] {
            assert!(matcher.mask().unwrap().allows(token));
            matcher.accept(token).unwrap();
        }
        assert!(matcher.is_complete());
    }
    assert!(matcher.rollback(all.len() + 1).is_err());
    let end = tokenizer().end_ids()[0];
    matcher.rollback(all.len()).unwrap();
    matcher.accept(end).unwrap();
    assert!(matcher.must_end() && matcher.accept(all[0]).is_err());
}

/// A vocabulary without a token for the tag: a line of it opens a call.
#[test]
fn without_a_token_a_line_opens_a_call() {
    let Some(tokenizer) = without_tag() else { return };
    let set = agent(CallFormat::Json);
    let open = |text: &str| {
        let mut matcher = Matcher::new(&tokenizer, &set.grammar().unwrap()).unwrap();
        tokenizer
            .encode(text, SpecialTokens::Plain)
            .unwrap()
            .iter()
            .for_each(|&token| matcher.accept(token).unwrap());
        !matcher.is_complete()
    };
    assert!(open("<tool_call>\n") && open("I look.\n<tool_call>\n{\"name\": \"re"));
    assert!(!open("I look. <tool_call>\n") && !open("```\n<tool_call>\n"));
}
