//! Every kernel once, on small shapes: quick enough for tools that watch every access, such as compute-sanitizer on a card.

use crate::rig::*;
use crate::{attention, dense, experts};
use coder_kernels::{BlockType, Heads, KvType};

#[test]
fn small_shapes() {
    use BlockType::*;
    let types = [
        ([F32, F16, BF16], 96),
        ([Q4_0, Q4_1, Q5_0], 96),
        ([Q5_1, Q8_0, IQ4_NL], 96),
        ([Q4_K, Q6_K, Q5_K], 256),
        ([Q2_K, Q3_K, IQ4_XS], 256),
    ];
    every_device!(|device| {
        for (kinds, cols) in types {
            for rows in [1, 2, 4, 7, 9] {
                let x = Random::new(rows as u64).floats(rows * cols);
                let (y, _) = dense::mixed(device, &x, kinds, [5, 3, 6], cols);
                assert!(y.iter().all(|y| y.is_finite()), "{kinds:?} with {rows} rows");
            }
        }
        for dtype in [KvType::F32, KvType::F16, KvType::Q8_0] {
            let layer = attention::Layer::new(Heads { q: 4, kv: 2, dim: 64 }, dtype, true, &[300]);
            let mut kv = layer.kv(device);
            for run in [0..290, 290..299, 299..300] {
                let (_, y) = layer.step(device, &mut kv, &layer.batch(&[(0, run)]));
                assert!(y.iter().all(|y| y.is_finite()));
            }
        }
        let layer = experts::Layer::new();
        for rows in [1, 10] {
            let mut random = Random::new(22);
            let (x, logits) = (random.floats(rows * experts::COLS), random.floats(rows * experts::EXPERTS));
            assert!(layer.run(device, &x, &logits).iter().all(|x| x.is_finite()));
        }
    });
}
