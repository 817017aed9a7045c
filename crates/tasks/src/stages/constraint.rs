//! Those of a task's rules that can be checked on the text of a file.
//!
//! A rule in words is read only if it says exactly one of a few things; every other rule is left to the
//! task's command and to whoever reviews. Names stand in backticks or are single words that can be nothing
//! else.

use tree_sitter::Node;

use super::syntax::{self, Language, Step};
use crate::ledger::lines_added;

mod standard;

/// A rule that can be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Constraint {
    /// The file exports this name, or any name at all.
    Exports(Option<String>),
    /// The file has a default export, or has none.
    DefaultExport(bool),
    /// The file takes nothing that is not part of the language or of the project.
    NoDependencies,
    /// At most so many new lines.
    Lines(usize),
    /// The file holds this text, or holds no more of it than before.
    Holds(String, bool),
}

/// A file as a rule sees it: path, old and new text.
type File<'a> = (&'a str, Option<&'a str>, &'a str);

impl Constraint {
    /// What a rule in words says; None if it is none of those that can be checked.
    pub(super) fn read(rule: &str) -> Option<Constraint> {
        let rule = rule.trim().trim_end_matches(['.', '!']);
        let (words, names) = split(rule);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let words = match words.as_slice() {
            ["must" | "should" | "shall", rest @ ..] => rest,
            [_, "must" | "should" | "shall", rest @ ..] if words[0] != NAME => rest,
            all => all,
        };
        let name = || names.first().cloned();
        match words {
            ["no", "default", "export" | "exports"] => Some(Constraint::DefaultExport(false)),
            ["export" | "exports" | "use" | "uses", "default"]
            | ["default", "export"]
            | ["use" | "uses", "a", "default", "export"] => Some(Constraint::DefaultExport(true)),
            ["export" | "exports", rest @ ..] => exported(rest, name()),
            [NAME, "is", "exported"] => Some(Constraint::Exports(name())),
            ["named", "export" | "exports"] | ["named", "export", "only"] => Some(Constraint::Exports(None)),
            ["no", "dependencies" | "dependency"]
            | [
                "no",
                "external" | "new" | "additional" | "third-party",
                "dependencies" | "packages" | "libraries",
            ] => Some(Constraint::NoDependencies),
            ["no", NAME] | ["without", NAME] => Some(Constraint::Holds(name()?, false)),
            ["do" | "does" | "must", "not", "use" | "contain" | "call" | "import", NAME]
            | ["not", "use" | "contain" | "call" | "import", NAME]
            | ["don't" | "never", "use" | "call" | "import", NAME] => Some(Constraint::Holds(name()?, false)),
            ["use" | "uses" | "contain" | "contains" | "include" | "includes" | "call" | "calls", NAME]
            | ["file", "contains" | "includes", NAME] => Some(Constraint::Holds(name()?, true)),
            _ => lines(words).map(Constraint::Lines),
        }
    }

