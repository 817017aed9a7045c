//! What each kernel of a step of few rows moves, counted on the emulator, beside the least that it could: weights, keys
//! and values once, the rows that are read and those that are written. Sectors of 32 bytes, each once for a launch.

use coder_cuda_emulator::{Traffic, counted, library};
use coder_kernels::cuda::{Cuda, Options};
use coder_kernels::{
    BLOCK, Backend, Batch, BlockType, Choice, Heads, KvType, MAX_CANDIDATES, Next, OfHeads, Pick, QuantRows,
    Rope, Span,
};

/// Inputs of a product: as many as a hidden state of a published model has.
const COLS: usize = 4096;
/// Outputs: enough that the activations' part is that of a small weight of a published model.
const OUT: usize = 192;

/// The types of quantized weights.
const QUANTIZED: [BlockType; 12] = {
    use BlockType::*;
    [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS]
};

fn emulated() -> Cuda {
    let options = Options { rows: 64, graphs: false, ..Options::default() };
    Cuda::open(library(), &options).unwrap()
}

/// Bytes that an operation has to read and to write.
struct Least {
    read: usize,
    written: usize,
}

/// One line of the table; the ratio of what was moved to the least.
fn line(what: &str, launches: &[Traffic], least: &Least) -> f64 {
    let sum = |of: fn(&Traffic) -> u64| launches.iter().map(of).sum::<u64>() as f64;
    let (read, written) = (sum(|t| t.read_bytes), sum(|t| t.written_bytes));
    let least = (least.read + least.written) as f64;
    println!(
        "| {what} | {} | {:.0} | {:.0} | {:.3} | {:.2} | {:.2} |",
        launches.len(),
        read / 1e3,
        written / 1e3,
        (read + written) / least,
        sum(|t| t.read_by_blocks_bytes) / read,
        sum(|t| t.loaded_bytes) / read,
    );
    (read + written) / least
}

fn heading() {
    println!(
        "| kernel | launches | kB read | kB written | of the least | read by blocks | asked for by threads |"
    );
    println!("|---|---|---|---|---|---|---|");
}

fn zeros(device: &mut Cuda, rows: usize, cols: usize) -> coder_kernels::cuda::Buf {
    let mut x = device.buf(rows, cols).unwrap();
    device.write(&mut x, &vec![0.5; rows * cols]).unwrap();
    x
}

/// Codes, scales, and sums where a type has minima.
fn activations(kind: BlockType, rows: usize, cols: usize) -> usize {
    use BlockType::*;
    match kind {
        F32 | F16 | BF16 => 4 * rows * cols,
        Q4_1 | Q5_1 | Q2_K | Q4_K | Q5_K => rows * (cols + 12 * cols / 32),
        _ => rows * (cols + 4 * cols / 32),
    }
}

/// Covers the counter itself: an operation whose bytes are plain.
#[test]
fn a_sum_reads_both_sides_and_writes_one() {
    let device = &mut emulated();
    let (mut x, y) = (zeros(device, 3, 1024), zeros(device, 3, 1024));
    let ((), launches) = counted(|| device.add(&mut x, &y).unwrap());
    let [sum] = launches.as_slice() else { panic!("{launches:?}") };
    let bytes = 4 * 3 * 1024;
    assert_eq!(
        (sum.read_bytes, sum.loaded_bytes, sum.read_by_blocks_bytes),
        (2 * bytes, 2 * bytes, 2 * bytes)
    );
    assert_eq!((sum.written_bytes, sum.stored_bytes), (bytes, bytes));
    assert!(counted(|| ()).1.is_empty());
}

#[test]
fn products_of_few_rows_read_weights_once() {
    let device = &mut emulated();
    heading();
    let floats = [BlockType::F32, BlockType::F16, BlockType::BF16];
    for kind in QUANTIZED.into_iter().chain(floats) {
        let data = vec![0; kind.row_bytes(COLS).unwrap() * OUT];
        let w = device.mat(&[QuantRows::new(kind, OUT, COLS, &data).unwrap()], 1).unwrap();
        for rows in [1, 2, 3, 4, 8] {
            let x = zeros(device, rows, COLS);
            let mut y = device.buf(rows, OUT).unwrap();
            device.matmul(&mut y, &x, &w).unwrap(); // rounds x
            let ((), launches) = counted(|| device.matmul(&mut y, &x, &w).unwrap());
            let least = Least { read: data.len() + activations(kind, rows, COLS), written: 4 * rows * OUT };
            let ratio = line(&format!("product, {kind:?}, {rows} rows"), &launches, &least);
            assert!(ratio <= 1.03, "{kind:?}, {rows} rows: {ratio}");
        }
    }
}

