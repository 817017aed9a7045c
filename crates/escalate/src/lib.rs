//! Who is asked when the local model cannot do a task: the names, the order and the prices, as data; the exact bytes
//! of a question; and, with the feature `network`, the way to a server and back. Without it nothing here can open a
//! connection.
//!
//! No model's identity and no price stands in code: `prices.json` has them, with a date, and a file of the user's
//! changes them.
#![forbid(unsafe_code)]

mod ask;
mod cooldown;
mod endpoint;
mod error;
mod fault;
mod ladder;
#[cfg(feature = "network")]
mod network;
mod outgoing;
mod price;

pub use ask::{Answer, Ask, Effort, End, Said, Speaker, Tokens};
pub use cooldown::{Admission, Cooldowns, Rest};
pub use endpoint::{Dialect, Endpoint, LimitName};
pub use error::{Error, Result};
pub use fault::{Attempt, Failure, Fault, Spent};
pub use ladder::{FailureClass, Ladders, Rung};
#[cfg(feature = "network")]
pub use network::{Client, Options};
pub use outgoing::Outgoing;
pub use price::{Electricity, LongPrice, Price, Prices};
