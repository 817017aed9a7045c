//! Mistakes that were planted in kernels are reported, each as what it is, and the same kernels without them pass.

use coder_cuda_emulator::{float_to_half, half_to_float, planted};

/// Kernels of planted.cu in their order, and words of what is to be reported.
const MISTAKES: [(&str, &str); 49] = [
    ("missing_barrier", "race"),
    ("missing_first_barrier", "nobody wrote it"),
    ("missing_warp_barrier", "race"),
    ("shuffle_as_barrier", "race"),
    ("off_by_one", "0 bytes behind an allocation of 1024 bytes"),
    ("unwritten_shared", "byte 252 of shared memory of 1024 bytes: nobody wrote it"),
    ("write_outside", "0 bytes behind an allocation of 1024 bytes"),
    ("shared_outside", "outside"),
    ("shared_too_small", "outside, the launch gives 1020"),
    ("divergent_barrier", "returned while 16 threads wait at sync_block"),
    ("early_return", "returned while 40 threads wait at sync_block"),
    ("missing_lane", "returned while lanes"),
    ("two_operations", "at vote_any while lanes 0 1 2 3 4 5 6 of its warp wait at sync_warp"),
    ("barrier_and_shuffle", "at shuffle while lanes 0 1 2 3 4 5 6 of its warp wait at sync_block"),
    ("missing_wait", "copy_async was not waited for"),
    ("wait_for_too_few", "copy_async was not waited for"),
    ("wait_without_barrier", "race"),
    ("wait_without_commit", "copy_async was not waited for"),
    ("copy_into_use", "race"),
    ("beyond_array", "element 64 of an array: outside"),
    ("misaligned", "misaligned"),
    ("two_blocks", "two blocks of one launch, another block wrote it"),
    ("blocks_read_behind", "two blocks of one launch, another block wrote it"),
    ("blocks_read_ahead", "two blocks of one launch, another block read it"),
    ("global_race", "race"),
    ("bytes_race", "race"),
    ("product", "wrong product"),
    ("product", "wrong product"),
    ("product", "wrong product"),
    ("replay", "wrong replay"),
    ("tail_too_early", "two blocks of one launch, another block wrote it"),
    ("unfinished", "1 of 4 blocks never finish, and its tail waits for ever"),
    ("tail_reads_tail", "two blocks of one launch, another block"),
    ("hasty", "block (1, 0, 0), thread 40 reads 4 bytes"),
    ("hasty", "(byte 416 of an allocation of 1024 bytes): it has not waited for the launch before"),
    ("hasty", "it has not waited for the launch before"),
    ("hasty", "thread 40 copies from"),
    ("hasty", "thread 40 returned without having waited for the launch before"),
    ("hasty", "asks for 4096 bytes ahead, at"),
    ("hasty", "misaligned"),
    ("upload", "upload of 1028 bytes"),
    ("download", "memory that nobody wrote"),
    ("reads", "nobody wrote it"),
    ("reads", "no device memory"),
    ("release", "release of"),
    ("reads", "byte 0 of freed memory of 1024 bytes"),
    ("write_first", "impossible launch"),
    ("upload", "while a graph is captured"),
    ("memory", "no memory left"),
];

#[test]
fn every_planted_mistake_is_reported() {
    for (which, (name, words)) in MISTAKES.iter().enumerate() {
        let which = i32::try_from(which).unwrap();
        assert_eq!(planted(which, false), Ok(()), "{name} without its mistake");
        let said = planted(which, true).expect_err(name);
        println!("{said}");
        assert!(said.contains(words) && said.contains(name), "{name} should say `{words}`, says `{said}`");
    }
}

/// Several devices in several threads do not disturb one another.
#[test]
fn devices_are_independent() {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for which in [0, 18, 26] {
                    assert_eq!(planted(which, false), Ok(()));
                    planted(which, true).unwrap_err();
                }
            });
        }
    });
}

/// The number that 16 bits stand for, by definition; infinity counts as the number that would come next.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff));
    let size = if exponent == 0 {
        fraction * 2f64.powi(-24)
    } else {
        (1024.0 + fraction) * 2f64.powi(exponent - 25)
    };
    if bits >> 15 == 0 { size } else { -size }
}

#[test]
fn halves_become_floats() {
    for bits in 0..=u16::MAX {
        let x = half_to_float(bits);
        match (bits >> 10 & 31, bits & 0x3ff) {
            (31, 0) => assert_eq!(x, if bits >> 15 == 0 { f32::INFINITY } else { f32::NEG_INFINITY }),
            (31, _) => assert!(x.is_nan()),
            _ => {
                assert_eq!((f64::from(x), x.is_sign_negative()), (half(bits), bits >> 15 == 1), "{bits:#06x}")
            }
        }
    }
}

/// The nearest half, and of two the one that ends in an even bit.
fn nearest(x: f32) -> u16 {
    let (size, sign) = (f64::from(x.abs()), u16::from(x.is_sign_negative()) << 15);
    let above =
        (0..=0x7c00u16).collect::<Vec<_>>().partition_point(|&bits| half(bits) < size).min(0x7c00) as u16;
    let below = above.saturating_sub(1);
    let (up, down) = (half(above) - size, size - half(below));
    sign | if up < down || (up == down && above.is_multiple_of(2)) { above } else { below }
}

#[test]
fn floats_become_halves() {
    let mut floats = vec![0.0, f32::MIN_POSITIVE, 1e-45, f32::MAX, f32::INFINITY, 65519.996, 65520.0];
    for bits in (0..0x7c00u16).step_by(7).chain(0..70).chain(1000..1060).chain(0x7bf0..0x7c00) {
        // The number, the middle between it and the next, and what lies beside either.
        let (x, next) = (half(bits) as f32, half(bits + 1) as f32);
        for x in [x, (x + next) / 2.0] {
            floats.extend([x, x.next_up(), x.next_down()]);
        }
    }
    let mut seed = 1u64;
    for _ in 0..2000 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        // Exponents about those of halves.
        floats.push(f32::from_bits((seed >> 40) as u32 % 0x1000_0000 + 0x3200_0000));
    }
    for x in floats.into_iter().filter(|x| !x.is_nan()) {
        assert_eq!(float_to_half(x), nearest(x), "{x:e}");
        assert_eq!(float_to_half(-x), nearest(-x), "{:e}", -x);
    }
    assert_eq!(float_to_half(f32::NAN) & 0x7c00, 0x7c00);
    assert_ne!(float_to_half(f32::NAN) & 0x3ff, 0);
}
