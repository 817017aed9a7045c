//! Fused operations are their parts, bit for bit: those of the contract, and the rounding of rows to eight bits, which a
//! device may do where rows are made or where a product first reads them.

use crate::rig::*;
use coder_kernels::{BLOCK, Backend, BlockType, Heads, KvType, Next, OfHeads, QkNorm, QuantRows, Rope};

/// A weight of several parts, two of them of one type, with decoded rows nowhere needed.
fn parts<B: Backend>(device: &mut B, kinds: &[BlockType], rows: &[usize], cols: usize) -> B::Mat {
    let mut random = Random::new(31);
    let data: Vec<_> = kinds.iter().zip(rows).map(|(&k, &r)| random.weights(k, r, cols)).collect();
    let parts: Vec<_> = kinds
        .iter()
        .zip(rows)
        .zip(&data)
        .map(|((&kind, &rows), data)| QuantRows::new(kind, rows, cols, data).unwrap())
        .collect();
    device.mat(&parts, 1).unwrap()
}

#[test]
fn a_norm_and_a_product() {
    every_device!(|device| {
        let (cols, out) = (256, 70);
        let w = parts(device, &[BlockType::Q4_K], &[out], cols);
        let norm = device.vector(&Random::new(12).floats(cols)).unwrap();
        for rows in [1, 9] {
            let x = filled(device, &Random::new(13).floats(rows * cols), cols);
            let mut h = device.buf(rows, cols).unwrap();
            let (mut y, mut z) = (device.buf(rows, out).unwrap(), device.buf(rows, out).unwrap());
            device.norm_matmul(&mut y, &x, &norm, &w, 1e-6, &mut h).unwrap();
            device.rms_norm(&mut h, &x, &norm, 1e-6).unwrap();
            device.matmul(&mut z, &h, &w).unwrap();
            let (got, expected) = (read(device, &y, rows, out), read(device, &z, rows, out));
            assert_bits("norm_matmul", &got, &expected);
        }
    });
}

#[test]
fn a_product_and_a_sum() {
    use BlockType::*;
    every_device!(|device| {
        let cols = 512;
        let weights: [(&[BlockType], &[usize]); 3] = [
            (&[Q4_K], &[70]),
            (&[Q4_K, Q4_K, Q6_K, Q4_K], &[33, 2, 20, 15]),
            (&[F32, Q8_0, F32], &[9, 40, 21]),
        ];
        for (kinds, sizes) in weights {
            let out: usize = sizes.iter().sum();
            let w = parts(device, kinds, sizes, cols);
            for rows in [1, 2, 4, 8, 9, 70] {
                let mut random = Random::new(rows as u64);
                let (x, sum) = (random.floats(rows * cols), random.floats(rows * out));
                let x = filled(device, &x, cols);
                let mut y = device.buf(rows, out).unwrap();
                let (mut one, mut two) = (filled(device, &sum, out), filled(device, &sum, out));
                device.matmul_add(&mut one, &x, &w, &mut y).unwrap();
                device.matmul(&mut y, &x, &w).unwrap();
                device.add(&mut two, &y).unwrap();
                let (got, expected) = (read(device, &one, rows, out), read(device, &two, rows, out));
                assert_bits(&format!("{kinds:?}, {rows} rows"), &got, &expected);
            }
        }
    });
}

