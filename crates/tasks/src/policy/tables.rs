//! What the policies and the classifier know, as data: `tables.yaml`, or a file of the user's in its place.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::cue::Cue;
use crate::ledger::Escalation;
use crate::{Error, Result};

/// The file that holds for everybody who gives no other.
pub const BUILT_IN: &str = include_str!("tables.yaml");

/// Patterns and what they weigh.
pub type Cues = BTreeMap<Cue, i32>;

/// Thresholds, categories, task types and cues.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Tables {
    /// The thresholds of the policy `atomic`.
    pub atomic: Atomic,
    /// The thresholds of the policy `ticket`.
    pub ticket: Ticket,
    /// Words for complexities.
    pub complexity: BTreeMap<Complexity, Vec<String>>,
    /// Who does what, by type (S0-40).
    pub task_types: BTreeMap<TaskType, TypeRoute>,
    /// Where each phase is done.
    pub phases: BTreeMap<String, Delegable>,
    /// All categories; of two with the same score the first one wins.
    pub categories: Vec<CategoryRules>,
    /// What speaks for each kind.
    pub kinds: BTreeMap<Kind, Cues>,
    /// What says that a task is large.
    pub large: Cues,
    /// What says that code keeps a state.
    pub state: Cues,
}

/// S1-25.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Atomic {
    /// The most lines of code.
    pub lines: usize,
    /// The most imports.
    pub imports: usize,
    /// The most files.
    pub files: usize,
}

/// S2-32.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// The most files.
    pub files: usize,
    /// Complexities that are too much.
    pub complexity: Vec<Complexity>,
    /// Tags that a local task may not have; case makes no difference.
    pub tags: Vec<String>,
    /// The share of escalated attempts from which on no task is local.
    pub escalations: f64,
    /// How many of the last finished local attempts that share is of.
    pub window: usize,
    /// Fewer of them say nothing: one failure of two is no spell.
    #[serde(default = "least_attempts")]
    pub attempts: usize,
    /// While it is too high, one task in so many is local all the same.
    pub probe: usize,
}

/// For tables that were written before there was such a number.
fn least_attempts() -> usize {
    Escalation::default().attempts
}

/// How hard a task is said to be.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Complexity {
    /// XS, S.
    Low,
    /// M.
    Medium,
    /// L, XL.
    High,
}

/// Who does a task of some type.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct TypeRoute {
    /// The alias of the model that does it.
    pub default: String,
    /// The alias of the one that does it after that; nobody if None.
    #[serde(default)]
    pub fallback: Option<String>,
}

/// Types of tasks (S0-40), and planning, which S0-37 gives to a cloud model.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // The names say it, and they are those of the table.
pub enum TaskType {
    AddTestModule,
    WriteTestCase,
    ImplementFunction,
    IntegrateIntoHandler,
    RunFormatter,
    UpdateDocumentation,
    ValidateImplementation,
    DebugFailures,
    Plan,
}

/// What a ticket is (S2-18).
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    /// Something works wrongly.
    Bug,
    /// Something new.
    Feat,
    /// Everything else: tests, documentation, maintenance, decisions.
    Task,
}

/// Whether a local model may do it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Delegable {
    /// It may.
    Local,
    /// Within the category's own limits.
    Maybe,
    /// It may not.
    Cloud,
}

/// What a task is about (S1-26, S1-35, S0-37).
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // The names are those of the tables.
pub enum Category {
    Reducer,
    Hook,
    Security,
    Debug,
    Design,
    Review,
    Unclear,
    MultiFile,
    Integration,
    Bugfix,
    Tests,
    Documentation,
    Format,
    Types,
    Constants,
    Refactor,
    Component,
    Utility,
    Implementation,
}

/// What holds for a category.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CategoryRules {
    /// Which one.
    pub name: Category,
    /// The requirement that says who may do it.
    pub requirement: String,
    /// Who, under `atomic`.
    pub atomic: Delegable,
    /// Who, under `ticket`.
    pub ticket: Delegable,
    /// The kind that it is unless words say otherwise.
    pub kind: Kind,
    /// The type that it is.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Lines of a typical one.
    pub lines: usize,
    /// Its own limit of lines.
    #[serde(default)]
    pub most_lines: Option<usize>,
    /// Whether a test can show that it works.
    #[serde(default = "yes")]
    pub tested: bool,
    /// Patterns over the description.
    #[serde(default)]
    pub cues: Cues,
    /// Patterns over the file's path.
    #[serde(default)]
    pub paths: BTreeMap<String, i32>,
}

