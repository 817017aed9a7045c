//! The beginning and the end of an output that may be endless, and what of them is passed on.

use std::collections::VecDeque;

use super::summary;
use crate::plain::Plain;

/// How many bytes are held until the command has ended: what failed is looked for in these.
const WINDOW: usize = 2 << 20;

/// The line between both.
const LOST: &str = "[…]\n";

/// Keeps the first and the last bytes of what is pushed, and counts the lines of all of it.
#[derive(Debug)]
pub(super) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// Most bytes of the head, and of the tail.
    half: usize,
    /// Most bytes of the text at the end.
    limit: usize,
    total: usize,
    newlines: usize,
    last: u8,
}

impl Capture {
    pub(super) fn new(limit: usize) -> Capture {
        Capture {
            head: Vec::new(),
            tail: VecDeque::new(),
            // The text's own halves lie within these.
            half: WINDOW.max(limit.saturating_mul(2)) / 2,
            limit,
            total: 0,
            newlines: 0,
            last: b'\n',
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len();
        self.newlines += bytes.iter().filter(|byte| **byte == b'\n').count();
        self.last = bytes.last().copied().unwrap_or(self.last);
        let (head, rest) = bytes.split_at(bytes.len().min(self.half - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(&rest[rest.len().saturating_sub(self.half)..]);
        let excess = self.tail.len().saturating_sub(self.half);
        self.tail.drain(..excess);
    }

    /// The text without colours, the lines in it, and the lines there were. A text that is too long is what failed, if a
    /// tool is known by it, and else its beginning and its end; a line in brackets says how much that is.
    pub(super) fn finish(self) -> (String, usize, usize) {
        let lines = self.newlines + usize::from(self.last != b'\n');
        let tail: Vec<u8> = self.tail.into();
        let whole = self.head.len() + tail.len() == self.total;
        let (mut head, mut tail) = (self.head.as_slice(), tail.as_slice());
        let mut joint = "";
        if !whole {
            // Whole lines on both sides of what is lost. Of one endless line the end is kept.
            head = &head[..head.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)];
            let line = tail.iter().position(|byte| *byte == b'\n').filter(|at| at + 1 < tail.len());
            tail = &tail[line.map_or(0, |at| at + 1)..];
            joint = if head.is_empty() { "" } else { LOST };
        }
        let bytes = [head, joint.as_bytes(), tail].concat();
        let text = plain(&String::from_utf8_lossy(&bytes));
        if whole && text.len() <= self.limit {
            return (text, lines, lines);
        }
        let (text, kept) =
            summary::summary(&text, lines, self.limit).unwrap_or_else(|| ends(&text, lines, self.limit));
        (text, kept, lines)
    }
}

/// The text as it can be read: no colours, and what a terminal would write over itself on lines of its own.
fn plain(text: &str) -> String {
    Plain::default().filter(&text.replace("\r\n", "\n").replace('\r', "\n"))
}

/// The beginning and the end. Whole lines are left out in the middle.
fn ends(text: &str, lines: usize, limit: usize) -> (String, usize) {
    let (head, tail) = (summary::beginning(text, limit / 2), summary::end(text, limit / 2));
    let head = head.rfind('\n').map_or("", |at| &head[..=at]);
    let tail = match tail.find('\n') {
        Some(at) if at + 1 < tail.len() => &tail[at + 1..],
        // One line longer than the tail: its end is better than nothing.
        _ => tail,
    };
    let kept = head.lines().count() + tail.lines().count();
    (format!("{head}[… {kept} of {lines} lines kept …]\n{tail}"), kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(limit: usize, chunks: &[&str]) -> (String, usize, usize) {
        let mut capture = Capture::new(limit);
        chunks.iter().for_each(|chunk| capture.push(chunk.as_bytes()));
        capture.finish()
    }

    #[test]
    fn short_output_is_kept_as_it_is() {
        assert_eq!(captured(100, &[]), (String::new(), 0, 0));
        assert_eq!(captured(8, &["a\nb", "\nc\nd"]), ("a\nb\nc\nd".into(), 4, 4));
    }

    #[test]
    fn long_output_keeps_head_and_tail_in_whole_lines() {
        let all: Vec<String> = (0..1000).map(|n| format!("{n:03}\n")).collect();
        for size in [1, 3, 7, 500] {
            let text = all.concat();
            let chunks: Vec<&str> =
                text.as_bytes().chunks(size).map(|c| std::str::from_utf8(c).unwrap()).collect();
            let (text, kept, lines) = captured(20, &chunks);
            assert_eq!(text, "000\n001\n[… 4 of 1000 lines kept …]\n998\n999\n");
            assert_eq!((kept, lines), (4, 1000));
        }
    }

    /// Covers S1-48.
    #[test]
    fn colours_are_no_part_of_the_text() {
        let (text, ..) = captured(100, &["\u{1b}[31mred\u{1b}", "[0m\r\n50 %\r100 %\n"]);
        assert_eq!(text, "red\n50 %\n100 %\n");
        // Nor of its length.
        let coloured = "\u{1b}[1;31ma\u{1b}[0m\n".repeat(50);
        assert_eq!(captured(100, &[&coloured]), ("a\n".repeat(50), 50, 50));
    }

    /// Covers S1-48.
    #[test]
    fn what_failed_is_found_in_the_middle() {
        let mut text = "test passes ... ok\n".repeat(1000);
        text += "test fails ... FAILED\n";
        text += &"test passes ... ok\n".repeat(1000);
        let (summary, kept, lines) = captured(1000, &[&text]);
        assert_eq!(summary, "[… 1 of 2001 lines kept …]\ntest fails ... FAILED\n");
        assert_eq!((kept, lines), (1, 2001));
        // What was too much to hold is told from what went well.
        let endless = "test passes ... ok\n".repeat(WINDOW / 10);
        let (summary, kept, lines) = captured(1000, &[&endless, "test fails ... FAILED\n"]);
        assert_eq!(summary, format!("[… 1 of {lines} lines kept …]\n[…]\ntest fails ... FAILED\n"));
        assert_eq!((kept, lines), (1, WINDOW / 10 + 1));
        // One line that is more than can be held.
        let line = format!("{}b\n", "a".repeat(2 * WINDOW));
        assert_eq!(captured(8, &[&line]), ("[… 1 of 1 lines kept …]\naab\n".into(), 1, 1));
    }

    #[test]
    fn one_endless_line_keeps_its_end() {
        let (text, kept, lines) = captured(8, &["aaaaaaaaaaaaaaaaaaaabbbb"]);
        assert_eq!(text, "[… 1 of 1 lines kept …]\nbbbb");
        assert_eq!((kept, lines), (1, 1));
    }
}
