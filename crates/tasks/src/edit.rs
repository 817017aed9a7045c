//! From a reply to the new contents of files. Everything here is a pure function of text.
//!
//! A reply is read leniently, in whatever form it comes, and applied strictly. It is read in this order:
//!
//! 1. What the model thought before it answered is no part of the reply.
//! 2. A reply that begins as whole files were asked for is whole files. What looks like an edit further down in such a
//!    block is the file's, unless the block begins with it; in other replies, if the file has those lines already.
//! 3. Otherwise the reply is taken apart (`pieces`): edits, which are search/replace blocks, patch envelopes or unified
//!    diffs; fenced blocks that hold no edit; and words. What is in one of them is not looked at again. Without edits, the
//!    reply is whole files where those may be (`whole`, `markdown`).
//! 4. The file of a piece (`hint`) is the one whose path is in the piece or its fence; or on the nearest line before it
//!    that holds nothing but a path; or that the line before it introduces. Otherwise the lines of the piece decide: the
//!    file in which they stand, or of which a block has half the lines; so they do where two lines before it disagree.
//!    What a sentence mentions decides nothing alone. A path that is none of the task's is refused, not passed over.
//! 5. All edits are of one form, and nothing beside them looks like a piece of one, stands in its fence or is the content
//!    of a file: a part of a reply is never lost, so the whole is refused. A block beside them that is nobody's, such as the use
//!    of a file or a command, is passed over; beside whole files only where every file that it could be is there.
//! 6. Lines to be replaced must stand at exactly one place, edits must not touch one another's lines, and what cannot be
//!    applied beyond doubt is refused with the lines that were near. Line numbers are not believed.

mod apply;
mod blocks;
mod fence;
mod form;
mod guard;
mod hint;
mod lines;
mod markdown;
mod near;
mod patch;
mod pieces;
mod placeholder;
mod target;
mod unified;
mod whole;
mod words;

pub use form::{EditFormat, Form, marker};
pub use guard::{Guard, check};
pub use lines::{Style, insert, stands};
pub use patch::lark as patch_lark;
pub use whole::{Draft, parse, parse_files};

use pieces::{Kind, Scan};

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

/// More fences are no reply but a model that repeats itself; to tell which belong together takes their square.
const MOST_FENCES: usize = 2000;

/// Reads a reply and gives the changes it makes to `files`, the only ones it may change. `form` is the form that was
/// asked for and `shape` the fence of whole files; another form is read as well where it is one beyond doubt.
///
/// Line ends, a byte order mark and whether the last line has an end stay as each file has them; lines that are not
/// edited keep their bytes. A file that the reply leaves as it is makes no change.
///
/// # Errors
/// Every way in which a reply can be no edit, or be one that does not fit these files; each says how to repair it.
pub fn read(reply: &str, form: &Form, shape: &ReplyShape, files: &[Base<'_>]) -> Result<Vec<Change>> {
    let reply = answer(reply.strip_prefix('\u{feff}').unwrap_or(reply), files);
    let lines: Vec<&str> = reply.split('\n').map(lines::key).collect();
    let is_fence = |at: &usize| fence::fence_length(lines[*at].trim_start()).is_some();
    if let Some(at) = (0..lines.len()).filter(is_fence).nth(MOST_FENCES) {
        let problem = "the reply has too many fences, as if it repeats itself; write each block once";
        return Err(Error::BadEdit { line: at + 1, problem });
    }
    let unified = !files.iter().any(|file| fence::is_patch_file(file.path));
    let marker = blocks::marker(&lines, form.marker(), files);
    let scan = Scan { lines: &lines, files, marker, whole: *form == Form::Whole, unified };
    if scan.whole && scan.begins_file(shape) {
        return whole::read(reply, shape, files);
    }
    let pieces = scan.pieces()?;
    let is_content = scan.whole && !pieces.are_ours(&scan, shape.language == "markdown");
    let Some(first) = pieces.edits.first().filter(|_| !is_content) else {
        if scan.whole {
            return whole::read(reply, shape, files);
        }
        pieces.are_all(&scan)?;
        let only_new = files.iter().all(|file| file.content.is_none_or(|content| content.trim().is_empty()));
        if only_new && pieces.has_fences() {
            return whole::read(reply, shape, files);
        }
        // Prose is no file, and a snippet in place of edits would take the file's place.
        pieces.leave_no_patch(&scan)?;
        return Err(if reply.trim().is_empty() { Error::EmptyReply } else { Error::NoEdit });
    };
    pieces.are_all(&scan)?;
    if first.kind == Kind::Block {
        return blocks::read(&scan, &pieces);
    }
    let sections = pieces.sections(&scan)?;
    let changes = patch::apply(&sections, files)?;
    pieces.leave_no_file(&scan, |file| sections.iter().any(|section| section.is_of(file)), &changes)?;
    Ok(changes)
}

/// A reply without what some servers leave before it of the model's thinking. The template of some models ends with
/// `<think>`, so that their replies have only its end.
fn answer<'r>(reply: &'r str, files: &[Base<'_>]) -> &'r str {
    const END: &str = "</think>";
    let behind = |at: usize| reply[at + END.len()..].trim_start_matches(['\r', '\n']);
    if reply.trim_start().starts_with("<think>") {
        return reply.find(END).map_or("", behind);
    }
    let known = |text: &str| text.lines().any(|line| line.trim() == END);
    if reply.trim_start().starts_with("```") || files.iter().any(|file| file.content.is_some_and(known)) {
        return reply;
    }
    let mut at = 0;
    for line in reply.split_inclusive('\n') {
        match line.trim() {
            "<think>" => return reply,
            END => return behind(at + line.find(END).unwrap_or(0)),
            _ => at += line.len(),
        }
    }
    reply
}

#[cfg(test)]
mod replies;
#[cfg(test)]
mod tests;
