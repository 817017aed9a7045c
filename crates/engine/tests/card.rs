//! A model on a card, an emulated one if there is no other: the plan is kept, any part of the layers is enough, and what cannot be is said.

mod common;

use coder_engine::fit::{Memory, Plan, Tensors};
use coder_engine::{Device, Engine, Error, ModelInfo, Options, probe};
use std::path::Path;

fn options(model: &Path, device: Device) -> Options {
    let mut options = Options::new(model);
    (options.device, options.context) = (device, Some(256));
    options.library = Some(common::library());
    options
}

fn info(options: &Options) -> Result<ModelInfo, Error> {
    Ok(Engine::open(options)?.info().clone())
}

#[test]
fn without_kernels_auto_is_the_cpu_and_cuda_says_how_to_have_them() {
    let mut options = options(&common::bundled(), Device::Auto);
    options.library = None;
    let opened = info(&options).expect("a model");
    assert!(
        opened.device.starts_with("cpu") && opened.card.is_none() && opened.notice.is_none(),
        "{opened:?}"
    );
    options.gpu_layers = Some(2);
    let notice = info(&options).expect("a model").notice.expect("a notice");
    assert!(notice.contains("CPU") && notice.contains("--features cuda"), "{notice}");
    options.device = Device::Cuda;
    assert!(matches!(info(&options), Err(Error::NoCuda)));
}

#[test]
fn options_of_a_card_need_one() {
    for device in [Device::Cpu, Device::Reference] {
        let mut options = options(&common::bundled(), device);
        options.vram = Some(24 << 30);
        assert!(matches!(info(&options), Err(Error::Request { field: "vram", .. })));
        (options.vram, options.gpu_layers) = (None, Some(1));
        assert!(matches!(info(&options), Err(Error::Request { field: "gpu_layers", .. })));
        options.gpu_layers = Some(0);
        assert!(info(&options).is_ok());
    }
    let mut options = options(&common::bundled(), Device::Cuda);
    options.gpu_layers = Some(0);
    assert!(matches!(info(&options), Err(Error::Request { field: "gpu_layers", .. })));
}

#[test]
fn what_is_allocated_is_within_the_plan() {
    for model in common::few_models().into_iter().chain([common::bundled()]) {
        let mut options = options(&model, Device::Cuda);
        let layers = info(&options).expect("a model").layers;
        for n in 1..=layers {
            options.gpu_layers = Some(n);
            let opened = info(&options).expect("a model");
            let card = opened.card.expect("a card");
            assert_eq!(card.layers, n);
            // Graphs and reserve are not allocated by name.
            let weights = options.source.weights().expect("weights");
            let room = options.room(weights.config()).expect("room");
            let plan =
                Plan::new(Tensors::Of(&weights), &room).expect("a plan").bytes(n, Memory::total(1 << 40));
            assert_eq!(opened.chunk, plan.rows);
            let named = plan.weights + plan.cache + plan.scratch;
            assert!(card.used_bytes <= named, "{}: {} > {named}", model.display(), card.used_bytes);
            assert!(
                card.used_bytes * 100 >= named * 99,
                "{}: {} of {named}",
                model.display(),
                card.used_bytes
            );
            assert_eq!(opened.notice.is_some(), n < layers);
        }
    }
}

#[test]
fn any_part_of_the_layers_gives_the_same_answers() {
    let tokens = &common::tokens()[..12];
    for model in common::few_models() {
        let cpu = probe::logits(&options(&model, Device::Cpu), tokens, None).expect("logits");
        let mut options = options(&model, Device::Cuda);
        for n in 1..=cpu.info.layers {
            options.gpu_layers = Some(n);
            let card = probe::logits(&options, tokens, None).expect("logits");
            let distance = common::distance(&cpu.values, &card.values, cpu.vocab);
            // Both round activations to eight bits, and may choose other scales.
            assert!(distance.kl < 1e-2, "{}: {n} layers: {}", model.display(), distance.kl);
        }
    }
}

#[test]
fn chunks_and_graphs_change_no_bit_on_a_card_or_beside_one() {
    let tokens = &common::tokens()[..8];
    for model in common::few_models() {
        let mut options = options(&model, Device::Cuda);
        let layers = info(&options).expect("a model").layers;
        for n in [1, layers] {
            options.gpu_layers = Some(n);
            options.graphs = false;
            let whole = probe::logits(&options, tokens, None).expect("logits");
            for (chunk, graphs) in [(1, true), (3, true), (3, false)] {
                options.graphs = graphs;
                let parts = probe::logits(&options, tokens, Some(chunk)).expect("logits");
                let same = whole.values.iter().zip(&parts.values).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{}: {n} layers, chunks of {chunk}, graphs {graphs}", model.display());
            }
        }
    }
}

