//! Every operation of the CPU beside the limit that it runs into, both measured here.
//!
//! `cargo bench --bench operations` prints criterion's statistics and, after each, the best run's share of the limit: of
//! memory's bandwidth where weights or keys are streamed, of the processor's products of eight-bit numbers where rows
//! are many. Shapes are those of Qwen2.5-Coder 1.5B.

use coder_kernels::cpu::{self, Buf, Cpu, Isa, Kv, Mat, limits};
use coder_kernels::{BLOCK, Backend, Batch, BlockType, Heads, KvType, QuantRows, Rope, Span};
use criterion::{Criterion, criterion_group, criterion_main};
use std::time::{Duration, Instant};

const COLS: usize = 1536;
const FFN: usize = 8960;
const HEADS: Heads = Heads { q: 12, kv: 2, dim: 128 };
const ROWS: usize = 512;

/// What the machine can do at most, per second.
struct Limits {
    bytes: f64,
    products: f64,
}

/// What a run moves or multiplies.
#[derive(Clone, Copy)]
enum Work {
    Bytes(usize),
    Products(usize),
}

/// Measures `run` and prints how near the best of its runs came to the limit.
fn measure(c: &mut Criterion, limits: &Limits, name: &str, work: Work, mut run: impl FnMut()) {
    let mut best = Duration::MAX;
    c.bench_function(name, |b| {
        b.iter_custom(|times| {
            (0..times)
                .map(|_| {
                    let start = Instant::now();
                    run();
                    let took = start.elapsed();
                    best = best.min(took);
                    took
                })
                .sum()
        });
    });
    let seconds = best.as_secs_f64();
    let (rate, limit, unit) = match work {
        Work::Bytes(n) => (n as f64 / seconds, limits.bytes, "GB/s"),
        Work::Products(n) => (n as f64 / seconds, limits.products, "GMAC/s"),
    };
    println!("{name:<40} {:8.2} {unit}, {:.1} % of {:.1}\n", rate / 1e9, 100.0 * rate / limit, limit / 1e9);
}

/// Bytes that are valid blocks of any type, with small scales.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    (0..bytes)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as u8 & 0x3b
        })
        .collect()
}

fn weight(cpu: &Cpu, kind: BlockType, out: usize, cols: usize) -> (Mat, usize) {
    let data = noise(out * kind.row_bytes(cols).expect("whole blocks"));
    let rows = QuantRows::new(kind, out, cols, &data).expect("a weight");
    (cpu.mat(&[rows], 1).expect("memory"), data.len())
}

/// `rows` rows at the end of a sequence of `context` tokens.
fn batch(rows: usize, context: usize) -> Batch {
    let first = context - rows;
    let positions: Vec<u32> = (first as u32..context as u32).collect();
    let blocks = (0..context.div_ceil(BLOCK) as u32).collect();
    Batch {
        tokens: vec![1; rows],
        slots: positions.clone(),
        positions,
        spans: vec![Span { first: 0, rows: rows as u32, blocks }],
        logits: Vec::new(),
    }
}

/// A buffer with `rows` rows of small numbers in use; leaves `batch` of as many rows current.
fn filled(cpu: &mut Cpu, rows: usize, cols: usize, batch: &Batch) -> Buf {
    let floats: Vec<u8> =
        (0..4 * cols).flat_map(|i| ((i * 7919 % 1000) as f32 / 500.0 - 1.0).to_le_bytes()).collect();
    let table =
        cpu.mat(&[QuantRows::new(BlockType::F32, 4, cols, &floats).expect("a table")], 1).expect("memory");
    let mut x = cpu.buf(rows, cols).expect("memory");
    cpu.step(batch, |c| c.embed(&mut x, &table)).expect("a step");
    x
}

fn products(c: &mut Criterion) {
    let limits = limits();
    let mut cpu = Cpu::new();
    use BlockType::*;
    for kind in [Q4_K, Q6_K, Q5_0, Q8_0, IQ4_XS, F16] {
        // More than 370 MB: where a machine's cache holds that, a share above 100 % says so.
        let weights: Vec<_> = (0..8).map(|_| weight(&cpu, kind, 2 * FFN * 3, COLS)).collect();
        let bytes = weights.iter().map(|w| w.1).sum();
        let mut y = cpu.buf(ROWS, 2 * FFN * 3).expect("memory");
        let x = filled(&mut cpu, 1, COLS, &batch(1, 1));
        measure(c, &limits, &format!("decode {kind:?} 1536 x 53760 x 8"), Work::Bytes(bytes), || {
            weights.iter().for_each(|w| cpu.matmul(&mut y, &x, &w.0).expect("a product"));
        });
        let rows = if kind == F16 { 32 } else { ROWS };
        let x = filled(&mut cpu, rows, COLS, &batch(rows, rows));
        let work = Work::Products(rows * COLS * 2 * FFN * 3);
        measure(c, &limits, &format!("prefill {kind:?} {rows} x 1536 x 53760"), work, || {
            cpu.matmul(&mut y, &x, &weights[0].0).expect("a product");
        });
    }
}

