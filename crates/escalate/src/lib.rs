//! Who is asked when the local model cannot do a task: so far the names, the order and the prices, as data.
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
mod outgoing;
mod price;

pub use ask::{Answer, Ask, Effort, End, Said, Speaker, Tokens};
pub use cooldown::{Admission, Cooldowns, Rest};
pub use endpoint::{Dialect, Endpoint, LimitName};
pub use error::{Error, Result};
pub use fault::{Attempt, Failure, Fault, Spent};
pub use ladder::{FailureClass, Ladders, Rung};
pub use outgoing::Outgoing;
pub use price::{Electricity, LongPrice, Price, Prices};
