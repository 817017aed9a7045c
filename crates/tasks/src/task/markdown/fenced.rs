//! Fenced blocks of a Markdown task.

use super::Section;

/// A fenced block.
pub(super) struct Block {
    /// Line of the opening fence, 1-based.
    pub(super) line: usize,
    pub(super) language: String,
    pub(super) text: String,
    /// Whether the section holds another block.
    pub(super) more: bool,
}

/// The first fenced block of a section.
pub(super) fn fenced(section: &Section<'_>) -> Option<Block> {
    let mut found: Option<Block> = None;
    let mut open: Option<Fence> = None;
    for (number, line) in &section.lines {
        match (&open, &mut found) {
            (Some(fence), _) if fence.is_closed_by(line) => open = None,
            (Some(fence), Some(block)) if !block.more => {
                block.text.push_str(fence.outdent(line));
                block.text.push('\n');
            }
            (Some(_), _) => {}
            (None, found) => {
                let Some(fence) = Fence::open(line) else { continue };
                match found {
                    Some(block) => block.more = true,
                    None => {
                        let language = fence.language.clone();
                        *found = Some(Block { line: *number, language, text: String::new(), more: false });
                    }
                }
                open = Some(fence);
            }
        }
    }
    found
}

/// The lines of a section that are in no fenced block, with their numbers.
pub(super) fn lines_outside_blocks<'a>(section: &'a Section<'_>) -> impl Iterator<Item = (usize, &'a str)> {
    let mut open: Option<Fence> = None;
    section.lines.iter().filter_map(move |(number, line)| {
        match &open {
            Some(fence) if fence.is_closed_by(line) => open = None,
            Some(_) => {}
            None => {
                open = Fence::open(line);
                return open.is_none().then_some((*number, *line));
            }
        }
        None
    })
}

/// The opening line of a fenced block (CommonMark 4.5).
pub(super) struct Fence {
    mark: char,
    length: usize,
    indent: usize,
    language: String,
}

impl Fence {
    pub(super) fn open(line: &str) -> Option<Fence> {
        let rest = line.trim_start_matches(' ');
        let indent = line.len() - rest.len();
        let mark = rest.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
        let info = rest.trim_start_matches(mark);
        let length = rest.len() - info.len();
        let inline = mark == '`' && info.contains('`');
        let language = info.split_whitespace().next().unwrap_or("").to_owned();
        (indent <= 3 && length >= 3 && !inline).then_some(Fence { mark, length, indent, language })
    }

    pub(super) fn is_closed_by(&self, line: &str) -> bool {
        let rest = line.trim_start_matches(' ');
        let after = rest.trim_start_matches(self.mark);
        line.len() - rest.len() <= 3 && rest.len() - after.len() >= self.length && after.trim().is_empty()
    }

    /// The line without the indentation that the fence itself has.
    fn outdent<'a>(&self, line: &'a str) -> &'a str {
        let spaces = line.bytes().take(self.indent).take_while(|byte| *byte == b' ').count();
        &line[spaces..]
    }
}
