//! Mixture of experts.

use crate::rig::*;
use coder_kernels::{Backend, BlockType, QuantRows};

pub(crate) const COLS: usize = 256;
const FFN: usize = 768;
pub(crate) const EXPERTS: usize = 8;
const TOP: usize = 3;

/// Softmax in f64, the largest, renormalised.
fn routed(logits: &[f32], top: usize) -> Vec<(usize, f64)> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
    let chosen: Vec<_> = order[..top].iter().map(|&e| (e, f64::from(logits[e]).exp() / sum)).collect();
    let total: f64 = chosen.iter().map(|c| c.1).sum();
    chosen.into_iter().map(|(e, p)| (e, p / total)).collect()
}

pub(crate) struct Layer {
    gate: Vec<u8>,
    up: Vec<u8>,
    down: Vec<u8>,
}

impl Layer {
    pub(crate) fn new() -> Self {
        let mut random = Random::new(20);
        Self {
            gate: random.weights(BlockType::Q4_K, EXPERTS * FFN, COLS),
            up: random.weights(BlockType::Q6_K, EXPERTS * FFN, COLS),
            down: random.weights(BlockType::Q5_K, EXPERTS * COLS, FFN),
        }
    }

    /// x after the layer.
    pub(crate) fn run<B: Backend>(&self, cpu: &mut B, x: &[f32], logits: &[f32]) -> Vec<f32> {
        let rows = x.len() / COLS;
        let gate = QuantRows::new(BlockType::Q4_K, EXPERTS * FFN, COLS, &self.gate).unwrap();
        let up = QuantRows::new(BlockType::Q6_K, EXPERTS * FFN, COLS, &self.up).unwrap();
        let down = QuantRows::new(BlockType::Q5_K, EXPERTS * COLS, FFN, &self.down).unwrap();
        let (gate_up, down) = (cpu.mat(&[gate, up], EXPERTS).unwrap(), cpu.mat(&[down], EXPERTS).unwrap());
        let (mut x, logits) = (filled(cpu, x, COLS), filled(cpu, logits, EXPERTS));
        let mut routes = cpu.routes(rows, TOP).unwrap();
        let mut both = cpu.buf(rows * TOP, 2 * FFN).unwrap();
        let mut h = cpu.buf(rows * TOP, FFN).unwrap();
        let mut y = cpu.buf(rows * TOP, COLS).unwrap();
        cpu.route(&mut routes, &logits).unwrap();
        cpu.matmul_experts(&mut both, &x, &gate_up, &routes, true).unwrap();
        cpu.swiglu(&mut h, &both).unwrap();
        cpu.matmul_experts(&mut y, &h, &down, &routes, false).unwrap();
        cpu.mix_experts(&mut x, &y, &routes).unwrap();
        read(cpu, &x, rows, COLS)
    }

    /// The same in f64, one row.
    fn exact<B: Backend>(&self, device: &B, x: &[f32], logits: &[f32]) -> Vec<f64> {
        let gate = wide(&decoded(BlockType::Q4_K, &self.gate));
        let up = wide(&decoded(BlockType::Q6_K, &self.up));
        let down = wide(&decoded(BlockType::Q5_K, &self.down));
        let product = |w: &[f64], e: usize, out: usize, x: &[f64]| -> Vec<f64> {
            let expert = &w[e * out * x.len()..][..out * x.len()];
            expert.chunks_exact(x.len()).map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
        };
        let mut sum = wide(x);
        let x = wide(&rounded(device, BlockType::Q4_K, x));
        for (e, weight) in routed(logits, TOP) {
            let (g, u) = (product(&gate, e, FFN, &x), product(&up, e, FFN, &x));
            let h: Vec<f32> = g.iter().zip(u).map(|(g, u)| (g / (1.0 + (-g).exp()) * u) as f32).collect();
            for (s, y) in
                sum.iter_mut().zip(product(&down, e, COLS, &wide(&rounded(device, BlockType::Q5_K, &h))))
            {
                *s += weight * y;
            }
        }
        sum
    }
}

#[test]
fn a_layer_of_experts() {
    let layer = Layer::new();
    let rows = 13;
    let mut random = Random::new(21);
    let x = random.floats(rows * COLS);
    let logits: Vec<f32> = random.floats(rows * EXPERTS).iter().map(|l| 4.0 * l).collect();
    every_device!(|cpu| {
        let got = layer.run(cpu, &x, &logits);
        for r in 0..rows {
            let (x, logits) = (&x[r * COLS..][..COLS], &logits[r * EXPERTS..][..EXPERTS]);
            let row = &got[r * COLS..][..COLS];
            // What is rounded to eight bits between the products may fall to the other side of a tie: one in 254 of
            // one of 768 inputs.
            assert_near("experts", row, &layer.exact(cpu, x, logits), 2e-4);
            assert_bits("a row alone", &layer.run(cpu, x, logits), row);
        }
    });
}

