//! Where a reply is, byte by byte.

use super::free::{Line, Rules};
use super::source::Source;

/// A reply's place in its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// `at` bytes of the line with a file's path are written.
    Path { at: u32, lo: u32, hi: u32 },
    /// `at` bytes of the opening delimiter are written.
    Open { file: u32, at: u32 },
    /// Within the lines to be searched, or their divider.
    Search(Search),
    /// Within the text that takes their place.
    Replace(Replace),
    /// `at` bytes of what follows the closing run are written.
    Close { block: Block, at: u32 },
    /// A block is complete.
    End { block: Block },
    /// The reply is over.
    Over,
}

/// Lines of a file: `lines` of them from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) file: u32,
    pub(super) first: u32,
    pub(super) lines: u32,
}

/// A search that has been written in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Search {
    pub(super) file: u32,
    /// The suffixes of the file that begin with what is written; none once it can only be the divider.
    pub(super) lo: u32,
    pub(super) hi: u32,
    /// Bytes written.
    pub(super) offset: u32,
    /// Lines written, all of them whole.
    pub(super) lines: u32,
    /// Bytes since the last line feed.
    pub(super) column: u32,
    /// Bytes of the divider that these are too; 0 if they are not.
    pub(super) divider: u32,
}

/// A replacement that has been written in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replace {
    pub(super) block: Block,
    pub(super) line: Line,
    /// How much of the searched text has been written again, if nothing else has.
    pub(super) same: Option<u32>,
    /// The text before this line is all of the searched text, so that a block which ended here would change nothing.
    pub(super) unchanged: bool,
}

impl Search {
    /// With one byte of the file more, which these suffixes have.
    pub(super) fn with(self, byte: u8, lo: u32, hi: u32) -> Self {
        let (lines, column) = if byte == b'\n' { (self.lines + 1, 0) } else { (self.lines, self.column + 1) };
        Self { lo, hi, offset: self.offset + 1, lines, column, divider: 0, ..self }
    }
}

/// Everything that does not change while a reply is written, but for the lines that are taken.
#[derive(Debug)]
pub(super) struct Form {
    /// Sorted by path.
    pub(super) files: Vec<Source>,
    pub(super) rules: Rules,
    /// `<<<<<<< SEARCH` and a line feed.
    open: Vec<u8>,
    /// `=======` and a line feed.
    divide: Vec<u8>,
    /// What follows the closing run: ` REPLACE`.
    close: &'static [u8],
    /// The most bytes from the first line of a search to the end of a block that changes something.
    pub(super) longest: usize,
    /// For each file the lines that no search may hold any more.
    taken: Vec<Vec<bool>>,
    /// For each file and rank how many suffixes before it can begin a search.
    alive: Vec<Vec<u32>>,
}

/// More lines are searched only where nothing shorter is unique.
const MOST_LINES: usize = 60;

impl Form {
    pub(super) fn new(files: Vec<Source>, rules: Rules) -> Self {
        let marker = usize::from(rules.marker);
        let taken = files.iter().map(|file| vec![false; file.lines().max(1)]).collect();
        let alive = files.iter().map(|file| vec![0; file.lines() + 1]).collect();
        let mut form = Self {
            files,
            rules,
            open: [&b"<".repeat(marker)[..], b" SEARCH\n"].concat(),
            divide: [&b"=".repeat(marker)[..], b"\n"].concat(),
            close: b" REPLACE",
            longest: usize::MAX,
            taken,
            alive,
        };
        form.take(&[]);
        form
    }

    /// Where a block begins.
    pub(super) fn start(&self) -> Phase {
        match self.files.len() {
            1 => Phase::Open { file: 0, at: 0 },
            n => Phase::Path { at: 0, lo: 0, hi: n as u32 },
        }
    }

