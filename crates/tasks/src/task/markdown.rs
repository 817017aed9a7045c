//! The Markdown format of a task: YAML frontmatter, then sections.

mod fenced;
mod front;

use self::fenced::{Fence, fenced, lines_outside_blocks};
use super::{Code, Criterion, EGRESS, Eligibility, Format, PHASES, POLICIES, Place, Task};
use super::{
    bad, checked_category, checked_command, checked_count, checked_files, checked_id, checked_path,
    finished_status, guarded_files, no_check, one_of, stem,
};
use crate::Result;
use crate::command::Command;

pub(super) fn parse(file: &str, text: &str) -> Result<Task> {
    let lines: Vec<&str> = text.lines().collect();
    let (front, body) = front::split(file, &lines)?;
    let mut sections = Sections::of(file, &lines, body)?;
    let files = sections.files(&front)?;
    let mut prose = Vec::new();
    let context = sections.context(&front, &mut prose)?;
    checked_count(file, "section `Context`", context.len())?;
    let mut constraints = front.constraints.clone().unwrap_or_default();
    constraints.extend(sections.bullets("constraints"));
    let done_when = sections.done_when();
    let Commands { test: command, lint } = sections.commands(front.shell.unwrap_or(false))?;
    let code = sections.code()?;
    if let Some(problem) = no_check(command.as_ref(), code.as_ref()).filter(|_| files.is_empty()) {
        return Err(bad(file, "field `output_files`", problem));
    }
    sections.stray_commands();
    let title = sections.title.clone().or_else(|| front.name.clone());
    let description = sections.description(title.as_deref(), prose);
    if description.is_empty() && code.is_none() {
        return Err(bad(file, "line 1", "nothing says what to do; write `# Task: <title>`"));
    }
    let phase = match &front.tdd_phase {
        Some(phase) => Some(one_of(file, "tdd_phase", phase, PHASES)?),
        None => None,
    };
    let policy = match &front.policy {
        Some(policy) => one_of(file, "policy", policy, POLICIES)?,
        None => Eligibility::Ticket,
    };
    let egress = match &front.egress {
        Some(egress) => Some(one_of(file, "egress", egress, EGRESS)?),
        None => None,
    };
    let mut warnings = front.unknown;
    warnings.extend(sections.warnings);
    warnings.extend(finished_status(front.status.as_deref()));
    warnings.extend(guarded_files(&files));
    Ok(Task {
        source: file.to_owned(),
        format: Format::Markdown,
        id: checked_id(file, &front.task_id.or(front.id).unwrap_or_else(|| stem(file)))?,
        title,
        description,
        file: files.first().cloned().unwrap_or_default(),
        files,
        context,
        constraints,
        command,
        lint,
        code,
        done_when,
        status: front.status,
        model: front.model,
        local_model: front.local_model,
        reason: front.reason,
        complexity: front.complexity,
        phase,
        depends_on: front.depends_on,
        policy,
        egress,
        tags: front.tags,
        category: checked_category(file, front.category)?,
        estimated_lines: front.estimated_lines,
        imports: front.imports,
        warnings,
    })
}

/// Whether a text is meant as a task: it has the title of one, a heading that names files to write, or a field in its
/// frontmatter that other programs do not have in theirs. Every task that can be run has one of these.
pub(super) fn is_meant(text: &str) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let mut fence: Option<Fence> = None;
    front::is_meant(&lines)
        || lines.iter().any(|line| {
            match &fence {
                Some(open) if open.is_closed_by(line) => fence = None,
                Some(_) => {}
                None => fence = Fence::open(line),
            }
            let heading = line.strip_prefix("## ").map(name_of);
            let names_files = |name: String| ONE_FILE.contains(&&*name) || SEVERAL_FILES.contains(&&*name);
            let title = line.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("# task:"));
            fence.is_none() && (title || heading.is_some_and(names_files))
        })
}

/// The headings over the one file to write.
const ONE_FILE: [&str; 5] = ["file to modify", "file to create", "file to write", "output file", "file"];

/// The headings over a list of them.
const SEVERAL_FILES: [&str; 4] = ["files to modify", "files to create", "files to write", "output files"];

/// A heading in lower case, with single spaces, without a final colon.
fn name_of(heading: &str) -> String {
    let words = heading.split_whitespace().collect::<Vec<_>>().join(" ");
    words.trim_end_matches([':', '#']).trim().to_lowercase()
}

