//! Templates of prompts: one for each way of work (S1-21), chosen by what the task is, each with a budget of tokens.
//!
//! `code` is the plain one, and a bundled model is trained on exactly its output. The others extend it by guidance that
//! larger models make use of.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use sha2::{Digest, Sha256};

use crate::policy::{Category, Tables, classify};
use crate::task::Task;
use crate::{Error, Result};

/// The ways of work that have a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TemplateKind {
    /// A new file.
    Code,
    /// Tests.
    Test,
    /// The same behaviour, better written.
    Refactor,
    /// Words about code.
    Documentation,
    /// A change to a file that exists.
    Edit,
}

impl TemplateKind {
    /// All of them.
    pub const ALL: [TemplateKind; 5] = [
        TemplateKind::Code,
        TemplateKind::Test,
        TemplateKind::Refactor,
        TemplateKind::Documentation,
        TemplateKind::Edit,
    ];

    /// The name, which is that of its file without ".md".
    pub fn as_str(self) -> &'static str {
        match self {
            TemplateKind::Code => "code",
            TemplateKind::Test => "test",
            TemplateKind::Refactor => "refactor",
            TemplateKind::Documentation => "documentation",
            TemplateKind::Edit => "edit",
        }
    }

    /// Names of its file; the later one counts before the earlier (S1-21).
    fn files(self) -> [String; 2] {
        let short = if self == TemplateKind::Documentation { "doc" } else { self.as_str() };
        [format!("prompt-{short}.md"), format!("{}.md", self.as_str())]
    }

    fn built_in(self) -> &'static str {
        match self {
            TemplateKind::Code => BASE,
            TemplateKind::Test => include_str!("../../templates/test.md"),
            TemplateKind::Refactor => include_str!("../../templates/refactor.md"),
            TemplateKind::Documentation => include_str!("../../templates/documentation.md"),
            TemplateKind::Edit => include_str!("../../templates/edit.md"),
        }
    }
}

/// The template that the others extend, as "prompt.md".
const BASE: &str = include_str!("../../templates/prompt.md");

/// What goes on with a conversation after a failure.
const RETRY: &str = include_str!("../../templates/retry.md");

/// What a reviewer is shown.
const REVIEW: &str = include_str!("../../templates/review.md");

/// What a planner is shown.
const PLAN: &str = include_str!("../../templates/plan.md");

/// The largest template in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// What one rendering may take: an instruction takes one, and so do 64 bytes that are made. A template comes with the
/// project; without this it could go on, and grow, for ever.
const FUEL: u64 = 1_000_000;

/// The templates of a run: built in, or a user's in their place.
#[derive(Clone, Debug, PartialEq)]
pub struct Templates {
    sources: Arc<BTreeMap<TemplateKind, String>>,
    /// What tells the category of a task; None for the built-in tables.
    tables: Option<Arc<Tables>>,
    /// Whether the task decides; else every prompt is made by `code`.
    by_category: bool,
}

impl Default for Templates {
    /// Every prompt by `code`, as a bundled model knows it.
    fn default() -> Self {
        Templates { by_category: false, ..Templates::by_category() }
    }
}

impl Templates {
    /// The built-in templates, chosen by what the task is.
    pub fn by_category() -> Templates {
        let sources = TemplateKind::ALL.into_iter().map(|kind| (kind, kind.built_in().to_owned()));
        Templates { sources: Arc::new(sources.collect()), tables: None, by_category: true }
    }

    /// The built-in ones with those of a folder in their place, chosen by what the task is.
    pub fn load(folder: &Path) -> Result<Templates> {
        Templates::by_category().with(folder)
    }

