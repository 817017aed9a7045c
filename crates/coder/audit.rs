//! `coder tokenize --audit`: what files cost as context, in bytes and tokens.

use std::fs;
use std::path::{Path, PathBuf};

use coder_engine::{SpecialTokens, Tokenizer};
use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::table::{self, Side};

/// Bytes of a token where no tokenizer was named: the seeds' estimate.
const BYTES_PER_TOKEN: u64 = 4;

/// Larger files are nobody's context.
const MAX_BYTES: u64 = 64 << 20;

/// What somebody may read to find their way, in files and tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Budget {
    /// The tier's name, or "custom".
    name: &'static str,
    /// The most files; None for any number.
    files: Option<usize>,
    /// The most tokens.
    tokens: u64,
}

/// Each tier is four times the one before, in tokens: a glance, a context of 16 thousand half full, one of 64 thousand.
const TIERS: [Budget; 3] = [
    Budget { name: "quick", files: Some(5), tokens: 2_000 },
    Budget { name: "medium", files: Some(15), tokens: 8_000 },
    Budget { name: "thorough", files: Some(40), tokens: 32_000 },
];

#[derive(Debug, PartialEq, Serialize)]
struct Counted {
    path: String,
    bytes: u64,
    tokens: u64,
    /// Whether no other file has more tokens.
    largest: bool,
}

#[derive(Debug, Serialize)]
struct Audit {
    files: Vec<Counted>,
    bytes: u64,
    tokens: u64,
    /// Whether the tokens are counted; else they are bytes / 4, rounded up.
    exact: bool,
    /// Files that are not text, or far too large.
    skipped: Vec<String>,
    budget: Option<Budget>,
    within: Option<bool>,
}

/// The budget that a tier's name or a number of tokens means.
pub(crate) fn budget(text: &str) -> Result<Budget, String> {
    if let Some(tier) = TIERS.into_iter().find(|tier| tier.name == text) {
        return Ok(tier);
    }
    let tokens = text.parse().ok().filter(|tokens| *tokens > 0);
    tokens
        .map(|tokens| Budget { name: "custom", files: None, tokens })
        .ok_or_else(|| "use quick, medium, thorough, or a number of tokens from 1".to_string())
}

/// Prints the audit; not done if a budget was given and is not kept.
pub(crate) fn run(
    paths: &[PathBuf],
    tokenizer: Option<&Tokenizer>,
    budget: Option<Budget>,
    json: bool,
) -> Outcome {
    let mut files = Vec::new();
    let mut skipped = Vec::new();
    for path in all(paths)? {
        let shown = path.display().to_string();
        let io = |error| Failure::new(format!("`{shown}`: {error}"));
        let bytes = fs::metadata(&path).map_err(io)?.len();
        if bytes > MAX_BYTES {
            skipped.push(shown);
            continue;
        }
        let Ok(text) = String::from_utf8(fs::read(&path).map_err(io)?) else {
            skipped.push(shown);
            continue;
        };
        let tokens = match tokenizer {
            Some(tokenizer) => tokenizer.encode(&text, SpecialTokens::Plain)?.len() as u64,
            None => bytes.div_ceil(BYTES_PER_TOKEN),
        };
        files.push(Counted { path: shown, bytes, tokens, largest: false });
    }
    let audit = Audit::of(files, skipped, tokenizer.is_some(), budget);
    let mut out = Output::new();
    if json {
        out.json(&audit)?;
    } else {
        out.text(&(audit.lines().join("\n") + "\n"))?;
    }
    if audit.within == Some(false) { Err(Failure::quiet(1)) } else { Ok(()) }
}

impl Audit {
    /// Largest first.
    fn of(mut files: Vec<Counted>, skipped: Vec<String>, exact: bool, budget: Option<Budget>) -> Audit {
        files.sort_by(|a, b| b.tokens.cmp(&a.tokens).then_with(|| a.path.cmp(&b.path)));
        if let [first, _, ..] = &mut files[..] {
            first.largest = true;
        }
        let tokens = files.iter().map(|file| file.tokens).sum();
        let within = budget
            .map(|budget| tokens <= budget.tokens && budget.files.is_none_or(|most| files.len() <= most));
        let bytes = files.iter().map(|file| file.bytes).sum();
        Audit { bytes, tokens, files, exact, skipped, budget, within }
    }

