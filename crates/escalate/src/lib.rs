//! Who is asked when the local model cannot do a task: so far the names, the order and the prices, as data.
//!
//! No model's identity and no price stands in code: `prices.json` has them, with a date, and a file of the user's
//! changes them.
#![forbid(unsafe_code)]

mod ask;
mod endpoint;
mod error;
mod ladder;
mod price;

pub use ask::{Answer, Ask, Effort, End, Said, Speaker, Tokens};
pub use endpoint::{Dialect, Endpoint};
pub use error::{Error, Result};
pub use ladder::{FailureClass, Ladders, Rung};
pub use price::{Electricity, LongPrice, Price, Prices};
