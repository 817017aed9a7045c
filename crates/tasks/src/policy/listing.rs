//! The list of a decomposition (S1-27): what a local model does, and what it does not.

use super::judge::{Judgement, Route, one_line};
use super::tables::Category;
use crate::task::{Phase, Task};

/// Both lists, numbered through, with ids, paths, purposes and sizes, and why a task is not for a local model if it says so.
pub fn listing(judged: &[(Task, Judgement)]) -> String {
    let mut number = 0;
    let mut text = String::new();
    for (heading, route) in [("Delegable to Local Model", Route::Local), ("Requires Claude", Route::Cloud)] {
        text += &format!("### {heading}\n");
        let some = judged.iter().filter(|(_, judgement)| judgement.route == route);
        let lines: Vec<String> = some
            .map(|(task, judgement)| {
                number += 1;
                format!("{number}. {}\n", line(task, judgement))
            })
            .collect();
        text += &if lines.is_empty() { "(none)\n".to_owned() } else { lines.concat() };
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

fn line(task: &Task, judgement: &Judgement) -> String {
    let reason = task.reason.as_deref().filter(|_| judgement.route == Route::Cloud);
    let reason = reason.map_or(String::new(), |reason| format!(": {}", one_line(reason)));
    let file = if task.is_check() { String::new() } else { format!("`{}` ", task.file) };
    format!("{}: {file}{} [{}]{reason}", task.id, purpose(task), size(task, judgement))
}

/// What it is for: its title, or the first line of its description, without a size in brackets, which follows anyway.
fn purpose(task: &Task) -> &str {
    let words = task.title.as_deref().unwrap_or(&task.description);
    let line = words.trim().lines().next().unwrap_or("").trim();
    match line.rsplit_once('[') {
        Some((before, _)) if line.ends_with(']') => before.trim_end(),
        _ => line,
    }
}

fn size(task: &Task, judgement: &Judgement) -> String {
    let category = judgement.classification.category;
    if category == Category::Review || task.is_check() || task.phase == Some(Phase::Verify) {
        "verification".to_owned()
    } else if judgement.estimate.files > 1 {
        "multi-file".to_owned()
    } else {
        format!("~{} lines", judgement.estimate.lines.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Surroundings, Tables, judge};

    /// Covers S1-27, S1-29.
    #[test]
    fn a_decomposition_has_two_lists() {
        let task = |id: &str, file: &str, words: &str| {
            let spec = serde_json::json!({
                "task_id": id, "description": words, "output_file": file, "test_command": "npm test",
            });
            let task = Task::parse("t.json", &spec.to_string()).unwrap();
            let judgement = judge(&task, &Surroundings::default(), Tables::built_in());
            (task, judgement)
        };
        let judged = [
            task("T-001", "src/constants/themeConstants.js", "Theme constants: colors, spacing [~30 lines]"),
            task(
                "T-005",
                "src/hooks/useTheme.js",
                "Create `useTheme` hook (uses context, localStorage) [~60 lines]",
            ),
            task(
                "T-002",
                "src/utils/themeUtils.js",
                "Helper functions: toggle, detect system preference [~40 lines]",
            ),
            task("T-006", "src/App.jsx", "Use the theme on every page of the whole app"),
            task("T-007", "src/App.jsx", "Review and test full integration"),
        ];
        assert_eq!(
            listing(&judged),
            "### Delegable to Local Model\n\
             1. T-001: `src/constants/themeConstants.js` Theme constants: colors, spacing [~30 lines]\n\
             2. T-002: `src/utils/themeUtils.js` Helper functions: toggle, detect system preference [~40 lines]\n\n\
             ### Requires Claude\n\
             3. T-005: `src/hooks/useTheme.js` Create `useTheme` hook (uses context, localStorage) [~60 lines]\n\
             4. T-006: `src/App.jsx` Use the theme on every page of the whole app [multi-file]\n\
             5. T-007: `src/App.jsx` Review and test full integration [verification]"
        );
        assert!(listing(&[]).contains("### Requires Claude\n(none)"));
    }
}
