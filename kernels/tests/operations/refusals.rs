//! What does not fit together is an error, never a panic.

use crate::rig::*;
use coder_kernels::cuda::{self, Cuda};
use coder_kernels::{
    BLOCK, Backend, Batch, BlockType, Error, Heads, KvType, NO_SLOT, Next, OfHeads, QkNorm, QuantRows,
    Result, Rope, Span, Version,
};

const HEADS: Heads = Heads { q: 2, kv: 1, dim: 4 };

fn shape<T>(result: Result<T>) -> bool {
    matches!(result, Err(Error::Shape { .. }))
}

fn index<T>(result: Result<T>) -> bool {
    matches!(result, Err(Error::Batch { .. }))
}

#[test]
fn buffers_without_columns_and_beyond_memory() {
    every_device!(|cpu| {
        assert!(shape(cpu.buf(3, 0)));
        assert!(shape(cpu.vector(&[])));
        assert!(shape(cpu.routes(3, 0)));
        assert!(cpu.buf(0, 3).is_ok());
        assert!(matches!(cpu.buf(usize::MAX, 3), Err(Error::OutOfMemory { .. })));
        assert!(matches!(cpu.kv(usize::MAX, HEADS, KvType::F16), Err(Error::OutOfMemory { .. })));
        for heads in [Heads { q: 3, kv: 2, ..HEADS }, Heads { kv: 0, ..HEADS }, Heads { dim: 3, ..HEADS }] {
            assert!(shape(cpu.kv(32, heads, KvType::F32)));
        }
    });
}

#[test]
fn weights_whose_parts_do_not_fit() {
    every_device!(|cpu| {
        let data = [0; 64];
        let rows = |rows, cols| QuantRows::new(BlockType::F32, rows, cols, &data[..4 * rows * cols]).unwrap();
        assert!(shape(cpu.mat(&[], 1)));
        assert!(shape(cpu.mat(&[rows(2, 0)], 1)));
        assert!(shape(cpu.mat(&[rows(0, 2)], 1)));
        assert!(shape(cpu.mat(&[rows(2, 2)], 0)));
        assert!(shape(cpu.mat(&[rows(2, 2), rows(2, 3)], 1)));
        assert!(shape(cpu.mat(&[rows(4, 2), rows(3, 2)], 2)));
        assert!(cpu.mat(&[rows(4, 2), rows(2, 2)], 2).is_ok());
    });
}

#[test]
fn operands_that_do_not_fit() {
    every_device!(|cpu| {
        let c = cpu;
        let x = filled(c, &[1.0; 12], 4);
        let w = dense(c, BlockType::F32, &bytes(&[1.0; 20]), 4);
        let other = dense(c, BlockType::F32, &bytes(&[1.0; 20]), 5);
        let data = bytes(&[1.0; 16]);
        let experts = c.mat(&[QuantRows::new(BlockType::F32, 4, 4, &data).unwrap()], 2).unwrap();
        let (mut small, mut wrong, mut right) =
            (c.buf(2, 5).unwrap(), c.buf(3, 6).unwrap(), c.buf(3, 5).unwrap());
        assert!(shape(c.matmul(&mut small, &x, &w)));
        assert!(shape(c.matmul(&mut wrong, &x, &w)));
        assert!(shape(c.matmul(&mut right, &x, &other)));
        assert!(shape(c.matmul(&mut right, &x, &experts)));
        assert!(c.matmul(&mut right, &x, &w).is_ok());
        let (mut y, four, five) =
            (c.buf(3, 4).unwrap(), c.vector(&[1.0; 4]).unwrap(), c.vector(&[1.0; 5]).unwrap());
        assert!(shape(c.rms_norm(&mut y, &x, &five, 1e-6)));
        assert!(shape(c.rms_norm(&mut right, &x, &four, 1e-6)));
        assert!(shape(c.rms_norm(&mut y, &x, &x, 1e-6)));
        assert!(shape(c.bias(&mut right, &four)));
        assert!(shape(c.add(&mut right, &x)));
        assert!(shape(c.add(&mut y, &x)), "no row of y is in use");
        assert!(shape(c.swiglu(&mut right, &x)));
        assert!(shape(c.read(&x, &mut [0.0; 11])));
        let mut routes = c.routes(2, 2).unwrap();
        assert!(index(c.route(&mut routes, &x)), "three rows, room for two");
        let mut routes = c.routes(3, 5).unwrap();
        assert!(index(c.route(&mut routes, &x)), "five of four experts");
        let mut routes = c.routes(3, 2).unwrap();
        let mut six = c.buf(6, 2).unwrap();
        assert!(shape(c.matmul_experts(&mut six, &x, &experts, &routes, true)), "nothing routed yet");
        c.route(&mut routes, &x).unwrap();
        assert!(
            index(c.matmul_experts(&mut six, &x, &experts, &routes, true)),
            "four experts routed, two there"
        );
        assert!(shape(c.mix_experts(&mut six, &x, &routes)));
    });
}

