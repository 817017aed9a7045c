//! Products, norms and what goes element by element.

use crate::rig::*;
use coder_kernels::cpu::{Cpu, Isa};
use coder_kernels::{Backend, BlockType, QuantRows};

/// The product of `x` with a weight of three parts, and the decoded weight.
pub(crate) fn mixed<B: Backend>(
    cpu: &mut B,
    x: &[f32],
    kinds: [BlockType; 3],
    rows: [usize; 3],
    cols: usize,
) -> (Vec<f32>, Vec<f32>) {
    let mut random = Random::new(5);
    let data: Vec<_> = kinds.iter().zip(rows).map(|(&k, r)| random.weights(k, r, cols)).collect();
    let parts: Vec<_> = (0..3).map(|i| QuantRows::new(kinds[i], rows[i], cols, &data[i]).unwrap()).collect();
    let w = cpu.mat(&parts, 1).unwrap();
    let out: usize = rows.iter().sum();
    let used = x.len() / cols;
    let x = filled(cpu, x, cols);
    let mut y = cpu.buf(used, out).unwrap();
    cpu.matmul(&mut y, &x, &w).unwrap();
    let weights = kinds.iter().zip(&data).flat_map(|(&k, d)| decoded(k, d)).collect();
    (read(cpu, &y, used, out), weights)
}

#[test]
fn matmul_of_every_type() {
    use BlockType::*;
    let groups = [
        ([F32, F16, BF16], [5, 3, 2], 100),
        ([Q4_0, Q4_1, Q5_0], [128, 16, 16], 896),
        ([Q5_1, Q8_0, IQ4_NL], [1, 63, 70], 896),
        ([Q4_K, Q6_K, Q5_K], [40, 41, 43], 768),
        ([Q2_K, Q3_K, IQ4_XS], [2, 300, 9], 256),
        ([Q4_K, Q8_0, F16], [20, 33, 5], 1280),
        // More inputs than any device takes at a time.
        ([Q4_K, Q6_K, Q5_0], [20, 17, 3], 4352),
    ];
    every_device!(|cpu| {
        for (kinds, sizes, cols) in groups {
            for rows in [1, 2, 3, 8, 9, 33, 65] {
                let x = Random::new(rows as u64).floats(rows * cols);
                let (y, w) = mixed(cpu, &x, kinds, sizes, cols);
                let out = w.len() / cols;
                let rounded = kinds.map(|kind| rounded(cpu, kind, &x));
                for r in 0..rows {
                    for (o, w) in w.chunks_exact(cols).enumerate() {
                        let part = usize::from(o >= sizes[0]) + usize::from(o >= sizes[0] + sizes[1]);
                        let (sum, size) = dot(w, &rounded[part][r * cols..][..cols]);
                        let got = y[r * out + o];
                        // Two to four roundings of at most 6e-8 for each 32 products, which are exact; they mostly
                        // cancel. Codes times scales and minima may be larger than the weights by some times.
                        assert!(
                            (f64::from(got) - sum).abs() <= 1e-6 * size,
                            "{kinds:?} [{r}, {o}]: {got} {sum}"
                        );
                    }
                }
            }
        }
    });
}

#[test]
fn a_row_of_a_product_does_not_see_its_neighbours() {
    use BlockType::*;
    every_device!(|cpu| {
        for (kinds, sizes, cols) in [
            ([Q4_0, Q5_0, Q8_0], [128, 60, 7], 896),
            ([Q4_K, Q6_K, F32], [7, 11, 3], 256),
            ([Q4_K, Q3_K, Q2_K], [17, 16, 30], 2304),
            ([Q4_1, Q5_K, IQ4_XS], [9, 20, 5], 2560),
            // Rows that blocks ask for in three pieces.
            ([Q4_K, Q6_K, Q3_K], [17, 7, 5], 8448),
            // Blocks of few and of many outputs.
            ([F32, F16, BF16], [131, 70, 140], 328),
        ] {
            let rows = 21;
            let x = Random::new(3).floats(rows * cols);
            let (all, _) = mixed(cpu, &x, kinds, sizes, cols);
            let out = all.len() / rows;
            for (r, row) in x.chunks_exact(cols).enumerate() {
                let (alone, _) = mixed(cpu, row, kinds, sizes, cols);
                assert_bits("a row alone", &alone, &all[r * out..][..out]);
            }
            for few in [2, 8, 9, 16] {
                let (some, _) = mixed(cpu, &x[..few * cols], kinds, sizes, cols);
                assert_bits("the first rows", &some, &all[..few * out]);
            }
            let backwards: Vec<f32> = x.chunks_exact(cols).rev().flatten().copied().collect();
            let (reversed, _) = mixed(cpu, &backwards, kinds, sizes, cols);
            let back: Vec<f32> = reversed.chunks_exact(out).rev().flatten().copied().collect();
            assert_bits("rows in another order", &back, &all);
        }
    });
}