fn yes() -> bool {
    true
}

/// Every category, in the order of [`Category`].
const ALL: [Category; 19] = [
    Category::Reducer,
    Category::Hook,
    Category::Security,
    Category::Debug,
    Category::Design,
    Category::Review,
    Category::Unclear,
    Category::MultiFile,
    Category::Integration,
    Category::Bugfix,
    Category::Tests,
    Category::Documentation,
    Category::Format,
    Category::Types,
    Category::Constants,
    Category::Refactor,
    Category::Component,
    Category::Utility,
    Category::Implementation,
];

impl TaskType {
    /// The name in tables and in the ladders of `coder.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskType::AddTestModule => "add_test_module",
            TaskType::WriteTestCase => "write_test_case",
            TaskType::ImplementFunction => "implement_function",
            TaskType::IntegrateIntoHandler => "integrate_into_handler",
            TaskType::RunFormatter => "run_formatter",
            TaskType::UpdateDocumentation => "update_documentation",
            TaskType::ValidateImplementation => "validate_implementation",
            TaskType::DebugFailures => "debug_failures",
            TaskType::Plan => "plan",
        }
    }
}

impl Category {
    /// Every category.
    pub fn all() -> &'static [Category] {
        &ALL
    }

    /// The name in tables, task files and results.
    pub fn as_str(self) -> &'static str {
        match self {
            Category::Reducer => "reducer",
            Category::Hook => "hook",
            Category::Security => "security",
            Category::Debug => "debug",
            Category::Design => "design",
            Category::Review => "review",
            Category::Unclear => "unclear",
            Category::MultiFile => "multi_file",
            Category::Integration => "integration",
            Category::Bugfix => "bugfix",
            Category::Tests => "tests",
            Category::Documentation => "documentation",
            Category::Format => "format",
            Category::Types => "types",
            Category::Constants => "constants",
            Category::Refactor => "refactor",
            Category::Component => "component",
            Category::Utility => "utility",
            Category::Implementation => "implementation",
        }
    }
}

impl Kind {
    /// BUG, FEAT or TASK.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Bug => "BUG",
            Kind::Feat => "FEAT",
            Kind::Task => "TASK",
        }
    }
}