/// A norm of whole runs, of several blocks for each row or of one, and of columns that are no runs.
#[test]
fn a_product_a_sum_and_a_norm() {
    use BlockType::*;
    every_device!(|device| {
        let weights: [(&[BlockType], &[usize], usize); 5] = [
            (&[Q4_K], &[2112], 256),
            (&[Q6_K], &[96], 512),
            (&[Q4_K, Q6_K], &[33, 31], 256),
            (&[F16], &[128], 72),
            (&[Q8_0], &[70], 64),
        ];
        for (kinds, sizes, cols) in weights {
            let out: usize = sizes.iter().sum();
            let w = parts(device, kinds, sizes, cols);
            let norm = device.vector(&Random::new(5).floats(out)).unwrap();
            for rows in [1, 2, 3, 8, 9] {
                let mut random = Random::new(rows as u64);
                let y = filled(device, &random.floats(rows * cols), cols);
                let sum = random.floats(rows * out);
                let mut of = |fused: bool| {
                    let (mut x, mut h) = (filled(device, &sum, out), device.buf(rows, out).unwrap());
                    if fused {
                        let next = Next { w: Some(&norm), eps: 1e-6, y: &mut h };
                        device.matmul_add_norm(&mut x, &y, &w, next).unwrap();
                    } else {
                        device.matmul_add(&mut x, &y, &w, &mut h).unwrap();
                        device.rms_norm(&mut h, &x, &norm, 1e-6).unwrap();
                    }
                    if out.is_multiple_of(32) {
                        rounded_alike(device, "norm behind a product", &h, rows, out);
                    }
                    [read(device, &x, rows, out), read(device, &h, rows, out)]
                };
                let ([x, h], [x_parts, h_parts]) = (of(true), of(false));
                assert_bits(&format!("sum, {kinds:?}, {rows} rows"), &x, &x_parts);
                assert_bits(&format!("norm, {kinds:?}, {rows} rows"), &h, &h_parts);
                // Where no norm follows there is the sum.
                let (mut x, mut h) = (filled(device, &sum, out), device.buf(rows, out).unwrap());
                device.matmul_add_norm(&mut x, &y, &w, Next { w: None, eps: 1e-6, y: &mut h }).unwrap();
                assert_bits("sum alone", &read(device, &x, rows, out), &x_parts);
            }
        }
    });
}

#[test]
fn a_router_and_its_routes() {
    every_device!(|device| {
        for (kind, experts, top_k) in
            [(BlockType::F32, 37, 5), (BlockType::BF16, 8, 8), (BlockType::Q8_0, 9, 2)]
        {
            let (cols, ffn) = (96, 32);
            let w = parts(device, &[kind], &[experts], cols);
            let mut random = Random::new(experts as u64);
            let data = random.weights(BlockType::Q4_0, experts * ffn, cols);
            let rows_of = QuantRows::new(BlockType::Q4_0, experts * ffn, cols, &data).unwrap();
            let chosen = device.mat(&[rows_of], experts).unwrap();
            for rows in [1, 5, 8, 12] {
                let x = filled(device, &random.floats(rows * cols), cols);
                let mut of = |fused: bool| {
                    let mut routes = device.routes(rows, top_k).unwrap();
                    let mut logits = device.buf(rows, experts).unwrap();
                    if fused {
                        device.matmul_route(&mut routes, &mut logits, &x, &w).unwrap();
                    } else {
                        device.matmul(&mut logits, &x, &w).unwrap();
                        device.route(&mut routes, &logits).unwrap();
                    }
                    // Experts show in their products, weights in the sum of these.
                    let entries = rows * top_k;
                    let mut y = device.buf(entries, ffn).unwrap();
                    device.matmul_experts(&mut y, &x, &chosen, &routes, true).unwrap();
                    let mut sum = filled(device, &vec![0.0; rows * ffn], ffn);
                    device.mix_experts(&mut sum, &y, &routes).unwrap();
                    let logits = read(device, &logits, rows, experts);
                    [logits, read(device, &y, entries, ffn), read(device, &sum, rows, ffn)]
                };
                for (got, expected) in of(true).iter().zip(&of(false)) {
                    assert_bits(&format!("{kind:?}, {rows} rows"), got, expected);
                }
            }
        }
    });
}

