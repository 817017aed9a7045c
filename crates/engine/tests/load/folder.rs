//! Folders with `config.json` and safetensors.

use std::{collections::HashMap, fs, path::Path};

use coder_engine::{Error, Weights, weights::Role};
use coder_kernels::BlockType;
use half::bf16;
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
use serde_json::{Value, json};

use crate::{
    refused, unsupported,
    writer::{Random, pattern},
};

/// A tensor to be written: type, shape, data.
type Tensors = HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn config(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 8, "num_hidden_layers": 2, "max_position_embeddings": 64,
        "vocab_size": 12, "tie_word_embeddings": model_type == "qwen2", "rope_theta": 1e6,
        "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "norm_topk_prob": true
    })
}

/// All tensors of a small random model, matrices in `dtype`, vectors in F32.
fn tensors(model_type: &str, dtype: Dtype) -> Tensors {
    let mut all = Tensors::new();
    let mut add = |name: String, shape: &[usize]| {
        let dtype = if shape.len() == 1 { Dtype::F32 } else { dtype };
        let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let data = pattern(&name, bytes);
        all.insert(name, (dtype, shape.to_vec(), data));
    };
    add("model.embed_tokens.weight".into(), &[12, 16]);
    add("model.norm.weight".into(), &[16]);
    if model_type != "qwen2" {
        add("lm_head.weight".into(), &[12, 16]);
    }
    for l in 0..2 {
        let mut at = |suffix: &str, shape: &[usize]| add(format!("model.layers.{l}.{suffix}"), shape);
        at("input_layernorm.weight", &[16]);
        at("post_attention_layernorm.weight", &[16]);
        at("self_attn.q_proj.weight", &[16, 16]);
        at("self_attn.k_proj.weight", &[8, 16]);
        at("self_attn.v_proj.weight", &[8, 16]);
        at("self_attn.o_proj.weight", &[16, 16]);
        if model_type == "qwen2" {
            at("self_attn.q_proj.bias", &[16]);
            at("self_attn.k_proj.bias", &[8]);
            at("self_attn.v_proj.bias", &[8]);
        } else {
            at("self_attn.q_norm.weight", &[8]);
            at("self_attn.k_norm.weight", &[8]);
        }
        if model_type == "qwen3_moe" {
            at("mlp.gate.weight", &[3, 16]);
            for e in 0..3 {
                at(&format!("mlp.experts.{e}.gate_proj.weight"), &[8, 16]);
                at(&format!("mlp.experts.{e}.up_proj.weight"), &[8, 16]);
                at(&format!("mlp.experts.{e}.down_proj.weight"), &[16, 8]);
            }
        } else {
            at("mlp.gate_proj.weight", &[24, 16]);
            at("mlp.up_proj.weight", &[24, 16]);
            at("mlp.down_proj.weight", &[16, 24]);
        }
    }
    all
}

fn write(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    serialize_to_file(views, None, path).unwrap();
}

fn write_config(folder: &Path, config: &Value) {
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

/// Writes a model in one file, or in three with an index.
fn folder(model_type: &str, dtype: Dtype, sharded: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), &config(model_type));
    let all = tensors(model_type, dtype);
    if !sharded {
        write(&folder.path().join("model.safetensors"), &all);
        return folder;
    }
    let mut shards = vec![Tensors::new(); 3];
    let mut map = serde_json::Map::new();
    let mut names: Vec<_> = all.keys().cloned().collect();
    names.sort();
    for (i, name) in names.into_iter().enumerate() {
        map.insert(name.clone(), json!(format!("model-{}.safetensors", i % 3)));
        shards[i % 3].insert(name.clone(), all[&name].clone());
    }
    for (i, shard) in shards.iter().enumerate() {
        write(&folder.path().join(format!("model-{i}.safetensors")), shard);
    }
    let index = json!({"metadata": {}, "weight_map": map});
    fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    folder
}

#[test]
fn single_and_sharded_folders_give_the_same_weights() {
    for model_type in ["qwen2", "qwen3", "qwen3_moe"] {
        for (dtype, kind) in [(Dtype::F32, BlockType::F32), (Dtype::BF16, BlockType::BF16)] {
            let (one, three) = (folder(model_type, dtype, false), folder(model_type, dtype, true));
            let (one, three) = (Weights::open(one.path()).unwrap(), Weights::open(three.path()).unwrap());
            let all = tensors(model_type, dtype);
            assert_eq!(one.bytes(), all.values().map(|t| t.2.len()).sum::<usize>());
            assert_eq!((one.bytes(), one.config()), (three.bytes(), three.config()));
            assert!(one.gguf().is_none());
            for role in Role::all(one.config()) {
                let (a, b) = (one.matrix(role).unwrap(), three.matrix(role).unwrap());
                assert_eq!(a.rows().unwrap().data(), b.rows().unwrap().data(), "{role:?}");
                assert_eq!(a.kind(), if role.is_vector() { BlockType::F32 } else { kind });
            }
            let q = one.matrix(Role::K(1)).unwrap();
            let q = q.rows().unwrap();
            assert_eq!((q.rows(), q.cols()), (8, 16));
            assert_eq!(q.data(), all["model.layers.1.self_attn.k_proj.weight"].2);
            let output = one.matrix(Role::Output).unwrap();
            let name = if model_type == "qwen2" { "model.embed_tokens.weight" } else { "lm_head.weight" };
            assert_eq!(output.rows().unwrap().data(), all[name].2);
        }
    }
}

