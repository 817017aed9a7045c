//! What the program links, by cargo's own account.

use std::collections::BTreeSet;
use std::process::Command;

/// Crates that can open a connection, or exist only for those that do.
const NETWORK: [&str; 6] = ["reqwest", "hyper", "hyper-util", "rustls", "tokio", "hf-hub"];

/// The names of the crates that `coder` links.
fn linked(more: &[&str]) -> BTreeSet<String> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tree = Command::new(cargo);
    tree.args(["tree", "--offline", "--locked", "--package", "coder", "--edges", "normal"]);
    tree.args(["--prefix", "none", "--format", "{p}", "--manifest-path", manifest]).args(more);
    let output = tree.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

#[test]
fn without_the_features_no_http_client_is_linked() {
    let has = |linked: &BTreeSet<String>| NETWORK.map(|name| linked.contains(name));
    let without = linked(&["--no-default-features"]);
    println!("without the network: {} crates, of them {NETWORK:?}: {:?}", without.len(), has(&without));
    assert_eq!(has(&without), [false; NETWORK.len()]);
    assert!(without.contains("coder-escalate"));
    // What asks cloud models, and what serves, fetch none.
    assert!(!linked(&["--no-default-features", "--features", "cloud,serve"]).contains("hf-hub"));
    let with = linked(&[]);
    println!("with it: {} crates", with.len());
    assert_eq!(has(&with), [true; NETWORK.len()]);
}