#[test]
fn a_product_of_heads_and_their_rotation() {
    use BlockType::*;
    every_device!(|device| {
        let layers: [(&[BlockType; 2], Heads, KvType); 4] = [
            (&[Q4_K, Q6_K], Heads { q: 6, kv: 2, dim: 64 }, KvType::F16),
            (&[Q8_0, Q8_0], Heads { q: 2, kv: 1, dim: 256 }, KvType::Q8_0),
            (&[IQ4_XS, Q3_K], Heads { q: 3, kv: 3, dim: 10 }, KvType::F32),
            (&[Q2_K, F16], Heads { q: 4, kv: 1, dim: 32 }, KvType::F16),
        ];
        for (kinds, heads, dtype) in layers {
            let (input, cols) = (256, heads.qkv_cols());
            let sizes = [(heads.q + heads.kv) * heads.dim, heads.kv * heads.dim];
            let w = parts(device, kinds, &sizes, input);
            let mut random = Random::new(heads.dim as u64);
            let bias = device.vector(&random.floats(cols)).unwrap();
            let [q, k] = [0, 1].map(|_| device.vector(&random.floats(heads.dim)).unwrap());
            let norm = QkNorm { q, k };
            let rope = Rope { heads, theta: 1e6, eps: 1e-6 };
            for (rows, bias, norm) in [
                (1, Some(&bias), None),
                (2, None, Some(&norm)),
                (3, None, None),
                (8, Some(&bias), Some(&norm)),
                (9, None, None),
            ] {
                let x = filled(device, &random.floats(rows * input), input);
                let mut of = |fused: bool| {
                    let mut kv = device.kv(BLOCK, heads, dtype).unwrap();
                    let mut qkv = device.buf(rows, cols).unwrap();
                    let done = device.step(&sequence(rows), |d| {
                        if fused {
                            return d.matmul_rope(&mut qkv, &x, &w, OfHeads { bias, norm }, &mut kv, &rope);
                        }
                        d.matmul(&mut qkv, &x, &w)?;
                        d.bias_rope(&mut qkv, bias, norm, &mut kv, &rope)
                    });
                    done.unwrap();
                    let mut block = vec![0; device.block_bytes(&kv)];
                    device.read_block(&kv, 0, &mut block).unwrap();
                    (read(device, &qkv, rows, cols), block)
                };
                let ((qkv, kept), (qkv_parts, kept_parts)) = (of(true), of(false));
                assert_bits(&format!("{kinds:?}, {rows} rows"), &qkv, &qkv_parts);
                assert!(kept == kept_parts, "{kinds:?}, {rows} rows: other keys and values");
            }
        }
    });
}

#[test]
fn a_product_and_a_gate() {
    use BlockType::*;
    every_device!(|device| {
        for (kinds, ffn, cols) in [
            ([Q4_K, Q4_K], 96, 1280),
            ([Q4_K, Q6_K], 32, 256),
            ([F16, F16], 64, 104),
            ([Q8_0, Q8_0], 40, 96),
            ([Q6_K, Q6_K], 160, 256),
            ([Q5_K, Q5_K], 12, 4352),
        ] {
            let w = parts(device, &kinds, &[ffn, ffn], cols);
            for rows in [1, 2, 3, 8, 9, 17, 100] {
                let x = filled(device, &Random::new(rows as u64).floats(rows * cols), cols);
                let mut gate_up = device.buf(rows, 2 * ffn).unwrap();
                let (mut one, mut two) = (device.buf(rows, ffn).unwrap(), device.buf(rows, ffn).unwrap());
                device.matmul_swiglu(&mut one, &x, &w, &mut gate_up).unwrap();
                device.matmul(&mut gate_up, &x, &w).unwrap();
                device.swiglu(&mut two, &gate_up).unwrap();
                let (got, expected) = (read(device, &one, rows, ffn), read(device, &two, rows, ffn));
                assert_bits(&format!("{kinds:?}, {rows} rows"), &got, &expected);
                if ffn % 32 == 0 {
                    rounded_alike(device, "gated product", &one, rows, ffn);
                }
            }
        }
    });
}