#[test]
fn operands_of_what_follows_a_product_that_do_not_fit() {
    fn next<'a, B>(w: &'a B, y: &'a mut B) -> Next<'a, B> {
        Next { w: Some(w), eps: 1e-6, y }
    }
    every_device!(|c| {
        let x = filled(c, &[1.0; 12], 4);
        let square = dense(c, BlockType::F32, &bytes(&[1.0; 16]), 4);
        let data = bytes(&[1.0; 32]);
        let experts = c.mat(&[QuantRows::new(BlockType::F32, 8, 4, &data).unwrap()], 2).unwrap();
        let [four, five] = [4, 5].map(|n| c.vector(&vec![1.0; n]).unwrap());
        let (mut sum, mut y, mut narrow) =
            (filled(c, &[1.0; 12], 4), c.buf(3, 4).unwrap(), c.buf(3, 3).unwrap());
        assert!(shape(c.matmul_add_norm(&mut sum, &x, &square, next(&five, &mut y))));
        assert!(shape(c.matmul_add_norm(&mut sum, &x, &square, next(&four, &mut narrow))));
        assert!(c.matmul_add_norm(&mut sum, &x, &square, next(&four, &mut y)).is_ok());
        let mut routes = c.routes(3, 5).unwrap();
        assert!(index(c.matmul_route(&mut routes, &mut y, &x, &square)), "five of four experts");
        let mut routes = c.routes(2, 2).unwrap();
        assert!(index(c.matmul_route(&mut routes, &mut y, &x, &square)), "three rows, room for two");
        let mut routes = c.routes(3, 2).unwrap();
        let two = dense(c, BlockType::F32, &bytes(&[1.0; 8]), 4);
        let mut logits = c.buf(3, 2).unwrap();
        assert!(shape(c.matmul_route(&mut routes, &mut y, &x, &two)));
        c.matmul_route(&mut routes, &mut logits, &x, &two).unwrap();
        let (act, mut h) = (filled(c, &[1.0; 24], 4), c.buf(6, 4).unwrap());
        let bad = c.matmul_experts_mix_norm(&mut sum, &act, &experts, &routes, &mut h, next(&five, &mut y));
        assert!(shape(bad));
        let mut kv = c.kv(BLOCK, HEADS, KvType::F16).unwrap();
        let rope = Rope { heads: HEADS, theta: 1e6, eps: 1e-6 };
        let other = Rope { heads: Heads { q: 1, ..HEADS }, ..rope };
        let qkv_w = dense(c, BlockType::F32, &bytes(&[1.0; 64]), 4);
        let mut qkv = c.buf(3, 16).unwrap();
        let mut of = |w, bias, rope: &Rope| {
            c.step(&sequence(3), |c| {
                c.matmul_rope(&mut qkv, &x, w, OfHeads { bias, norm: None }, &mut kv, rope)
            })
        };
        assert!(shape(of(&square, None, &rope)));
        assert!(shape(of(&qkv_w, Some(&four), &rope)));
        assert!(shape(of(&qkv_w, None, &other)));
        assert!(of(&qkv_w, None, &rope).is_ok());
    });
}

/// One row, token 0, position 0, slot 0 of block 0.
fn one() -> Batch {
    sequence(1)
}

#[test]
fn batches_that_contradict_themselves() {
    every_device!(|cpu| {
        let mut refused = |change: fn(&mut Batch)| {
            let mut batch = one();
            change(&mut batch);
            let mut ran = false;
            let result = cpu.step(&batch, |_| {
                ran = true;
                Ok(())
            });
            assert!(result.is_err() && !ran, "{batch:?}");
        };
        refused(|b| b.positions.clear());
        refused(|b| b.slots.push(1));
        refused(|b| b.logits.push(1));
        refused(|b| b.spans.clear());
        refused(|b| b.spans[0].first = 1);
        refused(|b| b.spans[0].rows = 2);
        refused(|b| b.spans[0].blocks.clear());
        refused(|b| b.positions[0] = 32);
        refused(|b| b.spans.push(Span { first: 1, rows: u32::MAX, blocks: vec![] }));
    });
}

#[test]
fn batches_beyond_the_limits() {
    let mut batch = sequence(40);
    batch.logits = vec![39];
    assert!(batch.check(40, 40, 64).is_ok());
    assert!(index(batch.check(39, 40, 64)));
    assert!(index(batch.check(40, 39, 64)));
    assert!(index(batch.check(40, 40, 63)), "the second block ends with slot 63");
    batch.slots[3] = NO_SLOT;
    assert!(batch.check(40, 40, 64).is_ok());
    batch.slots[3] = 64;
    assert!(index(batch.check(40, 40, 64)));
    assert!(Batch::default().check(0, 0, 0).is_ok());
}

