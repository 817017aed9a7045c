//! What a reviewer is shown: the task, the change as a diff, the new files, and what the command said.

use minijinja::context;
use similar::TextDiff;

use super::{fence, objective, shown, templates};
use crate::Result;
use crate::edit::Change;
use crate::task::Task;
use crate::verify::Verification;
use crate::workspace::Snapshot;

/// Files longer than this are shown by their diff alone.
const WHOLE_BYTES: usize = 64 << 10;

/// Unchanged lines around a change.
const CONTEXT_LINES: usize = 5;

/// The message to a reviewer.
pub(crate) fn review_prompt(
    task: &Task,
    base: &[Snapshot],
    changes: &[Change],
    verification: Option<&Verification>,
) -> Result<String> {
    let diff: String = changes.iter().map(|change| unified(base, change)).collect();
    let diff = diff.trim_end_matches('\n');
    let output = verification.map_or("", |verification| verification.output.trim_end_matches('\n'));
    let whole = |change: &Change| {
        let content = change.content.as_ref().filter(|content| content.len() <= WHOLE_BYTES)?;
        Some(shown(&change.path, &change.path, content))
    };
    templates::render_review(context! {
        task_id => &task.id,
        description => objective(task),
        constraints => &task.constraints,
        diff => context! { text => diff, fence => fence(3, [diff]) },
        files => changes.iter().filter_map(whole).collect::<Vec<_>>(),
        command => task.command.as_ref().map_or("", |command| command.line.as_str()),
        output => context! { text => output, fence => fence(3, [output]) },
    })
}

/// A change as a diff.
pub(crate) fn unified(base: &[Snapshot], change: &Change) -> String {
    let old = base.iter().find(|snapshot| snapshot.path == change.path).and_then(Snapshot::text);
    let new = change.content.as_deref().unwrap_or("");
    let name = |side: &str, is_there: bool| match is_there {
        true => format!("{side}/{}", change.path),
        false => "/dev/null".to_owned(),
    };
    let diff = TextDiff::from_lines(old.unwrap_or(""), new);
    let names = (name("a", old.is_some()), name("b", change.content.is_some()));
    diff.unified_diff().context_radius(CONTEXT_LINES).header(&names.0, &names.1).to_string()
}
