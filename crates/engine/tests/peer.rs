//! candle-transformers' own forward passes agree with ours on the same file.

mod common;

use candle_core::Tensor;
use candle_core::quantized::gguf_file;
use candle_transformers::models::{quantized_qwen2, quantized_qwen3};
use coder_engine::{Device, KvType, Options, probe};
use std::path::Path;

/// One step of one of their models: tokens `[1, n]` at a position, to the last token's logits.
type Forward = Box<dyn FnMut(&Tensor, usize) -> candle_core::Result<Tensor>>;

/// Their logits for every position, one token at a time.
fn theirs(path: &Path, tokens: &[u32]) -> candle_core::Result<Vec<f32>> {
    let mut file = std::fs::File::open(path)?;
    let content = gguf_file::Content::read(&mut file)?;
    let qwen2 = path.to_string_lossy().contains("qwen2");
    let mut forward: Forward = if qwen2 {
        let mut model =
            quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &candle_core::Device::Cpu)?;
        Box::new(move |x, position| model.forward(x, position))
    } else {
        let mut model =
            quantized_qwen3::ModelWeights::from_gguf(content, &mut file, &candle_core::Device::Cpu)?;
        Box::new(move |x, position| model.forward(x, position))
    };
    let mut logits = Vec::new();
    for (position, &token) in tokens.iter().enumerate() {
        let x = Tensor::new(&[[token]], &candle_core::Device::Cpu)?;
        logits.extend(forward(&x, position)?.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(logits)
}

#[test]
fn candle_transformers_agrees() {
    // With F16 weights both compute in f32, but candle's qwen3 keeps its rotation table in 16 bits; for
    // quantized weights it quantizes the activations to 8 bits, which costs as much as it costs llama.cpp.
    let mut cases = vec![(common::bundled(), 6e-2)];
    if let Some(dir) = common::shared("vectors/models") {
        for (name, tolerance) in [
            ("tiny-qwen2-F16", 1e-4),
            ("tiny-qwen2-untied-F16", 1e-4),
            ("tiny-qwen3-F16", 1e-2),
            ("tiny-qwen2-Q8_0", 6e-2),
            ("tiny-qwen2-Q4_K_M", 1e-1),
            ("tiny-qwen3-Q8_0", 6e-2),
            ("tiny-qwen3-Q4_K_M", 1e-1),
        ] {
            cases.push((dir.join(format!("{name}.gguf")), tolerance));
        }
    }
    let tokens = common::tokens();
    for (path, tolerance) in cases {
        let theirs = theirs(&path, &tokens).expect("candle's logits");
        for device in [Device::Reference, Device::Cpu] {
            let options = Options { device, kv: KvType::F32, ..Options::new(&path) };
            let ours = probe::logits(&options, &tokens, None).expect("our logits");
            let d = common::distance(&ours.values, &theirs, ours.vocab);
            println!("{} {device}: relative L2 {:.2e}, KL {:.2e}", path.display(), d.relative_l2, d.kl);
            // The CPU rounds to 8 bits too, in its own way: two errors of one size add to 1.4 times one.
            let rounds = device == Device::Cpu && tolerance > 5e-2;
            let tolerance = if rounds { 1.5 * tolerance } else { tolerance };
            assert!(d.relative_l2 < tolerance, "{} {device}: {:e}", path.display(), d.relative_l2);
        }
    }
}
