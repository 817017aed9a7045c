//! The files of the shared test data, where the checkout has them.

use std::time::Instant;

use coder_engine::{
    Gguf, Weights,
    config::{Architecture, Moe},
    weights::Role,
};
use coder_kernels::Heads;

use crate::{refused, writer::shared_data};

#[test]
fn every_model_opens_with_its_dimensions() {
    let Some(data) = shared_data() else { return };
    let mut files = 0;
    for entry in std::fs::read_dir(data.join("vectors/models")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_stem().unwrap().to_str().unwrap();
        let weights = Weights::open(&path).unwrap();
        let config = weights.config();
        // Kind, and the dimensions in which the models differ: `SHAPES` of the script that made them.
        let (kind, kv, dim, ffn, theta, tied) = match file {
            f if f.starts_with("tiny-qwen2-untied") => (Architecture::Qwen2, 1, 64, 768, 1e6, false),
            f if f.starts_with("tiny-qwen2") => (Architecture::Qwen2, 2, 64, 512, 1e6, true),
            f if f.starts_with("tiny-qwen3moe") => (Architecture::Qwen3Moe, 2, 64, 512, 1e7, false),
            f if f.starts_with("tiny-qwen3") => (Architecture::Qwen3, 2, 128, 512, 1e6, true),
            other => panic!("an unknown model: {other}"),
        };
        assert_eq!((config.architecture, config.layers, config.hidden), (kind, 2, 256), "{file}");
        assert_eq!(config.heads, Heads { q: 4, kv, dim }, "{file}");
        assert_eq!((config.ffn, config.vocab, config.context), (ffn, 512, 4096), "{file}");
        assert_eq!((config.rope_theta, config.eps, config.tied), (theta, 1e-6, tied), "{file}");
        let moe = (kind == Architecture::Qwen3Moe).then_some(Moe { experts: 8, top_k: 2, ffn: 256 });
        assert_eq!(config.moe, moe, "{file}");
        assert!(config.name.as_deref().unwrap().starts_with("synthetic tiny-qwen"));

        let mut bytes = 0;
        for role in Role::all(config) {
            let matrix = weights.matrix(role).unwrap();
            bytes += if role == Role::Output && tied { 0 } else { matrix.rows().unwrap().data().len() };
            if role.is_vector() {
                let vector = weights.vector(role).unwrap();
                assert!(vector.iter().all(|x| x.is_finite() && x.abs() < 4.0), "{file} {role:?}");
            }
        }
        // Every byte of data belongs to one role: no tensor is left over, none is counted twice.
        assert_eq!((weights.bytes(), weights.gguf().unwrap().data_bytes()), (bytes, bytes), "{file}");
        files += 1;
    }
    assert_eq!(files, 24);
}

#[test]
fn a_vocabulary_without_tensors_opens() {
    let Some(data) = shared_data() else { return };
    let started = Instant::now();
    let gguf = Gguf::open(&data.join("qwen2.5/vocab.gguf")).unwrap();
    let metadata = gguf.metadata();
    assert_eq!(metadata.str("tokenizer.ggml.model").unwrap(), Some("gpt2"));
    let tokens: Vec<&str> =
        metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap().collect::<Result<_, _>>().unwrap();
    let merges = metadata.strings("tokenizer.ggml.merges").unwrap().unwrap().count();
    assert_eq!((tokens.len(), merges), (151_936, 151_387));
    assert_eq!((tokens[0], tokens[151_643]), ("!", "<|endoftext|>"));
    assert_eq!(metadata.i32s("tokenizer.ggml.token_type").unwrap().unwrap().len(), 151_936);
    assert_eq!((gguf.tensors().count(), gguf.data_bytes()), (0, 0));
    println!("opened and read in {:?}", started.elapsed());
    // There is no model in it, and the message says what is missing.
    assert_eq!(refused(Weights::from_gguf(gguf)).0, "tensor `token_embd.weight`");
}
