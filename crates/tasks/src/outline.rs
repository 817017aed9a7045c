//! Prose and data without most of their lines: the first and the last, and between them headings and keys, for a model
//! that is to know what is in a file and not to change it (S1-56).

use std::collections::BTreeSet;

use crate::language;
use crate::symbols::Summary;
use crate::syntax::{self, Language, Step};

/// Lines that are kept at the beginning.
const HEAD: usize = 20;

/// Lines that are kept at the end.
const TAIL: usize = 10;

/// The most headings or keys that are kept between them.
const BETWEEN: usize = 100;

/// The most characters of a line.
const WIDTH: usize = 200;

/// What stands for what is left out.
const GAP: &str = "…";

/// Whether files of this name have an outline: Markdown, text, JSON, TOML and YAML.
pub fn knows(path: &str) -> bool {
    let is_text = path.rsplit_once('.').is_some_and(|(_, ending)| ending.eq_ignore_ascii_case("txt"));
    is_text || matches!(language::of(path), "markdown" | "json" | "toml" | "yaml")
}

/// The outline of a file; None where [`knows`] says no, and where there is nothing to leave out.
pub fn outline(path: &str, text: &str) -> Option<Summary> {
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.len().saturating_sub(TAIL);
    let marks = if knows(path) { marks(path, text, &lines) } else { return None };
    let marks = marks.into_iter().filter(|at| (HEAD..tail).contains(at)).take(BETWEEN);
    let kept: BTreeSet<usize> = (0..HEAD.min(lines.len())).chain(marks).chain(tail..lines.len()).collect();
    let mut left = String::new();
    let mut next = 0;
    for at in &kept {
        if *at > next {
            left.push_str(GAP);
            left.push('\n');
        }
        next = at + 1;
        left.push_str(&cut(lines[*at]));
        left.push('\n');
    }
    (left.len() < text.len()).then_some(Summary { text: left, lines: lines.len() })
}

/// The lines of headings or of top-level keys, from 0, in their order.
fn marks(path: &str, text: &str, lines: &[&str]) -> Vec<usize> {
    match Language::of(path) {
        Some(language) => keys(language, text),
        None if language::of(path) == "markdown" => headings(lines),
        None => Vec::new(),
    }
}

/// Headings that stand outside of fenced blocks.
fn headings(lines: &[&str]) -> Vec<usize> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let start = line.trim_start();
        if start.starts_with("```") || start.starts_with("~~~") {
            fenced = !fenced;
        } else if !fenced && start.starts_with('#') && start.trim_start_matches('#').starts_with(' ') {
            found.push(at);
        }
    }
    found
}

/// Where the outermost keys and tables begin.
fn keys(language: Language, text: &str) -> Vec<usize> {
    let Some(tree) = syntax::parse(language, text) else { return Vec::new() };
    let mut found = Vec::new();
    syntax::each(&mut tree.walk(), |node| match node.kind() {
        "pair" | "table" | "table_array_element" | "block_mapping_pair" => {
            found.push(node.start_position().row);
            Step::Over
        }
        _ => Step::Into,
    });
    found
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}{GAP}", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> String {
        (0..count).map(|at| format!("  x{at}\n")).collect()
    }

    fn left(path: &str, middle: &str) -> String {
        let (before, after) = (lines(HEAD), lines(TAIL));
        let text = outline(path, &format!("{before}{middle}{after}")).unwrap().text;
        let middle = text.strip_prefix(&before).and_then(|rest| rest.strip_suffix(&after));
        middle.unwrap_or_else(|| panic!("{text}")).to_owned()
    }

    /// Covers S1-56.
    #[test]
    fn ends_stay_and_headings_between_them() {
        let prose = lines(40);
        assert_eq!(left("a.txt", &prose), "…\n");
        assert_eq!(
            left("README.md", &format!("# One\n{prose}```sh\n# no heading\n```\n#hash\n## Two\n{prose}")),
            "# One\n…\n## Two\n…\n"
        );
    }

    /// Covers S1-56.
    #[test]
    fn keys_of_the_first_level_stay() {
        let items = "    \"deep\": 1,\n".repeat(30);
        let json = format!(
            "{{\n{0}  \"one\": {{\n{items}    \"last\": 1\n  }},\n{0}\n  \"two\": 2\n}}\n",
            "\n".repeat(20)
        );
        let text = outline("package.json", &(json + &"\n".repeat(TAIL))).unwrap();
        assert!(text.text.contains("…\n  \"one\": {\n…\n  \"two\": 2\n"), "{}", text.text);
        assert!(!text.text.contains("deep"), "{}", text.text);
        let tables = format!("{0}[one]\n{1}[[two]]\n{1}", "a = 1\n".repeat(HEAD), "k = 1\n".repeat(15));
        let text = outline("Cargo.toml", &tables).unwrap().text;
        assert!(text.contains("[one]\n…\n[[two]]\n…\nk = 1\n"), "{text}");
        let yaml = format!("a: 1\n{0}one:\n{1}two:\n{1}", "\n".repeat(HEAD), "  k: 1\n".repeat(15));
        let text = outline("ci.yml", &yaml).unwrap().text;
        assert!(text.contains("…\none:\n…\ntwo:\n…\n  k: 1\n"), "{text}");
    }

    #[test]
    fn what_is_short_has_none_and_long_lines_are_cut() {
        for (path, text) in [("a.md", "# A\n"), ("a.json", "{\n}\n"), ("a.txt", ""), ("a.c", "int a;\n")] {
            assert_eq!(outline(path, text), None, "{path}");
        }
        assert_eq!(outline("a.c", &lines(100)), None);
        let wide = outline("data.json", &format!("[{}]", "\"é\",".repeat(1000))).unwrap();
        assert_eq!((wide.text.chars().count(), wide.lines), (WIDTH + 2, 1));
        let many: String = (0..1000).map(|at| format!("# {at}\n")).collect();
        assert_eq!(outline("a.md", &many).unwrap().text.lines().count(), HEAD + BETWEEN + 1 + TAIL);
    }
}
