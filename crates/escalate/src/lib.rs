//! Who is asked when the local model cannot do a task: so far the names and the order, as data.
//!
//! No model's identity and no price stands here; rungs are resolved to models by a table of the user's.
#![forbid(unsafe_code)]

mod error;
mod ladder;

pub use error::{Error, Result};
pub use ladder::{FailureClass, Ladders, Rung};
