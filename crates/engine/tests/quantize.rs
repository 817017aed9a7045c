//! Quantized files hold against those that llama.cpp made, load, and answer.

mod common;

use std::{
    collections::HashMap,
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use coder_engine::{
    Engine, Error, FileType, Gguf, Limit, Options, QuantizeOptions, QuantizeReport, SpecialTokens, Tokenizer,
    Weights,
    gguf::{Header, Value, Writer},
    probe, quantize,
};
use coder_kernels::BlockType;
use half::f16;
use safetensors::tensor::{Dtype, TensorView};

fn options(input: &Path, output: &Path, file_type: FileType) -> QuantizeOptions {
    QuantizeOptions { input: input.into(), output: output.into(), file_type, replace: false }
}

fn made(input: &Path, output: &Path, file_type: FileType) -> QuantizeReport {
    quantize(&options(input, output, file_type), |_| ControlFlow::Continue(())).expect("a quantized file")
}

fn refused(options: &QuantizeOptions) -> Error {
    quantize(options, |_| ControlFlow::Continue(())).expect_err("a refusal")
}

/// All weights of a tensor.
fn weights(gguf: &Gguf, name: &str) -> Vec<f32> {
    let tensor = gguf.tensor(name).expect("a tensor");
    let rows = gguf.rows(name, tensor.shape()).expect("rows");
    let mut out = vec![0.0; rows.rows() * rows.cols()];
    for (r, row) in out.chunks_exact_mut(rows.cols()).enumerate() {
        rows.dequantize_row(r, row).expect("a row");
    }
    out
}

fn rms(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    (sum / a.len() as f64).sqrt()
}

/// `stem-F16.gguf` and each file that llama.cpp made of it.
fn pairs() -> Vec<(PathBuf, PathBuf, FileType)> {
    let Some(folder) = common::shared("vectors/models") else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|e| e.expect("a file").path()).collect();
    files.sort();
    let pair = |path: PathBuf| {
        let name = path.file_stem()?.to_str()?;
        let (stem, kind) = name.rsplit_once('-')?;
        let from = path.with_file_name(format!("{stem}-F16.gguf"));
        (kind != "F16").then(|| (from, path.clone(), kind.parse().expect("a file type")))
    };
    files.into_iter().filter_map(pair).collect()
}

/// The same types as llama.cpp chose, and for every tensor an error that is no more than two per cent larger.
#[test]
fn no_worse_than_llama_cpp() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (from, theirs, file_type) in pairs() {
        let name = theirs.file_stem().expect("a name").to_string_lossy().into_owned();
        let ours = folder.path().join(format!("{name}.gguf"));
        let report = made(&from, &ours, file_type);
        assert_eq!(report.bytes_out, fs::metadata(&ours).expect("a file").len());
        let [from, theirs, ours] = [from, theirs, ours].map(|path| Gguf::open(&path).expect("a GGUF file"));
        let names: Vec<_> = theirs.tensors().map(|t| t.name().to_owned()).collect();
        assert_eq!(names, ours.tensors().map(|t| t.name().to_owned()).collect::<Vec<_>>());
        let mut ratios: HashMap<String, (f64, f64)> = HashMap::new();
        for tensor in theirs.tensors() {
            let label = format!("{name}: {}", tensor.name());
            let mine = ours.tensor(tensor.name()).expect("the same tensors");
            assert_eq!(mine.type_name(), tensor.type_name(), "{label}");
            assert_eq!(mine.shape(), tensor.shape(), "{label}");
            let [x, a, b] = [&from, &ours, &theirs].map(|gguf| weights(gguf, tensor.name()));
            let (mine, other) = (rms(&x, &a), rms(&x, &b));
            if other == 0.0 {
                assert_eq!(mine, 0.0, "{label}");
                continue;
            }
            let ratio = mine / other;
            let seen = ratios.entry(tensor.type_name()).or_insert((ratio, ratio));
            *seen = (seen.0.min(ratio), seen.1.max(ratio));
            assert!(ratio <= 1.02, "{label}: {ratio}");
        }
        let mut shown: Vec<_> = ratios.iter().map(|(k, (a, b))| format!("{k} {a:.4}..{b:.4}")).collect();
        shown.sort();
        eprintln!("{name}: {}", shown.join(", "));
        same_keys(&ours, &theirs);
    }
}

fn same_keys(ours: &Gguf, theirs: &Gguf) {
    let keys = |gguf: &Gguf| gguf.metadata().keys().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(keys(ours), keys(theirs));
    for key in theirs.metadata().keys() {
        assert_eq!(ours.metadata().get(key), theirs.metadata().get(key), "{key}");
    }
}

