//! A source file without the bodies of its functions: signatures, types, constants and comments, for a model that is to
//! use the file and not to change it (S1-56).

use tree_sitter::Node;

use crate::syntax::{self, Language, Step};

/// A file's text without bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The text that is left, with "…" in place of each body.
    pub text: String,
    /// Lines of the whole file.
    pub lines: usize,
}

/// Whether files of this language can be summarised: its functions have bodies, and its grammar is here.
pub fn knows(path: &str) -> bool {
    Language::of(path)
        .is_some_and(|language| !matches!(language, Language::Json | Language::Toml | Language::Yaml))
}

/// The summary of a file, by its path's language; None where the language is not one that [`knows`] knows, and where
/// there is nothing to leave out.
pub fn summary(path: &str, text: &str) -> Option<Summary> {
    let language = Language::of(path).filter(|_| knows(path))?;
    let tree = syntax::parse(language, text)?;
    let mut cuts: Vec<(usize, usize, &str)> = Vec::new();
    syntax::each(&mut tree.walk(), |node| match cut(language, node, text) {
        Some(cut) => {
            cuts.push(cut);
            Step::Over
        }
        None => Step::Into,
    });
    if cuts.is_empty() {
        return None;
    }
    let mut left = String::new();
    let mut from = 0;
    for (start, end, instead) in cuts {
        left.push_str(text.get(from..start)?);
        left.push_str(instead);
        from = end;
    }
    left.push_str(text.get(from..)?);
    Some(Summary { text: left, lines: text.lines().count() })
}

/// The bytes of a node that are left out, and what stands in their place.
fn cut(language: Language, node: Node<'_>, text: &str) -> Option<(usize, usize, &'static str)> {
    if language == Language::Rust && is_test_module(node, text) {
        let body = node.child_by_field_name("body")?;
        return Some((body.start_byte(), body.end_byte(), "{ … }"));
    }
    let is_function = match language {
        Language::Rust => node.kind() == "function_item",
        Language::Python => node.kind() == "function_definition",
        Language::Go => matches!(node.kind(), "function_declaration" | "method_declaration" | "func_literal"),
        Language::JavaScript | Language::TypeScript | Language::Tsx => matches!(
            node.kind(),
            "function_declaration"
                | "generator_function_declaration"
                | "function_expression"
                | "generator_function"
                | "method_definition"
                | "arrow_function"
        ),
        Language::Json | Language::Toml | Language::Yaml => false,
    };
    let body = node.child_by_field_name("body").filter(|_| is_function)?;
    // A line says as much as its summary would.
    if body.start_position().row == body.end_position().row {
        return None;
    }
    if language != Language::Python {
        let is_block = matches!(body.kind(), "block" | "statement_block");
        return is_block.then_some((body.start_byte(), body.end_byte(), "{ … }"));
    }
    // A docstring is the function's documentation, so it stays.
    let first = body.named_child(0)?;
    let is_docstring = first.kind() == "expression_statement" && first.named_child(0)?.kind() == "string";
    match (is_docstring, body.named_child(1)) {
        (false, _) => Some((body.start_byte(), body.end_byte(), "…")),
        (true, Some(second)) => Some((second.start_byte(), body.end_byte(), "…")),
        (true, None) => None,
    }
}

/// Whether a node is a module behind `#[cfg(test)]`.
fn is_test_module(node: Node<'_>, text: &str) -> bool {
    let attribute = node.prev_named_sibling().filter(|before| before.kind() == "attribute_item");
    node.kind() == "mod_item"
        && attribute.is_some_and(|attribute| {
            text.get(attribute.byte_range()).is_some_and(|words| words.contains("cfg(test)"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(path: &str, text: &str) -> String {
        summary(path, text).unwrap().text
    }

    /// Covers S1-56.
    #[test]
    fn bodies_are_left_out_and_signatures_types_and_docs_stay() {
        let rust = "//! A module.\nuse std::fs;\n\n/// A point.\npub struct Point {\n    x: i32,\n}\n\nimpl Point {\n    \
                    /// Moves it.\n    pub fn move_by(&mut self, dx: i32) -> bool {\n        self.x += dx;\n        true\n    }\n\n    \
                    fn one(&self) -> i32 { 1 }\n}\n\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn a() {\n    }\n}\n";
        assert_eq!(
            left("a.rs", rust),
            "//! A module.\nuse std::fs;\n\n/// A point.\npub struct Point {\n    x: i32,\n}\n\nimpl Point {\n    \
             /// Moves it.\n    pub fn move_by(&mut self, dx: i32) -> bool { … }\n\n    fn one(&self) -> i32 { 1 }\n}\n\n\
             #[cfg(test)]\nmod tests { … }\n"
        );
        let python = "import os\n\nclass A:\n    \"\"\"An A.\"\"\"\n    def f(self, x: int) -> int:\n        \"\"\"Adds.\"\"\"\n        \
                      y = x\n        return y\n\ndef g():\n    a = 1\n    return a\n\nLIMIT = 3\n";
        assert_eq!(
            left("a.py", python),
            "import os\n\nclass A:\n    \"\"\"An A.\"\"\"\n    def f(self, x: int) -> int:\n        \"\"\"Adds.\"\"\"\n        \
             …\n\ndef g():\n    …\n\nLIMIT = 3\n"
        );
        let typescript = "export interface P { x: number }\n/** Adds. */\nexport function add(a: number): number {\n  \
                          return a;\n}\nexport const sub = (a: number) => {\n  return a;\n};\nclass B {\n  m(): void {\n    f();\n  }\n}\n";
        assert_eq!(
            left("a.ts", typescript),
            "export interface P { x: number }\n/** Adds. */\nexport function add(a: number): number { … }\n\
             export const sub = (a: number) => { … };\nclass B {\n  m(): void { … }\n}\n"
        );
        assert_eq!(
            left("a.js", "function f(x) {\n  return x;\n}\nmodule.exports = { f };\n"),
            "function f(x) { … }\nmodule.exports = { f };\n"
        );
        assert_eq!(
            left(
                "a.go",
                "package a\n\n// F does.\nfunc F(x int) int {\n\treturn x\n}\n\ntype T struct {\n\tx int\n}\n"
            ),
            "package a\n\n// F does.\nfunc F(x int) int { … }\n\ntype T struct {\n\tx int\n}\n"
        );
    }

    #[test]
    fn there_is_no_summary_without_something_to_leave_out() {
        for (path, text) in [
            ("a.json", "{\n}\n"),
            ("a.txt", "x\n"),
            ("a.rs", "struct A;\n"),
            ("a.py", ""),
            ("a.rs", "fn (\n{"),
        ] {
            assert_eq!(summary(path, text), None, "{path}");
        }
    }

    #[test]
    fn a_broken_file_has_a_summary_of_what_is_there_or_none() {
        for text in
            ["fn f() {\n  x\n", "fn f() {\n}\n}}}}\n", "é fn f(ü: é) {\n é\n}\n", "fn f() { { {\n } } }\nfn"]
        {
            if let Some(summary) = summary("a.rs", text) {
                assert!(summary.text.len() <= text.len() + 16, "{text}");
            }
        }
    }
}