    /// Whether the files keep the rule; if not, which one breaks it, and how. One file that holds what must
    /// be there is enough; each must be without what must not be there.
    pub(super) fn check(&self, files: &[File<'_>]) -> Result<(), (String, String)> {
        let Some((first, ..)) = files.first() else { return Ok(()) };
        match self {
            Constraint::Exports(_) | Constraint::DefaultExport(true) | Constraint::Holds(_, true) => {
                match files.iter().any(|file| self.problem(file).is_none()) {
                    true => Ok(()),
                    false => Err((
                        (*first).to_owned(),
                        files.iter().find_map(|f| self.problem(f)).unwrap_or_default(),
                    )),
                }
            }
            Constraint::Lines(most) => {
                let added: u64 = files.iter().map(|(_, old, new)| lines_added(*old, new)).sum();
                if added <= *most as u64 {
                    return Ok(());
                }
                Err(((*first).to_owned(), format!("it adds {added} lines")))
            }
            _ => match files.iter().find_map(|file| Some((file.0, self.problem(file)?))) {
                Some((path, problem)) => Err((path.to_owned(), problem)),
                None => Ok(()),
            },
        }
    }

    fn problem(&self, (path, old, new): &File<'_>) -> Option<String> {
        match self {
            Constraint::Exports(name) => {
                let exports = Exports::of(path, new)?;
                match name {
                    Some(name) => {
                        (!exports.names.contains(name)).then(|| format!("it does not export `{name}`"))
                    }
                    None => exports.names.is_empty().then(|| "it exports nothing by name".to_owned()),
                }
            }
            Constraint::DefaultExport(wanted) => {
                let exports = Exports::of(path, new).filter(|exports| exports.of_modules)?;
                let problem = if *wanted { "it has no default export" } else { "it has a default export" };
                (exports.default != *wanted).then(|| problem.to_owned())
            }
            Constraint::NoDependencies => {
                let before = old.map_or_else(Vec::new, |old| standard::foreign(path, old));
                let found = standard::foreign(path, new).into_iter().find(|name| !before.contains(name))?;
                Some(format!("it takes `{found}` from outside the project"))
            }
            Constraint::Holds(text, true) => (!new.contains(text)).then(|| format!("`{text}` is not in it")),
            Constraint::Holds(text, false) => {
                let before = old.map_or(0, |old| occurrences(path, old, text));
                (occurrences(path, new, text) > before).then(|| format!("`{text}` is in it"))
            }
            Constraint::Lines(_) => None,
        }
    }
}

/// Stands for what is in backticks.
const NAME: &str = "`";

/// The words of a rule in lower case, and what stands in backticks, as it is.
fn split(rule: &str) -> (Vec<String>, Vec<String>) {
    let (mut words, mut names) = (Vec::new(), Vec::new());
    for (at, part) in rule.split('`').enumerate() {
        if at % 2 == 1 {
            words.push(NAME.to_owned());
            names.push(part.trim_end_matches("()").to_owned());
        } else {
            words.extend(part.split_whitespace().map(|word| word.trim_matches(',').to_lowercase()));
        }
    }
    words.retain(|word| !word.is_empty());
    (words, names)
}

/// After "export": what may stand before a name, and nothing after it.
fn exported(words: &[&str], name: Option<String>) -> Option<Constraint> {
    const KINDS: [&str; 14] = [
        "a",
        "an",
        "the",
        "named",
        "public",
        "function",
        "functions",
        "const",
        "constant",
        "constants",
        "class",
        "type",
        "interface",
        "component",
    ];
    let rest: Vec<&&str> = words.iter().skip_while(|word| KINDS.contains(word)).collect();
    match rest.as_slice() {
        [word] if **word == NAME => Some(Constraint::Exports(name)),
        [] if words.contains(&"named") => Some(Constraint::Exports(None)),
        _ => None,
    }
}

/// "at most 50 lines", "max 50 lines", "under 50 lines" and the like.
fn lines(words: &[&str]) -> Option<usize> {
    let (number, fewer) = match words {
        ["at", "most", number, "lines"]
        | ["up", "to", number, "lines"]
        | ["no", "more", "than", number, "lines"]
        | ["max" | "maximum" | "<=" | "≤", number, "lines"] => (number, 0),
        ["maximum", "of", number, "lines"] => (number, 0),
        ["under" | "below" | "<", number, "lines"] | ["fewer" | "less", "than", number, "lines"] => {
            (number, 1)
        }
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_sub(fewer)
}

/// How often a text occurs; a name only as a whole name of the language, not in comments and strings.
fn occurrences(path: &str, text: &str, wanted: &str) -> usize {
    let is_name = wanted.chars().all(|c| c.is_alphanumeric() || c == '_');
    let tree = Language::of(path).filter(|_| is_name).and_then(|language| syntax::parse(language, text));
    let Some(tree) = tree else { return text.matches(wanted).count() };
    let mut count = 0;
    syntax::each(&mut tree.walk(), |node| {
        let aside = node.kind().contains("comment") || node.kind().contains("string");
        if node.child_count() == 0 && !aside && text.get(node.byte_range()) == Some(wanted) {
            count += 1;
        }
        if aside { Step::Over } else { Step::Into }
    });
    count
}

/// What a file gives to others.
#[derive(Debug, Default)]
struct Exports {
    names: Vec<String>,
    default: bool,
    /// Whether the language has default exports at all.
    of_modules: bool,
}

impl Exports {
    /// None where the language is not one whose exports are known.
    fn of(path: &str, text: &str) -> Option<Exports> {
        let language = Language::of(path)?;
        let tree = syntax::parse(language, text)?;
        let mut found = Exports::default();
        let root = tree.root_node();
        let items: Vec<Node<'_>> = root.named_children(&mut root.walk()).collect();
        match language {
            Language::JavaScript | Language::TypeScript | Language::Tsx => {
                found.of_modules = true;
                items.into_iter().for_each(|item| found.module(item, text));
            }
            Language::Rust => {
                let public = |item: &Node<'_>| {
                    item.named_children(&mut item.walk()).any(|part| part.kind() == "visibility_modifier")
                };
                found.names =
                    items.iter().filter(|item| public(item)).filter_map(|item| named(*item, text)).collect();
            }
            Language::Python => items.into_iter().for_each(|item| found.python(item, text)),
            Language::Go => {
                let all = items.iter().flat_map(|item| declared(*item, text));
                found.names = all.filter(|name| name.starts_with(char::is_uppercase)).collect();
            }
            _ => return None,
        }
        Some(found)
    }

    /// ECMAScript modules, and what is assigned to `exports` of CommonJS.
    fn module(&mut self, item: Node<'_>, text: &str) {
        let words = text.get(item.byte_range()).unwrap_or("");
        if item.kind() == "export_statement" {
            self.default |= words.trim_start_matches("export").trim_start().starts_with("default");
            self.names.extend(declared(item, text));
            syntax::each(&mut item.walk(), |node| {
                if node.kind() == "export_specifier" {
                    let name = node.child_by_field_name("alias").or(node.child_by_field_name("name"));
                    let name = name.and_then(|name| text.get(name.byte_range()));
                    self.default |= name == Some("default");
                    self.names.extend(name.map(str::to_owned));
                    return Step::Over;
                }
                if matches!(node.kind(), "export_statement" | "export_clause") {
                    Step::Into
                } else {
                    Step::Over
                }
            });
        } else if let Some(rest) = words.strip_prefix("module.exports").or(words.strip_prefix("exports")) {
            match rest.trim_start().strip_prefix('.') {
                Some(name) => {
                    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$');
                    self.names.push(name[..end.unwrap_or(name.len())].to_owned());
                }
                None => {
                    let inner = rest
                        .trim_start_matches([' ', '=', '{', '\n'])
                        .trim_end_matches([';', ' ', '}', '\n']);
                    let names = inner.split(',').filter_map(|part| part.split(':').next());
                    self.names.extend(names.map(|name| name.trim().to_owned()));
                }
            }
        }
    }

    /// Everything at the top of a Python file.
    fn python(&mut self, item: Node<'_>, text: &str) {
        let target = match item.kind() {
            "expression_statement" => item.named_child(0).and_then(|part| part.child_by_field_name("left")),
            "decorated_definition" => {
                item.child_by_field_name("definition").and_then(|part| part.child_by_field_name("name"))
            }
            _ => item.child_by_field_name("name"),
        };
        self.names.extend(target.and_then(|name| text.get(name.byte_range())).map(str::to_owned));
    }
}

/// The name in a node's own field.
fn named(node: Node<'_>, text: &str) -> Option<String> {
    node.child_by_field_name("name").and_then(|name| text.get(name.byte_range())).map(str::to_owned)
}

/// The names that the declarations below a node give, down to their bodies.
fn declared(node: Node<'_>, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    syntax::each(&mut node.walk(), |node| {
        let kind = node.kind();
        if kind.contains("body")
            || kind.contains("block")
            || kind.contains("object")
            || kind == "arrow_function"
        {
            return Step::Over;
        }
        if kind.contains("declaration") || kind.contains("declarator") || kind.ends_with("_spec") {
            found.extend(named(node, text));
        }
        Step::Into
    });
    found
}

#[cfg(test)]
mod tests;