#[test]
fn a_product_of_experts_and_a_gate() {
    every_device!(|device| {
        let (experts, top_k, ffn, cols) = (6, 3, 96, 256);
        let mut random = Random::new(17);
        let data = [0, 1].map(|_| random.weights(BlockType::Q4_K, experts * ffn, cols));
        let halves = [0, 1].map(|i| QuantRows::new(BlockType::Q4_K, experts * ffn, cols, &data[i]).unwrap());
        let w = device.mat(&halves, experts).unwrap();
        for rows in [1, 4, 10, 200] {
            let x = filled(device, &random.floats(rows * cols), cols);
            let logits = filled(device, &random.floats(rows * experts), experts);
            let mut routes = device.routes(rows, top_k).unwrap();
            device.route(&mut routes, &logits).unwrap();
            let entries = rows * top_k;
            let mut gate_up = device.buf(entries, 2 * ffn).unwrap();
            let (mut one, mut two) = (device.buf(entries, ffn).unwrap(), device.buf(entries, ffn).unwrap());
            device.matmul_experts_swiglu(&mut one, &x, &w, &routes, &mut gate_up).unwrap();
            device.matmul_experts(&mut gate_up, &x, &w, &routes, true).unwrap();
            device.swiglu(&mut two, &gate_up).unwrap();
            let (got, expected) = (read(device, &one, entries, ffn), read(device, &two, entries, ffn));
            assert_bits(&format!("{rows} rows"), &got, &expected);
            rounded_alike(device, "gated product of experts", &one, entries, ffn);
        }
    });
}

#[test]
fn a_product_of_experts_and_their_sum() {
    every_device!(|device| {
        for (kind, experts, top_k, out, cols) in [
            (BlockType::Q6_K, 10, 8, 67, 256),
            (BlockType::F16, 9, 3, 64, 256),
            (BlockType::Q4_K, 12, 9, 33, 256),
            (BlockType::Q4_K, 5, 3, 32, 2304),
            (BlockType::Q8_0, 5, 4, 32, 1120),
        ] {
            let mut random = Random::new(19);
            let data = random.weights(kind, experts * out, cols);
            let w =
                device.mat(&[QuantRows::new(kind, experts * out, cols, &data).unwrap()], experts).unwrap();
            for rows in [1, 3, 8, 10] {
                let entries = rows * top_k;
                let y = filled(device, &random.floats(entries * cols), cols);
                let logits = filled(device, &random.floats(rows * experts), experts);
                let sum = random.floats(rows * out);
                let mut routes = device.routes(rows, top_k).unwrap();
                device.route(&mut routes, &logits).unwrap();
                let mut h = device.buf(entries, out).unwrap();
                let (mut one, mut two) = (filled(device, &sum, out), filled(device, &sum, out));
                device.matmul_experts_mix(&mut one, &y, &w, &routes, &mut h).unwrap();
                device.matmul_experts(&mut h, &y, &w, &routes, false).unwrap();
                device.mix_experts(&mut two, &h, &routes).unwrap();
                let (got, expected) = (read(device, &one, rows, out), read(device, &two, rows, out));
                assert_bits(&format!("{kind:?}, {top_k} of {experts}, {rows} rows"), &got, &expected);

                // The same with a norm behind it.
                let norm = device.vector(&random.floats(out)).unwrap();
                let (mut three, mut normed) = (filled(device, &sum, out), device.buf(rows, out).unwrap());
                let next = Next { w: Some(&norm), eps: 1e-6, y: &mut normed };
                device.matmul_experts_mix_norm(&mut three, &y, &w, &routes, &mut h, next).unwrap();
                assert_bits("sum before a norm", &read(device, &three, rows, out), &expected);
                if out % 32 == 0 {
                    rounded_alike(device, "norm behind experts", &normed, rows, out);
                }
                let got = read(device, &normed, rows, out);
                device.rms_norm(&mut normed, &three, &norm, 1e-6).unwrap();
                assert_bits("norm behind experts", &got, &read(device, &normed, rows, out));
            }
        }
    });
}

