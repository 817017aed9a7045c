//! The commands that look at models and at the machine.

use crate::support::{folder, json, output, shared, stderr, stdout, text};

#[test]
fn logits_are_a_numpy_file() {
    let folder = folder(&[]);
    let mut files = Vec::new();
    for (name, more) in [("a", &[][..]), ("b", &["--chunk", "2"]), ("c", &["--device", "reference", "--kv", "f32"])] {
        let out = folder.path().join(name);
        let args = [&["logits", "--tokens", "1,2,3,4,5", "--out", text(&out)], more].concat();
        let output = output(&args);
        assert!(output.status.success(), "{}", stderr(&output));
        files.push(std::fs::read(out).unwrap());
    }
    let header = String::from_utf8_lossy(&files[0][10..128]).into_owned();
    assert_eq!(&files[0][..8], b"\x93NUMPY\x01\x00");
    let shape = header.split("'shape': (5, ").nth(1).unwrap_or_else(|| panic!("{header}"));
    let vocab: usize = shape.split(')').next().unwrap().parse().unwrap();
    assert_eq!(files[0].len(), 128 + 5 * vocab * 4);
    assert_eq!(files[0], files[1], "chunks must not change a bit");
    let values = |file: &[u8]| -> Vec<f32> {
        file[128..].chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    };
    let (cpu, reference) = (values(&files[0]), values(&files[2]));
    let difference: f32 = cpu.iter().zip(&reference).map(|(a, b)| (a - b) * (a - b)).sum();
    let size: f32 = reference.iter().map(|b| b * b).sum();
    // A 16-bit cache and other sums; another model would be around 1.
    assert!((difference / size).sqrt() < 0.1, "{}", (difference / size).sqrt());
}

#[test]
fn bench_has_one_object_per_test() {
    let tests = json(&["bench", "-p", "8,16", "-n", "4", "--runs", "1", "--json"]);
    let tests = tests.as_array().unwrap();
    assert_eq!(tests.iter().map(|test| test["test"].as_str().unwrap()).collect::<Vec<_>>(), ["pp8", "pp16", "tg4"]);
    assert!(tests[0]["prefill_tok_s"].as_f64().unwrap() > 0.0);
    assert!(tests[2]["decode_tok_s"].as_f64().unwrap() > 0.0);
    assert!(tests.iter().all(|test| test["weight_gb_s"].as_f64().unwrap() > 0.0));
    let table = stdout(&output(&["bench", "-p", "8", "-n", "2", "--runs", "1"]));
    assert!(table.contains("pp8") && table.contains("tg2"), "{table}");
}

#[test]
fn doctor_knows_the_machine_and_what_fits() {
    let report = json(&["doctor", "--json"]);
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert!(report["cpu"]["threads"].as_u64().unwrap() >= 1);
    assert_eq!(report["cuda"]["built_in"], false);
    assert_eq!(report["devices"][0], "cpu");
    if report["memory"].is_object() {
        let models = report["models"].as_array().unwrap();
        assert!(models.iter().any(|model| model["model"] == "Qwen2.5-Coder-7B" && model["quantization"] == "Q4_K_M"));
    }
    let text = stdout(&output(&["doctor"]));
    assert!(text.contains("cuda     not built in") && text.contains("coder-tiny"), "{text}");
}

#[test]
fn models_are_listed_and_found_by_name() {
    let listed = json(&["models", "--json"]);
    assert_eq!(listed[0]["name"], "coder-tiny");
    let missing = output(&["ask", "--user", "hi", "--model", "no-such-model"]);
    assert_eq!(missing.status.code(), Some(1));
    let said = stderr(&missing);
    assert!(said.starts_with("error: no model `no-such-model`") && said.contains("`coder-tiny`"), "{said}");
    let Some(tiny) = shared("vectors/models/tiny-qwen3-Q8_0.gguf") else { return };
    let folder = folder(&[]);
    std::fs::create_dir(folder.path().join("models")).unwrap();
    std::fs::copy(tiny, folder.path().join("models/tiny.gguf")).unwrap();
    let mut command = crate::support::coder(&["bench", "--model", "tiny", "-p", "4", "-n", "1", "--runs", "1", "--json"]);
    let found = command.current_dir(&folder).output().unwrap();
    assert!(found.status.success(), "{}", stderr(&found));
}

#[test]
fn completions_are_generated() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = stdout(&output(&["completions", shell]));
        assert!(script.contains("coder") && script.contains("tokenize"), "{shell}");
    }
}

#[test]
fn help_and_bad_usage() {
    let help = output(&["ask", "--help"]);
    assert!(help.status.success() && stdout(&help).contains("Examples:"));
    let version = output(&["--version"]);
    assert_eq!(stdout(&version), format!("coder {}\n", env!("CARGO_PKG_VERSION")));
    for args in [&["frobnicate"][..], &["logits"], &["bench", "--what"], &["ask", "--seed", "x"], &[]] {
        let output = output(args);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""), "{args:?}");
    }
}