/// One "## " section: its heading and its lines, with their places.
struct Section<'a> {
    /// Line of the heading, 1-based.
    line: usize,
    heading: &'a str,
    /// As [`name_of`] gives it.
    name: String,
    /// Line numbers, 1-based, and lines.
    lines: Vec<(usize, &'a str)>,
}

struct Sections<'a> {
    file: &'a str,
    title: Option<String>,
    /// Lines before the first section.
    intro: Vec<&'a str>,
    sections: Vec<Section<'a>>,
    warnings: Vec<String>,
}

impl<'a> Sections<'a> {
    /// Splits the body, which begins after `skip` lines, at its headings; fenced blocks hide headings.
    fn of(file: &'a str, lines: &[&'a str], skip: usize) -> Result<Self> {
        let mut made =
            Sections { file, title: None, intro: Vec::new(), sections: Vec::new(), warnings: Vec::new() };
        let mut fence: Option<(usize, Fence)> = None;
        for (number, line) in lines.iter().copied().enumerate().skip(skip).map(|(at, line)| (at + 1, line)) {
            match &fence {
                Some((_, open)) if open.is_closed_by(line) => fence = None,
                Some(_) => {}
                None => fence = Fence::open(line).map(|open| (number, open)),
            }
            let inside = fence.is_some();
            if let Some(title) = line.strip_prefix("# ").filter(|_| !inside && made.title.is_none()) {
                let title = title.trim();
                let task = title.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("task:"));
                made.title =
                    Some(if task { title[5..].trim() } else { title }.to_owned()).filter(|t| !t.is_empty());
            } else if let Some(heading) = line.strip_prefix("## ").filter(|_| !inside) {
                let heading = heading.trim();
                let name = name_of(heading);
                made.sections.push(Section { line: number, heading, name, lines: Vec::new() });
            } else if let Some(section) = made.sections.last_mut() {
                section.lines.push((number, line));
            } else {
                made.intro.push(line);
            }
        }
        match fence {
            Some((line, _)) => {
                Err(bad(file, format!("line {line}"), "the fenced block has no end; close it"))
            }
            None => Ok(made),
        }
    }

    /// Takes the one section with such a name.
    fn take(&mut self, is: impl Fn(&str) -> bool) -> Result<Option<Section<'a>>> {
        let Some(at) = self.sections.iter().position(|section| is(&section.name)) else { return Ok(None) };
        let found = self.sections.remove(at);
        match self.sections.iter().find(|section| is(&section.name)) {
            Some(second) => Err(bad(
                self.file,
                format!("line {}", second.line),
                format!("`## {}` repeats line {}; a task has it once", second.heading, found.line),
            )),
            None => Ok(Some(found)),
        }
    }

    /// The files to write: the one of "File to modify", then the list of "Files to modify". The
    /// frontmatter's fields count where there is neither section; an empty list there says that there are none.
    fn files(&mut self, front: &front::Front) -> Result<Vec<String>> {
        let at = |line: usize| format!("line {line}");
        let mut given: Vec<(String, &str)> = Vec::new();
        for (names, several) in [(ONE_FILE.as_slice(), false), (SEVERAL_FILES.as_slice(), true)] {
            let Some(section) = self.take(|name| names.contains(&name))? else { continue };
            let paths: Vec<_> = section.lines.iter().filter(|(_, line)| !line.trim().is_empty()).collect();
            match paths.as_slice() {
                [] => {
                    let problem = "no path; write one below the heading";
                    return Err(bad(self.file, at(section.line), problem));
                }
                [_, (line, _), ..] if !several => {
                    let problem = "a second path; list several files under `## Files to modify`";
                    return Err(bad(self.file, at(*line), problem));
                }
                paths => {
                    let words = |path: &str| several && !path.contains('`') && listed(path).contains(' ');
                    if let Some((line, _)) = paths.iter().find(|(_, path)| words(path)) {
                        let problem = "words beside the path; put the path between backticks";
                        return Err(bad(self.file, at(*line), problem));
                    }
                    given.extend(paths.iter().map(|(line, path)| (at(*line), listed(path))));
                }
            }
        }
        if given.is_empty() {
            let field = |name: &str| format!("field `{name}`");
            given.extend(front.output_file.iter().map(|path| (field("output_file"), path.as_str())));
            given.extend(front.output_files.iter().flatten().map(|path| (field("output_files"), &**path)));
        }
        match checked_files(self.file, given)? {
            files if files.is_empty() && front.output_files.is_none() => Err(bad(
                self.file,
                "section `File to modify`",
                "it is missing; add `## File to modify` and one path, or `output_files: []` to the frontmatter if it writes none",
            )),
            files => Ok(files),
        }
    }

    /// The files of "Context". A bullet that names no file, or a section without bullets, is prose.
    fn context(&mut self, front: &front::Front, prose: &mut Vec<String>) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for path in front.context_files.iter().flatten() {
            found.push(checked_path(self.file, "field `context_files`", path)?);
        }
        let Some(section) = self.take(|name| matches!(name, "context" | "context files"))? else {
            return Ok(found);
        };
        let mut words = Vec::new();
        for (number, line) in &section.lines {
            match bullet(line).and_then(named_file) {
                Some(path) => found.push(checked_path(self.file, &format!("line {number}"), path)?),
                None => words.push(*line),
            }
        }
        let words = words.join("\n").trim().to_owned();
        if !words.is_empty() {
            prose.push(format!("{}\n{words}", section.heading));
        }
        let mut seen = std::collections::HashSet::new();
        found.retain(|path| seen.insert(path.clone()));
        Ok(found)
    }

    fn bullets(&mut self, name: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for at in (0..self.sections.len()).rev() {
            if self.sections[at].name != name {
                continue;
            }
            let section = self.sections.remove(at);
            for (_, line) in section.lines.iter().filter(|(_, line)| !line.trim().is_empty()) {
                match (bullet(line), found.last_mut()) {
                    (Some(text), _) => found.push(text.to_owned()),
                    // An indented line goes on with the bullet above it.
                    (None, Some(last)) if line.starts_with(' ') => *last = format!("{last} {}", line.trim()),
                    (None, _) => found.push(line.trim().to_owned()),
                }
            }
        }
        found
    }

    fn done_when(&mut self) -> Vec<Criterion> {
        let mut lines = self.bullets("done when");
        lines.extend(self.bullets("acceptance criteria"));
        let criterion = |line: String| {
            let boxed = ["[ ]", "[x]", "[X]"]
                .iter()
                .find_map(|tick| line.strip_prefix(tick).map(|rest| (tick, rest)));
            match boxed {
                Some((tick, text)) => Criterion { text: text.trim().to_owned(), done: *tick != "[ ]" },
                None => Criterion { text: line, done: false },
            }
        };
        lines.into_iter().map(criterion).filter(|criterion| !criterion.text.is_empty()).collect()
    }

    /// The commands after "Run:" and "Lint:", or the one in a fenced block, but for comments, where nothing stands after
    /// "Run:".
    fn commands(&mut self, shell: bool) -> Result<Commands> {
        let Some(section) = self.take(|name| matches!(name, "verification" | "verify"))? else {
            return Ok(Commands::default());
        };
        let labelled = |label: &str| -> Vec<(usize, bool, String)> {
            let lines = section.lines.iter().filter_map(|(number, line)| {
                let (in_shell, command) = after_label(line, label)?;
                Some((*number, shell || in_shell, command.to_owned()))
            });
            lines.filter(|(_, _, command)| !command.is_empty()).collect()
        };
        let mut found = labelled("run");
        if let Some(block) = fenced(&section).filter(|_| found.is_empty()) {
            let lines = block.text.lines().zip(block.line + 1..);
            found.extend(
                lines.map(|(line, number)| (number, shell, line.trim().trim_start_matches("$ ").to_owned())),
            );
            found.retain(|(_, _, command)| !command.is_empty() && !command.starts_with('#'));
        }
        if found.is_empty() {
            return Err(bad(
                self.file,
                format!("line {}", section.line),
                "no command; write `Run: <command>`",
            ));
        }
        Ok(Commands { test: self.one(&found)?, lint: self.one(&labelled("lint"))? })
    }

    fn one(&self, found: &[(usize, bool, String)]) -> Result<Option<Command>> {
        match found {
            [] => Ok(None),
            [(line, shell, command)] => {
                checked_command(self.file, &format!("line {line}"), command, *shell).map(Some)
            }
            [(first, ..), (line, ..), ..] => Err(bad(
                self.file,
                format!("line {line}"),
                format!("a second command after line {first}; a task has one, put several in a script"),
            )),
        }
    }

    /// A word about lines that look like the task's commands and stand where none is looked for: a heading with a letter
    /// that is wrong would cost the task what judges it.
    fn stray_commands(&mut self) {
        for section in &self.sections {
            for (line, label) in lines_outside_blocks(section).filter_map(|(line, text)| {
                let label = ["Run", "Lint"].into_iter().find(|label| after_label(text, label).is_some())?;
                Some((line, label))
            }) {
                self.warnings.push(format!(
                    "line {line}: `{label}:` is a command only under `## Verification`, not under `## {}`",
                    section.heading.escape_debug()
                ));
            }
        }
    }

    fn code(&mut self) -> Result<Option<Code>> {
        let Some(section) = self.take(is_code_heading)? else { return Ok(None) };
        let at = format!("line {}", section.line);
        let place = place(&section.name).ok_or_else(|| {
            bad(self.file, &at, format!("`{}` names no line; write `at line N`, N from 1", section.heading))
        })?;
        match fenced(&section) {
            Some(block) if block.more => {
                Err(bad(self.file, &at, "several fenced blocks; a task carries its code in one"))
            }
            Some(block) if !block.text.trim().is_empty() => {
                Ok(Some(Code { text: block.text, language: block.language, place }))
            }
            _ => Err(bad(self.file, &at, "no code; write it below the heading in a fenced block")),
        }
    }

    /// Title, prose and every section that nobody took.
    fn description(&mut self, title: Option<&str>, prose: Vec<String>) -> String {
        let mut parts: Vec<String> = title.map(str::to_owned).into_iter().collect();
        parts.push(self.intro.join("\n").trim().to_owned());
        parts.extend(prose);
        for section in self.sections.drain(..) {
            let text = section.lines.iter().map(|(_, line)| *line).collect::<Vec<_>>().join("\n");
            parts.push(format!("{}\n{}", section.heading, text.trim()).trim().to_owned());
        }
        parts.retain(|part| !part.is_empty());
        parts.join("\n\n")
    }
}

