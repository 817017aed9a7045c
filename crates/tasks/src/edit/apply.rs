//! Puts edits into a file: each at the one place that its lines have, all of them at once.

use std::ops::Range;

use super::lines::{Style, key};
use super::near;
use crate::{Error, Result};

/// A file as lines.
pub(super) struct Lines<'a> {
    path: &'a str,
    style: Style,
    /// Without the byte order mark, each with its end.
    lines: Vec<&'a str>,
    /// The same without ends: what edits are compared with.
    keys: Vec<&'a str>,
}

/// Lines to be replaced by others.
#[derive(Debug)]
pub(super) struct Splice<'a> {
    /// Which lines, from 0; none for a pure insertion before the first of them.
    pub(super) lines: Range<usize>,
    /// Their replacement, without ends.
    pub(super) with: Vec<&'a str>,
    /// Where the reply asks for it, a line from 1.
    pub(super) at: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(path: &'a str, text: &'a str) -> Lines<'a> {
        let style = Style::of(Some(text));
        let lines: Vec<&str> = text.strip_prefix('\u{feff}').unwrap_or(text).split_inclusive('\n').collect();
        let keys = lines.iter().map(|line| key(line)).collect();
        Lines { path, style, lines, keys }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn keys(&self) -> &[&'a str] {
        &self.keys
    }

    /// Every place where these lines stand, by the number of the first one, from 0. Only if there is none are blanks
    /// at the ends of lines ignored, because some services strip them from replies.
    pub(super) fn places(&self, wanted: &[&str]) -> Vec<usize> {
        let standing = |same: fn(&str, &str) -> bool| -> Vec<usize> {
            let windows = self.keys.windows(wanted.len().max(1)).enumerate();
            windows
                .filter(|(_, window)| window.iter().zip(wanted).all(|(a, b)| same(a, b)))
                .map(|(at, _)| at)
                .collect()
        };
        if wanted.is_empty() {
            return Vec::new();
        }
        let exact = standing(|a, b| a == b);
        if exact.is_empty() { standing(|a, b| a.trim_end() == b.trim_end()) } else { exact }
    }

    /// The one place among `places` where the lines of the edit on line `at` of the reply stand.
    pub(super) fn only(&self, places: &[usize], wanted: &[&str], at: usize) -> Result<Range<usize>> {
        match places {
            [] => Err(Error::NoMatch {
                path: self.path.to_owned(),
                line: at,
                near: near::describe(&self.keys, wanted),
            }),
            [place] => Ok(*place..place + wanted.len()),
            several => {
                let list: Vec<String> = several.iter().take(8).map(|place| (place + 1).to_string()).collect();
                let more = if several.len() > list.len() { ", …" } else { "" };
                Err(Error::Ambiguous {
                    path: self.path.to_owned(),
                    line: at,
                    count: several.len(),
                    places: list.join(", ") + more,
                })
            }
        }
    }

    /// The file with all splices made. New lines end as the lines that they replace, or as most lines of the file.
    pub(super) fn splice(&self, mut splices: Vec<Splice<'a>>) -> Result<String> {
        splices.sort_by_key(|splice| (splice.lines.start, splice.lines.end));
        for pair in splices.windows(2) {
            let [a, b] = pair else { continue };
            let both_here = a.lines.is_empty() && b.lines.is_empty() && a.lines.start == b.lines.start;
            if a.lines.end > b.lines.start || both_here {
                let path = self.path.to_owned();
                return Err(Error::Overlap { path, first: a.at.min(b.at), second: a.at.max(b.at) });
            }
        }
        let usual = if self.style.crlf { "\r\n" } else { "\n" };
        let mut made: Vec<(&str, &str)> = Vec::new();
        let mut from = 0;
        let kept = |range: Range<usize>| self.lines[range].iter().map(|line| body_and_end(line));
        for splice in &splices {
            made.extend(kept(from..splice.lines.start));
            let replaced = self.lines[splice.lines.clone()].first().map_or("", |line| body_and_end(line).1);
            let end = if replaced.is_empty() { usual } else { replaced };
            made.extend(splice.with.iter().map(|line| (*line, end)));
            from = splice.lines.end;
        }
        made.extend(kept(from..self.lines.len()));
        let mut text = if self.style.mark { "\u{feff}".to_owned() } else { String::new() };
        let last = made.len().saturating_sub(1);
        for (at, (body, end)) in made.into_iter().enumerate() {
            text.push_str(body);
            match (at == last, self.style.final_newline) {
                (true, false) => {}
                _ => text.push_str(if end.is_empty() { usual } else { end }),
            }
        }
        Ok(text)
    }
}

/// A line and its end, which the last one may lack.
fn body_and_end(line: &str) -> (&str, &str) {
    let body = line.strip_suffix("\r\n").or_else(|| line.strip_suffix('\n')).unwrap_or(line);
    line.split_at(body.len())
}
