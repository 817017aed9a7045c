//! Codings in which text holds other text.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use regex::bytes::Regex;

/// The shortest run that is decoded: shorter ones have no room for a secret.
const SHORTEST: usize = 16;

/// Parts of a text that are encoded as a whole.
#[derive(Debug)]
pub(super) struct Runs {
    base64: Regex,
    hex: Regex,
    standard: GeneralPurpose,
    for_addresses: GeneralPurpose,
}

impl Runs {
    pub(super) fn new() -> Runs {
        let config = GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true);
        // Wrapped base64 goes on in the next line, also behind the signs of a diff.
        let base64 = r"(?-u)[A-Za-z0-9+/_-]{16,}(?:(?:\r?\n|\\n)[ \t]{0,16}[-+>]?[ \t]{0,16}[A-Za-z0-9+/_-]{4,})*={0,2}";
        let hex = r"(?-u)(?:[0-9a-fA-F]{2}[ :]?){16,}";
        Runs {
            base64: Regex::new(base64).expect("a test makes it"),
            hex: Regex::new(hex).expect("a test makes it"),
            standard: GeneralPurpose::new(&alphabet::STANDARD, config),
            for_addresses: GeneralPurpose::new(&alphabet::URL_SAFE, config),
        }
    }

    /// What readable texts are encoded in this one, and where.
    pub(super) fn decoded(&self, text: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let base64 = self.base64.find_iter(text).flat_map(|run| {
            self.base64_run(run.as_bytes()).into_iter().map(move |decoded| (run.start(), decoded))
        });
        let hex = self.hex.find_iter(text).filter_map(|run| {
            let digits: Vec<u8> = run.as_bytes().iter().copied().filter(u8::is_ascii_hexdigit).collect();
            let pairs = digits.chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?));
            Some((run.start(), readable(pairs.collect::<Option<Vec<u8>>>()?)?))
        });
        base64.chain(hex).collect()
    }

    /// A run as a whole, and its lines and steps alone: what is beside them may not belong to it.
    fn base64_run(&self, run: &[u8]) -> Vec<Vec<u8>> {
        let mut found: Vec<Vec<u8>> = self.base64_text(run).into_iter().collect();
        for border in [b'\n', b'/'] {
            let parts: Vec<&[u8]> = run.split(|byte| *byte == border).collect();
            if parts.len() > 1 {
                found.extend(parts.iter().filter_map(|part| self.base64_text(part)));
            }
        }
        found
    }

    fn base64_text(&self, run: &[u8]) -> Option<Vec<u8>> {
        let is_sign = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/_-".contains(byte);
        let mut signs: Vec<u8> = Vec::with_capacity(run.len());
        for line in run.split(|byte| *byte == b'\n') {
            let line = line.trim_ascii();
            // The sign of a diff.
            let line = if signs.is_empty() { line } else { line.strip_prefix(b"+").unwrap_or(line) };
            signs.extend(line.iter().copied().filter(is_sign));
        }
        // Something that is no base64 may stand before it, such as a folder.
        (0..4).find_map(|skipped| {
            let rest = signs.get(skipped..).filter(|rest| rest.len() >= SHORTEST)?;
            let whole = &rest[..rest.len() - usize::from(rest.len() % 4 == 1)];
            // What cannot be read at its beginning is not decoded to its end.
            let begin = &whole[..whole.len().min(64)];
            let decode = |part: &[u8]| {
                self.standard
                    .decode(part)
                    .or_else(|_| self.for_addresses.decode(part))
                    .ok()
                    .and_then(readable)
            };
            decode(begin)?;
            decode(whole)
        })
    }
}

/// The text, if it is one; UTF-16 becomes ASCII.
fn readable(bytes: Vec<u8>) -> Option<Vec<u8>> {
    let text: Vec<u8> = bytes.into_iter().filter(|byte| *byte != 0).collect();
    let shown = text.iter().filter(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()).count();
    (text.len() >= 8 && shown * 10 >= text.len() * 9).then_some(text)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The text with its escapes, percent signs and entities taken out once, and without the zeros of UTF-16; None if there are
/// none.
pub(super) fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    if !text.iter().any(|byte| b"\\%&\0".contains(byte)) {
        return None;
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let read = match rest[0] {
            b'\\' => escape(rest),
            b'%' => hex(rest.get(1..3)).map(|byte| (3, vec![byte])),
            b'&' => entity(rest),
            0 => Some((1, Vec::new())),
            _ => None,
        };
        match read {
            Some((length, bytes)) => {
                plain.extend(bytes);
                at += length;
            }
            None => {
                plain.push(rest[0]);
                at += 1;
            }
        }
    }
    (plain != text).then_some(plain)
}

