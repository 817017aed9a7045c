//! How far a download is: a bar for people, and a line where something goes other than it should.

use std::io::IsTerminal;
use std::time::Duration;

use coder_hub::Event;
use indicatif::{ProgressBar, ProgressStyle};

const TEMPLATE: &str = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta}";

/// The files of one model.
pub(super) struct Download {
    bar: ProgressBar,
    name: String,
    files: usize,
    file: usize,
    /// Bytes of the files before this one, and of this one.
    before: u64,
    length: u64,
    /// Bytes of it that were there, from which on the speed is measured.
    began: Option<u64>,
}

impl Download {
    /// indicatif draws on standard error, and only if that is a terminal.
    pub(super) fn new(name: &str, total: u64, files: usize) -> Self {
        let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar =
            ProgressBar::new(total).with_style(style.progress_chars("=> ")).with_message(name.to_owned());
        if std::io::stderr().is_terminal() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, name: name.to_owned(), files, file: 0, before: 0, length: 0, began: None }
    }

    pub(super) fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Begins(_, bytes) => {
                self.file += 1;
                self.before += std::mem::replace(&mut self.length, bytes);
                self.began = None;
                let part =
                    if self.files > 1 { format!(" {}/{}", self.file, self.files) } else { String::new() };
                self.bar.set_message(format!("{}{part}", self.name));
                self.bar.set_position(self.before);
            }
            Event::Reads(bytes) => self.bar.set_position(self.before + bytes),
            Event::Has(bytes) => {
                if self.began.replace(bytes).is_none() {
                    // What was there is not counted into the speed.
                    self.bar.reset_eta();
                }
                self.bar.set_position(self.before + bytes);
            }
            Event::Waits(_) => self.say("another program is fetching it; waiting"),
            Event::Again(error) => self.say(&format!("{error}; trying again")),
        }
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{}: {line}", self.name));
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
