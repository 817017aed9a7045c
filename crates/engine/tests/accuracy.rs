//! How far the logits of each device are from float64 arithmetic on the same file.

mod common;

use coder_engine::{Device, KvType, Options, probe};

/// llama.cpp's mean KL on the same files, from the data set's README: an engine should be no farther.
const PEER_KL: [(&str, f64); 24] = [
    ("tiny-qwen2-F16", 2.519e-06),
    ("tiny-qwen2-IQ4_NL", 5.565e-04),
    ("tiny-qwen2-IQ4_XS", 1.152e-03),
    ("tiny-qwen2-Q2_K", 1.173e-03),
    ("tiny-qwen2-Q3_K_M", 1.154e-03),
    ("tiny-qwen2-Q4_0", 5.585e-04),
    ("tiny-qwen2-Q4_1", 5.446e-04),
    ("tiny-qwen2-Q4_K_M", 1.217e-03),
    ("tiny-qwen2-Q5_0", 5.069e-04),
    ("tiny-qwen2-Q5_1", 5.411e-04),
    ("tiny-qwen2-Q5_K_M", 1.108e-03),
    ("tiny-qwen2-Q6_K", 1.155e-03),
    ("tiny-qwen2-Q8_0", 5.471e-04),
    ("tiny-qwen2-untied-F16", 2.239e-06),
    ("tiny-qwen2-untied-Q4_K_M", 1.079e-03),
    ("tiny-qwen2-untied-Q8_0", 4.701e-04),
    ("tiny-qwen3-F16", 1.881e-06),
    ("tiny-qwen3-Q4_K_M", 7.489e-04),
    ("tiny-qwen3-Q8_0", 3.551e-04),
    ("tiny-qwen3moe-F16", 2.235e-06),
    ("tiny-qwen3moe-Q4_0", 1.231e-03),
    ("tiny-qwen3moe-Q4_K_M", 6.331e-03),
    ("tiny-qwen3moe-Q6_K", 7.161e-04),
    ("tiny-qwen3moe-Q8_0", 7.175e-03),
];

/// F16 files: the distance that 16-bit keys and values alone may cause.
const F16_RELATIVE_L2: f64 = 5e-3;

#[test]
fn no_farther_from_float64_than_llama_cpp() {
    let (Some(models), Some(logits)) = (common::shared("vectors/models"), common::shared("vectors/logits"))
    else {
        return;
    };
    let tokens = common::tokens();
    for device in [Device::Cpu, Device::Reference, Device::Cuda] {
        println!("| {device}: model | max relative L2 | mean KL | llama.cpp's mean KL |");
        for (name, peer) in PEER_KL {
            let mut options = Options::new(models.join(format!("{name}.gguf")));
            (options.device, options.library) = (device, Some(common::library()));
            let got = probe::logits(&options, &tokens, None).expect("logits");
            let reference = common::npy(&logits.join(format!("{name}.npy")));
            let d = common::distance(&reference, &got.values, got.vocab);
            println!("| {name} | {:.3e} | {:.3e} | {peer:.3e} |", d.relative_l2, d.kl);
            assert!(d.kl <= peer, "{device} {name}: KL {:e} > {peer:e}", d.kl);
            assert!(
                !name.ends_with("F16") || d.relative_l2 <= F16_RELATIVE_L2,
                "{device} {name}: {:e}",
                d.relative_l2
            );
        }
    }
}

#[test]
fn the_two_devices_agree_on_the_bundled_model() {
    let tokens = common::tokens();
    // The CPU rounds activations to 8 bits, which is half a step of 8e-3 for each of six layers' products.
    for (kv, tolerance) in [(KvType::F32, 5e-2), (KvType::Q8_0, 5e-2)] {
        let mut options = Options::new(common::bundled());
        options.kv = kv;
        let cpu = probe::logits(&options, &tokens, None).expect("logits");
        options.device = Device::Reference;
        let reference = probe::logits(&options, &tokens, None).expect("logits");
        let distance = common::distance(&reference.values, &cpu.values, cpu.vocab).relative_l2;
        println!("{kv:?}: {distance:e}");
        assert!(distance < tolerance, "{kv:?}: {distance:e}");
    }
}