    /// Marks the lines of these blocks, and no others, as taken.
    pub(super) fn take(&mut self, blocks: &[Block]) {
        for file in 0..self.files.len() {
            let taken = &mut self.taken[file];
            taken.fill(false);
            for block in blocks.iter().filter(|block| block.file as usize == file) {
                // The only block of an empty file has no lines, and takes the place that stands for them.
                let end = (block.first + block.lines).max(block.first + 1) as usize;
                taken[block.first as usize..end].fill(true);
            }
            self.count(file);
        }
    }

    /// Counts the suffixes that can begin a search.
    fn count(&mut self, file: usize) {
        let source = &self.files[file];
        let n = source.lines();
        // The first taken line from each line on.
        let mut next = vec![n; n + 1];
        for line in (0..n).rev() {
            next[line] = if self.taken[file][line] { line } else { next[line + 1] };
        }
        let mut count = 0;
        for rank in 0..n {
            self.alive[file][rank] = count;
            let first = source.first(rank as u32);
            let end = first + source.unique(first);
            count += u32::from(end <= next[first] && self.cost(file, first) <= self.longest);
        }
        self.alive[file][n] = count;
    }

    /// The bytes of the shortest block whose search begins at this line; infinite if there is none.
    pub(super) fn cost(&self, file: usize, first: usize) -> usize {
        let source = &self.files[file];
        let end = first + source.unique(first);
        if end > source.lines() { usize::MAX } else { source.bytes(first..end) + self.tail() }
    }

    /// The bytes from the end of a search to the end of the shortest block: divider, delimiter, and for a new file
    /// the one line that it must have.
    pub(super) fn tail(&self) -> usize {
        self.divide.len() + 1 + self.closing()
    }

    fn closing(&self) -> usize {
        usize::from(self.rules.marker) + self.close.len()
    }

    /// The most bytes that it takes to end a block from anywhere in its replacement.
    pub(super) fn most_to_close(&self) -> usize {
        // The rest of a character, the rest of a run, the line's end, a blank line, and the delimiter.
        3 + 1 + 1 + 1 + self.closing()
    }

    /// The most bytes from the beginning of a block to its end.
    pub(super) fn block(&self) -> usize {
        self.before() + self.longest
    }

    /// The most bytes of a block before its first searched line.
    pub(super) fn before(&self) -> usize {
        let path = self.files.iter().map(|file| file.path.len()).max().unwrap_or(0);
        path + self.open.len()
    }

    fn living(&self, file: u32, lo: u32, hi: u32) -> bool {
        let alive = &self.alive[file as usize];
        alive[hi as usize] > alive[lo as usize]
    }

    /// Whether a search can begin in this file.
    fn is_open(&self, file: u32) -> bool {
        match self.files[file as usize].lines() {
            0 => !self.taken[file as usize][0],
            n => self.living(file, 0, n as u32),
        }
    }

    /// Whether a block can be ended from here with so many tokens, where that is not certain anyway.
    pub(super) fn is_affordable(&self, phase: Phase, left: usize) -> bool {
        match phase {
            Phase::Replace(_) => left >= self.most_to_close() || left >= self.ending(phase).len(),
            _ => true,
        }
    }

    /// Whether another block can follow, with so many tokens left.
    pub(super) fn can_open(&self, left: usize) -> bool {
        self.block() < left && (0..self.files.len() as u32).any(|file| self.is_open(file))
    }

    /// The phase after one byte more; none if it is not allowed. `left` tokens may be written from before the token
    /// that this byte is part of, and each holds one byte at least.
    pub(super) fn step(&self, phase: Phase, byte: u8, left: usize) -> Option<Phase> {
        match phase {
            Phase::Path { at, lo, hi } => self.path(at, lo, hi, byte),
            Phase::Open { file, at } => (self.open[at as usize] == byte).then(|| self.opened(file, at + 1)),
            Phase::Search(search) => self.search(search, byte, left),
            Phase::Replace(replace) => self.replace(replace, byte),
            Phase::Close { block, at } if self.close[at as usize] == byte => {
                let at = at + 1;
                Some(if at as usize == self.close.len() {
                    Phase::End { block }
                } else {
                    Phase::Close { block, at }
                })
            }
            Phase::End { .. } if byte == b'\n' && self.can_open(left) => Some(self.start()),
            Phase::Close { .. } | Phase::End { .. } | Phase::Over => None,
        }
    }