/// The commands of a task.
#[derive(Default)]
struct Commands {
    test: Option<Command>,
    lint: Option<Command>,
}

/// What stands after a label such as "Run:", and whether the label says that it is for a shell.
fn after_label<'a>(line: &'a str, label: &str) -> Option<(bool, &'a str)> {
    let line = line.trim().trim_start_matches(['-', '*', ' ']);
    let start = line.get(..label.len())?;
    let rest = line[label.len()..].trim_start();
    let in_shell = rest.get(..7).is_some_and(|word| word.eq_ignore_ascii_case("(shell)"));
    let rest = if in_shell { rest[7..].trim_start() } else { rest };
    let command = rest.strip_prefix(':').filter(|_| start.eq_ignore_ascii_case(label))?;
    Some((in_shell, command.trim_start_matches('*').trim().trim_matches('`').trim()))
}

const WHOLE_HEADINGS: [&str; 6] =
    ["code", "file content", "full file", "whole file", "new content", "content"];

fn is_code_heading(name: &str) -> bool {
    WHOLE_HEADINGS.contains(&name) || name.starts_with("code to add") || name.starts_with("code to insert")
}

/// The place that a heading names; None if it names a line badly.
fn place(name: &str) -> Option<Place> {
    if WHOLE_HEADINGS.contains(&name) {
        return Some(Place::Whole);
    }
    let Some((_, line)) = name.split_once("line") else { return Some(Place::Unstated) };
    line.trim().parse().ok().filter(|line| *line > 0).map(Place::Line)
}

fn bullet(line: &str) -> Option<&str> {
    let line = line.trim();
    let rest =
        line.strip_prefix("- ").or_else(|| line.strip_prefix("* ")).or_else(|| line.strip_prefix("+ "))?;
    Some(rest.trim())
}

/// The path of a line that holds nothing else but marks around it; in backticks, words may follow.
fn listed(line: &str) -> &str {
    let text = bullet(line).unwrap_or(line).trim();
    let marked = text.strip_prefix('`').and_then(|rest| rest.split_once('`'));
    marked.map_or(text.trim_matches('`'), |(path, _)| path).trim()
}

/// The file that a bullet names: its text in backticks, or its first word where that looks like a path.
fn named_file(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('`') {
        return rest.split_once('`').map(|(path, _)| path.trim());
    }
    let word = text.split_whitespace().next()?.trim_end_matches([':', ',']);
    let ending = word.rsplit_once('.').is_some_and(|(_, ending)| !ending.is_empty());
    (word.contains('/') || ending).then_some(word)
}

#[cfg(test)]
mod tests;
