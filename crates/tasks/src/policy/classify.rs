//! From a task's words to what it is: category, kind and type. Pure and deterministic; no model is asked.
//!
//! Each category has patterns with weights (`tables.yaml`); the highest sum wins. A pattern found only after the first
//! sentence weighs half, since there a task says how, and in the first one what.

use serde::Serialize;

use super::cue::{Words, like};
use super::tables::{Category, CategoryRules, Cues, Kind, Tables, TaskType};

/// What a task is, and by what that was decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Classification {
    /// What it is about.
    pub category: Category,
    /// BUG, FEAT or TASK.
    pub kind: Kind,
    /// Its row in the table of types.
    pub task_type: TaskType,
    /// The sum of the cues' weights.
    pub score: i32,
    /// The category that came second, and its sum.
    pub runner_up: (Category, i32),
    /// The patterns that were found for the category.
    pub cues: Vec<FoundCue>,
    /// The pattern by which the task is a large one, whatever its category.
    pub large: Option<String>,
    /// What says that the code keeps a state.
    pub state: Option<String>,
    /// Whether it names React's hooks or one of its own.
    pub hooks: bool,
    /// Lines of code, if the text says how many.
    pub stated_lines: Option<usize>,
}

/// A pattern that was found, and what it weighs here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundCue {
    /// As the tables write it; a pattern over a path begins with "path ".
    pub pattern: String,
    /// Its weight; twice that of the tables where it stands in the first sentence or is a path's.
    pub weight: i32,
}

/// Weights are doubled, so that half of one is whole.
const WHOLE: i32 = 2;

/// A kind's own weight, against that of words that speak for another.
const OWN_KIND: i32 = 3 * WHOLE;

/// From this sum on, a task is large.
const LARGE: i32 = 3;

/// Classifies a description and the files that the task writes, as far as they are known.
pub fn classify(tables: &Tables, description: &str, files: &[&str]) -> Classification {
    let words = Words::of(description);
    let mut best: Option<(&CategoryRules, i32, Vec<FoundCue>)> = None;
    let mut second = (Category::Implementation, i32::MIN);
    for rules in &tables.categories {
        let (score, cues) = score(rules, &words, files);
        match &best {
            Some((_, most, _)) if score <= *most => {
                if score > second.1 {
                    second = (rules.name, score);
                }
            }
            _ => {
                if let Some((rules, most, _)) = best {
                    second = (rules.name, most);
                }
                best = Some((rules, score, cues));
            }
        }
    }
    let (rules, score, cues) = best.unwrap_or((&tables.categories[0], 0, Vec::new()));
    made(tables, rules, score, cues, second, &words, description)
}

/// The rest of what the words say, once the category is known or given.
fn made(
    tables: &Tables,
    rules: &CategoryRules,
    score: i32,
    cues: Vec<FoundCue>,
    runner_up: (Category, i32),
    words: &Words,
    description: &str,
) -> Classification {
    let large = found(&tables.large, words);
    let large_sum: i32 = large.iter().map(|cue| cue.weight).sum();
    Classification {
        category: rules.name,
        kind: kind(tables, rules, words),
        task_type: task_type(rules, words),
        score,
        runner_up,
        cues,
        large: (large_sum >= LARGE).then(|| joined(&large)),
        state: Some(joined(&found(&tables.state, words))).filter(|state| !state.is_empty()),
        hooks: ["<builtin-hook>", "<hook>"].iter().any(|mark| has(words, mark)),
        stated_lines: stated_lines(description),
    }
}

impl Classification {
    /// The same task in a category that the task itself names.
    pub fn with_category(mut self, tables: &Tables, category: Category, description: &str) -> Classification {
        let rules = tables.category(category);
        let words = Words::of(description);
        self.category = category;
        self.kind = kind(tables, rules, &words);
        self.task_type = task_type(rules, &words);
        self
    }
}

fn score(rules: &CategoryRules, words: &Words, files: &[&str]) -> (i32, Vec<FoundCue>) {
    let mut cues = weighed(&rules.cues, words);
    for (pattern, weight) in &rules.paths {
        // "*/tests/*" shall also find "tests/a.py".
        let fits = |file: &&str| {
            let file = file.to_lowercase();
            like(pattern.as_bytes(), file.as_bytes())
                || like(pattern.as_bytes(), format!("/{file}").as_bytes())
        };
        if files.iter().any(fits) {
            cues.push(FoundCue { pattern: format!("path {pattern}"), weight: weight * WHOLE });
        }
    }
    if rules.name == Category::Hook && files.iter().any(|file| is_hook_file(file)) {
        cues.push(FoundCue { pattern: "path <hook>".to_owned(), weight: 8 * WHOLE });
    }
    (cues.iter().map(|cue| cue.weight).sum(), cues)
}

/// Whether a file is named like a hook: useTheme.js.
fn is_hook_file(file: &str) -> bool {
    let name = crate::path::split(file).1;
    name.strip_prefix("use").is_some_and(|rest| rest.starts_with(char::is_uppercase))
}

