//! The beginning and the end of an output that may be endless.

use std::collections::VecDeque;

/// Keeps the first and the last bytes of what is pushed, and counts the lines of all of it.
#[derive(Debug)]
pub(super) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// Most bytes of the head, and of the tail.
    half: usize,
    total: usize,
    newlines: usize,
    last: u8,
}

impl Capture {
    pub(super) fn new(limit: usize) -> Capture {
        Capture {
            head: Vec::new(),
            tail: VecDeque::new(),
            half: limit / 2,
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

    /// The text, the lines in it, and the lines there were. Whole lines are left out in the middle, and a
    /// line in brackets says so.
    pub(super) fn finish(self) -> (String, usize, usize) {
        let lines = self.newlines + usize::from(self.last != b'\n');
        let tail: Vec<u8> = self.tail.into();
        if self.head.len() + tail.len() == self.total {
            let bytes = [self.head, tail].concat();
            return (String::from_utf8_lossy(&bytes).into_owned(), lines, lines);
        }
        let head = match self.head.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => &self.head[..=at],
            None => &[],
        };
        let tail = match tail.iter().position(|byte| *byte == b'\n') {
            Some(at) if at + 1 < tail.len() => &tail[at + 1..],
            // One line longer than the tail: its end is better than nothing.
            _ => &tail[..],
        };
        let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
        let kept = count(head) + count(tail) + usize::from(tail.last().is_some_and(|byte| *byte != b'\n'));
        let (head, tail) = (String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
        (format!("{head}[… {kept} of {lines} lines kept …]\n{tail}"), kept, lines)
    }
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

    #[test]
    fn one_endless_line_keeps_its_end() {
        let (text, kept, lines) = captured(8, &["aaaaaaaaaaaaaaaaaaaabbbb"]);
        assert_eq!(text, "[… 1 of 1 lines kept …]\nbbbb");
        assert_eq!((kept, lines), (1, 1));
    }
}
