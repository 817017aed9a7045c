//! Progress on standard error, when a person looks at it and it takes long enough to be worth it.

use std::time::{Duration, Instant};

use coder_engine::{Engine, ModelInfo, Options};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::failure::Outcome;

/// Quicker things show nothing: a bar that only flashes is noise.
const PATIENCE: Duration = Duration::from_millis(400);

/// One bar, drawn only after a while; it vanishes when dropped. indicatif draws on standard error, and only if that
/// is a terminal.
pub(crate) struct Progress {
    what: String,
    bytes: bool,
    since: Instant,
    bar: Option<ProgressBar>,
    /// The bars beside which it stands: two that know nothing of each other write over each other's lines.
    beside: Option<MultiProgress>,
}

impl Progress {
    /// Counts bytes.
    pub(crate) fn bytes(what: impl Into<String>) -> Self {
        Self::new(what.into(), true)
    }

    /// Counts anything else.
    pub(crate) fn count(what: impl Into<String>) -> Self {
        Self::new(what.into(), false)
    }

    fn new(what: String, bytes: bool) -> Self {
        Self { what, bytes, since: Instant::now(), bar: None, beside: None }
    }

    /// So far, out of.
    pub(crate) fn at(&mut self, done: u64, total: u64) {
        if self.since.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let template = if self.bytes {
                "{msg} [{bar:30}] {bytes}/{total_bytes}"
            } else {
                "{msg} [{bar:30}] {pos}/{len}"
            };
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(total);
            let bar = self.beside.as_ref().map_or(bar.clone(), |beside| beside.add(bar));
            bar.with_style(style.progress_chars("=> ")).with_message(self.what.clone())
        });
        bar.set_length(total);
        bar.set_position(done);
    }

    /// Another thing begins, in the same place.
    pub(crate) fn message(&mut self, what: impl Into<String>) {
        self.what = what.into();
        if let Some(bar) = &self.bar {
            bar.set_message(self.what.clone());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            self.beside.iter().for_each(|beside| beside.remove(bar));
        }
    }
}

/// Opens a model with a bar.
pub(crate) fn open(options: &Options, name: &str) -> Outcome<Engine> {
    open_beside(options, name, None)
}

/// The same while other bars are shown.
pub(crate) fn open_beside(options: &Options, name: &str, beside: Option<&MultiProgress>) -> Outcome<Engine> {
    let mut progress = Progress::bytes(format!("loading {name}"));
    progress.beside = beside.cloned();
    let engine = Engine::open_with(options, |load| progress.at(load.done_bytes, load.total_bytes))?;
    drop(progress);
    match beside {
        Some(beside) => beside.suspend(|| tell(engine.info())),
        None => tell(engine.info()),
    }
    Ok(engine)
}

/// Says where a model runs, if that is not what one would expect.
pub(crate) fn tell(info: &ModelInfo) {
    if let Some(notice) = &info.notice {
        eprintln!("{notice}");
    }
}
