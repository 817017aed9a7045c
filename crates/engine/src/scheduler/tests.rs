use super::*;
use crate::kv::tests::{assert_nothing_coming, check};

const CAPACITY: Capacity = Capacity { rows: 64, sequences: 4 };

/// Computes what was planned; gives every sequence that is computed one more token.
fn step(scheduler: &mut Scheduler<usize>) -> Vec<(usize, usize)> {
    scheduler.plan(|_, most| most.min(128));
    let rows: Vec<_> = scheduler.running().iter().map(|entry| (entry.answer, entry.rows)).collect();
    for at in 0..scheduler.running().len() {
        let entry = &mut scheduler.running_mut()[at];
        let computed = entry.sequence.computed() + entry.rows;
        let completed = entry.is_completed();
        scheduler.computed(at, computed);
        if completed {
            scheduler.running_mut()[at].sequence.push(7);
        }
    }
    rows
}

/// Tokens that have nothing in common with another number's.
fn tokens(number: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| number * 10_000 + i).collect()
}

#[test]
fn decoding_goes_before_reading_and_readers_take_turns() {
    let mut scheduler = Scheduler::new(100, CAPACITY);
    scheduler.submit(0, tokens(1, 20), false, 1);
    assert_eq!(step(&mut scheduler), [(1, 20)]);
    scheduler.submit(0, tokens(2, 200), false, 2);
    scheduler.submit(0, tokens(3, 100), false, 3);
    // The shorter one first, what is left for the longer; one of a higher priority before both.
    assert_eq!(step(&mut scheduler), [(1, 1), (2, 0), (3, 63)]);
    scheduler.submit(1, tokens(4, 40), false, 4);
    assert_eq!(step(&mut scheduler), [(4, 40), (1, 1), (2, 0), (3, 23)]);
    assert_eq!(step(&mut scheduler), [(4, 1), (1, 1), (2, 48), (3, 14)]);
}

#[test]
fn prompts_have_as_many_rows_as_they_are_given() {
    let mut scheduler = Scheduler::new(300, Capacity { rows: 512, ..CAPACITY });
    scheduler.submit(0, tokens(1, 4000), false, 1);
    assert_eq!(step(&mut scheduler), [(1, 128)]);
    scheduler.submit(1, tokens(2, 20), false, 2);
    assert_eq!(step(&mut scheduler), [(2, 20), (1, 128)]);
    for (given, rows) in [(48, 48), (0, 1), (4000, 511)] {
        scheduler.plan(|writing, most| {
            assert_eq!((writing, most), (1, 511));
            given
        });
        assert_eq!(scheduler.running()[1].rows, rows);
    }
}

/// Steps until each prompt is read, by its number.
fn ends(lengths: &[usize], later: impl Fn(usize) -> Option<usize>) -> Vec<usize> {
    let mut scheduler = Scheduler::new(2000, Capacity { rows: 64, sequences: 50 });
    for (number, len) in lengths.iter().enumerate() {
        scheduler.submit(0, tokens(number as u32, *len), false, number);
    }
    let mut ends = vec![0; lengths.len()];
    for now in 1.. {
        assert!(now < 10_000, "{ends:?}");
        step(&mut scheduler);
        // Who has read its prompt goes.
        let read = scheduler.running().iter().filter(|entry| entry.sequence.pending() == 1);
        let read: Vec<_> = read.map(|entry| entry.answer).collect();
        for over in scheduler.withdraw(|number| read.contains(number)) {
            if let Some(end) = ends.get_mut(over.answer) {
                *end = now;
            }
        }
        if ends.iter().all(|end| *end > 0) {
            break;
        }
        if let Some(len) = later(now) {
            scheduler.submit(0, tokens(100 + now as u32, len), false, usize::MAX - now);
        }
    }
    ends
}

#[test]
fn prompts_end_no_later_than_if_all_were_read_together() {
    for lengths in [&[128; 16][..], &[4000, 40, 500, 64, 2000, 100], &[40, 80, 160, 320, 640]] {
        // Even shares of 64 rows.
        let (mut left, mut together, mut now) = (lengths.to_vec(), vec![0; lengths.len()], 0);
        while left.iter().any(|left| *left > 0) {
            now += 1;
            let (mut rows, mut readers) = (64usize, left.iter().filter(|left| **left > 0).count());
            for (left, end) in left.iter_mut().zip(&mut together).filter(|(left, _)| **left > 0) {
                let share = rows.div_ceil(readers).min(*left);
                (rows, readers) = (rows - share, readers - 1);
                *left -= share;
                *end = now;
            }
        }
        let ends = ends(lengths, |_| None);
        assert!(ends.iter().zip(&together).all(|(end, together)| end <= together), "{ends:?} {together:?}");
        assert!(
            ends.iter().sum::<usize>() * 10 < together.iter().sum::<usize>() * 9,
            "{ends:?} {together:?}"
        );
    }
    // Short ones that keep coming, nearly as many as can be read, delay a long one, but not for ever.
    let end = ends(&[2000], |_| Some(60))[0];
    assert!((60..200).contains(&end), "{end}");
}

