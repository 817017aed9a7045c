//! Search/replace blocks whose searches are lines of real files, each run of them in its file exactly once.
//!
//! ```text
//! reply   = block ("\n" block)*
//! block   = [path "\n"] "<<<<<<< SEARCH\n" lines "=======\n" text ">>>>>>> REPLACE"
//! ```
//!
//! Whatever the weights are, a reply of this form applies: `lines` are whole consecutive lines of the file which
//! stand nowhere else in it and in no other block, `text` is UTF-8 without delimiters and differs from `lines`, and a
//! reply ends within its token limit: where the tokens run out, all that is allowed is the shortest way to the end of
//! the block. Before each block stands its file's path if there are several files; a file without lines has empty
//! `lines`, once.

mod free;
mod source;
mod state;
mod walk;

use llguidance::toktrie::{TokEnv, TokTrie};

use self::free::Rules;
use self::source::Source;
use self::state::{Block, Form, Phase};
use self::walk::Walk;
use super::Mask;
use crate::{Error, Result};

/// Edits of files as search/replace blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditGrammar {
    /// The files that may be edited. With one file, no paths are written.
    pub files: Vec<EditFile>,
    /// How often delimiters repeat their character, from 7 to 200. No line of the files may begin with exactly so
    /// many of `<`, `=` or `>`.
    pub marker: usize,
}

/// A file that may be edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditFile {
    /// Its path, on one line.
    pub path: String,
    /// Its content; empty for a new file.
    pub content: String,
}

/// Longer files are refused: places in them are counted in 32 bits, and no model reads them anyway.
const MOST_BYTES: usize = 64 << 20;

/// Bytes that are forced at once; a longer text is forced in several steps.
const MOST_FORCED: usize = 1024;

/// Follows one reply.
pub(super) struct EditMatcher {
    env: TokEnv,
    form: Form,
    /// The phase after each accepted token, the first one before any.
    phases: Vec<Phase>,
    /// Blocks that are complete, each with the number of phases at which it was.
    blocks: Vec<(usize, Block)>,
    /// The most tokens of the reply, the end-of-text token not counted.
    limit: usize,
    mask: Option<Mask>,
    /// The mask in the middle of a replaced line, the most usual one.
    middle: Mask,
    /// The mask at the beginning of a search in each file while no block is complete, and the tokens left then.
    first: Vec<Option<(usize, Mask)>>,
}

