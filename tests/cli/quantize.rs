//! `coder quantize`: a smaller file, or a refusal that says what to do.

use std::fs;

use crate::support::{json, output, shared, stderr, stdout, text};

#[test]
fn help_lists_every_type_with_its_bits() {
    let output = output(&["quantize", "--help"]);
    assert!(output.status.success());
    for shown in ["q4_k_m    4.9", "q8_0      8.50", "f16      16.00", "iq4_xs", "coder quantize qwen"] {
        assert!(stdout(&output).contains(shown), "{shown}: {}", stdout(&output));
    }
}

#[test]
fn an_unknown_type_is_bad_usage_and_lists_the_known_ones() {
    let output = output(&["quantize", "in.gguf", "out.gguf", "--type", "q9"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("q4_k_m") && stderr(&output).contains("q2_k"), "{}", stderr(&output));
}

#[test]
fn what_is_quantized_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf");
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/models/coder-tiny.gguf");
    let output = output(&["quantize", bundled, text(&out), "--type", "q4_k_m"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("Q8_0 already"), "{}", stderr(&output));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_smaller_file_that_answers() {
    let Some(input) = shared("vectors/models/tiny-qwen3-F16.gguf") else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf");
    let args = ["quantize", text(&input), text(&out), "--type", "Q4_K_M", "--json"];
    let report = json(&args);
    assert_eq!(report["bytes_out"], fs::metadata(&out).unwrap().len());
    assert_eq!((&report["file_type"], &report["tensors"]["Q6_K"]), (&"q4_k_m".into(), &3.into()));
    assert!(report["bits_per_weight"].as_f64().unwrap() < 6.0, "{report}");

    let again = output(&args);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("--force"), "{}", stderr(&again));
    let forced = output(&["quantize", text(&input), text(&out), "--type", "q8_0", "--force"]);
    assert!(forced.status.success() && stdout(&forced).starts_with("q8_0: "), "{}", stderr(&forced));
    let answer = output(&["complete", "--model", text(&out), "--max-tokens", "4", "--prompt", "x"]);
    assert!(answer.status.success(), "{}", stderr(&answer));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