/// The bundled model's weights in `kind`, with all its keys, in a new file.
fn unquantized(path: &Path, kind: BlockType, spoil: impl Fn(&str, &mut [f32])) {
    let gguf = Gguf::open(&common::bundled()).expect("the bundled model");
    let meta = gguf.metadata();
    let mut header = Header::new();
    for key in meta.keys() {
        match meta.get(key).expect("a value") {
            Value::Unsigned(n) => header.u32(key, n.try_into().expect("a small number")),
            Value::Float(x) => header.f32(key, x as f32),
            Value::Bool(b) => header.bool(key, b),
            Value::Str(s) => header.str(key, s),
            Value::Array(_) if key.ends_with("token_type") => {
                header.i32s(key, &meta.i32s(key).expect("numbers").expect("there"))
            }
            Value::Array(_) => {
                let strings = meta.strings(key).expect("strings").expect("there");
                header.strings(key, strings.map(|s| s.expect("a string")));
            }
            Value::Signed(_) => panic!("no such key so far: {key}"),
        }
    }
    let mut data = Vec::new();
    for tensor in gguf.stored_tensors() {
        let mut x = weights(&gguf, tensor.name());
        spoil(tensor.name(), &mut x);
        let kind = if tensor.shape().len() == 1 { BlockType::F32 } else { kind };
        header.tensor(tensor.name(), kind, tensor.shape());
        data.push(match kind {
            BlockType::F16 => x.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect::<Vec<u8>>(),
            _ => x.iter().flat_map(|v| v.to_le_bytes()).collect(),
        });
    }
    let file = fs::File::create(path).expect("a new file");
    let mut writer = Writer::new(file, &header).expect("a header");
    data.iter().for_each(|d| writer.write(d).expect("data"));
    writer.finish().expect("a whole file");
}

/// Every type makes a file that the engine runs; the finer ones answer as the original does.
#[test]
fn every_type_loads_and_answers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let input = folder.path().join("original.gguf");
    unquantized(&input, BlockType::F16, |_, _| ());
    let tokens = common::tokens();
    let reference = probe::logits(&Options::new(&input), &tokens, None).expect("logits");
    for file_type in FileType::ALL {
        let output = folder.path().join(format!("{file_type}.gguf"));
        let report = made(&input, &output, file_type);
        let got = probe::logits(&Options::new(&output), &tokens, None).expect("logits");
        let distance = common::distance(&reference.values, &got.values, got.vocab);
        eprintln!("{file_type}: {:.2} bits, {:.4} nats", report.bits_per_weight, distance.kl);
        // Twice what was found: 8 and 6 bits are near, 4 bits are usable, below that it only must be a number.
        let bound = match file_type.name().as_bytes()[..2] {
            [b'F' | b'B', _] => 1e-3,
            [b'Q', b'8'] => 2e-3,
            [b'Q', b'6'] => 0.025,
            [b'Q', b'5'] => 0.12,
            [b'Q', b'4'] | [b'I', _] => 0.45,
            _ => f64::MAX,
        };
        assert!(distance.kl <= bound, "{file_type}: {}", distance.kl);
    }
    let engine = Engine::open(&Options::new(folder.path().join("q4_k_m.gguf"))).expect("a model");
    let request = engine.prompt("def add(a, b):").expect("a prompt").limit(Limit::UpTo(8));
    let answer = engine.generate(request).expect("a generation").finish().expect("a completion");
    assert!(answer.summary.usage.completion_tokens > 0);
    assert!(engine.template().is_some());
}

#[test]
fn what_cannot_be_quantized_is_named_and_nothing_is_left() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let files = || fs::read_dir(folder.path()).expect("a folder").count();
    let good = at("good.gguf");
    unquantized(&good, BlockType::F32, |_, _| ());
    let spoiled = |name: &str, value: f32| {
        unquantized(&at(name), BlockType::F32, |tensor, x| {
            if tensor == "blk.1.ffn_up.weight" {
                x[70_000] = value;
            }
        });
        at(name)
    };
    let (nan, infinite, large) =
        (spoiled("nan.gguf", f32::NAN), spoiled("inf.gguf", f32::INFINITY), spoiled("large.gguf", 1e5));
    let (before, out) = (files(), at("out.gguf"));

    let bundled = common::bundled();
    let error = refused(&options(&bundled, &out, FileType::Q4_K_M));
    assert!(matches!(&error, Error::AlreadyQuantized { kind, .. } if kind == "Q8_0"), "{error}");
    for input in [&nan, &infinite] {
        let error = refused(&options(input, &out, FileType::Q4_K_M));
        assert!(
            matches!(&error, Error::NotFinite { tensor, .. } if tensor == "blk.1.ffn_up.weight"),
            "{error}"
        );
    }
    let error = refused(&options(&large, &out, FileType::Q8_0));
    assert!(matches!(error, Error::BeyondHalf { value: 1e5, .. }), "{error}");
    let error = refused(&options(&good, &nan, FileType::Q8_0));
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    let over_itself = QuantizeOptions { replace: true, ..options(&good, &good, FileType::Q8_0) };
    assert!(matches!(refused(&over_itself), Error::Request { field: "output", .. }));
    let nowhere = options(&good, &at("no/such/folder.gguf"), FileType::Q8_0);
    assert!(matches!(refused(&nowhere), Error::Io { .. }));
    let cancelled = quantize(&options(&good, &out, FileType::Q8_0), |_| ControlFlow::Break(()));
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    assert_eq!(files(), before, "a refusal leaves nothing behind");

    made(&large, &out, FileType::BF16);
    let again = QuantizeOptions { replace: true, ..options(&good, &out, FileType::Q8_0) };
    let mut seen = Vec::new();
    let report = quantize(&again, |at| {
        seen.push(at);
        ControlFlow::Continue(())
    });
    let report = report.expect("a replaced file");
    assert_eq!(files(), before + 1);
    let last = seen.last().expect("progress");
    assert!(last.done_bytes == last.total_bytes && last.total_bytes == report.bytes_in);
    assert_eq!(Weights::open(&out).expect("a model").bytes() as u64 % 2, 0);
}