/// Several tiles of entries, none, and more experts than a warp has lanes: each row is as if it were alone.
#[test]
fn an_expert_may_have_many_rows_and_others_none() {
    const EXPERTS: usize = 70;
    const OUT: [usize; 2] = [130, 70];
    let (rows, favourite, mut random) = (110, 37, Random::new(22));
    let (low, high) = (
        random.weights(BlockType::Q4_K, EXPERTS * OUT[0], COLS),
        random.weights(BlockType::Q6_K, EXPERTS * OUT[1], COLS),
    );
    let x = random.floats(rows * COLS);
    let mut logits = vec![0.0; rows * EXPERTS];
    for (r, logits) in logits.chunks_exact_mut(EXPERTS).enumerate() {
        logits[favourite] = 2.0;
        logits[[69, 0, 32, 64, 31, 1][r * r % 11 % 6]] = 3.0;
    }
    every_device!(|device| {
        let parts = [
            QuantRows::new(BlockType::Q4_K, EXPERTS * OUT[0], COLS, &low).unwrap(),
            QuantRows::new(BlockType::Q6_K, EXPERTS * OUT[1], COLS, &high).unwrap(),
        ];
        let w = device.mat(&parts, EXPERTS).unwrap();
        let out = OUT[0] + OUT[1];
        let mut run = |x: &[f32], logits: &[f32]| {
            let rows = logits.len() / EXPERTS;
            let (x, logits) = (filled(device, x, COLS), filled(device, logits, EXPERTS));
            let mut routes = device.routes(rows, 2).unwrap();
            let mut y = device.buf(rows * 2, out).unwrap();
            device.route(&mut routes, &logits).unwrap();
            device.matmul_experts(&mut y, &x, &w, &routes, true).unwrap();
            read(device, &y, rows * 2, out)
        };
        let all = run(&x, &logits);
        for r in 0..rows {
            let alone = run(&x[r * COLS..][..COLS], &logits[r * EXPERTS..][..EXPERTS]);
            assert_bits("a row alone", &alone, &all[r * 2 * out..][..2 * out]);
        }
    });
}

/// The chosen experts as an observer sees them: expert `e` multiplies with the matrix `[e]`.
fn choices<B: Backend>(cpu: &mut B, logits: &[f32], experts: usize, top: usize) -> Vec<f32> {
    let rows = logits.len() / experts;
    let numbers: Vec<f32> = (0..experts).map(|e| e as f32).collect();
    let data = bytes(&numbers);
    let w = cpu.mat(&[QuantRows::new(BlockType::F32, experts, 1, &data).unwrap()], experts).unwrap();
    let (one, logits) = (filled(cpu, &vec![1.0; rows], 1), filled(cpu, logits, experts));
    let mut routes = cpu.routes(rows, top).unwrap();
    let mut y = cpu.buf(rows * top, 1).unwrap();
    cpu.route(&mut routes, &logits).unwrap();
    cpu.matmul_experts(&mut y, &one, &w, &routes, true).unwrap();
    read(cpu, &y, rows * top, 1)
}

#[test]
fn the_largest_are_chosen_and_ties_go_to_the_lower() {
    every_device!(|cpu| {
        let logits = [1.0, 3.0, 3.0, 0.0, 3.0, 1.0, f32::NEG_INFINITY, 2.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(choices(cpu, &logits, 6, 3), [1.0, 2.0, 4.0, 1.0, 2.0, 3.0]);
        assert_eq!(choices(cpu, &logits, 12, 5), [1.0, 2.0, 4.0, 7.0, 0.0]);
        let random = Random::new(30).floats(300 * 128);
        let expected: Vec<f32> =
            random.chunks_exact(128).flat_map(|l| routed(l, 8)).map(|(e, _)| e as f32).collect();
        assert_eq!(choices(cpu, &random, 128, 8), expected);
    });
}

#[test]
fn what_is_no_number_still_chooses_different_experts() {
    every_device!(|cpu| {
        let mut chosen = choices(cpu, &[f32::NAN; 4], 4, 4);
        chosen.sort_by(f32::total_cmp);
        assert_eq!(chosen, [0.0, 1.0, 2.0, 3.0]);
        let nan = f32::NAN;
        assert_eq!(choices(cpu, &[nan, -5.0, nan, 7.0, 1.0, nan], 6, 3), [3.0, 4.0, 1.0]);
    });
}

#[test]
fn weights_sum_to_one_however_large_the_logits() {
    every_device!(|cpu| {
        let logits = filled(cpu, &[1e30, 1e30, -1e30, 0.0, 80.0, -80.0, 79.0, 0.0], 4);
        let mut routes = cpu.routes(2, 2).unwrap();
        cpu.route(&mut routes, &logits).unwrap();
        let (mut x, y) = (filled(cpu, &[0.5, 0.5], 1), filled(cpu, &[1.0, 1.0, 1.0, 3.0], 1));
        cpu.mix_experts(&mut x, &y, &routes).unwrap();
        let e = (-1.0f64).exp();
        assert_near("mixed", &read(cpu, &x, 2, 1), &[1.5, 0.5 + (1.0 + 3.0 * e) / (1.0 + e)], 1e-6);
    });
}
