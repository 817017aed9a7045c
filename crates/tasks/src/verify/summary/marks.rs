//! What each line is worth, and the choice among them.

use std::collections::HashSet;
use std::ops::Range;

use super::GAP;

/// What a line is to whoever has to mend the failure. Where several tools know a line, the later rank counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// No tool knows it.
    #[default]
    Unknown,
    /// It tells of something that went well, or is repeated.
    Noise,
    /// A warning, or the count of a part that passed.
    Aside,
    /// What surrounds a failure: captured output, frames of a stack.
    Detail,
    /// Why something failed.
    Reason,
    /// That something failed, in one line.
    Name,
    /// A count at the end.
    Total,
}

/// Lines of one failure that count as its reason; those after them are details.
const REASON_LINES: usize = 40;

/// The lines of an output and their ranks.
pub(super) struct Marks<'a> {
    pub(super) lines: &'a [&'a str],
    ranks: Vec<Rank>,
    /// Headings of diagnostics that have been there.
    seen: HashSet<(&'a str, &'a str)>,
}

impl<'a> Marks<'a> {
    pub(super) fn new(lines: &'a [&'a str]) -> Marks<'a> {
        Marks { lines, ranks: vec![Rank::default(); lines.len()], seen: HashSet::new() }
    }

    /// The line, or an empty one behind the end.
    pub(super) fn line(&self, at: usize) -> &'a str {
        self.lines.get(at).copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, at: usize, rank: Rank) {
        if let Some(old) = self.ranks.get_mut(at) {
            *old = rank.max(*old);
        }
    }

    pub(super) fn all(&mut self, lines: Range<usize>, rank: Rank) {
        lines.for_each(|at| self.set(at, rank));
    }

    /// Marks one failure with all that is said about it.
    pub(super) fn failure(&mut self, lines: Range<usize>) {
        let detail = lines.end.min(lines.start.saturating_add(REASON_LINES));
        self.all(lines.start..detail, Rank::Reason);
        self.all(detail..lines.end, Rank::Detail);
    }

    /// Marks a diagnostic. One that has been there already, as of a header or of a second target, is noise.
    pub(super) fn diagnostic(&mut self, lines: Range<usize>, is_error: bool) {
        let second = if lines.len() > 1 { self.line(lines.start + 1) } else { "" };
        match (self.seen.insert((self.line(lines.start), second)), is_error) {
            (false, _) => self.all(lines, Rank::Noise),
            (true, true) => self.failure(lines),
            (true, false) => self.all(lines, Rank::Aside),
        }
    }

    /// The first line from here on of which this holds, or the end.
    pub(super) fn find(&self, from: usize, is: impl Fn(&str) -> bool) -> usize {
        self.find_in(from..self.lines.len(), is)
    }

    /// The first of these lines of which this holds, or the end of them.
    pub(super) fn find_in(&self, lines: Range<usize>, is: impl Fn(&str) -> bool) -> usize {
        lines.clone().find(|at| is(self.line(*at))).unwrap_or(lines.end)
    }

    /// Marks as failures of their own the paragraphs that begin with such a line.
    pub(super) fn failures(&mut self, lines: Range<usize>, opens: impl Fn(&str) -> bool) {
        let mut from = self.find_in(lines.clone(), &opens);
        while from < lines.end {
            let end = self.find_in(from + 1..lines.end, &opens);
            self.failure(from..end);
            from = end;
        }
    }

    /// Whether any line is known.
    pub(super) fn any(&self) -> bool {
        self.ranks.iter().any(|rank| *rank != Rank::Unknown)
    }

    /// The best lines within the budget, in their order, and how many of them there are.
    pub(super) fn render(&self, total: usize, budget: usize) -> (String, usize) {
        let heading = |kept: usize| format!("[… {kept} of {total} lines kept …]\n");
        let chosen = self.choose(budget.saturating_sub(heading(total).len() + GAP.len() + 1));
        let mut text = String::new();
        let (mut kept, mut gap, mut blank) = (0, false, true);
        for (at, line) in self.lines.iter().enumerate() {
            if !chosen[at] {
                gap |= !line.is_empty() && self.ranks[at] != Rank::Noise;
                continue;
            }
            if line.is_empty() && blank && !gap {
                continue;
            }
            if std::mem::take(&mut gap) {
                text.push_str(GAP);
                text.push('\n');
            }
            text.push_str(line);
            text.push('\n');
            (kept, blank) = (kept + 1, line.is_empty());
        }
        if gap {
            text.push_str(GAP);
            text.push('\n');
        }
        (heading(kept) + &text, kept)
    }

    /// Totals first, the last ones before the others; then names, but not so many that no reason finds room. What no tool
    /// knows may be the reason as well: its end has a share of what is left, and its beginning comes before what went well.
    fn choose(&self, budget: usize) -> Vec<bool> {
        let mut choice = Choice { marks: self, chosen: vec![false; self.lines.len()], left: budget };
        let all = || 0..self.lines.len();
        choice.take(all().rev(), Rank::Total, budget / 8);
        choice.take(all(), Rank::Name, budget / 2);
        choice.take(all(), Rank::Reason, budget);
        choice.take(all(), Rank::Name, budget);
        choice.take(all().rev(), Rank::Total, budget);
        choice.take(all().rev(), Rank::Unknown, choice.left / 2);
        choice.take(all(), Rank::Detail, budget);
        choice.take(all(), Rank::Unknown, budget);
        choice.take(all(), Rank::Aside, budget);
        // Where nothing says why, a tool may have taken another program's words for its own.
        let says_why = |at: usize| !matches!(self.ranks[at], Rank::Total | Rank::Aside);
        if !all().any(|at| choice.chosen[at] && says_why(at)) {
            choice.take(all().rev(), Rank::Noise, budget / 4);
        }
        choice.chosen
    }
}

struct Choice<'a> {
    marks: &'a Marks<'a>,
    chosen: Vec<bool>,
    /// Bytes that are left.
    left: usize,
}

impl Choice<'_> {
    /// Takes lines of this rank in this order until one does not fit any more.
    fn take(&mut self, order: impl Iterator<Item = usize>, rank: Rank, share: usize) {
        let least = self.left.saturating_sub(share);
        for at in order {
            let line = self.marks.lines[at];
            // A gap is told by what is chosen around it.
            let empty = line == GAP || rank == Rank::Unknown && line.is_empty();
            if self.chosen[at] || self.marks.ranks[at] != rank || empty {
                continue;
            }
            // A gap stands before each run of lines.
            let joins =
                at.checked_sub(1).is_some_and(|at| self.chosen[at]) || self.chosen.get(at + 1) == Some(&true);
            let bytes = line.len() + 1 + if joins { 0 } else { GAP.len() + 1 };
            if self.left - least < bytes {
                return;
            }
            self.left -= bytes;
            self.chosen[at] = true;
        }
    }
}