impl EditMatcher {
    pub(super) fn new(env: &TokEnv, grammar: &EditGrammar, limit: usize) -> Result<Self> {
        let EditGrammar { files, marker } = grammar;
        check(files, *marker)?;
        let mut sources: Vec<Source> =
            files.iter().map(|file| Source::new(&file.path, &file.content)).collect();
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(same) = sources.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(wrong(format!(
                "two files have the path `{}`",
                String::from_utf8_lossy(&same[0].path).trim()
            )));
        }
        let trie = env.tok_trie();
        check_bytes(trie, &sources)?;
        let rules = Rules { marker: *marker as u8 };
        let mut form = Form::new(sources, rules);
        form.longest = longest(&form, limit)?;
        form.take(&[]);
        let first = form.files.iter().map(|_| None).collect();
        let middle = walk::middle(trie, rules);
        let phases = vec![form.start()];
        Ok(Self { env: env.clone(), form, phases, blocks: Vec::new(), limit, mask: None, middle, first })
    }

    fn phase(&self) -> Phase {
        // The first phase is never taken back.
        self.phases.last().copied().unwrap_or(Phase::Over)
    }

    /// Tokens that may still be written.
    fn left(&self) -> usize {
        self.limit.saturating_sub(self.phases.len() - 1)
    }

    pub(super) fn mask(&mut self) -> &Mask {
        let phase = self.phase();
        if let Phase::Replace(replace) = phase
            && replace.line == free::Line::Middle
            && self.left() > self.form.most_to_close()
        {
            return &self.middle;
        }
        if let Phase::Search(search) = phase
            && search.offset == 0
            && self.blocks.is_empty()
        {
            let (file, left) = (search.file as usize, self.left());
            let kept = self.first[file].take().filter(|(then, _)| *then == left);
            let made = kept.unwrap_or_else(|| (left, self.compute(phase)));
            return &self.first[file].insert(made).1;
        }
        let made = self.mask.take().unwrap_or_else(|| self.compute(phase));
        self.mask.insert(made)
    }

    fn compute(&self, phase: Phase) -> Mask {
        let trie = self.env.tok_trie();
        let mut mask = Mask::new(trie.vocab_size(), []);
        if self.is_complete() {
            trie.eos_tokens().iter().for_each(|&end| mask.allow(Some(end)));
        }
        let left = self.left();
        if left > 0 {
            Walk { trie, form: &self.form, left }.add(phase, &self.middle, &mut mask);
        }
        mask
    }

    pub(super) fn accept(&mut self, token: u32) -> Result<()> {
        let refused = || wrong(format!("token `{token}` is not allowed here"));
        let trie = self.env.tok_trie();
        if trie.eos_tokens().contains(&token) {
            if !self.is_complete() {
                return Err(refused());
            }
            return self.push(Phase::Over);
        }
        let bytes = trie.token(token).to_vec();
        let (left, blocks) = (self.left(), self.blocks.len());
        let mut phase = Some(self.phase()).filter(|_| left > 0 && !bytes.is_empty());
        for byte in bytes {
            phase = phase.and_then(|phase| self.form.step(phase, byte, left));
            if let Some(Phase::End { block }) = phase {
                self.blocks.push((self.phases.len() + 1, block));
                self.take();
            }
        }
        match phase.filter(|phase| self.form.is_affordable(*phase, left - 1)) {
            Some(phase) => self.push(phase),
            None => {
                if self.blocks.len() > blocks {
                    self.blocks.truncate(blocks);
                    self.take();
                }
                Err(refused())
            }
        }
    }

    fn push(&mut self, phase: Phase) -> Result<()> {
        self.phases.push(phase);
        self.mask = None;
        Ok(())
    }

    fn take(&mut self) {
        let blocks: Vec<Block> = self.blocks.iter().map(|(_, block)| *block).collect();
        self.form.take(&blocks);
    }

    pub(super) fn forced(&mut self) -> Result<Vec<u32>> {
        let (bytes, phase) = self.forced_bytes();
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let mut tokens = self.env.tokenize_bytes(&bytes);
        let trie = self.env.tok_trie();
        let ends = matches!(phase, Phase::End { .. }) && !self.form.can_open(self.left());
        if !ends {
            // What comes next may belong to the last token: where the text may go on within a token, it is not cut.
            let from = bytes.len().saturating_sub(trie.max_token_len());
            let sure =
                (from..bytes.len()).find(|at| trie.has_extensions(&bytes[*at..])).unwrap_or(bytes.len());
            let mut end = 0;
            tokens.retain(|&token| {
                end += trie.token(token).len();
                end <= sure
            });
        }
        let mut accepted = Vec::with_capacity(tokens.len());
        for token in tokens {
            if self.accept(token).is_err() {
                break;
            }
            accepted.push(token);
        }
        Ok(accepted)
    }

    /// The bytes that must come next, and the phase after them.
    fn forced_bytes(&self) -> (Vec<u8>, Phase) {
        let (mut phase, left) = (self.phase(), self.left());
        let mut bytes = Vec::new();
        while bytes.len() < MOST_FORCED
            && let Some(byte) = self.form.only(phase, left)
        {
            let Some(next) = self.form.step(phase, byte, left) else { break };
            bytes.push(byte);
            phase = next;
        }
        (bytes, phase)
    }

    /// Tokens accepted so far.
    pub(super) fn accepted(&self) -> usize {
        self.phases.len() - 1
    }

    pub(super) fn rollback(&mut self, n: usize) -> Result<()> {
        let accepted = self.phases.len() - 1;
        if n > accepted {
            return Err(wrong(format!("`{n}` tokens cannot be taken back, there are `{accepted}`")));
        }
        self.phases.truncate(self.phases.len() - n);
        self.mask = None;
        let blocks = self.blocks.len();
        self.blocks.retain(|(at, _)| *at <= self.phases.len());
        if self.blocks.len() < blocks {
            self.take();
        }
        Ok(())
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(self.phase(), Phase::End { .. } | Phase::Over)
    }

    pub(super) fn must_end(&self) -> bool {
        match self.phase() {
            Phase::Over => true,
            Phase::End { .. } => !self.form.can_open(self.left()),
            _ => false,
        }
    }
}

