//! Which tokens may come next: the vocabulary's tree walked along what the form allows.

use llguidance::toktrie::{TokTrie, TrieNode};

use super::free::{Line, Rules};
use super::state::{Form, Phase, Replace, Search};
use crate::grammar::Mask;

/// The tokens that may stand in the middle of a line of a replacement, up to the closing run.
pub(super) fn middle(trie: &TokTrie, rules: Rules) -> Mask {
    let mut mask = Mask::new(trie.vocab_size(), []);
    free(trie, trie.root(), rules, Line::Middle, &mut mask);
    mask
}

fn free(trie: &TokTrie, node: &TrieNode, rules: Rules, line: Line, mask: &mut Mask) {
    for child in trie.node_children(node) {
        if let Some(line) = rules.step(line, child.byte()) {
            mask.allow(child.token_id());
            free(trie, child, rules, line, mask);
        }
    }
}

/// What a mask is computed from.
pub(super) struct Walk<'a> {
    pub(super) trie: &'a TokTrie,
    pub(super) form: &'a Form,
    /// Tokens that may be written, the next one included.
    pub(super) left: usize,
}

impl Walk<'_> {
    /// Adds the tokens that may follow `phase` to `mask`, which allows none so far.
    pub(super) fn add(&self, phase: Phase, middle: &Mask, mask: &mut Mask) {
        let root = self.trie.root();
        match phase {
            Phase::Replace(replace) if self.left > self.form.most_to_close() => match replace.line {
                Line::Middle => mask.clone_from(middle),
                Line::Start => self.start(middle, mask),
                Line::Run { byte, count } => self.run(replace, byte, count, middle, mask),
                Line::Within(_) => self.children(root, phase, mask),
            },
            Phase::Replace(_) => self.ending(phase, mask),
            _ => self.node(root, phase, mask),
        }
    }

    /// Before the first byte of a line: what may stand in its middle, but no delimiter.
    fn start(&self, middle: &Mask, mask: &mut Mask) {
        mask.clone_from(middle);
        for byte in Rules::runs() {
            self.forbid(byte, 0, mask);
        }
    }

    /// After a run, the same; where the run is as long as a delimiter, it goes on, or it is the delimiter.
    fn run(&self, replace: Replace, byte: u8, count: u8, middle: &Mask, mask: &mut Mask) {
        if !self.form.rules.is_delimiter(count) {
            mask.clone_from(middle);
            return self.forbid(byte, count, mask);
        }
        self.children_at(byte, Phase::Replace(replace), mask);
        if self.form.is_closing_run(replace.line) && !replace.unchanged {
            self.children_at(b' ', Phase::Replace(replace), mask);
        }
    }

    /// Takes away the tokens that would end a run of `byte`, `count` so far, at the length of a delimiter.
    fn forbid(&self, byte: u8, count: u8, mask: &mut Mask) {
        for length in self.form.rules.delimiters().filter(|length| *length > count) {
            let run = [byte; u8::MAX as usize];
            let Some(node) = self.trie.child_at_bytes(self.trie.root(), &run[..usize::from(length - count)])
            else {
                continue;
            };
            for child in self.trie.node_children(node).filter(|child| child.byte() != byte) {
                self.forbid_all(child, mask);
            }
        }
    }

    fn forbid_all(&self, node: &TrieNode, mask: &mut Mask) {
        mask.forbid(node.token_id());
        for child in self.trie.node_children(node) {
            self.forbid_all(child, mask);
        }
    }

    /// The tokens that are a beginning of the block's end.
    fn ending(&self, phase: Phase, mask: &mut Mask) {
        let mut node = self.trie.root();
        for byte in self.form.ending(phase) {
            let Some(child) = self.trie.child_at_byte(node, byte) else { return };
            mask.allow(child.token_id());
            node = child;
        }
    }

    /// The tokens below `node` that may be written from `phase`.
    fn node(&self, node: &TrieNode, phase: Phase, mask: &mut Mask) {
        match phase {
            Phase::Search(search) => self.search(node, search, mask),
            Phase::Replace(_) | Phase::Path { .. } => self.children(node, phase, mask),
            // A block is closed at the end of a token, so that its lines are known to be taken.
            Phase::End { .. } if !std::ptr::eq(node, self.trie.root()) => {}
            Phase::Open { .. } | Phase::Close { .. } | Phase::End { .. } | Phase::Over => {
                let byte = if let Phase::End { .. } = phase {
                    Some(b'\n')
                } else {
                    self.form.only(phase, self.left)
                };
                if let Some(child) = byte.and_then(|byte| self.trie.child_at_byte(node, byte)) {
                    self.child(child, phase, mask);
                }
            }
        }
    }

    fn children(&self, node: &TrieNode, phase: Phase, mask: &mut Mask) {
        for child in self.trie.node_children(node) {
            self.child(child, phase, mask);
        }
    }

    fn children_at(&self, byte: u8, phase: Phase, mask: &mut Mask) {
        if let Some(child) = self.trie.child_at_byte(self.trie.root(), byte) {
            self.child(child, phase, mask);
        }
    }

    fn child(&self, child: &TrieNode, phase: Phase, mask: &mut Mask) {
        if let Some(phase) = self.form.step(phase, child.byte(), self.left) {
            self.reach(child, phase, mask);
        }
    }

    fn reach(&self, node: &TrieNode, phase: Phase, mask: &mut Mask) {
        if node.token_id().is_some() && self.form.is_affordable(phase, self.left - 1) {
            mask.allow(node.token_id());
        }
        if node.subtree_size() > 1 {
            self.node(node, phase, mask);
        }
    }

    /// Many lines share their beginnings, and so do many tokens: both are walked once, side by side.
    fn search(&self, node: &TrieNode, search: Search, mask: &mut Mask) {
        let divider = self.form.divider(search);
        let mut children = self.trie.node_children(node).peekable();
        let mut done = None;
        for (byte, lo, hi) in self.form.branches(search, self.left) {
            while children.next_if(|child| child.byte() < byte).is_some() {}
            let Some(child) = children.next_if(|child| child.byte() == byte) else { continue };
            done = Some(byte);
            if divider == Some(byte) {
                self.child(child, Phase::Search(search), mask);
            } else {
                self.reach(child, Phase::Search(search.with(byte, lo, hi)), mask);
            }
        }
        if divider.is_some()
            && divider != done
            && let Some(child) = divider.and_then(|byte| self.trie.child_at_byte(node, byte))
        {
            self.child(child, Phase::Search(search), mask);
        }
    }
}