#[test]
fn a_common_beginning_is_computed_once() {
    let mut scheduler = Scheduler::new(100, CAPACITY);
    for number in 1..=3 {
        scheduler.submit(0, [tokens(9, 64), tokens(number, 10)].concat(), false, number as usize);
    }
    scheduler.submit(0, tokens(4, 40), false, 4);
    // The second and the third wait for the first; the fourth does not.
    assert_eq!(step(&mut scheduler), [(1, 24), (4, 40)]);
    assert_eq!(step(&mut scheduler), [(1, 50), (4, 1)]);
    assert_eq!(step(&mut scheduler), [(1, 1), (2, 10), (3, 10), (4, 1)]);
}

#[test]
fn a_higher_priority_takes_the_place_of_a_lower_one() {
    let mut scheduler = Scheduler::new(8, CAPACITY);
    scheduler.submit(0, tokens(1, 200), false, 1);
    step(&mut scheduler);
    scheduler.submit(0, tokens(2, 200), false, 2);
    assert_eq!(step(&mut scheduler), [(1, 64)], "no room for two");
    scheduler.submit(1, tokens(3, 200), false, 3);
    assert_eq!(step(&mut scheduler), [(3, 64)]);
    assert_eq!(scheduler.preemptions(), 1);
}

#[test]
fn when_blocks_run_out_the_last_one_starts_again() {
    let mut scheduler = Scheduler::new(4, CAPACITY);
    scheduler.submit(0, tokens(1, 30), false, 1);
    scheduler.submit(0, tokens(2, 30), false, 2);
    step(&mut scheduler);
    let mut lengths = std::collections::BTreeMap::new();
    for _ in 0..70 {
        for (number, rows) in step(&mut scheduler) {
            *lengths.entry(number).or_insert(0) += rows;
        }
    }
    assert!(scheduler.preemptions() >= 1);
    assert_eq!(lengths[&1], 70, "the first never waits");
}

/// A hundred thousand operations on one scheduler with a cache that is far too small.
#[test]
fn no_block_is_lost_and_every_sequence_ends() {
    random_operations(Capacity { rows: 48, sequences: 5 }, 70_000);
    // Fewer rows than sequences.
    random_operations(Capacity { rows: 3, sequences: 6 }, 30_000);
}

fn random_operations(capacity: Capacity, count: usize) {
    let mut state = 1u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    // A sequence has at most 8 blocks.
    let (blocks, longest) = (10, 8 * BLOCK);
    let mut scheduler: Scheduler<usize> = Scheduler::new(blocks, capacity);
    // Of every sequence: how long it will be, and whether it ended.
    let mut goals: Vec<usize> = Vec::new();
    let (mut submitted, mut ended, mut operations) = (0, 0, 0);
    while operations < count || ended < submitted {
        operations += 1;
        assert!(operations < 30 * count, "`{}` never end", submitted - ended);
        match random(8) {
            0 | 1 if operations < count && scheduler.waiting() < 50 => {
                let len = 1 + random(longest as u64 / 2) as usize;
                // Few different beginnings, so that much is shared.
                let family = random(4) as u32;
                let own = random(len as u64 + 1) as usize;
                let text =
                    [&tokens(family, len - own)[..], &tokens(10 + goals.len() as u32 % 50, own)].concat();
                goals.push(len + 1 + random((longest - len) as u64) as usize);
                scheduler.submit(random(3) as i32 - 1, text, false, goals.len() - 1);
                submitted += 1;
            }
            2 => {
                let unlucky = random(goals.len().max(1) as u64) as usize;
                ended += scheduler.withdraw(|&mut number| number == unlucky).len();
            }
            _ => {
                let busy = !scheduler.is_idle();
                scheduler.plan(|_, most| random(most as u64 + 1) as usize);
                let rows: usize = scheduler.running().iter().map(|entry| entry.rows).sum();
                assert!(rows <= capacity.rows && (rows > 0) == busy, "{rows} rows, busy {busy}");
                for at in 0..scheduler.running().len() {
                    let entry = &scheduler.running()[at];
                    let (completed, rows) = (entry.is_completed(), entry.rows);
                    let wanted = if completed { random(6) as usize } else { 0 };
                    let drafts = scheduler.place_drafts(at, wanted.min(capacity.rows - rows));
                    let right = random(drafts as u64 + 1) as usize;
                    let entry = &mut scheduler.running_mut()[at];
                    let end = entry.sequence.computed() + rows + right;
                    assert!(end <= entry.sequence.blocks().len() * BLOCK);
                    if completed {
                        // The drafts that were right, and what is sampled after them.
                        let number = entry.answer as u32;
                        (0..=right).for_each(|_| entry.sequence.push(number));
                    }
                    scheduler.computed(at, end);
                }
                let long: Vec<usize> = scheduler
                    .running()
                    .iter()
                    .filter(|entry| entry.sequence.tokens().len() >= goals[entry.answer])
                    .map(|entry| entry.answer)
                    .collect();
                ended += scheduler.withdraw(|number| long.contains(number)).len();
            }
        }
        assert!(scheduler.running().len() <= capacity.sequences);
        check(scheduler.cache(), scheduler.running().iter().map(|entry| &entry.sequence));
    }
    assert_eq!(scheduler.cache().used(), 0);
    assert_nothing_coming(scheduler.cache());
    println!("{submitted} sequences, {} preemptions", scheduler.preemptions());
    assert!(submitted > 200 && scheduler.preemptions() > 100);
}