#[test]
fn a_bias_and_a_rotation() {
    every_device!(|device| {
        for (dim, dtype) in [(64, KvType::F16), (128, KvType::Q8_0), (10, KvType::F32)] {
            let heads = Heads { q: 6, kv: 2, dim };
            let (rows, cols) = (5, heads.qkv_cols());
            let mut random = Random::new(dim as u64);
            let (data, bias) = (random.floats(rows * cols), device.vector(&random.floats(cols)).unwrap());
            let norm = QkNorm {
                q: device.vector(&random.floats(dim)).unwrap(),
                k: device.vector(&random.floats(dim)).unwrap(),
            };
            let rope = Rope { heads, theta: 1e6, eps: 1e-6 };
            for norm in [None, Some(&norm)] {
                let mut of = |fused: bool| {
                    let mut kv = device.kv(BLOCK, heads, dtype).unwrap();
                    let mut x = filled(device, &data, cols);
                    let done = device.step(&sequence(rows), |d| {
                        if fused {
                            return d.bias_rope(&mut x, Some(&bias), norm, &mut kv, &rope);
                        }
                        d.bias(&mut x, &bias)?;
                        d.rope(&mut x, norm, &mut kv, &rope)
                    });
                    done.unwrap();
                    let mut y = device.buf(rows, heads.q_cols()).unwrap();
                    device.step(&sequence(rows), |d| d.attention(&mut y, &x, &kv)).unwrap();
                    [read(device, &x, rows, cols), read(device, &y, rows, heads.q_cols())]
                };
                let ([x, y], [x_parts, y_parts]) = (of(true), of(false));
                assert_bits("rotated rows", &x, &x_parts);
                assert_bits("attention over what was kept", &y, &y_parts);
            }
        }
    });
}

/// The product of rows as an operation left them is that of the same numbers, written anew.
fn rounded_alike<B: Backend>(device: &mut B, what: &str, x: &B::Buf, rows: usize, cols: usize) {
    let w = parts(device, &[BlockType::Q4_1], &[13], cols);
    let mut y = device.buf(rows, 13).unwrap();
    device.matmul(&mut y, x, &w).unwrap();
    let got = read(device, &y, rows, 13);
    let numbers = read(device, x, rows, cols);
    let anew = filled(device, &numbers, cols);
    device.matmul(&mut y, &anew, &w).unwrap();
    assert_bits(&format!("{what}, {rows} rows of {cols}"), &got, &read(device, &y, rows, 13));
}

#[test]
fn rows_are_rounded_alike_wherever_it_is_done() {
    every_device!(|device| {
        for (rows, cols) in [(1, 32), (2, 96), (3, 896), (9, 2080), (1, 4096)] {
            let mut random = Random::new(cols as u64);
            let x = filled(device, &random.floats(rows * cols), cols);
            let norm = device.vector(&random.floats(cols)).unwrap();
            let mut y = device.buf(rows, cols).unwrap();
            device.rms_norm(&mut y, &x, &norm, 1e-6).unwrap();
            rounded_alike(device, "norm", &y, rows, cols);
            let gate_up = filled(device, &random.floats(rows * 2 * cols), 2 * cols);
            device.swiglu(&mut y, &gate_up).unwrap();
            rounded_alike(device, "swiglu", &y, rows, cols);
        }
        // One chunk and several, heads of whole runs and not, a group that takes two blocks, rows by tiles.
        for (q, kv, dim, rows) in [(4, 2, 64, 40), (10, 1, 32, 300), (8, 2, 12, 40), (2, 1, 256, 300)] {
            let heads = Heads { q, kv, dim };
            let layer = crate::attention::Layer::new(heads, KvType::F16, false, &[rows]);
            let mut cache = layer.kv(device);
            let rope = Rope { heads, theta: 1e6, eps: 1e-6 };
            for run in [0..rows - 3, rows - 3..rows] {
                let (batch, data) = layer.batch(&[(0, run)]);
                let mut x = filled(device, &data, heads.qkv_cols());
                let mut y = device.buf(batch.rows(), heads.q_cols()).unwrap();
                let done = device.step(&batch, |d| {
                    d.rope(&mut x, None, &mut cache, &rope)?;
                    d.attention(&mut y, &x, &cache)
                });
                done.unwrap();
                rounded_alike(device, "attention", &y, batch.rows(), heads.q_cols());
            }
        }
    });
}