#[test]
fn batches_beyond_the_buffers() {
    every_device!(|cpu| {
        let table = dense(cpu, BlockType::F32, &bytes(&[1.0; 32]), 16);
        let (mut x, mut y) = (cpu.buf(2, 16).unwrap(), cpu.buf(1, 16).unwrap());
        let mut token = one();
        token.tokens[0] = 2;
        assert!(index(cpu.step(&token, |c| c.embed(&mut x, &table))));
        let mut three = sequence(3);
        three.tokens.fill(0);
        assert!(shape(cpu.step(&three, |c| c.embed(&mut x, &table))));
        let mut both = sequence(2);
        both.logits = vec![0, 1];
        assert!(shape(cpu.step(&both, |c| c.embed(&mut x, &table).and_then(|()| c.select(&mut y, &x)))));

        let mut qkv = filled(cpu, &[1.0; 16], 16);
        let mut out = cpu.buf(1, 8).unwrap();
        let rope = Rope { heads: HEADS, theta: 1e4, eps: 1e-6 };
        let mut kv = cpu.kv(40, HEADS, KvType::F32).unwrap();
        let mut at = |slot: u32, block: u32| {
            let mut batch = one();
            (batch.slots[0], batch.spans[0].blocks[0]) = (slot, block);
            cpu.step(&batch, |c| {
                c.rope(&mut qkv, None, &mut kv, &rope)?;
                c.attention(&mut out, &qkv, &kv)
            })
        };
        assert!(at(39, 0).is_ok());
        assert!(at(NO_SLOT, 0).is_ok());
        assert!(index(at(40, 0)));
        assert!(index(at(0, 1)), "the block begins at slot 32 and ends beyond 40");
        assert!(index(at(0, u32::MAX)));
    });
}

#[test]
fn heads_that_do_not_fit() {
    every_device!(|cpu| {
        let mut kv = cpu.kv(32, HEADS, KvType::F16).unwrap();
        let rope = Rope { heads: HEADS, theta: 1e4, eps: 1e-6 };
        let (mut qkv, mut narrow) = (filled(cpu, &[1.0; 16], 16), filled(cpu, &[1.0; 8], 8));
        let norm = QkNorm { q: cpu.vector(&[1.0; 4]).unwrap(), k: cpu.vector(&[1.0; 3]).unwrap() };
        cpu.step(&one(), |c| {
            let other = Rope { heads: Heads { q: 4, ..HEADS }, ..rope };
            assert!(shape(c.rope(&mut qkv, None, &mut kv, &other)));
            assert!(shape(c.rope(&mut narrow, None, &mut kv, &rope)));
            assert!(shape(c.rope(&mut qkv, Some(&norm), &mut kv, &rope)));
            let mut out = c.buf(1, 16)?;
            assert!(shape(c.attention(&mut out, &qkv, &kv)));
            assert!(shape(c.attention(&mut out, &narrow, &kv)));
            c.rope(&mut qkv, None, &mut kv, &rope)
        })
        .unwrap();
        let mut y = cpu.buf(1, 8).unwrap();
        let two = sequence(2);
        assert!(
            shape(cpu.step(&two, |c| c.attention(&mut y, &qkv, &kv))),
            "one row in use, two in the batch"
        );
    });
}

#[test]
fn cards_that_cannot_be_used() {
    let emulator = coder_cuda_emulator::library();
    let open = |options: &cuda::Options| Cuda::open(emulator, options);
    coder_cuda_emulator::next_device(7, 5, 8 << 30);
    let old = open(&cuda::Options::default()).unwrap_err();
    assert!(matches!(old, Error::DeviceTooOld { found: Version { major: 7, minor: 5 }, .. }), "{old}");
    coder_cuda_emulator::next_device(8, 9, 0);
    let full = open(&cuda::Options::default()).unwrap_err();
    assert!(matches!(full, Error::DeviceFull { index: 0 }), "{full}");
    // Counting alone says nothing of versions.
    coder_cuda_emulator::next_device(0, 0, 8 << 30);
    let driver = emulator.count().unwrap_err();
    let expected = [Version { major: 11, minor: 4 }, Version { major: 12, minor: 4 }];
    assert!(
        matches!(driver, Error::DriverTooOld { found, needed } if [found, needed] == expected),
        "{driver}"
    );
    assert_eq!(emulator.count().unwrap(), 1);
    let third = open(&cuda::Options { index: 2, ..Default::default() }).unwrap_err();
    assert!(matches!(third, Error::NoDevice { index: 2, found: 1 }), "{third}");
    let small = open(&cuda::Options { memory_bytes: Some(1 << 20), ..Default::default() }).unwrap();
    let left = (1 << 20) - small.used_bytes() as usize;
    assert!(matches!(small.buf(left / 4096 + 1, 1024), Err(Error::OutOfMemory { .. })));
    assert!(small.buf(1, 1024).is_ok(), "what does not fit takes nothing");
}