#[test]
fn too_much_for_the_card_is_said_before_anything_is_loaded() {
    let mut options = options(&common::bundled(), Device::Cuda);
    let layers = info(&options).expect("a model").layers;
    options.vram = Some(1 << 20);
    let error = info(&options).expect_err("no room");
    assert!(matches!(error, Error::CardTooSmall { layers: 1, fitting: 0, .. }), "{error}");
    options.device = Device::Auto;
    let opened = info(&options).expect("a model");
    assert!(opened.card.is_none() && opened.notice.is_some_and(|n| n.contains("CPU") && n.contains("GiB")));
    // Room for some layers: the plan says how much that is.
    let weights = options.source.weights().expect("weights");
    let plan =
        Plan::new(Tensors::Of(&weights), &options.room(weights.config()).expect("room")).expect("a plan");
    options.vram = Some(plan.bytes(2, Memory::total(0)).card);
    let opened = info(&options).expect("a model");
    assert_eq!(opened.card.map(|card| card.layers), Some(2));
    assert!(opened.notice.is_some_and(|n| n.contains(&format!("2 of {layers} layers"))));
    options.gpu_layers = Some(3);
    assert!(matches!(info(&options), Err(Error::CardTooSmall { layers: 3, fitting: 2, .. })));
}

/// What is asked for is for both models: the draft model has its place, and the rest of the layers stay on the CPU.
#[test]
fn a_draft_model_has_its_part_of_the_memory() {
    let mut options = options(&common::bundled(), Device::Cuda);
    options.draft = Some(options.source.clone());
    let opened = info(&options).expect("a model");
    let layers = opened.layers;
    let weights = options.source.weights().expect("weights");
    let room = options.room(weights.config()).expect("room");
    let driver = Plan::new(Tensors::Of(&weights), &room).expect("a plan");
    // Of the draft model, a step has fewer rows whose logits are wanted.
    let guesses = coder_engine::fit::Room { logits: options.parallel, ..room };
    let draft = Plan::new(Tensors::Of(&weights), &guesses).expect("a plan");
    let none = Memory::total(0);
    let both = driver.bytes(layers, none).card + draft.bytes(layers, none).card - (512 << 20);
    for (vram, expected) in [(both, layers), (both - 1, layers - 1)] {
        options.vram = Some(vram);
        let opened = info(&options).expect("a model");
        let card = opened.card.expect("a card");
        let beside = opened.draft.expect("a draft model").card.expect("on the card");
        assert_eq!((card.layers, beside.layers), (expected, layers), "with {vram} bytes");
        assert!(card.used_bytes + beside.used_bytes + (512 << 20) <= vram);
    }
    // Too little for both: the model goes first.
    options.vram = Some(driver.bytes(1, none).card);
    options.device = Device::Auto;
    let opened = info(&options).expect("a model");
    assert_eq!(opened.card.map(|card| card.layers), Some(1));
    assert!(opened.draft.is_some_and(|draft| draft.card.is_none()));
}

/// Of one row: queries, keys and values with their rotation, attention, the product with the residual and the next norm, the gated
/// product, and again a product with the residual and the next norm; a mixture has the router beside. Types that are rare
/// among queries, keys and values are a launch each, and so is a second rounding, if they want two. Where weights want two heads
/// to share a scale, the attention's rounding is another; and the first token finds out how products want their rows rounded.
#[test]
fn a_layer_is_few_launches() {
    let tiny = |name| common::shared(&format!("vectors/models/tiny-{name}.gguf"));
    let models = [
        (Some(common::bundled()), 5),
        (tiny("qwen2-Q4_K_M"), 5 + 1),
        (tiny("qwen3-Q8_0"), 5),
        (tiny("qwen3moe-Q4_K_M"), 6 + 1 + 3),
    ];
    for (model, most) in models.into_iter().filter_map(|(model, most)| Some((model?, most))) {
        let options = options(&model, Device::Cuda);
        let layers = info(&options).expect("a model").layers;
        let (logits, launches) = coder_cuda_emulator::counted(|| probe::logits(&options, &[1], None));
        logits.expect("logits");
        let names: Vec<&str> = launches.iter().map(|t| t.name.as_str()).collect();
        // The embedding and a norm come before the layers; a chosen row, its norm and the last product behind them.
        assert!(
            names.len() <= 5 + 5 + layers * most,
            "{}: {} launches, {names:?}",
            model.display(),
            names.len()
        );
    }
}