/// Gate and up lie in one part, as neighbours of one type do.
#[test]
fn gated_products_of_few_rows_read_weights_once() {
    let device = &mut emulated();
    heading();
    for kind in [BlockType::Q4_K, BlockType::Q6_K, BlockType::Q5_0] {
        let data = vec![0; kind.row_bytes(COLS).unwrap() * OUT];
        let half = || QuantRows::new(kind, OUT, COLS, &data).unwrap();
        let w = device.mat(&[half(), half()], 1).unwrap();
        for rows in [1, 2, 4, 8] {
            let x = zeros(device, rows, COLS);
            let (mut y, mut gate_up) = (device.buf(rows, OUT).unwrap(), device.buf(rows, 2 * OUT).unwrap());
            device.matmul_swiglu(&mut y, &x, &w, &mut gate_up).unwrap(); // rounds x
            let ((), launches) = counted(|| device.matmul_swiglu(&mut y, &x, &w, &mut gate_up).unwrap());
            assert_eq!(launches.len(), 1);
            let read = 2 * data.len() + activations(kind, rows, COLS);
            let least = Least { read, written: rows * (5 * OUT + 12 * OUT / 32) };
            let ratio = line(&format!("gated product, {kind:?}, {rows} rows"), &launches, &least);
            assert!(ratio <= 1.03, "{kind:?}, {rows} rows: {ratio}");
        }
    }
}

#[test]
fn products_of_one_row_with_its_experts_read_theirs_once() {
    let (experts, top_k, cols) = (16, 8, 2048);
    let device = &mut emulated();
    heading();
    for kind in [BlockType::Q4_K, BlockType::Q6_K, BlockType::Q8_0] {
        let bytes = kind.row_bytes(cols).unwrap() * OUT;
        let data = vec![0; experts * bytes];
        let w = device.mat(&[QuantRows::new(kind, experts * OUT, cols, &data).unwrap()], experts).unwrap();
        let logits = zeros(device, 1, experts);
        let mut routes = device.routes(1, top_k).unwrap();
        device.route(&mut routes, &logits).unwrap();
        let x = zeros(device, 1, cols);
        let mut y = device.buf(top_k, OUT).unwrap();
        device.matmul_experts(&mut y, &x, &w, &routes, true).unwrap();
        let ((), launches) = counted(|| device.matmul_experts(&mut y, &x, &w, &routes, true).unwrap());
        let read = top_k * bytes + activations(kind, 1, cols) + 4 * top_k;
        let ratio = line(
            &format!("product of {top_k} experts, {kind:?}"),
            &launches,
            &Least { read, written: 4 * top_k * OUT },
        );
        assert!(ratio <= 1.03, "{kind:?}: {ratio}");

        let (mut sum, y) = (zeros(device, 1, OUT), zeros(device, top_k, cols));
        let mut h = device.buf(top_k, OUT).unwrap();
        device.matmul_experts_mix(&mut sum, &y, &w, &routes, &mut h).unwrap();
        let mixed = || device.matmul_experts_mix(&mut sum, &y, &w, &routes, &mut h).unwrap();
        let ((), launches) = counted(mixed);
        let read = top_k * (bytes + activations(kind, 1, cols) + 8) + 4 * OUT;
        let least = Least { read, written: 4 * OUT };
        let ratio = line(&format!("product of {top_k} experts and their sum, {kind:?}"), &launches, &least);
        assert!(ratio <= 1.03 && launches.len() == 1, "{kind:?}: {ratio}");
    }
}