fn weighed(cues: &Cues, words: &Words) -> Vec<FoundCue> {
    let found = cues.iter().filter_map(|(cue, weight)| {
        let weight = if cue.found(words)? { weight * WHOLE } else { *weight };
        Some(FoundCue { pattern: cue.text.clone(), weight })
    });
    found.collect()
}

/// Patterns that were found anywhere, with the weights of the tables.
fn found(cues: &Cues, words: &Words) -> Vec<FoundCue> {
    let found = cues.iter().filter(|(cue, _)| cue.found(words).is_some());
    found.map(|(cue, weight)| FoundCue { pattern: cue.text.clone(), weight: *weight }).collect()
}

fn joined(cues: &[FoundCue]) -> String {
    cues.iter().map(|cue| cue.pattern.as_str()).collect::<Vec<_>>().join(", ")
}

fn has(words: &Words, pattern: &str) -> bool {
    super::cue::Cue::from(pattern.to_owned()).found(words).is_some()
}

fn kind(tables: &Tables, rules: &CategoryRules, words: &Words) -> Kind {
    let sum = |kind: Kind| -> i32 {
        let own = if rules.kind == kind { OWN_KIND } else { 0 };
        let cues = tables.kinds.get(&kind).map(|cues| weighed(cues, words)).unwrap_or_default();
        own + cues.iter().map(|cue| cue.weight).sum::<i32>()
    };
    // Words may change the kind only of categories that have no kind of their own.
    if !matches!(rules.name, Category::Security | Category::MultiFile) {
        return rules.kind;
    }
    let mut best = rules.kind;
    for kind in [Kind::Bug, Kind::Feat, Kind::Task] {
        if sum(kind) > sum(best) {
            best = kind;
        }
    }
    best
}

/// The category's type; of tests, a single one is a test case and several are a module (S0-40).
fn task_type(rules: &CategoryRules, words: &Words) -> TaskType {
    let single = ["a|one|the|another|failing|regression test", "test case"];
    match rules.task_type {
        TaskType::AddTestModule
            if single.iter().any(|cue| has(words, cue)) && !has(words, "test module|file|suite") =>
        {
            TaskType::WriteTestCase
        }
        task_type => task_type,
    }
}

/// The number in "~30 lines", "(approx. 1200 lines)", "around 400 lines" or "at most 20 lines". A number without such a
/// word is about something else: "lines longer than 100 characters", "the 80-line function".
fn stated_lines(text: &str) -> Option<usize> {
    const ABOUT: [&str; 9] =
        ["about", "around", "approx", "approximately", "roughly", "most", "under", "circa", "estimated"];
    let texts: Vec<String> = Words::of(text).texts().map(str::to_owned).collect();
    let at = texts.windows(2).position(|pair| {
        matches!(pair[1].as_str(), "lines" | "loc")
            && pair[0].parse::<usize>().is_ok()
            && text.match_indices(&pair[0]).any(|(place, _)| {
                let before = text[..place].trim_end();
                let word =
                    before.trim_end_matches('.').rsplit(|c: char| !c.is_alphabetic()).next().unwrap_or("");
                before.ends_with(['~', '[', '(', '<', '≤', '≈'])
                    || ABOUT.contains(&word.to_lowercase().as_str())
            })
    })?;
    texts[at].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn category(text: &str, files: &[&str]) -> Category {
        classify(Tables::built_in(), text, files).category
    }

    /// Covers S2-18.
    #[test]
    fn a_login_button_is_a_feature() {
        assert_eq!(classify(Tables::built_in(), "Add login button", &[]).kind, Kind::Feat);
        assert_eq!(classify(Tables::built_in(), "Fix crash on empty input", &[]).kind, Kind::Bug);
        assert_eq!(classify(Tables::built_in(), "Update the README", &[]).kind, Kind::Task);
    }

    #[test]
    fn files_speak_as_well() {
        assert_eq!(category("Handle REMOVE_ITEM", &["src/store/cartReducer.js"]), Category::Reducer);
        assert_eq!(category("Toggle between light and dark", &["src/useTheme.js"]), Category::Hook);
        assert_eq!(category("Negative values", &["tests/test_duration.py"]), Category::Tests);
    }

    #[test]
    fn lines_are_taken_from_the_text_only_where_they_are_an_estimate() {
        let lines = |text| stated_lines(text);
        assert_eq!(lines("Create `a.js` (colors) [~30 lines]"), Some(30));
        assert_eq!(lines("a virtual machine (approx. 1200 lines)"), Some(1200));
        assert_eq!(lines("sorting, around 400 lines"), Some(400));
        assert_eq!(lines("at most 20 lines"), Some(20));
        assert_eq!(lines("lines longer than 100 characters"), None);
        assert_eq!(lines("keep the last 100 lines of the log"), None);
        assert_eq!(lines("the 80-line function"), None);
        assert_eq!(lines("99999999999999999999999 lines, ~ 3 lines"), Some(3));
    }

    #[test]
    fn the_same_text_has_the_same_classification_and_any_text_has_one() {
        for text in ["", "?", "ü", "....", "T-1:", "a".repeat(100_000).as_str(), "let", "`", "use(", "#12"] {
            let one = classify(Tables::built_in(), text, &[]);
            assert_eq!(one, classify(Tables::built_in(), text, &[]));
        }
    }
}
