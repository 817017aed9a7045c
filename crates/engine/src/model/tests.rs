//! A model that two devices share gives the bits of the model on one.

use super::*;
use crate::fit::Room;
use crate::sequence::Sequence;
use coder_kernels::BLOCK;
use coder_kernels::cpu::Cpu;
use coder_kernels::cuda::Cuda;
use std::path::{Path, PathBuf};

/// One model for each architecture, with and without a head of its own, and the bundled one.
fn models() -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = here.ancestors().skip(1).map(|dir| dir.join("shared/data/vectors/models"));
    let names = ["qwen2-Q4_K_M", "qwen2-untied-Q8_0", "qwen3-Q8_0", "qwen3moe-Q4_K_M"];
    let found = shared.flat_map(|dir| names.map(|name| dir.join(format!("tiny-{name}.gguf"))));
    [here.join("../../models/coder-tiny.gguf")]
        .into_iter()
        .chain(found.filter(|path| path.exists()))
        .collect()
}

/// The logits of every row: of a prompt in chunks, and of each token behind it alone.
fn logits(runner: &mut dyn Runner, blocks: usize, prompt: usize, total: usize) -> Vec<u32> {
    let tokens = (0..total as u32).map(|i| (i * 37 + 11) % 500).collect();
    let mut sequence = Sequence::new(tokens);
    (0..blocks as u32).rev().for_each(|block| sequence.push_block(block));
    let mut bits = Vec::new();
    while sequence.pending() > 0 {
        let done = sequence.computed();
        let rows = if done < prompt { 7.min(prompt - done) } else { 1 };
        let mut batch = sequence.batch(rows);
        batch.logits = (0..rows as u32).collect();
        bits.extend(runner.step(&batch).expect("a step").iter().map(|x| x.to_bits()));
        sequence.mark_computed(done + rows);
    }
    bits
}

#[test]
fn every_cut_gives_the_same_bits() {
    for path in models() {
        let weights = Weights::open(&path).expect("a model");
        let layers = weights.config().layers;
        let room = Room {
            context: 64,
            cache: 64,
            kv: KvType::F16,
            rows: 8,
            rows_on_card: 8,
            logits: 8,
            graphs: true,
        };
        let limits = room.limits();
        let run = |mut runner: Box<dyn Runner>| logits(&mut *runner, limits.slots / BLOCK, 33, 40);
        let mut copied = 0;
        let whole =
            Model::whole(Cpu::new(), &weights, limits, &mut |bytes| copied += bytes).expect("a model");
        let per_token = whole.weight_bytes_per_token();
        let expected = run(Box::new(whole));
        assert!(copied <= weights.bytes() as u64);
        for cut in 1..layers {
            let devices = (Cpu::with(coder_kernels::cpu::Isa::best(), 1), Cpu::new());
            let split = Model::split(devices, cut, &weights, limits, &mut |_| ()).expect("a model");
            assert_eq!(split.weight_bytes_per_token(), per_token);
            assert!(run(Box::new(split)) == expected, "{}: cut before layer {cut}", path.display());
        }
    }
}

#[test]
fn rows_beyond_the_limit_are_refused() {
    let weights = Weights::open(&models()[0]).expect("a model");
    let limits =
        Room { context: 64, cache: 64, kv: KvType::F16, rows: 8, rows_on_card: 8, logits: 1, graphs: true }
            .limits();
    let mut split =
        Model::split((Cpu::new(), Cpu::new()), 1, &weights, limits, &mut |_| ()).expect("a model");
    let mut sequence = Sequence::new(vec![1; 9]);
    sequence.push_block(0);
    let error = split.step(&sequence.batch(9)).expect_err("nine rows").to_string();
    assert!(error.contains("rows"), "{error}");
}

#[test]
fn a_card_tells_what_its_logits_come_down_to() {
    for path in models() {
        let weights = Weights::open(&path).expect("a model");
        let limits = Room {
            context: 32,
            cache: 32,
            kv: KvType::F16,
            rows: 4,
            rows_on_card: 4,
            logits: 4,
            graphs: true,
        }
        .limits();
        let cuda = Cuda::open(coder_cuda_emulator::library(), &limits.cuda(true, None)).expect("a card");
        let mut model = Model::whole(cuda, &weights, limits, &mut |_| ()).expect("a model");
        let vocab = weights.config().vocab;
        let mask: Vec<u32> = (0..vocab.div_ceil(32)).map(|i| 0x9E37_79B9 ^ i as u32).collect();
        let picks = [(None, 1), (Some(&mask[..]), 1), (None, 0), (Some(&mask[..]), 21)]
            .map(|(mask, candidates)| Pick { mask, candidates });
        let mut sequence = Sequence::new((0..12).collect());
        sequence.push_block(0);
        for _ in 0..3 {
            // The third is replayed.
            let mut batch = sequence.batch(4);
            batch.logits = (0..4).collect();
            model.start(&batch).expect("a step");
            let logits = model.logits().expect("logits").to_vec();
            let outcome = model.choose(&mut picks.into_iter()).expect("choices");
            for (i, (pick, logits)) in picks.iter().zip(logits.chunks_exact(vocab)).enumerate() {
                let mut expected = Choice::new(vocab);
                expected.of(logits, pick);
                match outcome.row(i) {
                    Row::Choice(choice) => {
                        assert_eq!(choice.candidates(), expected.candidates());
                        assert_eq!(choice.log_sum().to_bits(), expected.log_sum().to_bits());
                        assert!(pick.candidates > 0);
                    }
                    Row::Whole(row) => assert!(row == logits && pick.candidates == 0, "row {i}"),
                }
            }
            sequence.mark_computed(sequence.computed() + 4);
        }
    }
}
