//! What the scanner takes for secrets in folders of sources: how often, how fast, and, with `--show`, where.
//!
//! `cargo run --release -p coder-escalate --example secrets -- ~/.cargo/registry/src --show`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use coder_escalate::Scanner;

fn main() -> std::io::Result<()> {
    let (shows, folders): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument == "--show");
    let mut files = Vec::new();
    for folder in &folders {
        walk(Path::new(folder), &mut files)?;
    }
    let scanner = Scanner::new();
    let (mut bytes, mut texts, mut with, begun) = (0, 0, 0, Instant::now());
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for file in &files {
        // What a model is shown is text, and not large.
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        if text.len() > 1 << 20 {
            continue;
        }
        let found = scanner.text(&file.display().to_string(), text.as_bytes());
        (bytes, texts, with) = (bytes + text.len(), texts + 1, with + usize::from(!found.is_empty()));
        for finding in found {
            *kinds.entry(finding.kind).or_default() += 1;
            if !shows.is_empty() {
                let line = text.lines().nth(finding.line - 1).unwrap_or_default();
                let line: String = line.trim().chars().take(160).collect();
                println!("{}:{}: {}: {line}", finding.place, finding.line, finding.kind);
            }
        }
    }
    let (megabytes, seconds) = (bytes as f64 / 1e6, begun.elapsed().as_secs_f64());
    let hits: usize = kinds.values().sum();
    println!(
        "{texts} files, {megabytes:.0} MB, {hits} hits in {with} files: {:.2} per MB, {:.0} MB/s",
        hits as f64 / megabytes,
        megabytes / seconds
    );
    for (kind, hits) in kinds {
        println!("{hits:6}  {kind}");
    }
    Ok(())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}
