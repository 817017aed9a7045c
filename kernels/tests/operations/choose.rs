//! What rows of logits come down to is the same on every device, bit for bit: the definition is [`Choice::of`].

use crate::rig::*;
use coder_kernels::{Backend, Choice, MAX_CANDIDATES, Pick};

/// Whether it is clear, and then its candidates and its logarithm.
fn essence(choice: &Choice) -> Option<(Vec<(u32, u32)>, u32)> {
    let candidates = choice.candidates().iter().map(|&(id, x)| (id, x.to_bits())).collect();
    choice.is_clear().then(|| (candidates, choice.log_sum().to_bits()))
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|x| x.to_bits()).collect()
}

/// Rows of every kind: smooth, of few values, with impossible tokens, and such that no choice of them is clear.
fn rows(vocab: usize) -> Vec<Vec<f32>> {
    let mut random = Random::new(vocab as u64);
    let smooth: Vec<f32> = random.floats(vocab).into_iter().map(|x| 20.0 * x).collect();
    let tied: Vec<f32> = random.floats(vocab).into_iter().map(|x| (4.0 * x).round() - 0.5).collect();
    let zeros: Vec<f32> = random.floats(vocab).into_iter().map(|x| (3.0 * x).round()).collect();
    let mut rare = vec![f32::NEG_INFINITY; vocab];
    (0..vocab).step_by(97).for_each(|i| rare[i] = smooth[i]);
    let with = |x: f32, row: &[f32]| {
        let mut row = row.to_vec();
        row[vocab / 2] = x;
        row
    };
    let descending = (0..vocab).map(|i| -1.0 - i as f32).collect();
    let mut rows =
        vec![with(f32::NAN, &smooth), with(f32::INFINITY, &tied), with(f32::NEG_INFINITY, &smooth)];
    rows.extend([smooth, tied, zeros, rare, descending, vec![1.5; vocab]]);
    rows.extend([vec![f32::NEG_INFINITY; vocab], vec![-0.0; vocab]]);
    rows
}

#[test]
fn the_same_candidates_and_sums() {
    every_device!(|device| {
        for vocab in [1, 31, 500, 2048, 5003] {
            let rows = rows(vocab);
            let data = rows.concat();
            let mut x = device.logits(rows.len(), vocab).unwrap();
            device.write(&mut x, &data).unwrap();
            let mut random = Random::new(5);
            let mut dense = || (0..vocab.div_ceil(32)).map(|_| random.bits()).collect::<Vec<u32>>();
            let mut sparse = vec![0; vocab.div_ceil(32)];
            sparse[vocab / 64] = 1 << (vocab / 2 % 32);
            let masks = [dense(), sparse, dense()[..vocab / 64].to_vec(), vec![], vec![u32::MAX; vocab]];
            for first in [0, 1, 2, 41, MAX_CANDIDATES] {
                // Rows of one call want different things.
                let pick = |row: usize| Pick {
                    mask: masks.get((row + first) % (masks.len() + 1)).map(Vec::as_slice),
                    candidates: if row % 4 == 3 { row % 3 } else { first },
                };
                let mut choices = vec![Choice::new(vocab); rows.len()];
                let mut whole = vec![0.0; data.len()];
                device.choose(&mut choices, &x, &mut (0..rows.len()).map(pick), &mut whole).unwrap();
                for (i, (row, choice)) in rows.iter().zip(&choices).enumerate() {
                    let mut expected = Choice::new(vocab);
                    expected.of(row, &pick(i));
                    let what = format!("{vocab} tokens, row {i}, {:?}", pick(i));
                    assert_eq!(essence(choice), essence(&expected), "{what}");
                    if !choice.is_clear() {
                        assert_eq!(bits(&whole[i * vocab..][..vocab]), bits(row), "{what}");
                    }
                }
            }
        }
    });
}

/// Whatever other rows there are, and with whatever is left of the call before.
#[test]
fn rows_do_not_depend_on_each_other() {
    every_device!(|device| {
        let vocab = 4100;
        let rows = rows(vocab);
        let mut x = device.logits(rows.len(), vocab).unwrap();
        for (i, row) in rows.iter().enumerate().rev() {
            let pick = Pick { mask: None, candidates: [128, 1, 21][i % 3] };
            let mut alone = [Choice::new(vocab)];
            device.write(&mut x, row).unwrap();
            device.choose(&mut alone, &x, &mut [pick].into_iter(), &mut vec![0.0; vocab]).unwrap();
            let mut expected = Choice::new(vocab);
            expected.of(row, &pick);
            assert_eq!(essence(&alone[0]), essence(&expected), "row {i}");
        }
    });
}

#[test]
fn what_cannot_be_picked_is_refused() {
    every_device!(|device| {
        let mut x = device.logits(2, 40).unwrap();
        device.write(&mut x, &[1.0; 80]).unwrap();
        let mut rows = vec![0.0; 80];
        let mut choices = vec![Choice::new(40); 2];
        let one = Pick { mask: None, candidates: 1 };
        let many = Pick { mask: None, candidates: MAX_CANDIDATES + 1 };
        let mut refused = |choices: &mut [Choice], picks: &[Pick<'_>], rows: &mut [f32]| {
            device.choose(choices, &x, &mut picks.iter().copied(), rows).is_err()
        };
        assert!(refused(&mut choices, &[one], &mut rows), "one row is missing");
        assert!(refused(&mut choices, &[one, many], &mut rows));
        assert!(refused(&mut choices, &[one, one], &mut rows[..79]));
        assert!(!refused(&mut choices, &[one, one], &mut rows));
    });
}
