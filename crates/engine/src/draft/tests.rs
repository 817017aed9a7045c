use super::*;
use coder_kernels::BLOCK;
use std::path::Path;

/// The bundled model as its own draft model.
fn model(cache: usize) -> DraftModel {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/coder-tiny.gguf");
    let mut options = Options::new(&path);
    (options.context, options.cache, options.chunk) = (Some(128), Some(cache), Some(24));
    options.draft = Some(options.source.clone());
    let large = load::open(&options, 1, |_| ()).expect("a model");
    DraftModel::open(&options, &large.tokenizer, &large.info, |_| ())
        .expect("a model")
        .expect("a draft model")
        .0
}

fn text(number: u64) -> Vec<u32> {
    (0..40 + number as u32).map(|i| (i * (3 + number as u32 % 2) + 5) % 300).collect()
}

/// The text with what the model thinks follows, each token alone.
fn continued(model: &mut DraftModel, number: u64, more: usize) -> Vec<u32> {
    let mut tokens = text(number);
    for _ in 0..more {
        model.ask(number, &tokens, 1);
        model.guess().expect("guesses");
        tokens.extend(model.guesses(number));
    }
    model.forget(number);
    tokens
}

#[test]
fn side_by_side_the_guesses_are_those_of_each_alone() {
    let expected: Vec<_> = (0..4).map(|number| continued(&mut model(128), number, 20)).collect();
    let mut model = model(1024);
    let mut texts: Vec<Vec<u32>> = (0..4).map(text).collect();
    for step in 0..5 {
        for (number, tokens) in (0..).zip(&texts) {
            model.ask(number, tokens, 4);
        }
        model.guess().expect("guesses");
        for (number, tokens) in texts.iter_mut().enumerate() {
            let guesses = model.guesses(number as u64);
            assert_eq!(
                guesses,
                &expected[number][tokens.len()..tokens.len() + 4],
                "step {step}, text {number}"
            );
            // Of the last text's guesses, only the first turns out right.
            let right = if number == 3 { 1 } else { 4 };
            tokens.extend(&expected[number][tokens.len()..tokens.len() + right]);
        }
    }
    // An answer that ends leaves what is certain, and nothing that was guessed.
    (0..4).for_each(|number| model.forget(number));
    assert_eq!(model.cache.used(), 0);
    let again = continued(&mut model, 3, 20);
    assert_eq!(again, expected[3]);
}

#[test]
fn vocabularies_are_the_same_up_to_what_fills_them() {
    let toy = crate::tokenizer::tests::toy;
    let padded = crate::tokenizer::tests::toy_with;
    let size = toy().vocab_size();
    let filled = padded(&format!("[PAD{size}]"));
    assert_eq!(common(&toy(), &toy()).expect("the same"), size);
    for (model, draft) in [(&toy(), &filled), (&filled, &toy())] {
        assert_eq!(common(model, draft).expect("nothing more"), size);
    }
    for (model, draft) in
        [(&toy(), &padded("<|more|>")), (&padded("<|more|>"), &toy()), (&filled, &padded("<|more|>"))]
    {
        let error = common(model, draft).expect_err("something more").to_string();
        assert!(error.contains(&format!("`{size}`")), "{error}");
    }
}

#[test]
fn without_room_there_are_no_guesses() {
    let mut model = model(128);
    // Four blocks: room for one text of 40 to 100 tokens, not for three.
    for number in 0..3 {
        model.ask(number, &text(number), 8);
    }
    model.guess().expect("guesses");
    let guessed: Vec<usize> = (0..3).map(|number| model.guesses(number).len()).collect();
    assert_eq!(guessed, [8, 8, 0], "{} blocks of {BLOCK}", 4);
    (0..3).for_each(|number| model.forget(number));
    assert_eq!(model.cache.used(), 0);
    // Beyond the context, and of tokens that it does not know.
    model.ask(7, &[1; 125], 4);
    model.ask(8, &[1, u32::MAX], 4);
    model.guess().expect("guesses");
    assert!(model.guesses(7).is_empty() && model.guesses(8).is_empty());
    assert_eq!(model.cache.used(), 0);
}
