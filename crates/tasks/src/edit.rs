//! From a reply to the new contents of files. Everything here is a pure function of text.
//!
//! A reply has one of three forms: whole files, search/replace blocks, or a patch envelope. It is read leniently, in
//! whatever form it comes, and applied strictly: lines to be replaced must stand at exactly one place, edits must not
//! touch one another's lines, and what cannot be applied beyond doubt is refused with the lines that were near.

mod apply;
mod blocks;
mod files;
mod form;
mod guard;
mod lines;
mod near;
mod patch;
mod placeholder;
mod target;
mod whole;

pub use files::parse_files;
pub use form::{EditFormat, Form, marker};
pub use guard::{Guard, check};
pub use lines::{Style, insert, stands};
pub use patch::lark as patch_lark;
pub use whole::{Draft, parse};

use crate::prompt::ReplyShape;
use crate::{Error, Result};

/// What becomes of one file. A task's edit is a list of them, which are written together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its path in plain form.
    pub path: String,
    /// The new content, every byte of it; None deletes the file.
    pub content: Option<String>,
    /// The file that it was before, if it was moved: its permissions are those of the new one.
    pub moved_from: Option<String>,
}

/// A file that a reply may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base<'a> {
    /// Its path in plain form.
    pub path: &'a str,
    /// Its content as it was shown; None if it does not exist.
    pub content: Option<&'a str>,
}

/// Reads a reply and gives the changes it makes to `files`, the only ones it may change. `form` is the form that was
/// asked for and `shape` the fence of whole files; another form is read as well where it is one beyond doubt.
///
/// Line ends, a byte order mark and whether the last line has an end stay as each file has them; lines that are not
/// edited keep their bytes. A file that the reply leaves as it is makes no change.
///
/// # Errors
/// Every way in which a reply can be no edit, or be one that does not fit these files; each says how to repair it.
pub fn read(reply: &str, form: &Form, shape: &ReplyShape, files: &[Base<'_>]) -> Result<Vec<Change>> {
    let reply = answer(reply.strip_prefix('\u{feff}').unwrap_or(reply));
    let lines: Vec<&str> = reply.split('\n').map(lines::key).collect();
    let marker = form.marker();
    // A file may hold what looks like an edit; a reply that begins with the expected fence is that file.
    let whole =
        *form == Form::Whole && reply.trim_start().starts_with(&format!("{}{}", shape.fence, shape.language));
    if !whole && patch::begins(&lines) && !(blocks::begins(&lines) && matches!(form, Form::Diff { .. })) {
        return patch::read(&lines, files);
    }
    let stray = || matches!(form, Form::Diff { .. }) && lines.iter().any(|line| blocks::is_stray(line));
    if !whole && (blocks::begins(&lines) || stray()) {
        return blocks::read(&lines, marker, files);
    }
    let only_new = files.iter().all(|file| file.content.is_none_or(|content| content.trim().is_empty()));
    if *form != Form::Whole && !(only_new && lines.iter().any(|line| line.starts_with("```"))) {
        // Prose is no file, and a snippet in place of edits would take the file's place.
        return Err(if reply.trim().is_empty() { Error::EmptyReply } else { Error::NoEdit });
    }
    whole::read(reply, shape, files)
}

/// A reply without what some servers leave before it of the model's thinking.
fn answer(reply: &str) -> &str {
    match reply.trim_start().strip_prefix("<think>") {
        Some(thinking) => {
            thinking.split_once("</think>").map_or("", |(_, answer)| answer.trim_start_matches(['\r', '\n']))
        }
        None => reply,
    }
}

#[cfg(test)]
mod tests;
