use proptest::prelude::*;

use super::*;

fn run(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, Option<String>) {
    let stops: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
    let mut stream = TextStream::new(&stops).unwrap();
    let mut out: Vec<String> = pieces.iter().map(|piece| stream.push(piece)).collect();
    out.push(stream.finish());
    (out, stream.stopped().map(str::to_owned))
}

#[test]
fn a_character_is_never_split() {
    let (out, _) = run(&[], &[b"a\xe2", b"\x82", b"\xac", b"b"]);
    assert_eq!(out, ["a", "", "€", "b", ""]);
}

#[test]
fn invalid_bytes_become_replacement_characters() {
    let (out, _) = run(&[], &[b"\xff\xe2\x82", b"x", b"\xf0\x9f"]);
    assert_eq!(out, ["\u{fffd}", "\u{fffd}x", "", "\u{fffd}"]);
}

#[test]
fn text_before_a_stop_string_only() {
    let (out, stopped) = run(&["\n\n", "STOP"], &[b"one\n", b"two S", b"TO", b"P three", b"four"]);
    assert_eq!(out, ["one", "\ntwo ", "", "", "", ""]);
    assert_eq!(stopped.as_deref(), Some("STOP"));
}

#[test]
fn what_only_looked_like_a_stop_string_is_given_out() {
    let (out, stopped) = run(&["abac"], &[b"ab", b"ab", b"ab"]);
    assert_eq!(out, ["", "ab", "ab", "ab"]);
    assert_eq!(stopped, None);
}

#[test]
fn the_stop_string_that_ends_first_wins() {
    let (out, stopped) = run(&["abc", "b"], &[b"xabc"]);
    assert_eq!((out[0].as_str(), stopped.as_deref()), ("xa", Some("b")));
    let (out, stopped) = run(&["c", "abc"], &[b"xabc"]);
    assert_eq!((out[0].as_str(), stopped.as_deref()), ("x", Some("abc")));
}

#[test]
fn an_empty_stop_string_is_refused() {
    let error = TextStream::new(&[String::new()]).unwrap_err();
    assert!(matches!(error, Error::Request { field: "stop", .. }), "{error}");
}

/// The specification: decode everything, then look for the stop string that ends first.
fn whole(bytes: &[u8], stops: &[String]) -> (String, Option<String>) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    for end in text.char_indices().map(|(i, c)| i + c.len_utf8()) {
        let done = stops.iter().filter(|stop| text[..end].ends_with(stop.as_str()));
        if let Some(stop) = done.max_by_key(|stop| stop.len()) {
            return (text[..end - stop.len()].to_owned(), Some(stop.clone()));
        }
    }
    (text, None)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_text_of_the_whole(
        pieces in prop::collection::vec(
            prop_oneof![
                "[ab€é\u{fffd}]{0,4}".prop_map(String::into_bytes),
                prop::collection::vec(prop::sample::select(b"ab\xe2\x82\xac\xc3\xa9\xf0\x9f\xff".to_vec()), 0..4),
            ],
            0..8,
        ),
        stops in prop::collection::vec("[ab€é\u{fffd}]{1,3}", 0..4),
    ) {
        let mut stream = TextStream::new(&stops).unwrap();
        let mut text = String::new();
        for piece in &pieces {
            text += &stream.push(piece);
        }
        text += &stream.finish();
        let expected = whole(&pieces.concat(), &stops);
        prop_assert_eq!((text, stream.stopped().map(str::to_owned)), expected);
    }
}
