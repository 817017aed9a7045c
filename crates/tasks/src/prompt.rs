//! What a model is shown, and the shape that its reply must have.
//!
//! [`Templates`] hold the words; the one for code is fixed, since a bundled model is trained on exactly its
//! output. The volatile part of a conversation is last, so a prefix cache serves the retry.

mod review;
mod templates;

use minijinja::context;
use serde::{Deserialize, Serialize};

use crate::edit::Form;
use crate::task::{Place, Task};
use crate::{Result, language};

pub(crate) use review::{review_prompt, unified};
pub(crate) use templates::render_plan;
pub use templates::{TemplateKind, Templates};

/// A conversation to be continued by the model, and the shape of what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What was said so far; the last message is the user's.
    pub messages: Vec<PromptMessage>,
    /// The fences of the reply, where it has some.
    pub reply: ReplyShape,
    /// The form of the reply.
    pub form: Form,
    /// The files that the reply may change as they were shown; new ones are empty.
    pub files: Vec<ContextFile>,
    /// The context files as they were shown.
    pub context: Vec<ContextFile>,
    /// Which templates made it: the first 12 hexadecimal digits of the SHA-256 of their sources.
    pub template: String,
    /// The way of work that the template is for.
    pub kind: TemplateKind,
    /// The most tokens that the template lets the first message have; None for any number.
    pub budget: Option<usize>,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptMessage {
    /// Who says it.
    pub role: Role,
    /// The text.
    pub content: String,
}

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Standing instructions.
    System,
    /// The task.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name that chat templates and protocols use.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// The form of a reply: one fenced block that holds the whole file, or one for each file that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyShape {
    /// The files of a task that may change several, in plain form: each block then names its own after
    /// the language. Empty for a task of one file, whose reply is one block without a path.
    pub files: Vec<String>,
    /// The fence, three backticks or more.
    pub fence: String,
    /// The language after the opening fence, "" for none.
    pub language: String,
}

/// A context file, as the model shall see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextFile {
    /// Its path in plain form.
    pub path: String,
    /// Its text.
    pub content: String,
}

/// Why an attempt failed, for the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// In a few words, such as "exit status 1".
    pub reason: String,
    /// The command line that failed, or what stood in its place.
    pub command: String,
    /// Its output.
    pub output: String,
}

impl PromptMessage {
    /// What a model said. No server takes an empty message.
    pub(crate) fn assistant(reply: &str) -> PromptMessage {
        let content = if reply.trim().is_empty() { "(an empty reply)" } else { reply };
        PromptMessage { role: Role::Assistant, content: content.to_owned() }
    }
}

impl Prompt {
    /// The first message for a task that is answered with whole files. `current` are those of the task's files that
    /// exist.
    pub fn new(task: &Task, context: &[ContextFile], current: &[ContextFile]) -> Result<Prompt> {
        Prompt::by(&Templates::default(), task, context, current)
    }

    /// The same by the template that is for such a task.
    pub fn by(
        templates: &Templates,
        task: &Task,
        context: &[ContextFile],
        current: &[ContextFile],
    ) -> Result<Prompt> {
        Prompt::in_form(templates, task, context, current, Form::Whole)
    }

    /// The first message for a task that is answered in this form.
    pub fn in_form(
        templates: &Templates,
        task: &Task,
        context: &[ContextFile],
        current: &[ContextFile],
        form: Form,
    ) -> Result<Prompt> {
        let language = language::of(&task.file);
        let mut shown: Vec<_> =
            context.iter().map(|file| shown(&file.path, &file.path, &file.content)).collect();
        for file in current {
            shown.push(self::shown(&format!("{} (current content)", file.path), &file.path, &file.content));
        }
        // A Markdown file is likely to hold blocks of its own.
        let markdown = task.files.iter().any(|file| language::of(file) == "markdown");
        let least = if markdown { 4 } else { 3 };
        let given = task.code.as_ref().map(|code| code.text.as_str());
        let several = task.files.len() > 1;
        let reply = ReplyShape {
            files: if several { task.files.clone() } else { Vec::new() },
            fence: fence(least, current.iter().map(|file| file.content.as_str()).chain(given)),
            language: language.to_owned(),
        };
        let kind = templates.choose(task, !current.is_empty());
        let content = templates.render(
            kind,
            context! {
                task_id => &task.id,
                description => objective(task),
                output_file => &task.file,
                output_files => &reply.files,
                context => shown,
                constraints => &task.constraints,
                language => language,
                comment => language::comment(language),
                fence => &reply.fence,
                form => form.name(),
                marker => form.marker(),
            },
        )?;
        let messages = vec![PromptMessage { role: Role::User, content }];
        let content =
            |path: &String| current.iter().find(|file| file.path == *path).map(|file| file.content.clone());
        let file =
            |path: &String| ContextFile { path: path.clone(), content: content(path).unwrap_or_default() };
        let files = task.files.iter().map(file).collect();
        let (template, budget) = (templates.digest(kind), templates.budget(kind));
        let context = context.to_vec();
        Ok(Prompt { messages, reply, form, files, context, template, kind, budget })
    }