/// What follows a product in its launch reads its results once more, and what it has to beside.
#[test]
fn products_and_what_follows_are_one_launch() {
    let device = &mut emulated();
    heading();
    let (rows, kind) = (1, BlockType::Q4_K);
    let of = |out: usize| vec![0; kind.row_bytes(COLS).unwrap() * out];
    let rounded = |cols: usize| 5 * cols + 12 * cols / 32;
    let checked = |what: &str, launches: &[Traffic], least: Least| {
        let ratio = line(what, launches, &least);
        assert!(ratio <= 1.03 && launches.len() == 1, "{what}: {ratio}");
    };

    let data = of(OUT);
    let w = device.mat(&[QuantRows::new(kind, OUT, COLS, &data).unwrap()], 1).unwrap();
    let norm = device.vector(&[1.0; OUT]).unwrap();
    let (mut x, y) = (zeros(device, rows, OUT), zeros(device, rows, COLS));
    let mut h = device.buf(rows, OUT).unwrap();
    let mut sum = |d: &mut Cuda| {
        d.matmul_add_norm(&mut x, &y, &w, Next { w: Some(&norm), eps: 1e-6, y: &mut h }).unwrap();
    };
    sum(device); // rounds y
    let ((), launches) = counted(|| sum(device));
    let read = data.len() + activations(kind, rows, COLS) + 2 * 4 * OUT;
    checked("product, sum and norm", &launches, Least { read, written: 4 * OUT + rounded(OUT) });

    let router = vec![0; 4 * COLS * 128];
    let w = device.mat(&[QuantRows::new(BlockType::F32, 128, COLS, &router).unwrap()], 1).unwrap();
    let (mut routes, mut logits) = (device.routes(rows, 8).unwrap(), device.buf(rows, 128).unwrap());
    let ((), launches) = counted(|| device.matmul_route(&mut routes, &mut logits, &y, &w).unwrap());
    let read = router.len() + activations(BlockType::F32, rows, COLS) + 4 * 128;
    checked("router and routes", &launches, Least { read, written: 4 * 128 + 8 * 8 });

    let heads = Heads { q: 6, kv: 2, dim: 32 };
    let cols = heads.qkv_cols();
    let (half, values) = (of(cols - 64), vec![0; BlockType::Q6_K.row_bytes(COLS).unwrap() * 64]);
    let parts = [(kind, &half), (BlockType::Q6_K, &values)].map(|(kind, data)| {
        QuantRows::new(kind, data.len() / kind.row_bytes(COLS).unwrap(), COLS, data).unwrap()
    });
    let w = device.mat(&parts, 1).unwrap();
    let mut kv = device.kv(BLOCK, heads, KvType::F16).unwrap();
    let (mut qkv, rope) = (device.buf(rows, cols).unwrap(), Rope { heads, theta: 1e6, eps: 1e-6 });
    let of_heads = || OfHeads { bias: None, norm: None };
    let (done, launches) =
        counted(|| device.step(&row_at(1), |d| d.matmul_rope(&mut qkv, &y, &w, of_heads(), &mut kv, &rope)));
    done.unwrap();
    let read = half.len() + values.len() + activations(kind, rows, COLS) + 4 * cols + 64;
    let written = 4 * cols + 2 * 2 * 2 * heads.dim;
    checked("queries, keys and values, rotated", &launches, Least { read, written });
}

/// One row that sees `context` positions of a cache of zeros.
fn row_at(context: usize) -> Batch {
    let blocks = (0..context.div_ceil(BLOCK) as u32).collect();
    Batch {
        tokens: vec![0],
        positions: vec![context as u32 - 1],
        slots: vec![context as u32 - 1],
        spans: vec![Span { first: 0, rows: 1, blocks }],
        logits: vec![0],
    }
}

/// Beside the cache there is what a context's parts leave for one another. Where these are chunks of 256 positions, so that
/// they fill a card, their results are among the least: they are written and read again out of a cache.
#[test]
fn attention_of_one_row_reads_keys_and_values_once() {
    let device = &mut emulated();
    heading();
    let shapes = [("7B", 28, 4), ("32B", 40, 8), ("30B-A3B", 32, 4)];
    for (name, q, kv_heads) in shapes {
        let heads = Heads { q, kv: kv_heads, dim: 128 };
        for (dtype, head_bytes) in [(KvType::F32, 512), (KvType::F16, 256), (KvType::Q8_0, 136)] {
            for context in [128usize, 1024, 4096, 64 * 1024 / kv_heads] {
                let kv = device.kv(context.next_multiple_of(BLOCK), heads, dtype).unwrap();
                let qkv = zeros(device, 1, heads.qkv_cols());
                let mut y = device.buf(1, heads.q_cols()).unwrap();
                let mut step = |d: &mut Cuda| d.step(&row_at(context), |d| d.attention(&mut y, &qkv, &kv));
                let (done, launches) = counted(|| step(device));
                done.unwrap();
                let cache = 2 * context * kv_heads * head_bytes;
                let what = format!("attention, {name}, {dtype:?}, {context} positions");
                let cols = heads.q_cols();
                let chunks = if (256..=4096).contains(&context) { context / 256 } else { 0 };
                let left = chunks * 4 * q * (heads.dim + 2);
                let written = 5 * cols + 12 * cols / 32 + left;
                let ratio = line(&what, &launches, &Least { read: cache + 4 * cols + left, written });
                assert!(ratio <= 1.03 && launches.len() == 1, "{what}: {ratio}");
            }
        }
    }
}

