//! What lies in which block of the key-value cache, and who uses it.
//!
//! Pure bookkeeping: the numbers lie in the device's [`Backend::Kv`](coder_kernels::Backend::Kv). A block that is
//! computed as a whole is known by the key of its tokens and of all before them, and every sequence that begins like
//! that shares it. Blocks that no sequence uses stay until they are needed, the least recently used go first; so the
//! next turn of a conversation computes only what is new.

use crate::sequence::{Key, ROOT, Sequence, key_after};
use coder_kernels::BLOCK;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The blocks of one device's cache.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    blocks: Vec<Block>,
    /// Blocks that hold nothing.
    free: Vec<u32>,
    /// Blocks that hold something and that no sequence uses, by the time of their last use.
    idle: BTreeMap<u64, u32>,
    /// Whole blocks.
    whole: HashMap<Key, u32>,
    /// What goes on from a key: whole blocks, and the beginnings of blocks that finished sequences left.
    children: HashMap<Key, Vec<u32>>,
    /// Keys of blocks that a sequence is going to compute, and how many do.
    coming: HashMap<Key, usize>,
    clock: u64,
}

#[derive(Clone, Debug, Default)]
struct Block {
    /// Sequences that use it.
    refs: u32,
    content: Option<Content>,
    /// Its place in `idle`.
    idle_since: u64,
}

/// What is known to lie in a block.
#[derive(Clone, Debug)]
struct Content {
    parent: Key,
    /// `None` while it is not whole.
    key: Option<Key>,
    tokens: Vec<u32>,
}

/// What sequences would give up for another one, counted without taking it from them.
#[derive(Debug)]
pub(crate) struct GivingUp<'a> {
    blocks: &'a [Block],
    /// How many of them hold a block; [`KEPT`] for one that the other sequence begins with.
    held: HashMap<u32, u32>,
}

/// Giving up a block that the other one would take at once gains nothing.
const KEPT: u32 = u32::MAX;

impl GivingUp<'_> {
    /// Blocks that nobody would use any more if `sequence`, and those asked about before, gave up theirs.
    pub(crate) fn take(&mut self, sequence: &Sequence) -> usize {
        let is_last = |&&block: &&u32| {
            let held = self.held.entry(block).or_default();
            *held = held.saturating_add(1);
            *held == self.blocks[block as usize].refs
        };
        sequence.blocks().iter().filter(is_last).count()
    }
}

impl Cache {
    pub(crate) fn new(blocks: usize) -> Self {
        Self {
            blocks: vec![Block::default(); blocks],
            // Low numbers first: a short conversation then stays in few pages.
            free: (0..blocks as u32).rev().collect(),
            idle: BTreeMap::new(),
            whole: HashMap::new(),
            children: HashMap::new(),
            coming: HashMap::new(),
            clock: 0,
        }
    }

    /// Blocks that a sequence can have.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// Blocks that sequences use.
    pub(crate) fn used(&self) -> usize {
        self.blocks.len() - self.available()
    }

    /// Blocks that sequences use, or that hold what a sequence left.
    pub(crate) fn filled(&self) -> usize {
        self.blocks.len() - self.free.len()
    }

    /// Leading whole blocks of the sequence that lie in the cache. At least one token is left to compute, because
    /// its logits are wanted.
    fn known(&self, sequence: &mut Sequence) -> usize {
        let most = sequence.tokens().len().saturating_sub(1) / BLOCK;
        (0..most).take_while(|&i| self.whole.contains_key(&sequence.key(i))).count()
    }

    /// Blocks that the sequence needs beyond those that others use already, for all of its tokens and one more.
    pub(crate) fn wanted(&self, sequence: &mut Sequence) -> usize {
        let known = self.known(sequence);
        let all = (sequence.tokens().len() + 1).div_ceil(BLOCK);
        let is_used = |key: &Key| self.blocks[self.whole[key] as usize].refs > 0;
        all - (0..known).filter(|&i| is_used(&sequence.key(i))).count()
    }

    /// Whether another sequence is just about to compute a block that this one needs next.
    pub(crate) fn is_coming(&self, sequence: &mut Sequence) -> bool {
        let known = self.known(sequence);
        (known + 1) * BLOCK < sequence.tokens().len() && self.coming.contains_key(&sequence.key(known))
    }