fn attention(c: &mut Criterion) {
    let limits = limits();
    let mut cpu = Cpu::new();
    let rope = Rope { heads: HEADS, theta: 1e6, eps: 1e-6 };
    for dtype in [KvType::F16, KvType::Q8_0] {
        let context = 4096;
        let mut caches: Vec<Kv> = (0..64).map(|_| cpu.kv(context, HEADS, dtype).expect("memory")).collect();
        let mut y = cpu.buf(ROWS, HEADS.q_cols()).expect("memory");
        let fill = batch(ROWS, ROWS);
        let mut qkv = filled(&mut cpu, ROWS, HEADS.qkv_cols(), &fill);
        for kv in &mut caches {
            cpu.rope(&mut qkv, None, kv, &rope).expect("keys and values");
        }
        measure(
            c,
            &limits,
            &format!("rope and append {ROWS} rows {dtype:?}"),
            Work::Bytes(ROWS * HEADS.qkv_cols() * 8),
            || {
                cpu.rope(&mut qkv, None, &mut caches[0], &rope).expect("keys and values");
            },
        );
        let work = Work::Products(ROWS * ROWS * HEADS.q_cols());
        measure(c, &limits, &format!("attention {ROWS} rows {dtype:?}"), work, || {
            cpu.attention(&mut y, &qkv, &caches[0]).expect("attention");
        });
        let qkv = filled(&mut cpu, 1, HEADS.qkv_cols(), &batch(1, context));
        let bytes = caches.len() * context * dtype.row_bytes(HEADS);
        measure(
            c,
            &limits,
            &format!("attention 1 row at {context} {dtype:?} x 64"),
            Work::Bytes(bytes),
            || {
                caches.iter().for_each(|kv| cpu.attention(&mut y, &qkv, kv).expect("attention"));
            },
        );
    }
}

fn elementwise(c: &mut Criterion) {
    let limits = limits();
    let mut cpu = Cpu::new();
    let x = filled(&mut cpu, ROWS, COLS, &batch(ROWS, ROWS));
    let norm = cpu.vector(&vec![1.0; COLS]).expect("memory");
    let mut y = cpu.buf(ROWS, COLS).expect("memory");
    measure(c, &limits, "rms_norm 512 x 1536", Work::Bytes(ROWS * COLS * 8), || {
        cpu.rms_norm(&mut y, &x, &norm, 1e-6).expect("a norm");
    });
    let both = filled(&mut cpu, ROWS, 2 * FFN, &batch(ROWS, ROWS));
    let mut gated = cpu.buf(ROWS, FFN).expect("memory");
    measure(c, &limits, "swiglu 512 x 8960", Work::Bytes(ROWS * FFN * 12), || {
        cpu.swiglu(&mut gated, &both).expect("gates");
    });
}

fn load(c: &mut Criterion) {
    let limits = limits();
    let cpu = Cpu::new();
    for kind in [BlockType::Q4_K, BlockType::Q6_K, BlockType::Q8_0] {
        let data = noise(2 * FFN * kind.row_bytes(COLS).expect("whole blocks"));
        let rows = QuantRows::new(kind, 2 * FFN, COLS, &data).expect("a weight");
        measure(c, &limits, &format!("load {kind:?} 1536 x 17920"), Work::Bytes(data.len()), || {
            std::hint::black_box(cpu.mat(&[rows], 1).expect("memory"));
        });
    }
}

fn limits() -> Limits {
    let (isa, threads) = (Isa::best(), cpu::cores());
    let bytes = limits::ReadBandwidth::new(threads).expect("memory to read").best();
    Limits { bytes, products: limits::int8_products(isa, threads) }
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = operations; config = config(); targets = products, attention, elementwise, load }
criterion_main!(operations);
