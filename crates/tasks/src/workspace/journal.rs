//! What a transaction writes down: the format, and what can be read of it after a crash. Pure.
//!
//! A journal is a file of lines, each with a checksum, appended and synced one by one. Whatever a crash
//! leaves of it is read as the lines before the first one that is not whole.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "lowercase")]
pub(super) enum Entry {
    /// The old contents are safe. Nothing else has been written yet.
    Begin(Begin),
    /// These files are about to be written.
    Write {
        /// What they shall be.
        files: Vec<After>,
    },
    /// Something that another program wrote into a file is about to be replaced by the old content; or was replaced by
    /// a command that was cut off.
    Displaced {
        /// The file.
        path: String,
        /// Where it is kept.
        sha256: String,
    },
    /// The task is done; this is what it changed.
    Commit {
        /// What the files are.
        files: Vec<After>,
    },
}

/// How a transaction begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Begin {
    pub(super) task_id: String,
    /// Milliseconds since 1970.
    pub(super) time_ms: u64,
    /// The number of the transaction that this one undoes.
    pub(super) undoes: Option<u64>,
    /// The tasks whose commits it brings into the checkout, by id.
    #[serde(default)]
    pub(super) commits: BTreeMap<String, String>,
    /// Every file that the task may change.
    pub(super) files: Vec<Saved>,
}

/// A file before the task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) path: String,
    /// None if the file does not exist.
    pub(super) before: Option<Content>,
    /// Folders that are made for it, outermost first.
    pub(super) new_folders: Vec<String>,
}

/// A saved content: its name in the store, and the permission bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) sha256: String,
    pub(super) mode: u32,
}

/// A file after the task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct After {
    pub(super) path: String,
    /// None if the file does not exist any more.
    pub(super) sha256: Option<String>,
}

/// What a journal says, taken together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Log {
    pub(super) begin: Begin,
    /// For each file that may have been written, what it may have become.
    pub(super) written: BTreeMap<String, BTreeSet<Option<String>>>,
    /// What other programs wrote into files meanwhile: the files, and the names of the contents in the store.
    pub(super) displaced: Vec<(String, String)>,
    /// What was changed, if the task is done.
    pub(super) commit: Option<Vec<After>>,
}

/// A line as it is appended.
pub(super) fn line(entry: &Entry) -> Vec<u8> {
    // Strings and numbers are always JSON; a line that were not would be read as torn.
    let text = serde_json::to_string(entry).unwrap_or_default();
    format!("{} {text}\n", &sha256(text.as_bytes())[..CHECKSUM]).into_bytes()
}

/// Hexadecimal digits of a line's checksum.
const CHECKSUM: usize = 16;

/// The whole lines at the start of a journal.
pub(super) fn entries(bytes: &[u8]) -> Vec<Entry> {
    let whole = |line: &[u8]| -> Option<Entry> {
        let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
        let (checksum, text) = line.split_once(' ')?;
        (sha256(text.as_bytes())[..CHECKSUM] == *checksum).then(|| serde_json::from_str(text).ok())?
    };
    bytes.split_inclusive(|byte| *byte == b'\n').map_while(whole).collect()
}

/// The contents in the store that a journal names.
pub(super) fn contents(bytes: &[u8]) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for entry in entries(bytes) {
        match entry {
            Entry::Begin(Begin { files, .. }) => {
                named.extend(files.into_iter().filter_map(|file| Some(file.before?.sha256)));
            }
            Entry::Write { files } | Entry::Commit { files } => {
                named.extend(files.into_iter().filter_map(|file| file.sha256));
            }
            Entry::Displaced { sha256, .. } => {
                named.insert(sha256);
            }
        }
    }
    named
}

/// Contents in one piece: each behind a line with its file and its length.
pub(super) fn pack<'f>(files: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> Vec<u8> {
    let mut packed = Vec::new();
    for (path, content) in files {
        packed.extend(serde_json::to_vec(&(path, content.len())).unwrap_or_default());
        packed.push(b'\n');
        packed.extend(content);
    }
    packed
}

/// The contents of such a piece.
pub(super) fn unpack(mut packed: &[u8]) -> Vec<(String, &[u8])> {
    let mut files = Vec::new();
    while let Some(end) = packed.iter().position(|byte| *byte == b'\n') {
        let Ok((path, length)) = serde_json::from_slice(&packed[..end]) else { break };
        let Some((content, rest)) = packed[end + 1..].split_at_checked(length) else { break };
        files.push((path, content));
        packed = rest;
    }
    files
}

