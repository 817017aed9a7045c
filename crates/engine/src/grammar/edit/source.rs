//! A file as lines, and which runs of its lines occur once.
//!
//! The suffixes of the file that begin at a line, sorted by their bytes, are a suffix array over lines (Manber and
//! Myers, 1993; made by prefix doubling). All places that begin with the same text are neighbours in it, so a search
//! that has been written in part is an interval, and the run of lines is unique when the interval holds one place.

use std::ops::Range;

/// One file.
#[derive(Debug)]
pub(super) struct Source {
    /// Its path and a line feed.
    pub(super) path: Vec<u8>,
    /// Its lines without their own ends, each with a line feed.
    text: Vec<u8>,
    /// Line `i` is `text[starts[i]..starts[i + 1]]`.
    starts: Vec<u32>,
    /// First lines of all suffixes, sorted by text.
    order: Vec<u32>,
    /// How many lines from line `i` on it takes until no other place begins so; more than there are where none does.
    unique: Vec<u32>,
}

impl Source {
    pub(super) fn new(path: &str, content: &str) -> Self {
        let content = content.strip_prefix('\u{feff}').unwrap_or(content);
        let mut text = Vec::with_capacity(content.len() + 1);
        let mut starts = vec![0];
        for line in content.split_inclusive('\n') {
            text.extend_from_slice(key(line).as_bytes());
            text.push(b'\n');
            starts.push(text.len() as u32);
        }
        let mut source = Self {
            path: [path.as_bytes(), b"\n"].concat(),
            text,
            starts,
            order: Vec::new(),
            unique: Vec::new(),
        };
        let ids = source.ids();
        source.order = suffixes(&ids);
        source.unique = unique(&ids, &source.order);
        source
    }

    /// How many lines there are.
    pub(super) fn lines(&self) -> usize {
        self.starts.len() - 1
    }

    /// The first line of the suffix at `rank`.
    pub(super) fn first(&self, rank: u32) -> usize {
        self.order[rank as usize] as usize
    }

    /// How many lines from `line` on are unique; more than there are if none is.
    pub(super) fn unique(&self, line: usize) -> usize {
        self.unique[line] as usize
    }

    /// Bytes of these lines with their line feeds.
    pub(super) fn bytes(&self, lines: Range<usize>) -> usize {
        (self.starts[lines.end] - self.starts[lines.start]) as usize
    }

    /// The text of these lines.
    pub(super) fn text(&self, lines: Range<usize>) -> &[u8] {
        &self.text[self.starts[lines.start] as usize..self.starts[lines.end] as usize]
    }

    /// The byte `offset` bytes into the suffix at `rank`; none behind the end of the file, which sorts first.
    pub(super) fn byte(&self, rank: u32, offset: u32) -> Option<u8> {
        let start = self.starts[self.order[rank as usize] as usize];
        self.text.get((start + offset) as usize).copied()
    }

