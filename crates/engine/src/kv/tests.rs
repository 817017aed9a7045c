use super::*;
use proptest::prelude::*;

/// Every block's count is the number of sequences that hold it, and every block is used, idle or free.
pub(crate) fn check<'a>(cache: &Cache, live: impl IntoIterator<Item = &'a Sequence>) {
    let mut counts = vec![0u32; cache.blocks.len()];
    for sequence in live {
        for &block in sequence.blocks() {
            counts[block as usize] += 1;
        }
        // What is computed may be read by others, so nothing of it is written again.
        assert!(sequence.known <= sequence.computed() / BLOCK);
    }
    let refs: Vec<u32> = cache.blocks.iter().map(|block| block.refs).collect();
    assert_eq!(counts, refs);
    let mut place = vec![0; cache.blocks.len()];
    for (since, &block) in &cache.idle {
        let found = &cache.blocks[block as usize];
        assert!(found.refs == 0 && found.content.is_some() && found.idle_since == *since);
        // Nobody loses what a block goes on from before it.
        if let Some(Content { parent, key: Some(_), .. }) = &found.content
            && let Some(&before) = cache.whole.get(parent)
        {
            let before = &cache.blocks[before as usize];
            assert!(before.refs > 0 || before.idle_since > *since);
        }
        place[block as usize] += 1;
    }
    for &block in &cache.free {
        assert!(cache.blocks[block as usize].refs == 0 && cache.blocks[block as usize].content.is_none());
        place[block as usize] += 1;
    }
    for (block, places) in place.iter().enumerate() {
        assert_eq!(*places, i32::from(refs[block] == 0), "block {block}");
    }
    let known = cache.blocks.iter().filter(|block| block.content.is_some()).count();
    assert_eq!(cache.children.values().map(Vec::len).sum::<usize>(), known);
    for (key, &block) in &cache.whole {
        let content = cache.blocks[block as usize].content.as_ref().expect("a whole block has its content");
        assert_eq!(content.key.as_ref(), Some(key));
    }
}

/// Nothing is announced when nobody computes.
pub(crate) fn assert_nothing_coming(cache: &Cache) {
    assert!(cache.coming.is_empty());
}

fn admit(cache: &mut Cache, tokens: &[u32]) -> Sequence {
    let mut sequence = Sequence::new(tokens.to_vec());
    cache.admit(&mut sequence);
    sequence
}

fn compute(cache: &mut Cache, sequence: &mut Sequence) {
    let len = sequence.tokens().len();
    assert!(cache.reserve(sequence, len));
    cache.computed(sequence, len);
}

fn run(cache: &mut Cache, tokens: &[u32]) -> usize {
    let mut sequence = admit(cache, tokens);
    let cached = sequence.computed();
    compute(cache, &mut sequence);
    cache.retire(&mut sequence);
    check(cache, []);
    cached
}

#[test]
fn the_next_turn_computes_only_what_is_new() {
    let mut cache = Cache::new(8);
    let first: Vec<u32> = (0..40).collect();
    assert_eq!(run(&mut cache, &first), 0);
    assert_eq!(run(&mut cache, &[&first[..], &[7, 8, 9]].concat()), 40);
}

#[test]
fn a_branch_shares_whole_blocks_and_leaves_the_other_branch_alone() {
    let mut cache = Cache::new(16);
    let long: Vec<u32> = (0..200).collect();
    run(&mut cache, &long);
    let branch = [&long[..70], &[9999; 10]].concat();
    assert_eq!(run(&mut cache, &branch), 64);
    assert_eq!(run(&mut cache, &long), 199);
    assert_eq!(run(&mut cache, &branch), 79);
}

#[test]
fn the_same_prompt_again_leaves_one_token_to_compute() {
    let mut cache = Cache::new(4);
    let prompt: Vec<u32> = (0..64).collect();
    run(&mut cache, &prompt);
    assert_eq!(run(&mut cache, &prompt), 63);
}

#[test]
fn sequences_at_the_same_time_share_what_one_of_them_computed() {
    let mut cache = Cache::new(16);
    let prompt: Vec<u32> = (0..100).collect();
    let mut first = admit(&mut cache, &prompt);
    assert!(cache.is_coming(&mut Sequence::new(prompt.clone())));
    // Another text is not, nor one that ends before.
    assert!(!cache.is_coming(&mut Sequence::new(vec![1; 100])));
    assert!(!cache.is_coming(&mut Sequence::new(prompt[..32].to_vec())));
    // One that does not wait computes them once more, and then uses the other's.
    let mut hasty = admit(&mut cache, &prompt);
    compute(&mut cache, &mut first);
    let mut second = admit(&mut cache, &prompt);
    assert_eq!(second.computed(), 96);
    compute(&mut cache, &mut second);
    compute(&mut cache, &mut hasty);
    assert_eq!(first.blocks()[..3], hasty.blocks()[..3]);
    check(&cache, [&first, &second, &hasty]);
    assert_eq!(cache.used(), 3 + 3);
    for sequence in [&mut first, &mut second, &mut hasty] {
        cache.retire(sequence);
    }
    check(&cache, []);
    assert_nothing_coming(&cache);
}

