//! What `coder run` shows and writes down while tasks are at work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coder_tasks::policy::Judgement;
use coder_tasks::{Event, Finished, Plain, Settings, Task};

use crate::failure::Outcome;
use crate::ledger::{Recorder, Recording};
use crate::live::Live;
use crate::output::Output;
use crate::report;
use crate::run::Format;

/// What is known of a task before the first one is begun.
pub(crate) struct Prepared {
    pub(crate) settings: Settings,
    pub(crate) judgement: Judgement,
}

/// What is shown and written down while tasks are at work: progress on standard error, a line for each result on
/// standard output, attempts in the ledger.
pub(crate) struct Screen<'a> {
    pub(crate) live: Arc<Live>,
    format: Format,
    recorder: &'a Recorder,
    prepared: &'a HashMap<&'a str, Prepared>,
    /// The tasks at work, by id.
    recordings: Mutex<HashMap<String, Recording<'a>>>,
    /// The results so far.
    finished: Mutex<Vec<Finished>>,
    /// Where results go, or why they no longer can.
    out: Mutex<Outcome<Output>>,
}

impl<'a> Screen<'a> {
    pub(crate) fn new(
        prepared: &'a HashMap<&'a str, Prepared>,
        several: bool,
        format: Format,
        recorder: &'a Recorder,
    ) -> Self {
        let live = Arc::new(Live::new(prepared.len(), several));
        let (recordings, finished) = (Mutex::default(), Mutex::default());
        let out = Mutex::new(Ok(Output::new()));
        Self { live, format, recorder, prepared, recordings, finished, out }
    }

    /// Something happens to a task, or to none: to what a former run left, where all tasks are ticked.
    pub(crate) fn observe(&self, task: Option<&Task>, event: &Event<'_>) {
        if let Some(task) = task {
            self.record(task, event);
        }
        self.live.observe(task.map_or("", |task| &task.id), event);
        let Event::Ended(finished) = event else { return };
        locked(&self.finished).push((*finished).clone());
        if self.format == Format::Text {
            let mut out = locked(&self.out);
            if let Ok(output) = &mut *out
                && let Err(failure) = self.live.suspended(|| show(output, finished))
            {
                *out = Err(failure);
            }
        }
    }

    fn record(&self, task: &Task, event: &Event<'_>) {
        let mut recordings = locked(&self.recordings);
        match event {
            Event::Begun => {
                let judgement = &self.prepared[task.id.as_str()].judgement;
                recordings.insert(task.id.clone(), self.recorder.begin(task, judgement));
            }
            Event::Step(step) => {
                recordings.get(&task.id).into_iter().for_each(|recording| recording.see(step))
            }
            Event::Again(_) => {}
            Event::Ended(finished) => {
                if let Some(recording) = recordings.remove(&task.id) {
                    recording.finish(finished);
                }
            }
        }
    }

    /// Clears the progress. The results are known here also where the plan could not be gone on with. A reader of them
    /// that went away is an error only now: the tasks went on.
    pub(crate) fn close(self) -> (Vec<Finished>, Outcome) {
        self.live.close();
        let told = self.out.into_inner().unwrap_or_else(PoisonError::into_inner).map(drop);
        (self.finished.into_inner().unwrap_or_else(PoisonError::into_inner), told)
    }
}

/// One line for the result; what the command said last, if the task is not done.
fn show(out: &mut Output, finished: &Finished) -> Outcome {
    out.text(&format!("{}\n", report::line(finished)))?;
    let verification = finished.result.history.last().and_then(|last| last.verification.as_ref());
    if let Some(failed) = verification.filter(|verification| !verification.passed()) {
        let output = Plain::default().filter(&failed.output);
        output.lines().for_each(|line| eprintln!("  {line}"));
    }
    Ok(())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
