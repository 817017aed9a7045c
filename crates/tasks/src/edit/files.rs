//! Replies that give several files, each whole.

use super::blocks::is_stray;
use super::whole::{Draft, FENCE, blocks, is_patch_file};
use crate::{Error, Result, path};

/// Reads a reply that holds one fenced block for each file that changes, with the file's path in the
/// fence's line or on the line before. `files` are the paths that it may name, in plain form.
///
/// Every draft of the answer has its path in plain form, and no path occurs twice.
pub fn parse_files(reply: &str, files: &[String]) -> Result<Vec<Draft>> {
    let reply = reply.strip_prefix('\u{feff}').unwrap_or(reply);
    let lines: Vec<&str> = reply.split_inclusive('\n').collect();
    let mut drafts: Vec<Draft> = Vec::new();
    let found = blocks(&lines, FENCE)?;
    let outside = |at: &usize| !found.iter().any(|block| block.holds(*at));
    if let Some(at) = (0..lines.len()).filter(outside).find(|at| is_stray(lines[*at])) {
        return Err(Error::BadEdit {
            line: at + 1,
            problem: "some files are whole and some are edits; write all of them whole",
        });
    }
    for block in found {
        let draft = block.draft(&lines);
        let Some(given) = draft.path else { return Err(Error::NoPath { line: block.open + 1 }) };
        let path = path::relative(&given).unwrap_or_else(|_| given.clone());
        if !files.contains(&path) {
            return Err(Error::WrongFile { got: given, expected: files.join("`, `") });
        }
        if drafts.iter().any(|other| other.path.as_deref() == Some(path.as_str())) {
            return Err(Error::SameFile { path });
        }
        if block.is_patch(&lines) && !is_patch_file(&path) {
            return Err(block.is_no_file());
        }
        drafts.push(Draft { path: Some(path), content: draft.content });
    }
    match drafts.is_empty() {
        true => Err(Error::EmptyReply),
        false => Ok(drafts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reply: &str) -> Result<Vec<Draft>> {
        parse_files(reply, &["src/a.py".to_owned(), "b.rs".to_owned()])
    }

    /// Covers S1-08, S1-17, S1-39.
    #[test]
    fn every_block_is_a_file() {
        let reply = "Both:\n```python src/a.py\nx = 1\n```\n\n**./b.rs**\n```rust\nlet x;\n```\n";
        let draft = |path: &str, content: &str| Draft { path: Some(path.into()), content: content.into() };
        assert_eq!(read(reply).unwrap(), [draft("src/a.py", "x = 1\n"), draft("b.rs", "let x;\n")]);
        assert_eq!(read("```rust b.rs\n```").unwrap(), [draft("b.rs", "")]);
    }

    #[test]
    fn a_patch_is_no_file() {
        let reply = "```diff b.rs\n-let x;\n+let y;\n```\n";
        assert!(matches!(read(reply), Err(Error::BadEdit { line: 1, .. })));
        let patches = ["x/a.patch".to_owned()];
        assert_eq!(parse_files("```diff x/a.patch\n-x\n+y\n```\n", &patches).unwrap()[0].content, "-x\n+y\n");
    }

    #[test]
    fn every_block_says_which_file_and_none_says_it_twice() {
        assert!(matches!(read("x\n```python\nx\n```\n"), Err(Error::NoPath { line: 2 })));
        let twice = "```rust b.rs\nx\n```\n```rust b.rs\ny\n```\n";
        assert!(matches!(read(twice), Err(Error::SameFile { path }) if path == "b.rs"));
        for other in ["c.rs", "/etc/b.rs", "../b.rs", ".git/b.rs"] {
            let reply = format!("```rust {other}\nx\n```\n");
            assert!(matches!(read(&reply), Err(Error::WrongFile { got, .. }) if got == other), "{other}");
        }
        assert!(matches!(read("x = 1\n"), Err(Error::EmptyReply)));
        let edit = "```rust b.rs\nx\n```\nsrc/a.py\n<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n";
        assert!(matches!(read(edit), Err(Error::BadEdit { line: 5, .. })));
        assert!(matches!(read("```rust b.rs\nx\n"), Err(Error::OpenBlock { line: 1 })));
    }
}