    /// The conversation after a failed attempt: what the model replied, and what came of it.
    pub fn retry(&self, reply: &str, feedback: &Feedback) -> Result<Prompt> {
        let output = feedback.output.trim_end_matches('\n');
        let content = templates::render_retry(context! {
            reason => &feedback.reason,
            command => &feedback.command,
            output => output,
            several => !self.reply.files.is_empty(),
            form => self.form.name(),
            fence => fence(3, [output]),
        })?;
        let mut messages = self.messages.clone();
        messages.push(PromptMessage::assistant(reply));
        messages.push(PromptMessage { role: Role::User, content });
        Ok(Prompt { messages, ..self.clone() })
    }
}

impl ReplyShape {
    /// A Lark grammar for llguidance whose sentences are exactly the replies of this shape.
    ///
    /// A reply is the fence, the language and a line feed; lines, of which one at least is not blank;
    /// and the fence, which ends it. No line begins with the fence, and no control characters occur but
    /// tab, carriage return and line feed. Otherwise the text is free, so a model's code is never bent.
    /// For several files, each opening line names one of them, and a blank line stands between blocks.
    ///
    /// Lark has no look-ahead. A line that does not begin with the fence is therefore written as: fewer
    /// backticks than the fence has, then, if the line goes on, something that is no backtick.
    pub fn lark(&self) -> String {
        let fewer = self.fence.chars().count().saturating_sub(1);
        let quoted = |text: String| serde_json::Value::String(text).to_string();
        let opening = match self.files.as_slice() {
            [] => quoted(self.opening(None)),
            files => {
                let each: Vec<_> = files.iter().map(|file| quoted(self.opening(Some(file)))).collect();
                each.join(" | ")
            }
        };
        let start = match self.files.is_empty() {
            true => "start: OPEN BLANK* INKED line* CLOSE\n".to_owned(),
            false => "start: block (\"\\n\\n\" block)*\nblock: OPEN BLANK* INKED line* CLOSE\n".to_owned(),
        };
        let close = serde_json::Value::String(self.fence.clone());
        // Everything but line feeds and other control characters; `FIRST` is also no backtick, and
        // `INK` neither a backtick nor blank.
        const ANY: &str = r"[^\x00-\x08\x0A-\x0C\x0E-\x1F\x7F-\u{9F}]";
        const FIRST: &str = r"[^`\x00-\x08\x0A-\x0C\x0E-\x1F\x7F-\u{9F}]";
        const INK: &str = r"[^` \x00-\x1F\x7F-\u{9F}]";
        format!(
            "{start}\
             line: BLANK | INKED\n\
             OPEN: {opening}\n\
             CLOSE: {close}\n\
             BLANK: /[ \\t\\r]*\\n/\n\
             INKED: /(`{{1,{fewer}}}({FIRST}{ANY}*)?|[ \\t\\r]*{INK}{ANY}*|[ \\t\\r]+`{ANY}*)\\n/\n"
        )
    }

    /// The shape's reply for a file's content; the inverse of reading it, and what examples are made of.
    pub fn wrap(&self, content: &str) -> String {
        let end = if content.ends_with('\n') { "" } else { "\n" };
        format!("{}{content}{end}{}", self.opening(self.files.first().map(String::as_str)), self.fence)
    }

    /// The opening line of a block, with the file's path if there are several files.
    fn opening(&self, file: Option<&str>) -> String {
        match file {
            None => format!("{}{}\n", self.fence, self.language),
            Some(file) => format!("{}{} {file}\n", self.fence, language::of(file)),
        }
    }
}

/// The description with everything else that the task says in words or code.
fn objective(task: &Task) -> String {
    let mut parts = vec![task.description.clone()];
    if let Some(code) = &task.code {
        let place = match code.place {
            Place::Line(line) => format!("Code to add at line {line}:"),
            Place::Whole => "Content of the file:".to_owned(),
            Place::Unstated => "Code to add:".to_owned(),
        };
        let fence = fence(3, [code.text.as_str()]);
        parts.push(format!("{place}\n{fence}{}\n{}{fence}", code.language, code.text));
    }
    if !task.done_when.is_empty() {
        let lines: Vec<_> = task.done_when.iter().map(|criterion| format!("- {}", criterion.text)).collect();
        parts.push(format!("Done when:\n{}", lines.join("\n")));
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

pub(crate) fn shown(title: &str, path: &str, content: &str) -> minijinja::Value {
    let content = content.trim_end_matches('\n');
    context! {
        path => title,
        language => language::of(path),
        content => content,
        fence => fence(3, [content]),
    }
}

/// A fence that none of the texts can close: longer than their longest run of backticks.
pub(crate) fn fence<'a>(least: usize, texts: impl IntoIterator<Item = &'a str>) -> String {
    let longest = texts.into_iter().map(longest_run).max().unwrap_or(0);
    "`".repeat(if longest >= least { longest + 1 } else { least })
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests;