    fn path(&self, at: u32, lo: u32, hi: u32, byte: u8) -> Option<Phase> {
        let has = |file: &u32| self.files[*file as usize].path.get(at as usize) == Some(&byte);
        let lo = (lo..hi).find(has)?;
        let hi = (lo..hi).find(|file| !has(file)).unwrap_or(hi);
        let file = (lo..hi).find(|file| self.is_open(*file))?;
        Some(if byte == b'\n' { Phase::Open { file, at: 0 } } else { Phase::Path { at: at + 1, lo, hi } })
    }

    fn opened(&self, file: u32, at: u32) -> Phase {
        if (at as usize) < self.open.len() {
            return Phase::Open { file, at };
        }
        let hi = self.files[file as usize].lines() as u32;
        Phase::Search(Search { file, lo: 0, hi, offset: 0, lines: 0, column: 0, divider: 0 })
    }

    fn search(&self, search: Search, byte: u8, left: usize) -> Option<Phase> {
        let line = self.line(search, byte, left);
        let divider = self.divides(search) && self.divide[search.divider as usize] == byte;
        let divider = if divider { search.divider + 1 } else { 0 };
        if divider as usize == self.divide.len() {
            // No line of the file is a delimiter, so it is nothing else.
            let block = self.block_of(search);
            let unchanged = block.lines == 0;
            let replace = Replace { block, line: Line::Start, same: Some(0), unchanged };
            return Some(Phase::Replace(replace));
        }
        match (line, divider) {
            (None, 0) => None,
            (None, divider) => {
                let (offset, column) = (search.offset + 1, search.column + 1);
                Some(Phase::Search(Search { hi: search.lo, offset, column, divider, ..search }))
            }
            (Some(line), divider) => Some(Phase::Search(Search { divider, ..line })),
        }
    }

    /// The search with one byte of the file more.
    fn line(&self, search: Search, byte: u8, left: usize) -> Option<Search> {
        let Search { file, lo, hi, offset, .. } = search;
        if lo == hi || !self.goes_on(search, left) {
            return None;
        }
        let (lo, hi) = self.files[file as usize].narrow(lo, hi, offset, byte);
        if lo == hi || !self.living(file, lo, hi) {
            return None;
        }
        Some(search.with(byte, lo, hi))
    }

    /// Whether a search may hold another line: it must as long as it is not unique; then it may while that line is
    /// free and there is room for it and for the end of the block.
    fn goes_on(&self, search: Search, left: usize) -> bool {
        let Search { file, lo, hi, lines, column, .. } = search;
        if column > 0 || lines == 0 || hi - lo > 1 {
            return true;
        }
        let source = &self.files[file as usize];
        let next = source.first(lo) + lines as usize;
        next < source.lines()
            && (lines as usize) < MOST_LINES
            && !self.taken[file as usize][next]
            && source.bytes(next..next + 1) + self.tail() <= left
    }

    /// Whether the next byte can be one of the divider.
    fn divides(&self, search: Search) -> bool {
        let unique = search.hi == search.lo + 1 && search.lines > 0;
        let empty = self.files[search.file as usize].lines() == 0;
        search.divider > 0 || search.column == 0 && (unique || empty)
    }

    fn block_of(&self, search: Search) -> Block {
        let Search { file, lo, lines, .. } = search;
        let first = if lines == 0 { 0 } else { self.files[file as usize].first(lo) as u32 };
        Block { file, first, lines }
    }

    /// The searched text.
    fn searched(&self, block: Block) -> &[u8] {
        let first = block.first as usize;
        self.files[block.file as usize].text(first..first + block.lines as usize)
    }

