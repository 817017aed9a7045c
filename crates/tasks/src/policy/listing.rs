//! The list of a decomposition (S1-27): what a local model does, and what it does not.

use super::judge::{Judgement, Route};
use super::tables::Category;
use crate::task::{Phase, Task};

/// Both lists, numbered through, with ids, paths, purposes and sizes.
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
    format!("{}: `{}` {} [{}]", task.id, task.file, purpose(task), size(task, judgement))
}

/// What it is for: its title, or the first line of its description.
fn purpose(task: &Task) -> &str {
    let words = task.title.as_deref().unwrap_or(&task.description);
    words.trim().lines().next().unwrap_or("").trim()
}

fn size(task: &Task, judgement: &Judgement) -> String {
    let category = judgement.classification.category;
    if category == Category::Review || task.phase == Some(Phase::Verify) {
        "verification".to_owned()
    } else if judgement.estimate.files > 1 {
        "multi-file".to_owned()
    } else {
        format!("~{} lines", judgement.estimate.lines.value)
    }
}