    /// Whether `other` is going to compute the block that this sequence needs next.
    pub(crate) fn waits_for(&self, sequence: &mut Sequence, other: &Sequence) -> bool {
        let known = self.known(sequence);
        (known + 1) * BLOCK < sequence.tokens().len() && other.announces(&sequence.key(known))
    }

    /// Gives a sequence that has no blocks those that hold its beginning, and announces what it will compute.
    pub(crate) fn admit(&mut self, sequence: &mut Sequence) {
        debug_assert!(sequence.blocks().is_empty() && sequence.computed() == 0);
        let known = self.known(sequence);
        for i in 0..known {
            let block = self.whole[&sequence.key(i)];
            self.share(block);
            sequence.push_block(block);
        }
        sequence.known = known;
        sequence.mark_computed(known * BLOCK);
        self.take_over(sequence);
        sequence.announced = sequence.tokens().len() / BLOCK;
        for i in known..sequence.announced {
            *self.coming.entry(sequence.key(i)).or_default() += 1;
        }
    }

    /// After the whole blocks that are shared, a block whose beginning fits is taken over and written from there on,
    /// if no sequence uses it and nothing goes on from it: at most a block's tokens are lost to others.
    fn take_over(&mut self, sequence: &mut Sequence) {
        let (known, last) = (sequence.known, sequence.tokens().len() - 1);
        let parent = sequence.parent(known);
        let rest = &sequence.tokens()[known * BLOCK..last];
        let Some(children) = self.children.get(&parent) else { return };
        let fits = |&block: &u32| {
            let Block { refs: 0, content: Some(content), .. } = &self.blocks[block as usize] else {
                return None;
            };
            let is_leaf = content.key.is_none_or(|key| !self.children.contains_key(&key));
            let common = content.tokens.iter().zip(rest).take_while(|(a, b)| a == b).count();
            (is_leaf && common > 0).then_some((common, block))
        };
        let Some((common, block)) = children.iter().filter_map(fits).max() else { return };
        self.share(block);
        self.forget(block);
        sequence.push_block(block);
        sequence.mark_computed(known * BLOCK + common);
    }

    /// Makes room for `positions` positions, if need be at the expense of blocks that no sequence uses. `false` if
    /// even that is not enough; the sequence keeps what it has.
    pub(crate) fn reserve(&mut self, sequence: &mut Sequence, positions: usize) -> bool {
        while sequence.blocks().len() * BLOCK < positions {
            let Some(block) = self.free.pop().or_else(|| self.idle.pop_first().map(|(_, block)| block))
            else {
                return false;
            };
            self.forget(block);
            self.blocks[block as usize].refs = 1;
            sequence.push_block(block);
        }
        true
    }

    /// Notes that the sequence is computed up to `computed`: its whole blocks can be shared from now on.
    pub(crate) fn computed(&mut self, sequence: &mut Sequence, computed: usize) {
        sequence.mark_computed(computed);
        while (sequence.known + 1) * BLOCK <= computed {
            let i = sequence.known;
            let (parent, key) = (sequence.parent(i), sequence.key(i));
            let ours = sequence.blocks()[i];
            if let Some(&known) = self.whole.get(&key) {
                // Another sequence was first; the same tokens give the same bits, so one of the two is enough.
                self.share(known);
                sequence.blocks_mut()[i] = known;
                self.release(ours);
            } else {
                let tokens = sequence.tokens()[i * BLOCK..(i + 1) * BLOCK].to_vec();
                self.remember(ours, Content { parent, key: Some(key), tokens });
            }
            if i < sequence.announced {
                self.no_longer_coming(key);
            }
            sequence.known += 1;
        }
    }

    /// Takes back the blocks of a sequence and keeps what is computed in them for one that begins like it.
    pub(crate) fn retire(&mut self, sequence: &mut Sequence) {
        let (whole, computed) = (sequence.known, sequence.computed());
        if whole * BLOCK < computed {
            let (parent, tokens) =
                (sequence.parent(whole), sequence.tokens()[whole * BLOCK..computed].to_vec());
            self.remember(sequence.blocks()[whole], Content { parent, key: None, tokens });
        }
        self.take_back(sequence);
    }

    /// Takes back the blocks of a sequence that has ended. Nothing is kept of one that none can begin like, so that what
    /// others left is not lost for it.
    pub(crate) fn end(&mut self, sequence: &mut Sequence) {
        if !sequence.is_apart() {
            return self.retire(sequence);
        }
        for &block in sequence.blocks() {
            self.forget(block);
        }
        self.take_back(sequence);
    }

