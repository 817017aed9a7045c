//! Ctrl-C: the first one stops what is going on, the second one stops the program.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Failure, Outcome};

type Action = Box<dyn Fn() + Send>;

/// What Ctrl-C, SIGTERM or SIGHUP does at the moment.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    action: Option<Action>,
    happened: bool,
}

impl Interrupt {
    /// Takes over the signals; once per process. Until [`during`](Self::during) they end the program with code 130.
    pub(crate) fn install() -> Outcome<Self> {
        let interrupt = Self(Arc::default());
        let handler = interrupt.clone();
        // Under `nohup` a terminal that is closed ends nothing, neither here nor in the commands that are run.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hangup = Some(SIGHUP).filter(|signal| !is_ignored(&status, *signal));
        let mut signals = Signals::new([SIGINT, SIGTERM].into_iter().chain(hangup)).map_err(Failure::new)?;
        let wait = move || signals.forever().for_each(|_| handler.fire());
        thread::Builder::new().name("interrupt".to_owned()).spawn(wait).map_err(Failure::new)?;
        Ok(interrupt)
    }

    /// Until the guard is dropped, the first Ctrl-C does this.
    pub(crate) fn during(&self, action: impl Fn() + Send + 'static) -> During<'_> {
        *self.state() = State { action: Some(Box::new(action)), happened: false };
        During(self)
    }

    fn fire(&self) {
        let mut state = self.state();
        match state.action.take() {
            Some(action) => {
                state.happened = true;
                drop(state);
                action();
            }
            None => std::process::exit(130),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done under this lock, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the program was started with a signal ignored, by `/proc/self/status`, whose masks have signal 1 as bit 0.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// The time in which Ctrl-C does something else than to end the program.
pub(crate) struct During<'a>(&'a Interrupt);

impl During<'_> {
    /// Whether Ctrl-C was pressed since the beginning.
    pub(crate) fn happened(&self) -> bool {
        self.0.state().happened
    }
}

impl Drop for During<'_> {
    fn drop(&mut self) {
        *self.0.state() = State::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn masks_of_ignored_signals_are_read() {
        let status =
            "Name:\tcoder\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000004002\n";
        assert!(is_ignored(status, SIGHUP) && is_ignored(status, 13));
        assert!(!is_ignored(status, SIGINT) && !is_ignored(status, SIGTERM) && !is_ignored("", SIGHUP));
    }

    #[test]
    fn the_first_signal_acts() {
        let interrupt = Interrupt(Arc::default());
        let count = Arc::new(AtomicU32::new(0));
        let seen = count.clone();
        let during = interrupt.during(move || {
            seen.fetch_add(1, Ordering::SeqCst);
        });
        assert!(!during.happened());
        interrupt.fire();
        assert!(during.happened());
        assert_eq!(count.load(Ordering::SeqCst), 1);
        drop(during);
        assert!(interrupt.state().action.is_none());
    }
}
