//! Who owns which block of the key-value cache.
//!
//! Pure bookkeeping: the numbers lie in the device's [`Backend::Kv`](coder_kernels::Backend::Kv). Blocks
//! are counted references, so that sequences with a common beginning share its whole blocks; finished
//! sequences stay until their blocks are needed, so that the next turn computes only what is new.

use crate::sequence::Sequence;
use coder_kernels::BLOCK;

/// Blocks with reference counts.
#[derive(Debug)]
pub(crate) struct BlockPool {
    refs: Vec<u32>,
    free: Vec<u32>,
}

impl BlockPool {
    pub(crate) fn new(blocks: usize) -> Self {
        // Low numbers first: a short conversation then stays in few pages.
        Self { refs: vec![0; blocks], free: (0..blocks as u32).rev().collect() }
    }

    fn take(&mut self) -> Option<u32> {
        let block = self.free.pop()?;
        self.refs[block as usize] = 1;
        Some(block)
    }

    fn share(&mut self, block: u32) {
        debug_assert!(self.refs[block as usize] > 0);
        self.refs[block as usize] += 1;
    }

    fn release(&mut self, block: u32) {
        let refs = &mut self.refs[block as usize];
        debug_assert!(*refs > 0);
        *refs -= 1;
        if *refs == 0 {
            self.free.push(block);
        }
    }
}

/// The block pool and the finished sequences that are still worth their blocks.
#[derive(Debug)]
pub(crate) struct Cache {
    pool: BlockPool,
    /// Least recently used first. Every token of a kept sequence is computed.
    kept: Vec<Sequence>,
}

impl Cache {
    pub(crate) fn new(blocks: usize) -> Self {
        Self { pool: BlockPool::new(blocks), kept: Vec::new() }
    }

    /// A sequence for `prompt` whose longest known beginning is already computed. At least one token is
    /// left to compute, because its logits are wanted.
    pub(crate) fn admit(&mut self, prompt: Vec<u32>) -> Sequence {
        let limit = prompt.len().saturating_sub(1);
        let best = (0..self.kept.len())
            .map(|i| (i, self.kept[i].common_prefix(&prompt).min(limit)))
            .max_by_key(|&(_, common)| common);
        let mut sequence = Sequence::new(prompt);
        let Some((i, common)) = best else { return sequence };
        let known = self.kept.remove(i);
        if known.computed() - common < BLOCK {
            self.take_over(known.into_blocks(), common, &mut sequence);
        } else {
            let shared = known.blocks()[..common / BLOCK].to_vec();
            shared.iter().for_each(|&b| self.pool.share(b));
            let computed = shared.len() * BLOCK;
            sequence.adopt(shared, computed);
            self.kept.push(known);
        }
        sequence
    }

    /// Takes over the blocks of a sequence that is not kept any more, up to `common` positions.
    fn take_over(&mut self, mut blocks: Vec<u32>, common: usize, sequence: &mut Sequence) {
        for b in blocks.drain(common.div_ceil(BLOCK)..) {
            self.pool.release(b);
        }
        let mut computed = common;
        // The block that will be written next must be ours alone.
        if !common.is_multiple_of(BLOCK)
            && let Some(&last) = blocks.last()
            && self.pool.refs[last as usize] > 1
        {
            blocks.pop();
            self.pool.release(last);
            computed = blocks.len() * BLOCK;
        }
        sequence.adopt(blocks, computed);
    }

    /// Makes room for `positions` positions, if need be at the expense of kept sequences. `false` if even
    /// that is not enough; the sequence keeps what it has.
    pub(crate) fn reserve(&mut self, sequence: &mut Sequence, positions: usize) -> bool {
        while sequence.blocks().len() * BLOCK < positions {
            match self.pool.take() {
                Some(block) => sequence.push_block(block),
                None if self.kept.is_empty() => return false,
                None => {
                    let oldest = self.kept.remove(0);
                    self.drop_blocks(oldest);
                }
            }
        }
        true
    }

    /// Keeps what `sequence` has computed for a later prompt that begins like it.
    pub(crate) fn retire(&mut self, mut sequence: Sequence) {
        for block in sequence.forget_uncomputed() {
            self.pool.release(block);
        }
        if sequence.computed() > 0 {
            self.kept.push(sequence);
        }
    }

    fn drop_blocks(&mut self, sequence: Sequence) {
        for block in sequence.into_blocks() {
            self.pool.release(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every block's count is the number of sequences that hold it, and free blocks are held by none.
    fn check(cache: &Cache, live: &[Sequence]) {
        let mut counts = vec![0u32; cache.pool.refs.len()];
        for s in cache.kept.iter().chain(live) {
            for &b in s.blocks() {
                counts[b as usize] += 1;
            }
        }
        assert_eq!(counts, cache.pool.refs);
        assert_eq!(cache.pool.free.len(), counts.iter().filter(|&&c| c == 0).count());
    }

    fn compute(cache: &mut Cache, mut s: Sequence) -> Sequence {
        let len = s.tokens().len();
        assert!(cache.reserve(&mut s, len));
        s.mark_computed(len);
        s
    }

    #[test]
    fn the_next_turn_computes_only_what_is_new() {
        let mut cache = Cache::new(8);
        let first: Vec<u32> = (0..40).collect();
        let s = cache.admit(first.clone());
        assert_eq!(s.computed(), 0);
        let s = compute(&mut cache, s);
        cache.retire(s);
        let mut second = first.clone();
        second.extend([7, 8, 9]);
        let s = cache.admit(second);
        assert_eq!(s.computed(), 40);
        check(&cache, &[s]);
    }

    #[test]
    fn a_branch_shares_whole_blocks_and_leaves_the_other_branch_alone() {
        let mut cache = Cache::new(16);
        let long: Vec<u32> = (0..200).collect();
        let s = cache.admit(long.clone());
        let s = compute(&mut cache, s);
        cache.retire(s);
        let mut branch = long[..70].to_vec();
        branch.extend([9999; 10]);
        let s = cache.admit(branch);
        assert_eq!(s.computed(), 64);
        check(&cache, std::slice::from_ref(&s));
        cache.retire(s);
        assert_eq!(cache.admit(long).computed(), 199);
    }

    #[test]
    fn the_same_prompt_again_leaves_one_token_to_compute() {
        let mut cache = Cache::new(4);
        let prompt: Vec<u32> = (0..64).collect();
        let s = cache.admit(prompt.clone());
        let s = compute(&mut cache, s);
        cache.retire(s);
        assert_eq!(cache.admit(prompt).computed(), 63);
    }

    proptest! {
        #[test]
        fn blocks_are_never_lost_nor_shared_for_writing(
            turns in prop::collection::vec((0u32..3, 1usize..120, 0u32..3), 1..60)
        ) {
            let mut cache = Cache::new(6);
            for (a, len, b) in turns {
                let mut prompt = vec![a; len];
                prompt.extend(std::iter::repeat_n(b, len / 2));
                let s = cache.admit(prompt);
                check(&cache, std::slice::from_ref(&s));
                prop_assert!(s.computed() < s.tokens().len());
                let s = compute(&mut cache, s);
                check(&cache, std::slice::from_ref(&s));
                cache.retire(s);
                check(&cache, &[]);
            }
        }
    }
}