    fn take_back(&mut self, sequence: &mut Sequence) {
        for i in sequence.known..sequence.announced {
            self.no_longer_coming(sequence.key(i));
        }
        // The end is forgotten before the beginning, which more sequences have.
        for block in sequence.release().into_iter().rev() {
            self.release(block);
        }
    }

    /// Whether there is a block that holds nothing.
    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Up to `most` whole blocks, each behind the one that it goes on from: those that are in use, then those that were,
    /// the last first.
    pub(crate) fn whole_blocks(&self, most: usize) -> Vec<u32> {
        let (mut found, mut next) = (Vec::new(), vec![ROOT]);
        while let Some(parent) = next.pop() {
            for &block in self.children.get(&parent).into_iter().flatten() {
                if self.blocks[block as usize].refs > 0 {
                    found.push(block);
                    next.extend(self.key_of(block));
                }
            }
        }
        // Whoever uses a block uses those before it, and gives them back later.
        found.extend(self.idle.values().rev());
        let mut keys = HashSet::from([ROOT]);
        let follows = |block: &u32| match &self.blocks[*block as usize].content {
            Some(Content { parent, key: Some(key), .. }) => keys.contains(parent) && keys.insert(*key),
            _ => false,
        };
        found.into_iter().filter(follows).take(most).collect()
    }

    /// The key of a whole block.
    pub(crate) fn key_of(&self, block: u32) -> Option<Key> {
        self.blocks.get(block as usize)?.content.as_ref()?.key
    }

    /// The key before a block, and its tokens.
    pub(crate) fn content(&self, block: u32) -> Option<(&Key, &[u32])> {
        self.blocks
            .get(block as usize)?
            .content
            .as_ref()
            .map(|content| (&content.parent, &content.tokens[..]))
    }

    /// Gives a whole block of a former process its place, the `number`-th of those that come, which was used the later
    /// the lower that is. `None` if it goes on from nothing that is known, is known itself, or finds no room.
    pub(crate) fn restore(&mut self, parent: Key, tokens: Vec<u32>, number: u64) -> Option<u32> {
        let key = key_after(&parent, &tokens);
        let is_known = |key: &Key| self.whole.contains_key(key);
        if tokens.len() != BLOCK || (parent != ROOT && !is_known(&parent)) || is_known(&key) {
            return None;
        }
        let block = self.free.pop()?;
        self.remember(block, Content { parent, key: Some(key), tokens });
        // The time before all others, of which there is enough.
        const BEFORE: u64 = 1 << 40;
        self.clock = self.clock.max(BEFORE);
        let since = BEFORE.saturating_sub(number);
        self.blocks[block as usize].idle_since = since;
        self.idle.insert(since, block);
        Some(block)
    }

    /// To find out what sequences would give up for `sequence`.
    pub(crate) fn giving_up(&self, sequence: &mut Sequence) -> GivingUp<'_> {
        let known = self.known(sequence);
        let held = (0..known).map(|i| (self.whole[&sequence.key(i)], KEPT)).collect();
        GivingUp { blocks: &self.blocks, held }
    }

    fn no_longer_coming(&mut self, key: Key) {
        if let Some(count) = self.coming.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.coming.remove(&key);
            }
        }
    }

    fn share(&mut self, block: u32) {
        let Block { refs, idle_since, .. } = &mut self.blocks[block as usize];
        if *refs == 0 {
            self.idle.remove(idle_since);
        }
        *refs += 1;
    }

    fn release(&mut self, block: u32) {
        let Block { refs, content, idle_since } = &mut self.blocks[block as usize];
        debug_assert!(*refs > 0);
        *refs -= 1;
        if *refs > 0 {
            return;
        }
        if content.is_none() {
            return self.free.push(block);
        }
        self.clock += 1;
        *idle_since = self.clock;
        self.idle.insert(self.clock, block);
    }

    fn remember(&mut self, block: u32, content: Content) {
        self.children.entry(content.parent).or_default().push(block);
        if let Some(key) = content.key {
            self.whole.insert(key, block);
        }
        self.blocks[block as usize].content = Some(content);
    }

    fn forget(&mut self, block: u32) {
        let Some(content) = self.blocks[block as usize].content.take() else { return };
        if let Some(key) = content.key {
            self.whole.remove(&key);
        }
        if let Some(children) = self.children.get_mut(&content.parent) {
            children.retain(|&child| child != block);
            if children.is_empty() {
                self.children.remove(&content.parent);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