    /// The same with those of a folder in their place: `code.md`, `test.md`, `refactor.md`, `documentation.md`, `edit.md`,
    /// as far as they are there, or `prompt-code.md` and so on in place of one that is not. A template that does not
    /// compile is an error now, not when it is used.
    pub fn with(mut self, folder: &Path) -> Result<Templates> {
        let sources = Arc::make_mut(&mut self.sources);
        let files =
            TemplateKind::ALL.into_iter().flat_map(|kind| kind.files().map(|name| (kind, folder.join(name))));
        for (kind, file) in files {
            let io = |source| Error::Io { path: file.clone(), source };
            match std::fs::metadata(&file) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(io(error)),
                Ok(meta) if meta.len() > MAX_BYTES => {
                    let path = file.display().to_string();
                    return Err(Error::TooLarge { path, bytes: meta.len(), limit: MAX_BYTES });
                }
                Ok(_) => {}
            }
            let source = std::fs::read_to_string(&file).map_err(io)?;
            let wrong = |problem: String| Error::Template(format!("`{}`: {problem}", file.display()));
            environment(&source).map_err(|error| wrong(error.to_string()))?;
            budget(&source).map_err(wrong)?;
            sources.insert(kind, source);
        }
        Ok(self)
    }

    /// The same templates, for tasks whose category these tables tell.
    pub fn classified_by(self, tables: Arc<Tables>) -> Templates {
        Templates { tables: Some(tables), ..self }
    }

    /// The template for a task. `exists` says whether the task's file is there already.
    pub fn choose(&self, task: &Task, exists: bool) -> TemplateKind {
        if !self.by_category {
            return TemplateKind::Code;
        }
        let files: Vec<&str> = task.files.iter().map(String::as_str).collect();
        let tables = self.tables.as_deref().unwrap_or(Tables::built_in());
        let category = task.category.unwrap_or_else(|| classify(tables, &task.description, &files).category);
        match category {
            Category::Tests => TemplateKind::Test,
            Category::Documentation => TemplateKind::Documentation,
            Category::Refactor | Category::Format => TemplateKind::Refactor,
            _ if exists => TemplateKind::Edit,
            _ => TemplateKind::Code,
        }
    }

    /// The most tokens that a prompt by this template may have, its context files among them: `{# budget: 6000 #}` in
    /// its text; None where it says nothing.
    pub fn budget(&self, kind: TemplateKind) -> Option<usize> {
        budget(&self.sources[&kind]).ok().flatten()
    }

    /// What tells templates apart in the ledger: the first 12 hexadecimal digits of the SHA-256 of the sources that
    /// make the prompt.
    pub fn digest(&self, kind: TemplateKind) -> String {
        let source = self.sources[&kind].as_str();
        if source == BASE { digest(&[BASE, RETRY]) } else { digest(&[source, BASE, RETRY]) }
    }

    /// A prompt's text.
    pub(super) fn render(&self, kind: TemplateKind, values: minijinja::Value) -> Result<String> {
        let source = &self.sources[&kind];
        let wrong = |error: minijinja::Error| Error::Template(format!("{}: {error:#}", kind.as_str()));
        if source == BASE {
            return rendered(fixed(), "prompt.md", values).map_err(wrong);
        }
        let made = environment(source).map_err(wrong)?;
        rendered(&made, "this.md", values).map_err(wrong)
    }
}

/// The text that goes on with a conversation.
pub(super) fn render_retry(values: minijinja::Value) -> Result<String> {
    rendered(fixed(), "retry.md", values).map_err(|error| Error::Template(error.to_string()))
}

pub(crate) fn render_plan(values: minijinja::Value) -> Result<String> {
    rendered(fixed(), "plan.md", values).map_err(|error| Error::Template(error.to_string()))
}

pub(super) fn render_review(values: minijinja::Value) -> Result<String> {
    rendered(fixed(), "review.md", values).map_err(|error| Error::Template(error.to_string()))
}

fn rendered(
    environment: &Environment<'_>,
    name: &str,
    values: minijinja::Value,
) -> Result<String, minijinja::Error> {
    let text = environment.get_template(name)?.render(values)?;
    Ok(text.trim_end_matches('\n').to_owned())
}

/// The built-in base, the retry, the review and the plan, compiled once.
fn fixed() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(empty)
}

/// An environment with one more template, "this.md", that may extend "prompt.md".
fn environment(source: &str) -> Result<Environment<'static>, minijinja::Error> {
    let mut made = empty();
    made.add_template_owned("this.md", source.to_owned())?;
    Ok(made)
}

fn empty() -> Environment<'static> {
    let mut made = Environment::new();
    let syntax =
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(false).build();
    // The delimiters are the default ones, so this cannot fail; if it did, rendering would show it.
    if let Ok(syntax) = syntax {
        made.set_syntax(syntax);
    }
    made.set_auto_escape_callback(|_| AutoEscape::None);
    made.set_undefined_behavior(UndefinedBehavior::Strict);
    made.set_fuel(Some(FUEL));
    // The templates are part of the program; a test renders each.
    let _ = made.add_template("prompt.md", BASE);
    let _ = made.add_template("retry.md", RETRY);
    let _ = made.add_template("review.md", REVIEW);
    let _ = made.add_template("plan.md", PLAN);
    made
}

/// The number in `{# budget: 6000 #}`.
fn budget(source: &str) -> Result<Option<usize>, String> {
    let Some((_, rest)) = source.split_once("{# budget:") else { return Ok(None) };
    let number = rest.split_once("#}").map_or("", |(number, _)| number.trim());
    match number.parse() {
        Ok(tokens) if tokens > 0 => Ok(Some(tokens)),
        _ => Err(format!("`{number}` is no budget; write `{{# budget: 6000 #}}`, in tokens")),
    }
}

/// Templates by what they say, so that attempts before and after a change can be told apart.
fn digest(sources: &[&str]) -> String {
    let mut hash = Sha256::new();
    for source in sources {
        // The length in front keeps two sources from being one with the same text.
        hash.update((source.len() as u64).to_le_bytes());
        hash.update(source);
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
