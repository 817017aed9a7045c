//! Values that are assigned to something that is called a secret, in any language: `API_KEY=…`, `"password": "…"`,
//! `const TOKEN: &str = "…"`, `<secret>…</secret>`, `.password("…")`.

use regex::bytes::Regex;

use super::Hit;
use super::worth::{classes_of, entropy, is_password, is_random, is_stand_in};

/// Finds names that say that their value is a secret.
#[derive(Debug)]
pub(super) struct Names {
    word: Regex,
}

/// How much a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// A password, which may be short.
    Password,
    /// A secret that a program made.
    Secret,
    /// Something that may be one: only long random values count.
    Maybe,
}

impl Says {
    /// What such a value is called.
    fn kind(self) -> &'static str {
        if self == Says::Password { "password" } else { "secret in an assignment" }
    }
}

const WORDS: &str = r"(?i-u)passw|pwd|passphrase|secret|token|api[_-]?key|credential|private[_-]?key|access[_-]?key|key|auth|cookie|seed|salt|bearer";

/// Ends of names that speak about a secret: its kind, its place, its length.
const ABOUT: [&str; 44] = [
    "type",
    "types",
    "url",
    "uri",
    "name",
    "names",
    "id",
    "ids",
    "path",
    "file",
    "field",
    "len",
    "length",
    "size",
    "count",
    "format",
    "prefix",
    "suffix",
    "header",
    "kind",
    "ttl",
    "expiry",
    "expires",
    "regex",
    "pattern",
    "label",
    "endpoint",
    "izer",
    "ize",
    "izers",
    "ized",
    "hint",
    "policy",
    "provider",
    "class",
    "error",
    "err",
    "msg",
    "message",
    "desc",
    "description",
    "version",
    "algorithm",
    "address",
];

/// First words of names of what may be known to everybody.
const PUBLIC: [&str; 14] = [
    "public",
    "pub",
    "primary",
    "foreign",
    "sort",
    "partition",
    "index",
    "cache",
    "max",
    "min",
    "num",
    "foreground",
    "hot",
    "short",
];

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    /// Between quotes.
    Quoted,
    /// `NAME=value`, as in environments.
    Environment,
    /// `name: value` or `name = value` to the end of the line.
    Line,
}

impl Names {
    pub(super) fn new() -> Names {
        Names { word: Regex::new(WORDS).expect("a test makes it") }
    }

    /// All values that are secrets.
    pub(super) fn hits(&self, text: &[u8]) -> Vec<Hit> {
        let mut hits = Vec::new();
        let mut from = 0;
        while let Some(word) = self.word.find_at(text, from) {
            let (begin, end) = name(text, word.start(), word.end());
            from = end.max(word.end());
            let Some(says) = says(&text[begin..end]) else { continue };
            let values = values(text, begin, end);
            let secret =
                values.iter().find(|(writing, _, value)| is_secret(says, *writing, &text[begin..end], value));
            if let Some((_, at, value)) = secret {
                hits.push(Hit { kind: says.kind(), at: *at, secret: value.to_vec() });
                from = at + value.len();
            }
        }
        hits
    }