/// A set of two files gives the same file as one.
#[test]
fn parts_are_joined() {
    let Some(whole) = common::shared("vectors/models/tiny-qwen2-F16.gguf") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gguf = Gguf::open(&whole).expect("a GGUF file");
    let tensors: Vec<_> = gguf.stored_tensors().collect();
    let meta = gguf.metadata();
    for (no, tensors) in tensors.chunks(tensors.len() / 2).enumerate() {
        let mut header = Header::new();
        header.u32("split.no", no as u32);
        header.u32("split.count", 2);
        header.i32s("split.unused", &[1]);
        header.u32("split.tensors.count", gguf.tensors().count() as u32);
        if no == 0 {
            for key in meta.keys() {
                match meta.get(key).expect("a value") {
                    Value::Unsigned(n) => header.u32(key, n as u32),
                    Value::Float(x) => header.f32(key, x as f32),
                    Value::Str(s) => header.str(key, s),
                    _ => {}
                }
            }
        }
        tensors.iter().for_each(|t| header.tensor(t.name(), t.kind().expect("a type"), t.shape()));
        let path = folder.path().join(format!("m-0000{}-of-00002.gguf", no + 1));
        let mut writer = Writer::new(fs::File::create(path).expect("a file"), &header).expect("a header");
        tensors.iter().for_each(|t| writer.write(t.data()).expect("data"));
        writer.finish().expect("a whole file");
    }
    let parts = [1, 2].map(|no| folder.path().join(format!("m-0000{no}-of-00002.gguf")));
    for (input, output) in [(&parts[0], &parts[1]), (&parts[1], &parts[0])] {
        let over_a_part = QuantizeOptions { replace: true, ..options(input, output, FileType::Q8_0) };
        assert!(matches!(refused(&over_a_part), Error::Request { field: "output", .. }));
    }
    let [one, two] = ["one.gguf", "two.gguf"].map(|name| folder.path().join(name));
    made(&whole, &one, FileType::Q4_K_M);
    made(&folder.path().join("m-00002-of-00002.gguf"), &two, FileType::Q4_K_M);
    let [one, two] = [one, two].map(|path| Gguf::open(&path).expect("a GGUF file"));
    for tensor in one.tensors() {
        assert_eq!(two.tensor(tensor.name()).expect("the same tensor").data(), tensor.data());
    }
    assert!(
        two.metadata().keys().all(|key| !["split.no", "split.count", "split.tensors.count"].contains(&key))
    );
}

