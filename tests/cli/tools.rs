//! The commands that look at models and at the machine.

use crate::support::{folder, json, output, shared, stderr, stdout, text};

#[test]
fn logits_are_a_numpy_file() {
    let folder = folder(&[]);
    let mut files = Vec::new();
    for (name, more) in
        [("a", &[][..]), ("b", &["--chunk", "2"]), ("c", &["--device", "reference", "--kv", "f32"])]
    {
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

/// Covers S0-14.
#[test]
fn bench_has_one_object_per_test() {
    let tests = json(&["bench", "-p", "8,16", "-n", "4", "--runs", "1", "--json"]);
    let tests = tests.as_array().unwrap();
    assert_eq!(
        tests.iter().map(|test| test["test"].as_str().unwrap()).collect::<Vec<_>>(),
        ["pp8", "pp16", "tg4"]
    );
    assert!(tests[0]["prefill_tok_s"].as_f64().unwrap() > 0.0);
    assert!(tests[2]["decode_tok_s"].as_f64().unwrap() > 0.0);
    assert!(tests.iter().all(|test| test["weight_gb_s"].as_f64().unwrap() > 0.0));
    let table = stdout(&output(&["bench", "-p", "8", "-n", "2", "--runs", "1"]));
    assert!(table.contains("pp8") && table.contains("tg2"), "{table}");
}

/// Covers S0-24, S3-18, S3-27, S3-29: several requests at once, and what they have in common computed once.
#[test]
fn bench_measures_requests_side_by_side() {
    let args = ["bench", "--parallel", "1,3", "-p", "16", "-n", "8", "--shared-prefix", "200", "--json"];
    let tests = json(&args);
    let tests = tests.as_array().unwrap();
    assert_eq!(
        tests.iter().map(|test| test["test"].as_str().unwrap()).collect::<Vec<_>>(),
        ["parallel1", "parallel3", "prefix200 first", "prefix200 second"]
    );
    let number = |test: usize, field: &str| tests[test][field].as_f64().unwrap();
    assert_eq!((number(1, "requests"), number(1, "completion_tokens")), (3.0, 24.0));
    assert!(number(0, "tokens_per_pass") <= 1.0 && number(1, "tokens_per_pass") > 1.0);
    assert_eq!(number(2, "cached_tokens"), 0.0);
    assert!((192.0..=200.0).contains(&number(3, "cached_tokens")));
    assert!(tests[3]["first_token_ms"]["p99"].as_f64().unwrap() > 0.0);
    let refused = output(&["bench", "--edit"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("more than the model's context of `1024`"), "{}", stderr(&refused));
}

#[test]
fn doctor_knows_the_machine_and_what_fits() {
    let report = json(&["doctor", "--json"]);
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert!(report["cpu"]["threads"].as_u64().unwrap() >= 1);
    let built_in = coder_kernels::cuda::Library::linked().is_some();
    assert_eq!(report["cuda"]["built_in"], built_in);
    assert_eq!(report["devices"][0], "cpu");
    if report["memory"].is_object() {
        let models = report["models"].as_array().unwrap();
        assert!(
            models
                .iter()
                .any(|model| model["model"] == "Qwen2.5-Coder-7B" && model["quantization"] == "Q4_K_M")
        );
    }
    let text = stdout(&output(&["doctor"]));
    assert!(text.contains("cuda     ") && text.contains("coder-tiny"), "{text}");
    assert_eq!(text.contains("cuda     not built in"), !built_in, "{text}");
}

#[test]
fn fit_tells_what_a_card_has_room_for() {
    let args = ["fit", "--model", "qwen2.5-coder-32b", "--vram", "24GiB", "--context", "32768", "--json"];
    let report = json(&args);
    assert_eq!((&report["model"], &report["layers"]), (&"Qwen2.5-Coder-32B Q4_K_M".into(), &64.into()));
    let card = |kv: &str| report["cards"].as_array().unwrap().iter().find(|c| c["kv"] == kv).unwrap().clone();
    let (half, eight) = (card("f16"), card("q8_0"));
    assert_eq!((&half["fits"], &eight["fits"]), (&false.into(), &true.into()));
    assert!(half["layers"].as_u64().unwrap() < 64 && eight["card"].as_u64().unwrap() <= 24 << 30);
    assert_eq!((&eight["largest_context"], &eight["memory_bytes"]), (&32_768.into(), &(24u64 << 30).into()));
    assert!(half["needed_bytes"].as_u64().unwrap() > 24 << 30 && eight["needed_bytes"] == eight["card"]);
    // A mixture that fits is read in longer steps.
    let mixture = json(&["fit", "--model", "Qwen3-Coder-30B-A3B", "--vram", "24GiB", "--json"]);
    assert_eq!((&mixture["cards"][0]["rows"], &eight["rows"]), (&2048.into(), &512.into()));
    let table = stdout(&output(&["fit", "--model", "Qwen2.5-Coder-32B", "--kv", "q8_0"]));
    assert!(table.contains("24.00 GiB") && table.contains("32.00 GiB") && table.contains("fits"), "{table}");
    // What is here: the bundled model fits everywhere.
    let here = json(&["fit", "--json"]);
    assert!(here["cards"].as_array().unwrap().iter().all(|card| card["fits"] == true));
    let missing = output(&["fit", "--model", "no-such-model"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("Qwen3-Coder-30B-A3B"), "{}", stderr(&missing));
    let long = stderr(&output(&["fit", "--context", "999999999"]));
    assert!(long.contains("`context`"), "{long}");
}

#[test]
fn a_device_that_cannot_be_used_says_so() {
    let tokens = |more: &[&'static str]| {
        let folder = folder(&[]);
        let out = folder.path().join("logits");
        output(&[&["logits", "--tokens", "1,2", "--out", text(&out)], more].concat())
    };
    let on_cpu = tokens(&["--device", "cpu", "--gpu-layers", "3"]);
    assert_eq!(on_cpu.status.code(), Some(1));
    assert!(stderr(&on_cpu).contains("`gpu_layers`"), "{}", stderr(&on_cpu));
    let size = tokens(&["--vram", "24B"]);
    assert!(size.status.success() || stderr(&size).contains("GiB"), "{}", stderr(&size));
    for size in ["24", "much"] {
        assert_eq!(tokens(&["--vram", size]).status.code(), Some(2));
    }
    if coder_kernels::cuda::Library::linked().is_none() {
        let cuda = tokens(&["--device", "cuda"]);
        assert_eq!(cuda.status.code(), Some(1));
        assert!(stderr(&cuda).contains("--features cuda"), "{}", stderr(&cuda));
        let auto = tokens(&["--device", "auto"]);
        assert_eq!((auto.status.code(), stderr(&auto).as_str()), (Some(0), ""));
        // Something was asked of a card: its absence is no secret.
        let asked = tokens(&["--gpu-layers", "3"]);
        assert!(
            asked.status.success() && stderr(&asked).contains("computing on the CPU"),
            "{}",
            stderr(&asked)
        );
    }
}

/// Covers S0-13.
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
    let mut command =
        crate::support::coder(&["bench", "--model", "tiny", "-p", "4", "-n", "1", "--runs", "1", "--json"]);
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

/// Who wants a model gone is not told how to get it, and who asked for JSON gets it.
#[test]
fn what_is_not_there_cannot_be_removed() {
    let gone = output(&["rm", "qwen2.5-coder:7b"]);
    assert_eq!(gone.status.code(), Some(1));
    let said = stderr(&gone);
    assert!(said.contains("`qwen2.5-coder:7b` is not here") && !said.contains("pull"), "{said}");
    assert_eq!(json(&["rm", "--partial", "--json"]), serde_json::json!({ "removed": [], "bytes": 0 }));
}

#[test]
fn numbers_of_which_there_must_be_one_are_bad_usage() {
    for args in [["--parallel", "0"], ["--runs", "0"]] {
        assert_eq!(output(&[&["bench"], &args[..]].concat()).status.code(), Some(2), "{args:?}");
    }
}