#[test]
fn experts_are_put_one_behind_the_other() {
    let folder = folder("qwen3_moe", Dtype::BF16, true);
    let weights = Weights::open(folder.path()).unwrap();
    let all = tensors("qwen3_moe", Dtype::BF16);
    for (role, name, rows, cols) in [
        (Role::GateExperts(0), "gate", 8, 16),
        (Role::UpExperts(0), "up", 8, 16),
        (Role::DownExperts(0), "down", 16, 8),
    ] {
        let matrix = weights.matrix(role).unwrap();
        assert_eq!(matrix.experts(), 3);
        let found = matrix.rows().unwrap();
        assert_eq!((found.rows(), found.cols()), (3 * rows, cols));
        let expected: Vec<u8> = (0..3)
            .flat_map(|e| all[&format!("model.layers.0.mlp.experts.{e}.{name}_proj.weight")].2.clone())
            .collect();
        assert_eq!(found.data(), expected);
    }
}

#[test]
fn vectors_are_decoded_from_every_type() {
    let values = [0.5f32, -1.25, 3.0, 0.0, 1.0, -0.0625, 100.0, 2.5];
    let values: Vec<f32> = values.into_iter().cycle().take(16).collect();
    let folder = folder("qwen3", Dtype::F32, false);
    let encodings: [(Dtype, Vec<u8>); 3] = [
        (Dtype::F32, values.iter().flat_map(|x| x.to_le_bytes()).collect()),
        (Dtype::F16, values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect()),
        (Dtype::BF16, values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect()),
    ];
    for (dtype, data) in encodings {
        let mut all = tensors("qwen3", Dtype::F32);
        all.insert("model.norm.weight".into(), (dtype, vec![16], data));
        write(&folder.path().join("model.safetensors"), &all);
        assert_eq!(Weights::open(folder.path()).unwrap().vector(Role::OutputNorm).unwrap(), values);
    }
}

#[test]
fn a_wrong_tensor_is_refused_by_name_when_it_is_used() {
    let folder = folder("qwen3_moe", Dtype::F32, false);
    let name = "model.layers.1.mlp.experts.2.up_proj.weight";
    let with = |tensor: Option<(Dtype, Vec<usize>, usize)>| {
        let mut all = tensors("qwen3_moe", Dtype::F32);
        all.remove(name);
        if let Some((dtype, shape, bytes)) = tensor {
            all.insert(name.into(), (dtype, shape, vec![0; bytes]));
        }
        write(&folder.path().join("model.safetensors"), &all);
        let weights = Weights::open(folder.path()).unwrap();
        weights.matrix(Role::UpExperts(0)).unwrap();
        weights.matrix(Role::UpExperts(1)).map(|m| m.kind())
    };
    let at = format!("tensor `{name}`");
    assert_eq!(refused(with(None)), (at.clone(), "is missing".into()));
    let (found, problem) = refused(with(Some((Dtype::F32, vec![16, 8], 512))));
    assert!(found == at && problem.contains("[16, 8]") && problem.contains("[8, 16]"), "{problem}");
    assert_eq!(refused(with(Some((Dtype::BF16, vec![8, 16], 256)))).0, at);
    assert_eq!(unsupported(with(Some((Dtype::I8, vec![8, 16], 128)))).0, "tensor type");
    let dense = self::folder("qwen3", Dtype::F32, false);
    let dense = Weights::open(dense.path()).unwrap();
    assert!(refused(dense.matrix(Role::Router(0)).map(|_| ())).1.contains("experts"));
    assert!(refused(dense.vector(Role::QBias(0))).1.contains("missing"));
    assert!(refused(dense.vector(Role::AttnNorm(2))).1.contains("missing"));
}

