//! Secrets in what is about to leave: tokens of known forms, keys, passwords in addresses, and values that are assigned to
//! something that is called a secret.
//!
//! Owns what counts as a secret, and the codings in which text may hide one: escapes (also of escapes), percent signs,
//! entities, base64, hexadecimal digits, UTF-16. What is put together only when a program runs, or encrypted, is not
//! found. A finding never holds the secret, only a fingerprint of it, by which a user may let it through.

mod assignment;
mod body;
mod decode;
mod format;
mod worth;

use std::collections::BTreeSet;

use serde::Serialize;
use sha2::{Digest, Sha256};

pub(crate) use body::strings;

/// Codings inside of each other that are looked through. Deeper ones are a finding by themselves.
const DEPTH: usize = 8;

/// Something that looks like a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What it is, such as "GitHub token".
    pub kind: &'static str,
    /// The file, or the place in the request, such as `messages[1].content`.
    pub place: String,
    /// The line there, from 1; of something encoded, the line once it is decoded.
    pub line: usize,
    /// The first 16 hexadecimal digits of the secret's SHA-256, for `allow_secrets`.
    pub fingerprint: String,
}

/// Finds secrets.
#[derive(Debug)]
pub struct Scanner {
    formats: format::Formats,
    names: assignment::Names,
    runs: decode::Runs,
}

/// A secret, where it stands in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hit {
    kind: &'static str,
    /// The first byte.
    at: usize,
    /// What is fingerprinted.
    secret: Vec<u8>,
}

impl Hit {
    fn end(&self) -> usize {
        self.at + self.secret.len()
    }
}

impl Scanner {
    /// A scanner with everything that it knows.
    pub fn new() -> Scanner {
        Scanner {
            formats: format::Formats::new(),
            names: assignment::Names::new(),
            runs: decode::Runs::new(),
        }
    }

    /// Secrets in a text, each once, in the order of lines.
    pub fn text(&self, place: &str, text: &[u8]) -> Vec<Finding> {
        let mut found = Found { place, seen: BTreeSet::new(), findings: Vec::new() };
        self.views(text.to_vec(), 0, DEPTH, &mut found);
        found.findings.sort_by_key(|finding| finding.line);
        found.findings
    }

    /// Secrets in the body of a request: in every string of its JSON, however escaped, in what the names of its objects say
    /// of their values, and in the bytes as they are.
    pub fn body(&self, body: &[u8]) -> Vec<Finding> {
        let Some(strings) = strings(body) else { return self.text("body", body) };
        let mut found = Vec::new();
        for body::Text { place, name, text } in &strings {
            let before = found.len();
            found.extend(self.text(place, text));
            let value = text.trim_ascii();
            // A value of a known form is that, whatever its name.
            let name = name.as_deref().filter(|_| found.len() == before);
            if let Some(kind) = name.and_then(|name| self.names.kind(name.as_bytes(), value)) {
                found.push(Finding { kind, place: place.clone(), line: 1, fingerprint: fingerprint(value) });
            }
        }
        // What stands between strings, or across them.
        let mut known: BTreeSet<String> = found.iter().map(|finding| finding.fingerprint.clone()).collect();
        for hit in self.formats.hits(body) {
            let fingerprint = fingerprint(&hit.secret);
            if known.insert(fingerprint.clone()) {
                found.push(Finding { kind: hit.kind, place: "body".to_owned(), line: 1, fingerprint });
            }
        }
        found
    }

    /// Looks at a text, at what is encoded in it, and at the text with its escapes taken out, again and again.
    fn views(&self, text: Vec<u8>, line: usize, depth: usize, found: &mut Found<'_>) {
        let mut view = text;
        for _ in 0..=depth {
            self.look(&view, line, found);
            for (at, decoded) in self.runs.decoded(&view) {
                let line = line + newlines(&view[..at]);
                match depth.checked_sub(1) {
                    Some(depth) => self.views(decoded, line, depth, found),
                    None => found.too_deep(line, &decoded),
                }
            }
            match decode::unescaped(&view) {
                Some(next) => view = next,
                None => return,
            }
        }
        found.too_deep(line, &view);
    }

    fn look(&self, view: &[u8], line: usize, found: &mut Found<'_>) {
        let mut hits = self.formats.hits(view);
        hits.extend(format::private_keys(view));
        hits.sort_by_key(|hit| hit.at);
        // Where the forms before and at each end, the last of them.
        let ends: Vec<usize> = hits
            .iter()
            .scan(0, |last: &mut usize, hit| {
                *last = hit.end().max(*last);
                Some(*last)
            })
            .collect();
        // A value of a known form is that, whatever it is assigned to. It says nothing about the same text elsewhere,
        // which may be a part of another secret.
        let known = hits.len();
        for hit in self.names.hits(view) {
            let before = hits[..known].partition_point(|form| form.at < hit.end());
            if before == 0 || ends[before - 1] <= hit.at {
                hits.push(hit);
            }
        }
        hits.sort_by_key(|hit| hit.at);
        let (mut at, mut lines) = (0, line);
        for hit in hits {
            lines += newlines(&view[at..hit.at]);
            at = hit.at;
            found.add(hit.kind, lines + 1, &hit.secret);
        }
    }
}

impl Default for Scanner {
    fn default() -> Self {
        Scanner::new()
    }
}

/// What was found so far in one place.
struct Found<'a> {
    place: &'a str,
    seen: BTreeSet<String>,
    findings: Vec<Finding>,
}

impl Found<'_> {
    fn add(&mut self, kind: &'static str, line: usize, secret: &[u8]) {
        let fingerprint = fingerprint(secret);
        if self.seen.insert(fingerprint.clone()) {
            self.findings.push(Finding { kind, place: self.place.to_owned(), line, fingerprint });
        }
    }

    fn too_deep(&mut self, line: usize, text: &[u8]) {
        self.add("text that is encoded too often to look into", line + 1, text);
    }
}

/// The first half of the first half of the SHA-256: enough to tell secrets apart, and nothing else is known of them.
pub(crate) fn fingerprint(secret: &[u8]) -> String {
    Sha256::digest(secret).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn newlines(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
pub(crate) mod tests;