#[test]
fn what_goes_row_by_row_moves_what_it_must() {
    let device = &mut emulated();
    let (cols, vocab) = (COLS, 64);
    heading();
    let floats = |rows: usize, cols: usize| 4 * rows * cols;
    let (mut x, mut y) = (zeros(device, 1, cols), device.buf(1, cols).unwrap());
    let w = device.vector(&vec![1.0; cols]).unwrap();
    let checked = |what: &str, launches: &[Traffic], read, written| {
        let ratio = line(what, launches, &Least { read, written });
        assert!(ratio <= 1.03, "{what}: {ratio}");
    };

    let ((), norm) = counted(|| device.rms_norm(&mut y, &x, &w, 1e-6).unwrap());
    // Rows are written with their codes, scales and sums.
    let rounded = |cols: usize| floats(1, cols) + cols + 12 * cols / 32;
    checked("norm", &norm, 2 * floats(1, cols), rounded(cols));
    let ((), bias) = counted(|| device.bias(&mut x, &w).unwrap());
    checked("bias", &bias, 2 * floats(1, cols), floats(1, cols));
    let gate_up = zeros(device, 1, 2 * cols);
    let ((), gated) = counted(|| device.swiglu(&mut y, &gate_up).unwrap());
    checked("swiglu", &gated, floats(2, cols), rounded(cols));

    for kind in [BlockType::Q4_K, BlockType::Q6_K, BlockType::F16] {
        let row = kind.row_bytes(cols).unwrap();
        let data = vec![0; row * vocab];
        let table = device.table(&[QuantRows::new(kind, vocab, cols, &data).unwrap()]).unwrap();
        let (done, launches) = counted(|| device.step(&row_at(1), |d| d.embed(&mut x, &table)));
        done.unwrap();
        // A row begins in the middle of a sector.
        checked(&format!("embedding, {kind:?}"), &launches, row + 32 * 4, floats(1, cols));
    }

    let heads = Heads { q: 32, kv: 4, dim: 128 };
    let mut kv = device.kv(BLOCK, heads, KvType::F16).unwrap();
    let mut qkv = zeros(device, 1, heads.qkv_cols());
    let rope = Rope { heads, theta: 1e6, eps: 1e-6 };
    let (done, launches) = counted(|| device.step(&row_at(1), |d| d.rope(&mut qkv, None, &mut kv, &rope)));
    done.unwrap();
    let turned = floats(1, 36 * 128);
    checked("rotation", &launches, turned + floats(1, 4 * 128) + 64, turned + 2 * 2 * 4 * 128);
}

/// The best tokens of a row of logits of a published vocabulary and their sum, in two readings. The least is one: the second
/// is out of a cache, as the row is what the product before has just written. The host's part is what crosses the bus.
#[test]
fn a_choice_reads_logits_twice_and_tells_little() {
    let device = &mut emulated();
    heading();
    let vocab = 151_936;
    let logits: Vec<f32> = (0..vocab).map(|i| ((i * 7919) % 100_003) as f32 * 1e-3 - 50.0).collect();
    let mut x = device.logits(1, vocab).unwrap();
    device.write(&mut x, &logits).unwrap();
    let mask = vec![0x5555_5555; vocab / 32];
    let mut rows = vec![0.0; vocab];
    for (candidates, mask) in [(1, None), (1, Some(&mask[..])), (41, None)] {
        let mut choices = [Choice::new(vocab)];
        let mut picks = std::iter::once(Pick { mask, candidates });
        let (done, launches) = counted(|| device.choose(&mut choices, &x, &mut picks, &mut rows));
        done.unwrap();
        assert_eq!((launches.len(), choices[0].candidates().len()), (2, candidates));
        let masked = mask.map_or(0, |words| 4 * words.len());
        // Of each part of a row its largest logit and its best tokens; of the row its sums and best tokens.
        let told = 8 * (1 + candidates + vocab.div_ceil(512));
        let parts = vocab.div_ceil(2048) * (4 + 8 * candidates);
        let what = format!("choice of {candidates}{}", if masked > 0 { ", masked" } else { "" });
        let least = Least { read: 4 * vocab + masked, written: told };
        line(&what, &launches, &least);
        let moved = |t: &Traffic| (t.read_bytes + t.written_bytes) as f64;
        let [cut, chosen] = launches.as_slice() else { panic!("{launches:?}") };
        // A sector for the best of each part, of which there are few bytes.
        let ratio = moved(cut) / (4 * vocab + masked + parts + 32 * vocab.div_ceil(2048)) as f64;
        assert!(ratio <= 1.03, "{what}: {ratio}");
        let heads = 32 * vocab.div_ceil(2048) + 8 * 4 * candidates;
        let ratio = moved(chosen) / (4 * vocab + told + heads + parts) as f64;
        assert!(ratio <= 1.03, "{what}: {ratio}");
        assert!(told <= 8 * (1 + MAX_CANDIDATES + 297), "what is copied to the host");
    }
}