/// Integers are exact, and what follows them has one order.
#[test]
fn instruction_sets_threads_and_batches_agree_bit_for_bit() {
    use BlockType::*;
    let groups = [
        ([Q4_0, Q4_1, Q5_0], [33, 16, 5], 896),
        ([Q5_1, Q8_0, IQ4_NL], [1, 63, 70], 1184),
        ([Q4_K, Q6_K, Q5_K], [60, 61, 3], 768),
        ([Q2_K, Q3_K, IQ4_XS], [2, 300, 9], 1024),
        ([Q4_K, Q8_0, Q6_K], [20, 33, 17], 1280),
    ];
    for (kinds, sizes, cols) in groups {
        // More than any instruction set unpacks weights in registers for.
        const MANY: usize = 260;
        let x = Random::new(8).floats(MANY * cols);
        let product = |isa, threads, rows: usize| {
            mixed(&mut Cpu::with(isa, threads), &x[..rows * cols], kinds, sizes, cols).0
        };
        let scalar = product(Isa::available()[0], 1, MANY);
        let out = sizes.iter().sum::<usize>();
        for isa in Isa::available() {
            let few = [(1, 64), (2, 65), (3, 200), (1, 1), (2, 2), (3, 7), (2, 1), (3, 9)];
            for (threads, rows) in few.into_iter().chain([(1, MANY), (2, MANY), (3, MANY)]) {
                let what = format!("{kinds:?} {} {threads} threads {rows} rows", isa.name());
                assert_bits(&what, &product(isa, threads, rows), &scalar[..rows * out]);
            }
        }
    }
}

#[test]
fn rms_norm() {
    every_device!(|cpu| {
        for (rows, cols) in [(1, 7), (3, 64), (40, 896), (70, 2048)] {
            let (data, w) = (Random::new(1).floats(rows * cols), Random::new(2).floats(cols));
            let x = filled(cpu, &data, cols);
            let weight = cpu.vector(&w).unwrap();
            let mut y = cpu.buf(rows, cols).unwrap();
            cpu.rms_norm(&mut y, &x, &weight, 1e-6).unwrap();
            let got = read(cpu, &y, rows, cols);
            let expected: Vec<f64> = data
                .chunks_exact(cols)
                .flat_map(|x| {
                    let scale = 1.0 / (dot(x, x).0 / cols as f64 + f64::from(1e-6f32)).sqrt();
                    x.iter().zip(&w).map(move |(x, w)| f64::from(*x) * scale * f64::from(*w))
                })
                .collect();
            // f32 has 6e-8 a rounding; a norm is a handful of them.
            assert_near("norm", &got, &expected, 1e-6);
            let one = filled(cpu, &data[(rows - 1) * cols..], cols);
            cpu.rms_norm(&mut y, &one, &weight, 1e-6).unwrap();
            let alone = read(cpu, &y, 1, cols);
            assert_bits("a row alone", &alone, &got[(rows - 1) * cols..]);
        }
    });
}

#[test]
fn elementwise() {
    every_device!(|cpu| {
        for (rows, ffn) in [(1, 3), (5, 768), (64, 4864)] {
            let data = Random::new(4).floats(rows * 2 * ffn).iter().map(|x| 30.0 * x).collect::<Vec<_>>();
            let gate_up = filled(cpu, &data, 2 * ffn);
            let mut y = cpu.buf(rows, ffn).unwrap();
            cpu.swiglu(&mut y, &gate_up).unwrap();
            let got = read(cpu, &y, rows, ffn);
            let expected: Vec<f64> = wide(&data)
                .chunks_exact(2 * ffn)
                .flat_map(|r| (0..ffn).map(|c| r[c] / (1.0 + (-r[c]).exp()) * r[ffn + c]).collect::<Vec<_>>())
                .collect();
            assert_near("swiglu", &got, &expected, 1e-6);

            let b = Random::new(6).floats(ffn);
            let bias = cpu.vector(&b).unwrap();
            cpu.bias(&mut y, &bias).unwrap();
            let biased: Vec<f32> = got.iter().zip(b.iter().cycle()).map(|(y, b)| y + b).collect();
            assert_bits("bias", &read(cpu, &y, rows, ffn), &biased);

            let other = filled(cpu, &got, ffn);
            cpu.add(&mut y, &other).unwrap();
            let sum: Vec<f32> = biased.iter().zip(&got).map(|(x, y)| x + y).collect();
            assert_bits("sum", &read(cpu, &y, rows, ffn), &sum);
        }
    });
}

#[test]
fn extremes_of_swiglu_are_finite() {
    every_device!(|cpu| {
        let x = filled(cpu, &[1e4, -1e4, -100.0, 0.0, 1.0, 1.0, 1.0, 1.0], 8);
        let mut y = cpu.buf(1, 4).unwrap();
        cpu.swiglu(&mut y, &x).unwrap();
        assert_eq!(read(cpu, &y, 1, 4), [1e4, 0.0, 0.0, 0.0]);
    });
}

#[test]
fn embed_and_select() {
    every_device!(|cpu| {
        let cols = 256;
        let mut random = Random::new(9);
        let parts = [random.weights(BlockType::Q4_K, 6, cols), random.weights(BlockType::Q8_0, 3, cols)];
        let rows = [
            QuantRows::new(BlockType::Q4_K, 6, cols, &parts[0]).unwrap(),
            QuantRows::new(BlockType::Q8_0, 3, cols, &parts[1]).unwrap(),
        ];
        let table = cpu.mat(&rows, 1).unwrap();
        let mut batch = sequence(4);
        batch.tokens = vec![8, 0, 6, 5];
        batch.logits = vec![1, 3];
        let (mut x, mut y) = (cpu.buf(6, cols).unwrap(), cpu.buf(2, cols).unwrap());
        cpu.step(&batch, |c| {
            c.embed(&mut x, &table)?;
            c.select(&mut y, &x)
        })
        .unwrap();
        let (four, eight) = (decoded(BlockType::Q4_K, &parts[0]), decoded(BlockType::Q8_0, &parts[1]));
        let token =
            |t: usize| if t < 6 { &four[t * cols..][..cols] } else { &eight[(t - 6) * cols..][..cols] };
        assert_bits("embedding", &read(cpu, &x, 4, cols), &[8, 0, 6, 5].map(token).concat());
        assert_bits("selected", &read(cpu, &y, 2, cols), &[0, 5].map(token).concat());
    });
}