    fn replace(&self, replace: Replace, byte: u8) -> Option<Phase> {
        let Replace { block, line, same, unchanged } = replace;
        if self.is_closing_run(line) && !unchanged && self.close[0] == byte {
            return Some(Phase::Close { block, at: 1 });
        }
        let line = self.rules.step(line, byte)?;
        let searched = self.searched(block);
        let same = same.filter(|&same| searched.get(same as usize) == Some(&byte)).map(|same| same + 1);
        let unchanged = match line {
            Line::Start => same.is_some_and(|same| same as usize == searched.len()),
            Line::Run { .. } => unchanged,
            Line::Middle | Line::Within(_) => false,
        };
        Some(Phase::Replace(Replace { block, line, same, unchanged }))
    }

    pub(super) fn is_closing_run(&self, line: Line) -> bool {
        line == Line::Run { byte: b'>', count: self.rules.marker }
    }

    /// The text that ends a block from here, the shortest but for a byte or two; none outside of a replacement.
    pub(super) fn ending(&self, phase: Phase) -> Vec<u8> {
        let mut text = Vec::new();
        let mut phase = phase;
        loop {
            let byte = match phase {
                Phase::Replace(replace) => self.towards_end(replace),
                Phase::Close { at, .. } => self.close[at as usize],
                _ => return text,
            };
            text.push(byte);
            match self.step(phase, byte, 0) {
                Some(next) => phase = next,
                None => return text,
            }
        }
    }

    fn towards_end(&self, replace: Replace) -> u8 {
        let Replace { line, unchanged, .. } = replace;
        match line {
            Line::Start if unchanged => b'\n',
            Line::Start => b'>',
            Line::Run { byte: b'>', count } if !unchanged && count < self.rules.marker => b'>',
            line if self.is_closing_run(line) && !unchanged => self.close[0],
            line => self.rules.finish(line),
        }
    }

    /// The next byte where there is one way to go on: None where there are several, or none, or the reply may end.
    pub(super) fn only(&self, phase: Phase, left: usize) -> Option<u8> {
        match phase {
            Phase::Path { at, lo, hi } => {
                let byte = |file: u32| self.files[file as usize].path[at as usize];
                let mut open = (lo..hi).filter(|file| self.is_open(*file));
                let first = byte(open.next()?);
                open.all(|file| byte(file) == first).then_some(first)
            }
            Phase::Open { at, .. } => Some(self.open[at as usize]),
            Phase::Search(search) => self.only_in_search(search, left),
            Phase::Replace(_) if left <= self.most_to_close() => self.ending(phase).first().copied(),
            Phase::Close { at, .. } => Some(self.close[at as usize]),
            Phase::Replace(_) | Phase::End { .. } | Phase::Over => None,
        }
    }

    fn only_in_search(&self, search: Search, left: usize) -> Option<u8> {
        let divider = self.divides(search).then(|| self.divide[search.divider as usize]);
        let mut bytes = self.branches(search, left).map(|(byte, ..)| byte);
        match (bytes.next(), divider) {
            (None, divider) => divider,
            (Some(byte), None) => bytes.next().is_none().then_some(byte),
            (Some(byte), Some(divider)) => (byte == divider && bytes.next().is_none()).then_some(byte),
        }
    }

    /// The bytes of the file that may come next in a search, ascending, each with its suffixes.
    pub(super) fn branches(&self, search: Search, left: usize) -> impl Iterator<Item = (u8, u32, u32)> + '_ {
        let Search { file, lo, hi, offset, .. } = search;
        let source = &self.files[file as usize];
        let mut at = if lo < hi && self.goes_on(search, left) { lo } else { hi };
        std::iter::from_fn(move || {
            while at < hi {
                let from = at;
                let Some(byte) = source.byte(from, offset) else {
                    at += 1;
                    continue;
                };
                at = source.run_end(from, hi, offset, byte);
                if self.living(file, from, at) {
                    return Some((byte, from, at));
                }
            }
            None
        })
    }

    /// The byte of the divider that may come next in a search.
    pub(super) fn divider(&self, search: Search) -> Option<u8> {
        self.divides(search).then(|| self.divide[search.divider as usize])
    }
}