impl Log {
    /// Reads a journal; None if not even its beginning is whole, so nothing was written under it.
    pub(super) fn read(bytes: &[u8]) -> Option<Log> {
        let mut entries = entries(bytes).into_iter();
        let Some(Entry::Begin(begin)) = entries.next() else { return None };
        let mut log = Log { begin, written: BTreeMap::new(), displaced: Vec::new(), commit: None };
        for entry in entries {
            match entry {
                Entry::Begin(_) => break,
                Entry::Write { files } => {
                    for After { path, sha256 } in files {
                        log.written.entry(path).or_default().insert(sha256);
                    }
                }
                Entry::Displaced { path, sha256 } => log.displaced.push((path, sha256)),
                Entry::Commit { files } => {
                    log.commit = Some(files);
                    break;
                }
            }
        }
        Some(log)
    }

    /// Whether the task may have given a file this content.
    pub(super) fn wrote(&self, path: &str, sha256: &str) -> bool {
        self.written.get(path).is_some_and(|contents| contents.iter().flatten().any(|other| other == sha256))
    }

    /// A file before the task.
    pub(super) fn saved(&self, path: &str) -> Option<&Saved> {
        self.begin.files.iter().find(|saved| saved.path == path)
    }
}

impl Saved {
    /// Whether the file had this content.
    pub(super) fn is(&self, sha256: &str) -> bool {
        self.before.as_ref().is_some_and(|before| before.sha256 == sha256)
    }
}

/// A content's name: its SHA-256 in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Entry> {
        let after =
            |path: &str, content: Option<&[u8]>| After { path: path.into(), sha256: content.map(sha256) };
        let content = Content { sha256: sha256(b"old"), mode: 0o644 };
        let saved = |path: &str, before| Saved { path: path.into(), before, new_folders: vec!["a".into()] };
        let files = vec![saved("a/b.py", Some(content)), saved("a/ä\n\".py", None)];
        vec![
            Entry::Begin(Begin {
                task_id: "T-1".into(),
                time_ms: 1,
                undoes: None,
                commits: BTreeMap::new(),
                files,
            }),
            Entry::Write { files: vec![after("a/b.py", Some(b"new")), after("a/ä\n\".py", Some(b"x"))] },
            Entry::Displaced { path: "a/b.py".into(), sha256: sha256(b"mine") },
            Entry::Write { files: vec![after("a/b.py", None)] },
            Entry::Commit { files: vec![after("a/b.py", None)] },
        ]
    }

    /// Covers S1-10, S1-55.
    #[test]
    fn a_journal_cut_anywhere_is_its_whole_lines() {
        let entries: Vec<_> = sample();
        let lines: Vec<_> = entries.iter().map(line).collect();
        let bytes = lines.concat();
        for cut in 0..=bytes.len() {
            let mut end = 0;
            let whole = lines.iter().take_while(|line| {
                end += line.len();
                end <= cut
            });
            assert_eq!(super::entries(&bytes[..cut]), entries[..whole.count()], "cut at {cut}");
            let log = Log::read(&bytes[..cut]);
            assert_eq!(log.is_some(), cut >= lines[0].len());
            assert_eq!(log.is_some_and(|log| log.commit.is_some()), cut == bytes.len());
        }
    }

    #[test]
    fn a_journal_with_any_byte_changed_says_nothing_that_was_not_said() {
        let entries = sample();
        let bytes: Vec<u8> = entries.iter().flat_map(line).collect();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                let read = super::entries(&bad);
                assert!(read.len() < entries.len() && read == entries[..read.len()], "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let files: [(&str, &[u8]); 3] = [("a", b"x\ny"), ("b \n\"", b""), ("c", b"\xff\0")];
        let packed = pack(files);
        let unpacked = unpack(&packed);
        assert_eq!(unpacked.iter().map(|(path, content)| (&**path, *content)).collect::<Vec<_>>(), files);
        assert_eq!(unpack(&packed[..packed.len() - 1]).len(), 2);
    }

    #[test]
    fn a_log_takes_the_lines_together() {
        let log = Log::read(&sample().iter().flat_map(line).collect::<Vec<_>>()).unwrap();
        assert_eq!(log.written["a/b.py"], BTreeSet::from([Some(sha256(b"new")), None]));
        assert_eq!(log.displaced, [("a/b.py".to_owned(), sha256(b"mine"))]);
        assert_eq!(log.commit.as_ref().unwrap().len(), 1);
        assert_eq!(log.saved("a/b.py").unwrap().before.as_ref().unwrap().mode, 0o644);
        assert!(log.saved("c").is_none());
    }
}
