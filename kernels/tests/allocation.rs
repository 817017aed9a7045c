//! After the first step, a step allocates nothing.

use coder_kernels::cpu::{Cpu, Mat};
use coder_kernels::{BLOCK, Backend, Batch, BlockType, Heads, KvType, QkNorm, QuantRows, Result, Rope, Span};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting what this thread asks for.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const HEADS: Heads = Heads { q: 4, kv: 2, dim: 32 };
const COLS: usize = 128;
const FFN: usize = 32;
const EXPERTS: usize = 4;
const TOP: usize = 2;

fn weight(cpu: &Cpu, out: usize, cols: usize, experts: usize) -> Mat {
    let rows = out * experts;
    let data = vec![0x11; BlockType::Q8_0.row_bytes(cols).unwrap() * rows];
    cpu.mat(&[QuantRows::new(BlockType::Q8_0, rows, cols, &data).unwrap()], experts).unwrap()
}

/// One decode row at `position`.
fn decode(position: u32) -> Batch {
    Batch {
        tokens: vec![position % 8],
        positions: vec![position],
        slots: vec![position],
        spans: vec![Span { first: 0, rows: 1, blocks: vec![0, 1] }],
        logits: vec![0],
    }
}

#[test]
fn a_step_allocates_nothing() -> Result<()> {
    let mut cpu = Cpu::new();
    let (embed, qkv_w) = (weight(&cpu, 8, COLS, 1), weight(&cpu, HEADS.qkv_cols(), COLS, 1));
    let (router, gate_up, down) = (
        weight(&cpu, EXPERTS, COLS, 1),
        weight(&cpu, 2 * FFN, COLS, EXPERTS),
        weight(&cpu, COLS, FFN, EXPERTS),
    );
    let norm = cpu.vector(&[1.0; COLS])?;
    let heads_norm = QkNorm { q: cpu.vector(&[1.0; HEADS.dim])?, k: cpu.vector(&[1.0; HEADS.dim])? };
    let (mut x, mut h, mut att) = (cpu.buf(1, COLS)?, cpu.buf(1, COLS)?, cpu.buf(1, COLS)?);
    let (mut qkv, mut logits, mut scores) =
        (cpu.buf(1, HEADS.qkv_cols())?, cpu.buf(1, 8)?, cpu.buf(1, EXPERTS)?);
    let (mut both, mut gated, mut mixed) = (cpu.buf(TOP, 2 * FFN)?, cpu.buf(TOP, FFN)?, cpu.buf(TOP, COLS)?);
    let mut routes = cpu.routes(1, TOP)?;
    let mut kv = cpu.kv(2 * BLOCK, HEADS, KvType::F16)?;
    let rope = Rope { heads: HEADS, theta: 1e6, eps: 1e-6 };
    let mut out = [0.0; 8];
    for position in 0..50 {
        let batch = decode(position);
        let before = COUNT.get();
        cpu.step(&batch, |c| {
            c.embed(&mut x, &embed)?;
            c.norm_matmul(&mut qkv, &x, &norm, &qkv_w, 1e-6, &mut h)?;
            c.rope(&mut qkv, Some(&heads_norm), &mut kv, &rope)?;
            c.attention(&mut att, &qkv, &kv)?;
            c.add(&mut x, &att)?;
            c.matmul(&mut scores, &x, &router)?;
            c.route(&mut routes, &scores)?;
            c.matmul_experts(&mut both, &x, &gate_up, &routes, true)?;
            c.swiglu(&mut gated, &both)?;
            c.matmul_experts(&mut mixed, &gated, &down, &routes, false)?;
            c.mix_experts(&mut x, &mixed, &routes)?;
            c.select(&mut h, &x)?;
            c.matmul(&mut logits, &h, &embed)
        })?;
        cpu.read(&logits, &mut out)?;
        let allocated = COUNT.get() - before;
        assert!(position == 0 || allocated == 0, "{allocated} allocations at position {position}");
    }
    assert!(out.iter().all(|x| x.is_finite()));
    Ok(())
}
