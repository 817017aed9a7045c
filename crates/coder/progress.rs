//! Progress on standard error, when a person looks at it and it takes long enough to be worth it.

use std::time::{Duration, Instant};

use coder_engine::{Engine, ModelInfo, Options};
use indicatif::{ProgressBar, ProgressStyle};

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
        Self { what, bytes, since: Instant::now(), bar: None }
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
            ProgressBar::new(total).with_style(style.progress_chars("=> ")).with_message(self.what.clone())
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
        }
    }
}

/// Opens a model with a bar.
pub(crate) fn open(options: &Options, name: &str) -> Outcome<Engine> {
    let mut progress = Progress::bytes(format!("loading {name}"));
    let engine = Engine::open_with(options, |load| progress.at(load.done_bytes, load.total_bytes))?;
    drop(progress);
    tell(engine.info());
    Ok(engine)
}

/// Says where a model runs, if that is not what one would expect.
pub(crate) fn tell(info: &ModelInfo) {
    if let Some(notice) = &info.notice {
        eprintln!("{notice}");
    }
}