#[test]
fn an_index_names_files_in_its_own_folder_only() {
    let folder = folder("qwen2", Dtype::F32, true);
    let path = folder.path().join("model.safetensors.index.json");
    let outside = tempfile::tempdir().unwrap();
    fs::copy(folder.path().join("model-0.safetensors"), outside.path().join("x.safetensors")).unwrap();
    let index = |file: Value| {
        fs::write(&path, json!({"weight_map": {"lm_head.weight": file}}).to_string()).unwrap();
        Weights::open(folder.path()).map(|_| ())
    };
    let absolute = outside.path().join("x.safetensors");
    for file in [
        json!("../x.safetensors"),
        json!(absolute.to_str().unwrap()),
        json!("./model-0.safetensors"),
        json!("a/model-0.safetensors"),
        json!("a\\model-0.safetensors"),
        json!(".."),
        json!(""),
        json!("config.json"),
        json!(5),
        json!(["model-0.safetensors"]),
    ] {
        let (at, problem) = refused(index(file));
        assert!(at == "tensor `lm_head.weight`" && problem.contains("plain name"), "{problem}");
    }
    assert!(refused(index(json!("model-0.safetensors"))).1.contains("is not in"));
    assert!(matches!(index(json!("model-9.safetensors")), Err(Error::Io { .. })));
    fs::write(&path, "{}").unwrap();
    assert_eq!(refused(Weights::open(folder.path())).0, "field `weight_map`");
}

#[test]
fn a_folder_or_file_that_is_no_model_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let missing = |wanted: &str| match Weights::open(folder.path()) {
        Err(Error::Io { path, .. }) => assert_eq!(path, folder.path().join(wanted)),
        other => panic!("{other:?}"),
    };
    missing("config.json");
    write_config(folder.path(), &config("qwen3"));
    missing("model.safetensors");
    let file = folder.path().join("model.safetensors");
    write(&file, &tensors("qwen3", Dtype::F32));
    assert!(refused(Weights::open(&file)).1.contains("folder"));
    fs::write(folder.path().join("x.gguf"), "").unwrap();
    assert!(Weights::open(&folder.path().join("x.gguf")).is_err());
    assert!(matches!(Weights::open(&folder.path().join("none.gguf")), Err(Error::Io { .. })));
}

#[test]
fn bad_safetensors_are_refused() {
    let folder = folder("qwen3", Dtype::F32, false);
    let path = folder.path().join("model.safetensors");
    let open = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Weights::open(folder.path()).map(|_| ())
    };
    let header = |json: &str, data: usize| {
        [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &vec![0; data]].concat()
    };
    // Eight tensors whose sizes are right one by one and sum to almost 2^64.
    let step = (1u64 << 61) - 1;
    let huge: Vec<String> = (0..8)
        .map(|i| {
            let (from, to) = (i * step, (i + 1) * step);
            format!(r#""t{i}":{{"dtype":"U8","shape":[{step}],"data_offsets":[{from},{to}]}}"#)
        })
        .collect();
    let cases = [
        b"short".to_vec(),
        u64::MAX.to_le_bytes().to_vec(),
        (1u64 << 40).to_le_bytes().to_vec(),
        header("not json", 0),
        header(r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 7),
        header(r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 9),
        header(r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12),
        header(r#"{"t":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8),
        header(r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8),
        header(r#"{"t":{"dtype":"what","shape":[2],"data_offsets":[0,8]}}"#, 8),
        header(r#"{"t":{"dtype":"F32","shape":[9223372036854775808,2],"data_offsets":[0,8]}}"#, 8),
        header(&format!("{{{}}}", huge.join(",")), 8),
    ];
    for bytes in cases {
        assert_eq!(refused(open(&bytes)).0, "header");
    }
}

#[test]
fn mutated_safetensors_do_not_panic() {
    let folder = folder("qwen3_moe", Dtype::BF16, false);
    let path = folder.path().join("model.safetensors");
    let base = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(base[..8].try_into().unwrap()) as usize;
    let (mut opened, mut refused) = (0, 0);
    for i in 0..1000 {
        let mut random = Random::new(i);
        let mut bytes = base.clone();
        let at = random.below(header);
        match random.below(4) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = b"0123456789[]{},:\"-e."[random.below(20)],
            2 => drop(bytes.drain(at..(at + random.below(20)).min(base.len()))),
            _ => bytes.truncate(random.below(base.len())),
        }
        fs::write(&path, bytes).unwrap();
        match Weights::open(folder.path()) {
            Ok(weights) => {
                opened += 1;
                for role in Role::all(weights.config()) {
                    let _ = weights.matrix(role).map(|m| m.rows().map(|r| r.data().len()));
                }
            }
            Err(Error::BadFile { .. }) => refused += 1,
            Err(other) => panic!("mutation {i}: {other}"),
        }
    }
    assert!(opened > 20 && refused > 500, "{opened} opened, {refused} refused");
}