    /// The end of the run of suffixes from `lo` below `hi` that have `byte` at `offset`, as the one at `lo` has.
    pub(super) fn run_end(&self, lo: u32, hi: u32, offset: u32, byte: u8) -> u32 {
        // The run is often short or all there is.
        if self.byte(hi - 1, offset) == Some(byte) {
            return hi;
        }
        let mut step = 1;
        let (mut low, mut high) = (lo, hi);
        while low + step < hi {
            if self.byte(low + step, offset) != Some(byte) {
                high = low + step;
                break;
            }
            low += step;
            step *= 2;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.byte(middle, offset) == Some(byte) {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }

    /// The suffixes among `lo..hi`, which share `offset` bytes, that have `byte` next.
    pub(super) fn narrow(&self, lo: u32, hi: u32, offset: u32, byte: u8) -> (u32, u32) {
        let below = |wanted: Option<u8>| {
            let (mut low, mut high) = (lo, hi);
            while low < high {
                let middle = low + (high - low) / 2;
                if self.byte(middle, offset) < wanted {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            low
        };
        (below(Some(byte)), if byte == u8::MAX { hi } else { below(Some(byte + 1)) })
    }

    /// A number for each line; the same text has the same number, and numbers sort as texts do.
    fn ids(&self) -> Vec<u32> {
        let line = |i: u32| self.text(i as usize..i as usize + 1);
        let mut sorted: Vec<u32> = (0..self.lines() as u32).collect();
        sorted.sort_unstable_by(|a, b| line(*a).cmp(line(*b)));
        let mut ids = vec![0; sorted.len()];
        let mut id = 0;
        for (at, &i) in sorted.iter().enumerate() {
            id += u32::from(at > 0 && line(sorted[at - 1]) != line(i));
            ids[i as usize] = id;
        }
        ids
    }
}

/// A line without its end. Carriage returns before it belong to it, as where edits are applied.
pub(super) fn key(line: &str) -> &str {
    line.strip_suffix('\n').unwrap_or(line).trim_end_matches('\r')
}

/// The suffixes of `ids` in order.
fn suffixes(ids: &[u32]) -> Vec<u32> {
    let n = ids.len();
    let mut order: Vec<u32> = (0..n as u32).collect();
    let mut rank: Vec<u32> = ids.to_vec();
    let mut next = vec![0u32; n];
    let mut width = 0;
    loop {
        // Where `width` lines are sorted, the order by twice as many follows from the ranks of both halves.
        let pair = |i: u32| {
            let second = if width == 0 { 0 } else { rank.get(i as usize + width).map_or(0, |rank| rank + 1) };
            u64::from(rank[i as usize]) << 32 | u64::from(second)
        };
        order.sort_unstable_by_key(|&i| pair(i));
        let mut last = 0;
        for (at, &i) in order.iter().enumerate() {
            last += u32::from(at > 0 && pair(order[at - 1]) != pair(i));
            next[i as usize] = last;
        }
        std::mem::swap(&mut rank, &mut next);
        if n == 0 || last as usize == n - 1 {
            return order;
        }
        width = (width * 2).max(1);
    }
}

/// For each suffix one line more than it shares with its neighbours in `order` (Kasai et al., 2001).
fn unique(ids: &[u32], order: &[u32]) -> Vec<u32> {
    let n = ids.len();
    let mut rank = vec![0; n];
    order.iter().enumerate().for_each(|(at, &i)| rank[i as usize] = at);
    let mut unique = vec![1; n];
    let mut shared = 0usize;
    for i in 0..n {
        if rank[i] == 0 {
            shared = 0;
            continue;
        }
        let before = order[rank[i] - 1] as usize;
        while i + shared < n && before + shared < n && ids[i + shared] == ids[before + shared] {
            shared += 1;
        }
        for line in [i, before] {
            unique[line] = unique[line].max(shared as u32 + 1);
        }
        shared = shared.saturating_sub(1);
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_that_repeat_need_more_of_them() {
        let source = Source::new("a", "a\r\nb\na\nc");
        assert_eq!((0..4).map(|line| source.unique(line)).collect::<Vec<_>>(), [2, 1, 2, 1]);
        let all = Source::new("a", "x\nx\nx\n");
        assert_eq!((0..3).map(|line| all.unique(line)).collect::<Vec<_>>(), [3, 3, 2]);
        assert_eq!(Source::new("a", "").lines(), 0);
        assert_eq!(Source::new("a", "\u{feff}\n").text(0..1), b"\n");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(11), ..ProptestConfig::default() })]

        #[test]
        fn uniqueness_is_what_counting_finds(
            lines in prop::collection::vec(prop::sample::select(vec!["", "a", "b", "ab", "\tb", "é"]), 0..24),
        ) {
            let content: String = lines.iter().flat_map(|line| [*line, "\n"]).collect();
            let source = Source::new("a", &content);
            for first in 0..lines.len() {
                let count = |k: usize| lines.windows(k).filter(|w| *w == &lines[first..first + k]).count();
                let least = (1..=lines.len() - first).find(|k| count(*k) == 1);
                prop_assert_eq!(Some(source.unique(first)).filter(|u| first + u <= lines.len()), least);
            }
            let texts: Vec<_> = (0..lines.len() as u32).map(|r| source.text(source.first(r)..lines.len())).collect();
            prop_assert!(texts.is_sorted());
        }
    }
}
