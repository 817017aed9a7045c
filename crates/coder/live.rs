//! Tasks at work, on standard error: a line for each that moves, where a person looks at it; otherwise, for a plan, a
//! plain line when a task begins and when it ends.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coder_tasks::{Event, FailureClass, Plain, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{report, undo};

/// How often a line's spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// The display. Its functions may be called from several threads.
pub(crate) struct Live {
    /// Where a person looks at it.
    bars: Option<Bars>,
    /// Whether this is a plan.
    several: bool,
    tasks: usize,
    state: Mutex<State>,
}

struct Bars {
    all: MultiProgress,
    /// How many of the tasks are over.
    total: ProgressBar,
}

#[derive(Default)]
struct State {
    over: usize,
    /// The lines of the tasks at work, by id.
    rows: HashMap<String, ProgressBar>,
}

impl Live {
    /// For so many tasks.
    pub(crate) fn new(tasks: usize, several: bool) -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            let total = if several { all.add(ProgressBar::new(tasks as u64)) } else { ProgressBar::hidden() };
            total.set_style(style("{pos}/{len} tasks [{bar:30}] {elapsed}").progress_chars("=> "));
            Bars { all, total }
        });
        Self { bars, several, tasks, state: Mutex::default() }
    }

    /// Shows what happens to a task.
    pub(crate) fn observe(&self, id: &str, event: &Event<'_>) {
        match event {
            Event::Begun => self.begun(id),
            Event::Step(Progress::Interrupted(former)) => self.line(&undo::interrupted(former)),
            Event::Step(Progress::NothingKnown) => {
                self.line(
                    "note: nothing that a former run of this plan did is known here; all its tasks are begun",
                );
            }
            Event::Step(Progress::Related(paths)) => {
                self.line(&format!("note: {id}: shown too: {}", paths.join(", ")));
            }
            Event::Step(Progress::LeftOut(count)) => {
                self.line(&format!(
                    "note: {id}: {count} files are not looked at: they are too much together"
                ));
            }
            Event::Step(Progress::WholeFiles(reason)) => {
                self.line(&format!("note: {id}: whole files in place of edits: {}", first_line(reason)));
            }
            Event::Step(Progress::Escalated { from, class, gate, .. }) => {
                self.line(&format!("{from} failed, trying next..."));
                if *class == FailureClass::Quality {
                    self.line(&format!("{} failed on {id} at {gate}. Escalated.", capitalised(from)));
                }
            }
            Event::Step(Progress::Reviewed(review)) if review.approved.is_none() => {
                let problem = first_line(&review.problem);
                self.line(&format!("note: {id}: not reviewed: {problem}"));
            }
            Event::Step(Progress::Failed { reason, .. }) => {
                self.line(&format!("{id}: failed: {}", first_line(reason)));
            }
            Event::Step(step) => self.step(id, step),
            Event::Again(reason) => self.line(&format!("{id}: again, {}", first_line(reason))),
            Event::Ended(finished) => {
                let word = finished.result.outcome.as_str();
                let before = if finished.resumed { ", in a former run" } else { "" };
                let over = self.ended(id);
                for displaced in &finished.result.displaced {
                    self.line(&format!("note: {id}: {}", undo::displaced(displaced)));
                }
                if self.bars.is_none() && self.several {
                    self.line(&format!("{id}: {word}{before} ({over} of {})", self.tasks));
                }
            }
        }
    }

    /// What moves on the screen, for others that move on it.
    pub(crate) fn bars(&self) -> Option<MultiProgress> {
        self.bars.as_ref().map(|bars| bars.all.clone())
    }

    /// Does something that writes to the terminal.
    pub(crate) fn suspended<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.all.suspend(write),
            None => write(),
        }
    }

    /// Takes everything that moves off the screen.
    pub(crate) fn close(&self) {
        if let Some(bars) = &self.bars {
            self.state().rows.drain().for_each(|(_, row)| row.finish_and_clear());
            bars.total.finish_and_clear();
        }
    }

    fn begun(&self, id: &str) {
        let Some(bars) = &self.bars else {
            if self.several {
                self.line(&format!("{id}: begins"));
            }
            return;
        };
        let row = bars.all.add(ProgressBar::new_spinner());
        row.set_style(style("{spinner} {msg}"));
        row.set_message(format!("{id}: begins"));
        row.enable_steady_tick(TICK);
        self.state().rows.insert(id.to_string(), row);
    }

    fn step(&self, id: &str, step: &Progress<'_>) {
        let now = match step {
            Progress::Mechanical => "putting the given code in its place".to_string(),
            Progress::Drafting { rung, attempt } => format!("drafting ({rung}), attempt {attempt}"),
            Progress::Reviewing { rung } => format!("under review by {rung}"),
            Progress::Writing(file) => format!("writing {file}"),
            Progress::Verifying(command) => format!("verifying with `{command}`"),
            _ => return,
        };
        if let Some(row) = self.state().rows.get(id) {
            row.set_message(Plain::default().filter(&format!("{id}: {now}")));
        }
    }

    fn ended(&self, id: &str) -> usize {
        let mut state = self.state();
        state.over += 1;
        let row = state.rows.remove(id);
        if let Some(bars) = &self.bars {
            row.inspect(|row| row.finish_and_clear()).iter().for_each(|row| bars.all.remove(row));
            bars.total.set_position(state.over as u64);
        }
        state.over
    }

    fn line(&self, line: &str) {
        self.suspended(|| eprintln!("{line}"));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// With a capital at the beginning of a sentence.
fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn first_line(text: &str) -> String {
    Plain::default().filter(&report::first(text))
}
