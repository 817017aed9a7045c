//! Whether a value is worth stealing, or stands for one: a place holder, a name, a word.

/// What values have in documents and tests that stand for others.
const STAND_INS: [&str; 41] = [
    "example",
    "sample",
    "placeholder",
    "changeme",
    "change_me",
    "change-me",
    "change_this",
    "changethis",
    "replace",
    "your_",
    "your-",
    "yourpass",
    "yoursecret",
    "yourtoken",
    "yourapi",
    "yourkey",
    "my_pass",
    "mypass",
    "mysecret",
    "my-secret",
    "my_secret",
    "dummy",
    "fake",
    "redacted",
    "notasecret",
    "not-a-secret",
    "not_a_secret",
    "insert",
    "foobar",
    "todo",
    "xxxx",
    "****",
    "....",
    "----",
    "<",
    "${",
    "{{",
    "$(",
    "%(",
    "abcdef",
    "12345678",
];

/// Words that are passwords only in documents.
const WORDS: [&str; 24] = [
    "pass",
    "passwd",
    "password",
    "password1",
    "password123",
    "passw0rd",
    "pwd",
    "secret",
    "secret1",
    "secret123",
    "token",
    "user",
    "admin",
    "root",
    "test",
    "test1",
    "test123",
    "testing",
    "foo",
    "bar",
    "hunter2",
    "guest",
    "none",
    "null",
];

/// Whether a value is a reference, a place holder, or shows where a value goes.
pub(super) fn is_stand_in(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    let text = String::from_utf8_lossy(&lower);
    let begins = [
        "$", "%", "{", "@", "&", "*", "#{", "env.", "env:", "os.", "process.", "vault:", "ref:", "file:",
        "secrets.", "op://", "arn:",
    ];
    WORDS.contains(&text.as_ref())
        || STAND_INS.iter().any(|part| text.contains(part))
        || begins.iter().any(|begin| text.starts_with(begin))
        || distinct(&lower) < 4
}

/// Whether a value may be a password, which people think up: not a stand-in, and of at least so many of the classes digits,
/// capitals, signs beside its letters; with none demanded, also a word.
pub(super) fn is_password(value: &[u8], classes: usize) -> bool {
    if value.len() < 4 || is_stand_in(value) || !value.is_ascii() {
        return false;
    }
    classes_of(value) > classes
}

/// Classes of characters: small letters, capitals, digits, signs.
pub(super) fn classes_of(value: &[u8]) -> usize {
    let has = |is: fn(&u8) -> bool| usize::from(value.iter().any(is));
    has(u8::is_ascii_lowercase)
        + has(u8::is_ascii_uppercase)
        + has(u8::is_ascii_digit)
        + has(u8::is_ascii_punctuation)
}

/// Whether a value looks drawn by chance: at least so many bits in each of its signs, no rows of neighbours.
pub(super) fn is_random(value: &[u8], bits: f64) -> bool {
    entropy(value) >= bits && neighbours(value) * 3 < value.len()
}

/// Shannon's entropy in bits per byte, of the bytes as they are distributed.
pub(super) fn entropy(value: &[u8]) -> f64 {
    let mut counts = [0usize; 256];
    value.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let share = |count: usize| count as f64 / value.len() as f64;
    counts.into_iter().filter(|count| *count > 0).map(|count| -share(count) * share(count).log2()).sum()
}

/// How often a sign is followed by the same, or the next one: in `aaaa`, `abcd`, `1234`.
fn neighbours(value: &[u8]) -> usize {
    value.windows(2).filter(|pair| pair[1].wrapping_sub(pair[0]) <= 1).count()
}

fn distinct(value: &[u8]) -> usize {
    let mut seen = [false; 256];
    value.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    seen.into_iter().filter(|seen| *seen).count()
}