    /// What a value is that is a secret because of its name, where something else than text joins the two.
    pub(super) fn kind(&self, name: &[u8], value: &[u8]) -> Option<&'static str> {
        self.word.find_iter(name).find_map(|word| {
            let (begin, end) = self::name(name, word.start(), word.end());
            let name = &name[begin..end];
            says(name).filter(|says| is_secret(*says, Writing::Quoted, name, value)).map(Says::kind)
        })
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The whole of the name in which a word stands.
fn name(text: &[u8], begin: usize, end: usize) -> (usize, usize) {
    /// Names are short; base64 is not.
    const LONGEST: usize = 64;
    let before = text[..begin].iter().rev().take(LONGEST).take_while(|byte| is_name(**byte)).count();
    let after = text[end..].iter().take(LONGEST).take_while(|byte| is_name(**byte)).count();
    (begin - before, end + after)
}

fn says(name: &[u8]) -> Option<Says> {
    if name.len() > 100 {
        return None;
    }
    let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
    let word = lower.trim_matches(['_', '-']);
    let mut parts = word.rsplit(['_', '-']);
    let last = parts.next().unwrap_or(word);
    let of_secrets = last == "keys" && matches!(parts.next(), Some("api" | "secret" | "access"));
    let about = ABOUT.contains(&last)
        || ["tokenizer", "tokenize", "tokens", "keyword", "keywords", "keys", "keyboard", "author", "authors", "authority", "passwordless"].contains(&last) && !of_secrets
        // The same in the middle of a name that humps divide.
        || ["Type", "Url", "Name", "Id", "Path", "File", "Length", "Size", "Count", "Prefix", "Header", "Field", "Label", "Error", "Message", "Endpoint"]
            .iter()
            .any(|end| name.ends_with(end.as_bytes()));
    if about || begins_with(name, &["public"]) && !lower.contains("passw") {
        return None;
    }
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    if has(&["passw", "pwd", "passphrase"]) {
        Some(Says::Password)
    } else if has(&[
        "secret",
        "token",
        "api_key",
        "api-key",
        "apikey",
        "credential",
        "private_key",
        "private-key",
        "privatekey",
        "access_key",
        "access-key",
        "accesskey",
        "authkey",
        "auth_key",
    ]) {
        Some(Says::Secret)
    } else {
        Some(Says::Maybe).filter(|_| !begins_with(name, &PUBLIC))
    }
}

/// Whether the first word of a name is one of these: `pub_key`, `pubKey` and `pubkey` begin with `pub`, `PUBNUB_KEY` does not.
fn begins_with(name: &[u8], words: &[&str]) -> bool {
    let begin = name.iter().take_while(|byte| b"_-".contains(byte)).count();
    let name = &name[begin..];
    words.iter().any(|word| {
        let Some((first, rest)) = name.split_at_checked(word.len()) else { return false };
        let hump = first.ends_with(&first[first.len() - 1..].to_ascii_lowercase())
            && rest.first().is_some_and(u8::is_ascii_uppercase);
        let ends = rest.is_empty() || rest.starts_with(b"_") || rest.starts_with(b"-") || hump;
        first.eq_ignore_ascii_case(word.as_bytes())
            && (ends || rest.get(..3).is_some_and(|next| next.eq_ignore_ascii_case(b"key")))
    })
}

/// The values that are assigned to the name, how they are written and where: more than one where a call has several.
fn values(text: &[u8], begin: usize, end: usize) -> Vec<(Writing, usize, &[u8])> {
    let mut values: Vec<(Writing, usize, &[u8])> = value(text, begin, end).into_iter().collect();
    // `getenv("NAME", "value")`: the next one in the same brackets.
    while let [.., (Writing::Quoted, at, value)] = values.as_slice()
        && values.len() < 3
    {
        let after = at + value.len() + 1;
        let rest = text.get(after..).unwrap_or_default();
        let Some(next) = rest.strip_prefix(b",") else { break };
        let Some((skipped, quote)) = opening(next) else { break };
        let at = after + 1 + skipped;
        let Some(inner) = quoted(&text[at..], quote) else { break };
        values.push((Writing::Quoted, at, inner));
    }
    values
}

/// The text up to the quote that ends it in the same line.
fn quoted(text: &[u8], quote: u8) -> Option<&[u8]> {
    let text = &text[..text.len().min(4096)];
    let length = text.iter().position(|byte| *byte == quote || *byte == b'\n')?;
    (text[length] == quote).then_some(&text[..length])
}

/// The first value.
fn value(text: &[u8], begin: usize, end: usize) -> Option<(Writing, usize, &[u8])> {
    let mut at = end;
    // The quote or bracket that closes the name.
    while at < text.len() && at - end < 3 && b"\"'`])".contains(&text[at]) {
        at += 1;
    }
    let blanks = |at: usize| at + text[at..].iter().take(40).take_while(|byte| b" \t".contains(byte)).count();
    let after_name = at;
    at = blanks(at);
    let rest = &text[at..];
    let sign = [&b":="[..], b"=>", b"==", b"=", b":", b"(", b">", b","]
        .into_iter()
        .find(|sign| rest.starts_with(sign))?;
    // Comparisons and calls count too: `password == "…"`, `.password("…")`; of an element, what it holds.
    at += sign.len();
    if sign == b":"
        && let Some(equals) = type_before(&text[at..])
    {
        at += equals;
    }
    let gap = at;
    at = blanks(at);
    // The value may begin in the next line, and strings have prefixes such as `b"`, `r#"`, `f'`, `String::from("`.
    let opened = opening(&text[at..]);
    if let Some((skipped, quote)) = opened {
        at += skipped;
        return Some((Writing::Quoted, at, quoted(&text[at..], quote)?));
    }
    let line = &text[at..text.len().min(at + 4096)];
    let line = &line[..line.iter().position(|byte| b"\r\n".contains(byte)).unwrap_or(line.len())];
    if sign == b">" {
        let length = line.iter().position(|byte| *byte == b'<')?;
        return Some((Writing::Quoted, at, &line[..length]));
    }
    if !matches!(sign, b"=" | b":") {
        return None;
    }
    let name = &text[begin..end];
    let tight = sign == b"=" && after_name + 1 == gap && gap == at;
    if tight && !name.iter().any(u8::is_ascii_lowercase) {
        let ends = |byte: &u8| byte.is_ascii_whitespace() || b"\"'`;,)&|\\".contains(byte);
        let length = line.iter().position(ends).unwrap_or(line.len());
        return Some((Writing::Environment, at, &line[..length]));
    }
    // A comment ends a value where a blank is before it; so does a quote that began before the name.
    let length = line.windows(2).position(|pair| pair == b" #").unwrap_or(line.len());
    let value = line[..length].trim_ascii();
    let value = value.strip_suffix(b",").unwrap_or(value);
    let quotes = value.iter().rev().take_while(|byte| b"\"'`\\".contains(byte)).count();
    Some((Writing::Line, at, &value[..value.len() - quotes]))
}

/// After a colon: how far it is behind the equals sign, if a type stands between them.
fn type_before(text: &[u8]) -> Option<usize> {
    let of_type = |byte: &u8| byte.is_ascii_alphanumeric() || b" &'<>[]:_;?|.*".contains(byte);
    let length = text.iter().take(48).take_while(|byte| of_type(byte)).count();
    (text.get(length) == Some(&b'=') && length > 0).then_some(length + 1)
}

/// Bytes up to the inside of a string, and the quote that ends it.
fn opening(text: &[u8]) -> Option<(usize, u8)> {
    let prefix = |byte: &u8| byte.is_ascii_alphanumeric() || b"#&:_.(@$ ".contains(byte);
    let before = text.iter().take(24).take_while(|byte| prefix(byte)).count();
    let quote = *text.get(before).filter(|byte| b"\"'`".contains(byte))?;
    // Three quotes begin a long string.
    let quotes = text[before..].iter().take(3).take_while(|byte| **byte == quote).count();
    let length = if quotes == 3 { 3 } else { 1 };
    let words = text[..before].iter().filter(|byte| **byte == b' ').count();
    (words <= 1 && quotes != 2).then_some((before + length, quote))
}

fn is_secret(says: Says, writing: Writing, name: &[u8], value: &[u8]) -> bool {
    if value.len() < 6 || value.len() > 2000 || is_stand_in(value) || value.eq_ignore_ascii_case(name) {
        return false;
    }
    let one_word = !value.iter().any(u8::is_ascii_whitespace);
    // Slashes are signs of base64 as well; of a path, `is_made` sees that it is words.
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    let is_base64 = says != Says::Password && value.len() >= 16 && value.iter().all(base64);
    let is_code = value.windows(2).any(|pair| pair == b"::" || pair == b"()" || pair == b"//" && !is_base64)
        || value.iter().any(|byte| b"{}<>".contains(byte))
        || b"/.\\".contains(&value[0]) && !(is_base64 && says == Says::Secret);
    if !one_word || is_code || !value.is_ascii() {
        return false;
    }
    match (says, writing) {
        (Says::Password, Writing::Quoted) => {
            is_password(value, 1) && has_digit_or_sign(value) && value.iter().any(u8::is_ascii_alphabetic)
        }
        (Says::Password, Writing::Environment) => is_password(value, 0),
        (Says::Password, Writing::Line) => is_bare(value) && is_password(value, 1) && has_digit(value),
        (Says::Secret, Writing::Quoted) => is_made(value, 16, 3.0),
        (Says::Secret, Writing::Environment) => is_made(value, 12, 2.8),
        (Says::Secret, Writing::Line) => is_bare(value) && is_made(value, 20, 3.3),
        (Says::Maybe, Writing::Line) => is_bare(value) && is_made(value, 32, 4.0) && !is_hash(value),
        (Says::Maybe, _) => is_made(value, 32, 4.0) && !is_hash(value),
    }
}

fn has_digit(value: &[u8]) -> bool {
    value.iter().any(u8::is_ascii_digit)
}

/// A sign that names and words do not have.
fn has_digit_or_sign(value: &[u8]) -> bool {
    value
        .iter()
        .any(|byte| byte.is_ascii_digit() || (byte.is_ascii_punctuation() && !b"_-.:/,".contains(byte)))
}

/// Whether a program made it: long, of several classes, with digits, as random as it says.
fn is_made(value: &[u8], length: usize, bits: f64) -> bool {
    let is_hex = value.iter().all(u8::is_ascii_hexdigit);
    let bits = if is_hex { bits.min(3.0) } else { bits };
    value.len() >= length
        && has_digit(value)
        && value.iter().any(u8::is_ascii_alphabetic)
        && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=_.~!@#$%^&*:-".contains(byte))
        && (classes_of(value) >= 2 || is_hex)
        && is_random(value, bits)
        && !is_words(value)
}

/// Whether words make it, with a number here and there, as in `access_token_v2`, `UserCredentials_0` or `base64-encoded-key-1`.
fn is_words(value: &[u8]) -> bool {
    let parts = value.split(|byte| !byte.is_ascii_alphabetic());
    let parts =
        parts.flat_map(|part| part.chunk_by(|a, b| !(a.is_ascii_lowercase() && b.is_ascii_uppercase())));
    let (mut letters, mut words) = (0, 0);
    for part in parts.filter(|part| !part.is_empty()) {
        letters += part.len();
        // Words have capitals only at their beginning, or throughout, and vowels among their letters.
        let even = part[1..].iter().all(u8::is_ascii_lowercase) || part.iter().all(u8::is_ascii_uppercase);
        let vowels = part.iter().filter(|byte| b"aeiouyAEIOUY".contains(byte)).count();
        if part.len() >= 4 && even && vowels * 6 >= part.len() {
            words += part.len();
        }
    }
    words * 3 >= letters * 2
}

/// Whether it can stand without quotes and is no code.
fn is_bare(value: &[u8]) -> bool {
    let last = value.last().copied().unwrap_or(b';');
    !value.iter().any(|byte| b"\"'`(),;[]|?".contains(byte)) && !b":.".contains(&last) && entropy(value) > 2.0
}

/// Whether it has the form of what everybody may know: a checksum, a commit, a UUID.
fn is_hash(value: &[u8]) -> bool {
    let is_hex = |part: &[u8]| part.iter().all(u8::is_ascii_hexdigit);
    let uuid: Vec<usize> =
        value.split(|byte| *byte == b'-').filter(|part| is_hex(part)).map(<[u8]>::len).collect();
    (is_hex(value) && [32, 40, 48, 56, 64, 96, 128].contains(&value.len()))
        || uuid == [8, 4, 4, 4, 12]
        || value.starts_with(b"sha256-")
        || value.starts_with(b"sha384-")
        || value.starts_with(b"sha512-")
}