impl Tables {
    /// The tables of this program.
    pub fn built_in() -> &'static Tables {
        static TABLES: OnceLock<Tables> = OnceLock::new();
        TABLES.get_or_init(|| match Tables::parse("tables.yaml", BUILT_IN) {
            Ok(tables) => tables,
            // They are part of the program, and a test reads them.
            Err(error) => panic!("{error}"),
        })
    }

    /// A user's tables, which hold in place of the built-in ones.
    pub fn load(file: &Path) -> Result<Tables> {
        let text =
            std::fs::read_to_string(file).map_err(|source| Error::Io { path: file.to_owned(), source })?;
        Tables::parse(&file.display().to_string(), &text)
    }

    /// Reads tables and checks that nothing is missing.
    pub fn parse(label: &str, text: &str) -> Result<Tables> {
        let wrong = |problem: String| Error::Tables { file: label.to_owned(), problem };
        let tables: Tables = serde_saphyr::from_str(text).map_err(|error| {
            wrong(error.to_string().lines().next().unwrap_or("not valid YAML").to_owned())
        })?;
        for category in Category::all() {
            match tables.categories.iter().filter(|rules| rules.name == *category).count() {
                1 => {}
                count => {
                    let name = category.as_str();
                    return Err(wrong(format!(
                        "category `{name}` stands there `{count}` times; write it once"
                    )));
                }
            }
        }
        if let Some(rules) =
            tables.categories.iter().find(|rules| !tables.task_types.contains_key(&rules.task_type))
        {
            let name = rules.name.as_str();
            return Err(wrong(format!(
                "category `{name}` has a type that is not in `task_types`; add it there"
            )));
        }
        if tables.ticket.probe == 0 || !(0.0..=1.0).contains(&tables.ticket.escalations) {
            return Err(wrong("`ticket`: `probe` is from 1 on, `escalations` from 0 to 1".to_owned()));
        }
        Ok(tables)
    }

    /// What holds for a category.
    pub fn category(&self, name: Category) -> &CategoryRules {
        let found = self.categories.iter().find(|rules| rules.name == name);
        // `parse` has seen every category.
        found.unwrap_or(&self.categories[0])
    }

    /// All words for complexity.
    pub fn complexities(&self) -> impl Iterator<Item = &str> {
        self.complexity.values().flatten().map(String::as_str)
    }

    /// What a word for complexity means; None if the tables do not know it.
    pub fn complexity(&self, word: &str) -> Option<Complexity> {
        let word = word.trim().to_lowercase();
        self.complexity.iter().find(|(_, words)| words.contains(&word)).map(|(level, _)| *level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers S0-36, S0-37, S0-40.
    #[test]
    fn task_types_and_phases_have_their_defaults_and_fallbacks() {
        let tables = Tables::built_in();
        let route = |kind: TaskType| {
            let route = &tables.task_types[&kind];
            (route.default.as_str(), route.fallback.as_deref())
        };
        assert_eq!(route(TaskType::AddTestModule), ("local", Some("haiku")));
        assert_eq!(route(TaskType::WriteTestCase), ("local", Some("sonnet")));
        assert_eq!(route(TaskType::ImplementFunction), ("local", Some("sonnet")));
        assert_eq!(route(TaskType::IntegrateIntoHandler), ("local", Some("sonnet")));
        assert_eq!(route(TaskType::RunFormatter), ("local", Some("haiku")));
        assert_eq!(route(TaskType::UpdateDocumentation), ("local", Some("sonnet")));
        assert_eq!(route(TaskType::ValidateImplementation), ("opus", None));
        assert_eq!(route(TaskType::DebugFailures), ("opus", None));
        for phase in ["setup", "red", "green", "refactor"] {
            assert_eq!(tables.phases[phase], Delegable::Local);
        }
        assert_eq!(tables.phases["verify"], Delegable::Cloud);
        for category in [Category::Design, Category::Review, Category::Debug, Category::Unclear] {
            let rules = tables.category(category);
            assert_eq!((rules.atomic, rules.ticket), (Delegable::Cloud, Delegable::Cloud), "{category:?}");
        }
    }

    /// Covers S1-26, S1-35.
    #[test]
    fn categories_are_those_of_the_requirements() {
        let atomic = |category| Tables::built_in().category(category).atomic;
        for local in [Category::Utility, Category::Constants, Category::Types, Category::Tests] {
            assert_eq!(atomic(local), Delegable::Local);
        }
        assert_eq!(atomic(Category::Component), Delegable::Maybe);
        assert_eq!(Tables::built_in().category(Category::Component).most_lines, Some(99));
        for cloud in
            [Category::Reducer, Category::Hook, Category::Integration, Category::MultiFile, Category::Bugfix]
        {
            assert_eq!(atomic(cloud), Delegable::Cloud);
        }
    }

    #[test]
    fn a_users_tables_are_checked() {
        let error = |text: &str| Tables::parse("mine.yaml", text).unwrap_err().to_string();
        assert!(error("atomic: 3").starts_with("policy tables `mine.yaml`: "));
        let without = BUILT_IN.replacen("name: reducer", "name: hook", 1);
        assert!(error(&without).contains("category `reducer` stands there `0` times"), "{}", error(&without));
        assert!(error(&BUILT_IN.replacen("probe: 10", "probe: 0", 1)).contains("`probe` is from 1 on"));
        assert!(
            error(&BUILT_IN.replacen("  plan: { default: opus }\n", "", 1)).contains("not in `task_types`")
        );
        let stricter = Tables::parse("mine.yaml", &BUILT_IN.replacen("lines: 50", "lines: 20", 1)).unwrap();
        assert_eq!(stricter.atomic.lines, 20);
    }
}
