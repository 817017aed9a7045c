//! Which steps are recorded, and whether a step is what was recorded.
//!
//! A step's operations are called in every step, also in those that are replayed: their checks run, rows in use are
//! noted, and a print of every operation and its operands is compared with the recorded one. Only the launch is
//! left out. So what is replayed can never be another model, another buffer or another shape.

use super::device::Graph;
use super::{RECORDED_ROWS, inputs::Key};
use std::hash::{Hash, Hasher};

/// Steps that are remembered; the one not used for longest makes room.
const KEPT: usize = 48;

/// What became of a kind of step the last time.
#[derive(Debug)]
struct Known {
    key: Key,
    print: u64,
    /// `None` if its operations have run once, and are to be captured the next time.
    graph: Option<Graph>,
}

/// What is to be done with a step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Todo {
    /// Launch its operations: nothing is known of it. Kernels are loaded by their first use, which a capture
    /// does not allow.
    Launch,
    /// Launch them into a capture.
    Capture,
    /// Only compare them with what was captured.
    Compare,
}

/// The steps that were recorded, most recently used last.
#[derive(Debug)]
pub(super) struct Recorder {
    enabled: bool,
    known: Vec<Known>,
    comparing: bool,
    print: Print,
}

impl Recorder {
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled, known: Vec::new(), comparing: false, print: Print::default() }
    }

    /// Whether a step of `rows` rows is to be recorded.
    pub(super) fn records(&self, rows: usize) -> bool {
        self.enabled && (1..=RECORDED_ROWS).contains(&rows)
    }

    /// Before the operations of a step.
    pub(super) fn begin(&mut self, key: Key) -> Todo {
        self.print = Print::default();
        let Some(place) = self.known.iter().position(|k| k.key == key) else { return Todo::Launch };
        let known = self.known.remove(place);
        self.comparing = known.graph.is_some();
        self.known.push(known);
        if self.comparing { Todo::Compare } else { Todo::Capture }
    }

    /// An operation of the step; gives whether to launch it.
    pub(super) fn meets<T: Hash>(&mut self, name: &'static str, operands: T) -> bool {
        if self.enabled {
            (name, operands).hash(&mut self.print);
        }
        !self.comparing
    }

    /// After operations that were only compared: the graph that does the same, if it does.
    pub(super) fn same(&mut self) -> Option<&Graph> {
        self.comparing = false;
        let print = self.print.0;
        if self.known.last().is_some_and(|k| k.print != print) {
            self.known.pop();
            return None;
        }
        self.known.last()?.graph.as_ref()
    }

    /// Forgets the step that `begin` was told of, whose operations failed.
    pub(super) fn failed(&mut self, key: Key) {
        self.comparing = false;
        self.known.retain(|k| k.key != key);
    }

    /// After operations that were launched, into `graph` if they were captured.
    pub(super) fn remember(&mut self, key: Key, graph: Option<Graph>) {
        self.known.retain(|k| k.key != key);
        if self.known.len() == KEPT {
            self.known.remove(0);
        }
        self.known.push(Known { key, print: self.print.0, graph });
    }
}

/// A hash of operations and operands (FNV-1a over words): quick, and equal only for what is equal for all
/// that happens by accident.
#[derive(Debug)]
struct Print(u64);

impl Default for Print {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Print {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for bytes in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }

    fn write_i32(&mut self, word: i32) {
        self.write_u64(u64::from(word as u32));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}