#[test]
fn the_least_recently_used_go_first_and_their_end_before_their_beginning() {
    let mut cache = Cache::new(6);
    let (old, new): (Vec<u32>, Vec<u32>) = ((0..96).collect(), (100..196).collect());
    run(&mut cache, &old);
    run(&mut cache, &new);
    run(&mut cache, &[500; 32]);
    let cached = |cache: &mut Cache, tokens: &[u32]| {
        let mut sequence = admit(cache, tokens);
        let cached = sequence.computed();
        cache.retire(&mut sequence);
        cached
    };
    assert_eq!(cached(&mut cache, &new), 95);
    assert_eq!(cached(&mut cache, &old), 64);
}

#[test]
fn another_process_has_the_same_blocks_in_the_same_order() {
    let mut cache = Cache::new(20);
    let (old, new): (Vec<u32>, Vec<u32>) = ((0..100).collect(), (100..200).collect());
    run(&mut cache, &old);
    run(&mut cache, &new);
    // What is computed apart from all others is of no use to them.
    let mut apart = Sequence::apart((0..64).collect(), 3);
    cache.admit(&mut apart);
    compute(&mut cache, &mut apart);
    cache.retire(&mut apart);
    let mut live = admit(&mut cache, &[&old[..64], &[5; 40]].concat());
    compute(&mut cache, &mut live);
    let kept = |cache: &Cache, most| -> Vec<(Key, Vec<u32>)> {
        let content = |&block: &u32| cache.content(block).map(|(parent, tokens)| (*parent, tokens.to_vec()));
        cache.whole_blocks(most).iter().filter_map(content).collect()
    };
    let all = kept(&cache, 100);
    // What is in use, what was used last from its beginning on, and the end of what was used before.
    let first: Vec<u32> = all.iter().map(|(_, tokens)| tokens[0]).collect();
    assert_eq!(first, [0, 32, 5, 100, 132, 164, 64]);
    assert_eq!(kept(&cache, 4), all[..4]);
    let mut next = Cache::new(16);
    for (number, (parent, tokens)) in all.iter().enumerate() {
        assert!(next.restore(*parent, tokens.clone(), number as u64).is_some());
        check(&next, []);
    }
    assert_eq!(kept(&next, 100), all);
    // Nothing twice, nothing without what it goes on from, nothing that is no block, nothing without room.
    assert_eq!(next.restore(ROOT, all[0].1.clone(), 9), None);
    assert_eq!(next.restore([1; 32], vec![8; BLOCK], 9), None);
    assert_eq!(next.restore(ROOT, vec![8; BLOCK - 1], 9), None);
    assert_eq!(Cache::new(0).restore(ROOT, vec![8; BLOCK], 0), None);
    // What is used here goes later than all that was there before.
    assert_eq!(run(&mut next, &old), 96);
    assert_eq!(kept(&next, 100)[..3].iter().map(|(_, tokens)| tokens[0]).collect::<Vec<_>>(), [0, 32, 64]);
}

proptest! {
    #[test]
    fn blocks_are_never_lost_nor_shared_for_writing(
        turns in prop::collection::vec((0u32..3, 1usize..120, 0u32..3, any::<bool>()), 1..80)
    ) {
        let mut cache = Cache::new(12);
        let mut live: Vec<Sequence> = Vec::new();
        for (a, len, b, keep) in turns {
            let mut prompt = vec![a; len];
            prompt.extend(std::iter::repeat_n(b, len / 2));
            let mut sequence = admit(&mut cache, &prompt);
            prop_assert!(sequence.computed() < sequence.tokens().len());
            let len = sequence.tokens().len();
            if cache.reserve(&mut sequence, len) {
                cache.computed(&mut sequence, len);
            }
            check(&cache, live.iter().chain([&sequence]));
            if keep {
                live.push(sequence);
            } else {
                cache.retire(&mut sequence);
            }
            if live.len() > 2 || (!keep && !live.is_empty()) {
                cache.retire(&mut live.remove(0));
            }
            check(&cache, &live);
        }
        live.iter_mut().for_each(|sequence| cache.retire(sequence));
        check(&cache, []);
        assert_nothing_coming(&cache);
        prop_assert_eq!(cache.used(), 0);
    }
}