    fn lines(&self) -> Vec<String> {
        let tokens = if self.exact { "tokens" } else { "~tokens" };
        let mut rows = vec![["file", "bytes", tokens, "share", ""].map(String::from).to_vec()];
        let share = |part: u64| match self.tokens {
            0 => "-".to_string(),
            all => format!("{:.0} %", part as f64 / all as f64 * 100.0),
        };
        rows.extend(self.files.iter().map(|file| {
            let flag = if file.largest { "largest" } else { "" };
            let (bytes, tokens) = (file.bytes.to_string(), file.tokens.to_string());
            vec![file.path.clone(), bytes, tokens, share(file.tokens), flag.to_string()]
        }));
        let total = format!("total of {}", self.files.len());
        rows.push(vec![total, self.bytes.to_string(), self.tokens.to_string()]);
        let mut lines = table::lines(&[Side::Left, Side::Right, Side::Right, Side::Right, Side::Left], &rows);
        if !self.exact {
            lines.push(format!("tokens are bytes / {BYTES_PER_TOKEN}; --model counts them"));
        }
        if !self.skipped.is_empty() {
            lines.push(format!("not text, or larger than 64 MiB: {}", self.skipped.join(", ")));
        }
        if let (Some(budget), Some(within)) = (self.budget, self.within) {
            let files = budget.files.map_or(String::new(), |files| format!(" in {files} files"));
            let verdict = if within { "kept" } else { "exceeded; show less, or summaries" };
            lines.push(format!("budget {}, {} tokens{files}: {verdict}", budget.name, budget.tokens));
        }
        lines
    }
}

/// Folders in folders that hold no context: what git keeps, and what was built.
const PASSED_OVER: [&str; 3] = [".git", "node_modules", "target"];

/// Files as they are named, and those of folders and the folders in them; each once, links not followed.
fn all(paths: &[PathBuf]) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = Vec::new();
    for path in paths {
        if path.is_dir() { folders.push(path.clone()) } else { found.push(path.clone()) }
    }
    while let Some(folder) = folders.pop() {
        let io = |error| Failure::new(format!("`{}`: {error}", folder.display()));
        for entry in fs::read_dir(&folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let kind = entry.file_type().map_err(io)?;
            if kind.is_file() {
                found.push(entry.path());
            } else if kind.is_dir() && PASSED_OVER.iter().all(|name| entry.file_name() != *name) {
                folders.push(entry.path());
            }
        }
    }
    let plain = |path: PathBuf| path.strip_prefix("./").map(Path::to_path_buf).unwrap_or(path);
    let mut found: Vec<_> = found.into_iter().map(plain).collect();
    found.sort();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers S1-47.
    #[test]
    fn tiers_of_budgets_grow() {
        assert!(TIERS.is_sorted_by(|a, b| a.files < b.files && a.tokens < b.tokens));
        assert_eq!(budget("medium").map(|budget| budget.tokens), Ok(8_000));
        assert_eq!(budget("123"), Ok(Budget { name: "custom", files: None, tokens: 123 }));
        for wrong in ["", "0", "-1", "huge", "1.5"] {
            assert!(budget(wrong).is_err(), "{wrong}");
        }
    }

    /// Covers S1-46, S1-47: the seed's files, 4,288 bytes being some 1,070 tokens.
    #[test]
    fn the_largest_file_is_flagged() {
        let file = |path: &str, bytes: u64| Counted {
            path: path.into(),
            bytes,
            tokens: bytes.div_ceil(BYTES_PER_TOKEN),
            largest: false,
        };
        let files = || vec![file("a.md", 1_000), file("WORKFLOW.md", 4_288)];
        let audit = Audit::of(files(), vec!["x.png".into()], false, Some(TIERS[0]));
        assert_eq!((audit.bytes, audit.tokens, audit.within), (5_288, 1_322, Some(true)));
        assert_eq!(
            audit.lines(),
            [
                "file         bytes  ~tokens  share",
                "WORKFLOW.md   4288     1072   81 %  largest",
                "a.md          1000      250   19 %",
                "total of 2    5288     1322",
                "tokens are bytes / 4; --model counts them",
                "not text, or larger than 64 MiB: x.png",
                "budget quick, 2000 tokens in 5 files: kept",
            ]
        );
        let small = Budget { name: "custom", files: None, tokens: 1_321 };
        assert_eq!(Audit::of(files(), vec![], true, Some(small)).within, Some(false));
        let six = (0..6).map(|name| file(&name.to_string(), 4)).collect();
        assert_eq!(Audit::of(six, vec![], true, Some(TIERS[0])).within, Some(false));
    }
}