/// Bytes that an escape takes, and those that it means. An unknown one means the character itself.
fn escape(text: &[u8]) -> Option<(usize, Vec<u8>)> {
    let simple = |byte: u8| Some((2, vec![byte]));
    match *text.get(1)? {
        b'n' => simple(b'\n'),
        b't' => simple(b'\t'),
        b'r' => simple(b'\r'),
        b'b' | b'f' | b'0' => Some((2, Vec::new())),
        b'x' => hex(text.get(2..4)).map_or_else(|| simple(b'x'), |byte| Some((4, vec![byte]))),
        b'u' => unicode(text).or_else(|| simple(b'u')),
        byte @ (b'"' | b'\'' | b'\\' | b'/' | b'`') => simple(byte),
        // A regular expression, or a path of Windows.
        _ => None,
    }
}

fn unicode(text: &[u8]) -> Option<(usize, Vec<u8>)> {
    let number = |digits: &[u8]| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let utf8 = |c: char| c.to_string().into_bytes();
    if text.get(2) == Some(&b'{') {
        let end = text.iter().take(10).position(|byte| *byte == b'}')?;
        return Some((end + 1, utf8(char::from_u32(number(&text[3..end])?)?)));
    }
    let high = number(text.get(2..6)?)?;
    // Half of a character outside the first plane: the other half follows.
    if let (0xd800..=0xdbff, Some(b"\\u")) = (high, text.get(6..8))
        && let Some(low @ 0xdc00..=0xdfff) = text.get(8..12).and_then(number)
    {
        let c = char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))?;
        return Some((12, utf8(c)));
    }
    Some((6, char::from_u32(high).filter(|c| *c != '\0').map(utf8).unwrap_or_default()))
}

fn entity(text: &[u8]) -> Option<(usize, Vec<u8>)> {
    for (name, byte) in [("&amp;", b'&'), ("&quot;", b'"'), ("&apos;", b'\''), ("&lt;", b'<'), ("&gt;", b'>')]
    {
        if text.starts_with(name.as_bytes()) {
            return Some((name.len(), vec![byte]));
        }
    }
    let end = text.iter().take(10).position(|byte| *byte == b';')?;
    let digits = std::str::from_utf8(text[..end].strip_prefix(b"&#")?).ok()?;
    let number = match digits.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some((end + 1, char::from_u32(number)?.to_string().into_bytes()))
}

fn hex(digits: Option<&[u8]>) -> Option<u8> {
    match digits {
        Some([high, low]) => Some(nibble(*high)? << 4 | nibble(*low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_taken_out() {
        for (text, plain) in [
            (r#"a\"b\\c\/d\n"#, "a\"b\\c/d\n"),
            (r"\u0041\x42\u{43}\ud83d\ude00", "ABC😀"),
            ("a%3D%3d", "a=="),
            ("&quot;&amp;&#61;&#x3d;", "\"&=="),
            ("p\0w\0", "pw"),
        ] {
            assert_eq!(unescaped(text.as_bytes()).as_deref(), Some(plain.as_bytes()), "{text}");
        }
        for text in ["plain", r"\d+\w", "100% &c", r"\u{}"[..1].trim()] {
            assert_eq!(unescaped(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn base64_is_found_wherever_it_stands() {
        let runs = Runs::new();
        let text =
            "postgres://app:s3cr3t-word@db.internal/app and more text behind it, so that it is wrapped";
        let one = base64::engine::general_purpose::STANDARD.encode(text);
        let lines: Vec<&str> =
            one.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        for encoded in [
            format!("key: {one}\n"),
            format!("https://host/path/{one}"),
            lines.join("\n"),
            lines.join("\n+    "),
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text),
            hex,
        ] {
            let decoded = runs.decoded(encoded.as_bytes());
            let found = decoded.iter().any(|(_, decoded)| {
                String::from_utf8_lossy(decoded).contains("postgres://app:s3cr3t-word@db.internal/app")
            });
            assert!(found, "{encoded}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in prop::collection::vec(any::<u8>(), 0..300)) {
            unescaped(&text);
            Runs::new().decoded(&text);
        }
    }

    proptest! {
        #[test]
        fn broken_escapes_do_not_panic(text in r#"[\\u{}&#;x%"a-f0-9]{0,60}"#) {
            let mut text = text.into_bytes();
            while let Some(plain) = unescaped(&text) {
                prop_assert!(plain.len() < text.len());
                text = plain;
            }
        }
    }
}