/// Writes a small random model with the vocabulary of Qwen2.5 as a checkpoint.
fn checkpoint(folder: &Path, vocabulary: &Path, moe: bool) {
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(vocabulary.join(name), folder.join(name)).expect("a copy");
    }
    let (hidden, ffn, vocab, experts) = (64usize, 96usize, 151_700usize, 3);
    let config = serde_json::json!({
        "model_type": if moe { "qwen3_moe" } else { "qwen2" }, "hidden_size": hidden, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 32, "intermediate_size": ffn, "num_hidden_layers": 1,
        "vocab_size": vocab, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
        "tie_word_embeddings": true, "hidden_act": "silu", "bos_token_id": 151_643, "num_experts": experts,
        "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": true
    });
    fs::write(folder.join("config.json"), config.to_string()).expect("a written file");
    let mut shapes =
        vec![("embed_tokens.weight".to_owned(), vec![vocab, hidden]), ("norm.weight".into(), vec![hidden])];
    let mut add = |name: &str, shape: &[usize]| shapes.push((format!("layers.0.{name}"), shape.to_vec()));
    add("input_layernorm.weight", &[hidden]);
    add("post_attention_layernorm.weight", &[hidden]);
    for (name, rows) in [("q", 64), ("k", 32), ("v", 32)] {
        add(&format!("self_attn.{name}_proj.weight"), &[rows, hidden]);
        if !moe {
            add(&format!("self_attn.{name}_proj.bias"), &[rows]);
        }
    }
    add("self_attn.o_proj.weight", &[hidden, 64]);
    if moe {
        add("self_attn.q_norm.weight", &[32]);
        add("self_attn.k_norm.weight", &[32]);
        add("mlp.gate.weight", &[experts, hidden]);
        for e in 0..experts {
            add(&format!("mlp.experts.{e}.gate_proj.weight"), &[32, hidden]);
            add(&format!("mlp.experts.{e}.up_proj.weight"), &[32, hidden]);
            add(&format!("mlp.experts.{e}.down_proj.weight"), &[hidden, 32]);
        }
    } else {
        add("mlp.gate_proj.weight", &[ffn, hidden]);
        add("mlp.up_proj.weight", &[ffn, hidden]);
        add("mlp.down_proj.weight", &[hidden, ffn]);
    }
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        half::bf16::from_f32((state >> 40) as f32 / (1 << 24) as f32 - 0.5)
    };
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let bytes = (0..shape.iter().product()).flat_map(|_| random().to_le_bytes()).collect();
            (format!("model.{name}"), shape, bytes)
        })
        .collect();
    let views = data.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::BF16, shape.clone(), bytes).expect("a tensor"))
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).expect("a written file");
}

/// The file that a checkpoint becomes computes the same and has the same vocabulary.
#[test]
fn a_folder_becomes_the_same_model() {
    let Some(vocabulary) = common::shared("qwen2.5") else { return };
    for moe in [false, true] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        checkpoint(folder.path(), &vocabulary, moe);
        for name in ["model.safetensors", "config.json", "tokenizer.json"] {
            let itself = options(folder.path(), &folder.path().join(name), FileType::F32);
            let error = refused(&QuantizeOptions { replace: true, ..itself });
            assert!(matches!(error, Error::Request { field: "output", .. }), "{name}: {error}");
        }
        let output = folder.path().join("f32.gguf");
        made(folder.path(), &output, FileType::F32);
        let tokens = common::tokens();
        let [a, b] = [folder.path(), &output].map(|path| {
            let mut options = Options::new(path);
            options.context = Some(256);
            probe::logits(&options, &tokens, None).expect("logits")
        });
        // The weights are the same numbers; sums in another type of the same numbers differ by rounding.
        let distance = common::distance(&a.values, &b.values, a.vocab);
        assert!(distance.relative_l2 < 1e-3, "{}", distance.relative_l2);

        let gguf = Gguf::open(&output).expect("a GGUF file");
        let [folder_text, file_text] = [
            Tokenizer::from_dir(folder.path()).expect("a vocabulary"),
            Tokenizer::from_gguf(&gguf).expect("a vocabulary"),
        ];
        for text in
            ["fn main() { println!(\"żółw {}\", 12345); }", "<|im_start|>user\n<tool_call>\n<|fim_prefix|>x"]
        {
            let [a, b] =
                [&folder_text, &file_text].map(|t| t.encode(text, SpecialTokens::Parse).expect("tokens"));
            assert_eq!(a, b);
        }
        assert_eq!(folder_text.chat_template("default"), file_text.chat_template("default"));
        assert_eq!(file_text.bos(), Some(151_643));
        assert_eq!(folder_text.pad(), file_text.pad());
        assert_eq!(folder_text.end_ids().iter().max(), file_text.end_ids().iter().max());
        let published = Gguf::open(&vocabulary.join("vocab.gguf")).expect("the published vocabulary");
        let published: Vec<_> =
            published.metadata().strings("tokenizer.ggml.merges").expect("strings").expect("there").collect();
        let ours: Vec<_> =
            gguf.metadata().strings("tokenizer.ggml.merges").expect("strings").expect("there").collect();
        assert!(published.iter().zip(&ours).all(|(a, b)| a.as_ref().ok() == b.as_ref().ok()));
        let small = folder.path().join("q4_k_m.gguf");
        let report = made(folder.path(), &small, FileType::Q4_K_M);
        // 64 columns are no whole K blocks: everything falls back to blocks of 32.
        assert!(
            report.tensors.keys().all(|kind| ["F32", "Q5_0", "Q8_0"].contains(&kind.as_str())),
            "{report:?}"
        );
        Engine::open(&Options { context: Some(64), ..Options::new(&small) }).expect("a model");
    }
}
