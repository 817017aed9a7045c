//! Syntax of source files, by tree-sitter: what is wrong with a draft before anything runs it.
//!
//! A tree here serves two ends: the errors in it, and, for others, the symbols in it. Nothing is executed,
//! and a text that takes too long to parse is one that nothing is said about.

mod nesting;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::Serialize;
use tree_sitter::{Node, ParseOptions, Parser, Tree, TreeCursor};

use crate::language;

/// Errors of a file's new text that its old text did not have, in the order of the text.
///
/// A language that has no grammar here has no errors. An error of the old text is the same one in the new
/// text if it says the same about a line of the same words, wherever that line now stands. Where the
/// old text had errors, recovery from them makes others that come and go, so only a text with more of
/// them than before is charged.
pub fn new_errors(path: &str, old: Option<&str>, new: &str) -> Vec<SyntaxError> {
    let mut found = errors(path, new);
    if found.is_empty() {
        return found;
    }
    let before = old.map_or_else(Vec::new, |old| errors(path, old));
    if before.is_empty() {
        return found;
    }
    if found.len() <= before.len() {
        return Vec::new();
    }
    let mut known: HashMap<(String, String), usize> = HashMap::new();
    for error in before {
        *known.entry((error.problem, error.text)).or_default() += 1;
    }
    found.retain(|error| match known.get_mut(&(error.problem.clone(), error.text.clone())) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    found
}

/// All syntax errors of a text, in its order; none if its language is not one of [`Language`].
pub fn errors(path: &str, text: &str) -> Vec<SyntaxError> {
    let Some(language) = Language::of(path) else { return Vec::new() };
    // Templates of YAML are YAML only after they are filled in.
    if language == Language::Yaml && text.contains("{{") {
        return Vec::new();
    }
    let Some(tree) = parse(language, text) else { return Vec::new() };
    if !tree.root_node().has_error() {
        return Vec::new();
    }
    // The grammar does not know every number that JSON has, such as `1e+22`.
    if language == Language::Json && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        return Vec::new();
    }
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    each(&mut tree.walk(), |node| {
        if found.len() == MAX_ERRORS {
            return Step::Stop;
        }
        if node.is_missing() || node.is_error() {
            found.push(SyntaxError::of(node, text, &lines));
            return Step::Over;
        }
        if node.has_error() { Step::Into } else { Step::Over }
    });
    found
}

/// One place where a text breaks its grammar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SyntaxError {
    /// The line, 1-based.
    pub line: usize,
    /// The column in characters, 1-based.
    pub column: usize,
    /// What is wrong, such as "missing `)`".
    pub problem: String,
    /// The line's text, without the blanks around it.
    pub text: String,
}

impl SyntaxError {
    fn of(node: Node<'_>, text: &str, lines: &[&str]) -> SyntaxError {
        let at = node.start_position();
        let line = lines.get(at.row).copied().unwrap_or("");
        let before = line.get(..at.column.min(line.len())).unwrap_or(line);
        let problem = if node.is_missing() {
            let kind = node.kind();
            match kind {
                "" => "something is missing".to_owned(),
                _ => format!("missing `{}`", kind.escape_debug()),
            }
        } else {
            let found = text.get(node.byte_range()).unwrap_or("").trim_start();
            let first = found.lines().next().unwrap_or("").trim_end();
            match first {
                "" => "the text ends too early".to_owned(),
                _ => format!("unexpected `{}`", shortened(first)),
            }
        };
        SyntaxError {
            line: at.row + 1,
            column: before.chars().count() + 1,
            problem,
            text: line.trim().to_owned(),
        }
    }
}

impl std::fmt::Display for SyntaxError {
    /// As compilers do it: place, problem, and the line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}: {}\n    {}", self.line, self.column, self.problem, self.text)
    }
}

/// The languages whose grammar is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Rust.
    Rust,
    /// Python 3.
    Python,
    /// JavaScript, with JSX.
    JavaScript,
    /// TypeScript.
    TypeScript,
    /// TypeScript with JSX.
    Tsx,
    /// Go.
    Go,
    /// JSON, with comments.
    Json,
    /// TOML 1.0.
    Toml,
    /// YAML 1.2.
    Yaml,
}

impl Language {
    /// The language of a path.
    pub fn of(path: &str) -> Option<Language> {
        Some(match language::of(path) {
            "rust" => Language::Rust,
            "python" => Language::Python,
            "javascript" | "jsx" => Language::JavaScript,
            "typescript" => Language::TypeScript,
            "tsx" => Language::Tsx,
            "go" => Language::Go,
            "json" => Language::Json,
            "toml" => Language::Toml,
            "yaml" => Language::Yaml,
            _ => return None,
        })
    }

    /// Its grammar.
    pub fn grammar(self) -> tree_sitter::Language {
        match self {
            Language::Rust => tree_sitter_rust::LANGUAGE.into(),
            Language::Python => tree_sitter_python::LANGUAGE.into(),
            Language::JavaScript => tree_sitter_javascript::LANGUAGE.into(),
            Language::TypeScript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
            Language::Tsx => tree_sitter_typescript::LANGUAGE_TSX.into(),
            Language::Go => tree_sitter_go::LANGUAGE.into(),
            Language::Json => tree_sitter_json::LANGUAGE.into(),
            Language::Toml => tree_sitter_toml_ng::LANGUAGE.into(),
            Language::Yaml => tree_sitter_yaml::LANGUAGE.into(),
        }
    }
}

/// The tree of a text; None if it could not be made within [`PATIENCE`], or nests so deeply that it
/// cannot be made.
pub fn parse(language: Language, text: &str) -> Option<Tree> {
    if !nesting::is_bearable(language, text) {
        return None;
    }
    let mut parser = Parser::new();
    parser.set_language(&language.grammar()).ok()?;
    let deadline = Instant::now() + PATIENCE;
    let mut tired = |_: &tree_sitter::ParseState| match Instant::now() > deadline {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let options = ParseOptions::new().progress_callback(&mut tired);
    let bytes = text.as_bytes();
    parser.parse_with_options(&mut |at, _| bytes.get(at..).unwrap_or(&[]), None, Some(options))
}

/// How long a text may take to parse. A megabyte of ordinary source takes a fifth of a second; what
/// takes longer than this was written to.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Errors that are looked for. After the first few they are consequences.
const MAX_ERRORS: usize = 100;

/// Where to go from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To its children.
    Into,
    /// Past it.
    Over,
    /// Nowhere.
    Stop,
}

/// Visits nodes from the root of a cursor in the order of the text. It does not recurse, so a text
/// that nests deeply costs no stack.
pub fn each<'tree>(cursor: &mut TreeCursor<'tree>, mut visit: impl FnMut(Node<'tree>) -> Step) {
    loop {
        let step = visit(cursor.node());
        if step == Step::Stop {
            return;
        }
        if step == Step::Into && cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return;
            }
        }
    }
}

/// Enough of a line to be found by.
fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