#[test]
fn what_none_can_begin_like_takes_nothing_from_what_others_left() {
    let mut scheduler = Scheduler::new(8, CAPACITY);
    let mut read = |tokens: Vec<u32>, apart| {
        scheduler.submit(0, tokens, apart, 0);
        scheduler.plan(|_, most| most);
        let cached = scheduler.running()[0].sequence.computed();
        let reached = cached + scheduler.running()[0].rows;
        scheduler.computed(0, reached);
        scheduler.withdraw(|_| true);
        check(scheduler.cache(), []);
        assert_nothing_coming(scheduler.cache());
        cached
    };
    assert_eq!(read(tokens(1, 40), false), 0);
    for number in 2..10 {
        assert_eq!(read(tokens(number, 60), true), 0);
    }
    assert_eq!(read(tokens(1, 40), false), 39);
    assert_eq!(scheduler.cache().filled(), 40usize.div_ceil(BLOCK));
}

/// Whoever loses its blocks loses them to one of a higher priority that runs from then on, and no one waits for what
/// all of a lower priority together have.
#[test]
fn none_is_preempted_in_vain() {
    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % below as u64) as usize
    };
    let (mut in_vain, mut preempted, mut refused) = (0, 0, 0);
    for round in 0..4000 {
        let mut scheduler: Scheduler<usize> =
            Scheduler::new(12, Capacity { rows: 64, sequences: 1 + random(6) });
        for number in 0..8 {
            let common = tokens(random(3) as u32, random(5) * BLOCK);
            let own = tokens(10 + (round % 50 * 8 + number) as u32, 1 + random(5 * BLOCK));
            scheduler.submit(random(4) as i32, [common, own].concat(), false, number);
            if random(2) == 0 {
                step(&mut scheduler);
                // Some wait longer than others for their next tokens.
                scheduler.withdraw(|_| random(16) == 0);
            }
        }
        let before = scheduler.clone();
        scheduler.admit();
        let running = |scheduler: &Scheduler<usize>| {
            scheduler.running.iter().map(|entry| (entry.answer, entry.order.0.0)).collect::<Vec<_>>()
        };
        let (was, is) = (running(&before), running(&scheduler));
        let admitted = is.iter().filter(|entry| !was.contains(entry)).map(|entry| entry.1).max();
        for (_, priority) in was.iter().filter(|entry| !is.contains(entry)) {
            preempted += 1;
            in_vain += usize::from(admitted.is_none_or(|admitted| admitted <= *priority));
        }
        // The first that waits for room cannot have it at the expense of all who are less important.
        let mut rest = scheduler.clone();
        let first = (0..rest.waiting.len()).find(|&at| !rest.cache.is_coming(&mut rest.waiting[at].sequence));
        // Unless others before it wait for what those compute.
        if let Some(first) = first.filter(|&first| first == 0) {
            let (order, number) = (rest.waiting[first].order, rest.waiting[first].answer);
            while rest.running.last().is_some_and(|last| last.order.0 > order.0) {
                refused += 1;
                rest.preempt_last();
            }
            let at = rest.waiting.iter().position(|entry| entry.answer == number).expect("it waits");
            assert_eq!(rest.victims(at), None, "round {round}: it could have had room");
        }
        check(scheduler.cache(), scheduler.running().iter().map(|entry| &entry.sequence));
    }
    println!("{preempted} preempted, {refused} spared");
    assert_eq!(in_vain, 0);
    assert!(preempted > 300 && refused > 100);
}
