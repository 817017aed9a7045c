//! Which lines of a file are nearest to lines that do not stand in it, so that a model can repair its edit.

use std::collections::HashMap;
use std::fmt::Write as _;

/// Lines of an edit that are compared with the file, and lines of the file that are shown.
const MOST_LINES: usize = 12;

/// Below this likeness of the best line, from 0 to 1, nothing is near.
const LEAST: f64 = 0.5;

/// A sentence with the nearest lines of the file, numbered; "" where none is like them.
pub(super) fn describe(file: &[&str], wanted: &[&str]) -> String {
    let Some((first, count)) = nearest(file, wanted) else { return String::new() };
    let lines = &file[first..first + count];
    let mut text = format!("; the nearest are lines `{}` to `{}`:", first + 1, first + count);
    for line in lines {
        // Cannot fail: it writes to memory.
        let _ = write!(text, "\n{line}");
    }
    text
}

/// The window of the file that is most like the lines: its first line, and how many.
fn nearest(file: &[&str], wanted: &[&str]) -> Option<(usize, usize)> {
    let wanted: Vec<Bigrams> = wanted.iter().take(MOST_LINES).map(|line| Bigrams::of(line)).collect();
    let count = wanted.len().min(file.len());
    if count == 0 {
        return None;
    }
    let lines: Vec<Bigrams> = file.iter().map(|line| Bigrams::of(line)).collect();
    let mut best = (LEAST, None);
    for first in 0..=file.len() - count {
        let scores =
            wanted.iter().zip(&lines[first..]).filter(|(line, _)| line.total > 0).map(|(a, b)| a.like(b));
        let (sum, inked) = scores.fold((0.0, 0), |(sum, inked), score| (sum + score, inked + 1));
        let score = sum / f64::from(inked.max(1));
        if score > best.0 {
            best = (score, Some((first, count)));
        }
    }
    best.1
}

/// How often each pair of neighbouring bytes occurs in a line. Blanks are ignored: they are what models get wrong most.
struct Bigrams {
    counts: HashMap<[u8; 2], u32>,
    total: u32,
}

impl Bigrams {
    fn of(line: &str) -> Bigrams {
        // A long line is data; its beginning tells enough.
        let line: Vec<u8> = line.bytes().filter(|byte| !byte.is_ascii_whitespace()).take(200).collect();
        let mut counts = HashMap::new();
        for pair in line.windows(2) {
            *counts.entry([pair[0], pair[1]]).or_insert(0) += 1;
        }
        if let [only] = line.as_slice() {
            counts.insert([*only, 0], 1);
        }
        let total = counts.values().sum();
        Bigrams { counts, total }
    }

    /// Sørensen and Dice's coefficient.
    fn like(&self, other: &Bigrams) -> f64 {
        let shared =
            self.counts.iter().map(|(pair, n)| (*n).min(other.counts.get(pair).copied().unwrap_or(0)));
        let shared: u32 = shared.sum();
        f64::from(2 * shared) / f64::from((self.total + other.total).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_found() {
        let file =
            ["import os", "", "def add(a, b):", "    return a + b", "", "def sub(a, b):", "    return a - b"];
        assert_eq!(nearest(&file, &["def sub(a,b):", "    return a-b"]), Some((5, 2)));
        assert_eq!(nearest(&file, &["import  os"]), Some((0, 1)));
        assert_eq!(nearest(&["y = 0", "x = 1"], &["x=1"]), Some((1, 1)));
        assert_eq!(nearest(&file, &["class Whatever(Base):"]), None);
        assert_eq!(nearest(&file, &[""]), None);
        assert_eq!(nearest(&[], &["x"]), None);
        let text = describe(&file, &["  return a + c"]);
        assert_eq!(text, "; the nearest are lines `4` to `4`:\n    return a + b");
    }
}