/// The most bytes that a shortest block may have. Half of the reply is left for what takes the place of the lines,
/// unless no lines are short enough for that.
fn longest(form: &Form, limit: usize) -> Result<usize> {
    let costs = form.files.iter().enumerate().flat_map(|(file, source)| {
        let new = (source.lines() == 0).then_some(form.tail());
        (0..source.lines()).map(move |first| form.cost(file, first)).chain(new)
    });
    let costs: Vec<usize> = costs.filter(|cost| *cost < usize::MAX).collect();
    let room = limit.saturating_sub(form.before());
    let below = |most: usize| costs.iter().filter(|cost| **cost <= most).max().copied();
    below(room / 2).or_else(|| below(room)).ok_or_else(|| {
        let least = costs.iter().min().map_or(0, |cost| cost + form.before());
        wrong(format!("an edit may need `{least}` tokens, `{limit}` are allowed; allow more"))
    })
}

fn check(files: &[EditFile], marker: usize) -> Result<()> {
    if !(7..=200).contains(&marker) {
        return Err(wrong(format!("delimiters have from 7 to 200 characters, not `{marker}`")));
    }
    if files.is_empty() {
        return Err(wrong("there is no file to edit; name one".to_owned()));
    }
    for EditFile { path, content } in files {
        if content.len() > MOST_BYTES {
            return Err(wrong(format!(
                "`{path}` has `{}` bytes; up to `{MOST_BYTES}` are supported",
                content.len()
            )));
        }
        if files.len() > 1 && (path.is_empty() || path.chars().any(char::is_control)) {
            return Err(wrong(format!("the path `{}` is not one line of text", path.escape_debug())));
        }
        let is_delimiter = |line: &str| {
            let line = line.strip_prefix('\u{feff}').unwrap_or(line);
            let first = line.bytes().next().filter(|first| b"<=>".contains(first));
            first.is_some_and(|first| line.bytes().take_while(|byte| *byte == first).count() == marker)
        };
        if let Some(line) = content.split('\n').position(is_delimiter) {
            let problem = format!("line `{}` of `{path}` looks like a delimiter; use longer ones", line + 1);
            return Err(wrong(problem));
        }
    }
    Ok(())
}

/// Every byte must be a token of its own, or the end of a block could be out of reach.
fn check_bytes(trie: &TokTrie, sources: &[Source]) -> Result<()> {
    let mut known = [false; 256];
    for child in trie.node_children(trie.root()) {
        known[usize::from(child.byte())] = child.token_id().is_some();
    }
    let form = b"\n<=>| SEARCHREPLACE".iter().copied().chain(0x80..=0xBF);
    let files =
        sources.iter().flat_map(|source| source.path.iter().chain(source.text(0..source.lines())).copied());
    match form.chain(files).find(|byte| !known[usize::from(*byte)]) {
        Some(byte) => Err(wrong(format!("the vocabulary has no token for the byte `{byte:#04x}`"))),
        None => Ok(()),
    }
}

fn wrong(problem: String) -> Error {
    Error::Grammar(problem)
}

#[cfg(test)]
mod tests;
