//! Who is asked when the local model cannot do a task: rungs, ladders, prices, budgets and what may leave the machine; the
//! exact bytes of a question; and, with the feature `network`, the way to a server and back. Without it nothing here can
//! open a connection.
//!
//! No model's identity and no price stands in code: `default.toml` and `prices.json` have them, with a date, and files of
//! the user's change them.
#![forbid(unsafe_code)]

mod ask;
mod budget;
pub mod config;
mod cooldown;
mod egress;
mod endpoint;
mod error;
mod fault;
mod import;
mod ladder;
mod nearest;
#[cfg(feature = "network")]
mod network;
mod outgoing;
mod price;
mod rung;
mod secrets;
mod translate;

pub use ask::{Answer, Ask, Effort, End, Said, Speaker, Tokens};
pub use budget::{Budget, Limit, Limits, Refused, Reservation, SpentToday};
pub use config::Config;
pub use cooldown::{Admission, Cooldowns, Rest};
pub use egress::{Address, Clearance, DENIED, Decision, Egress, Policy, Question, Refusal, Rules, Shown};
pub use endpoint::{Dialect, Endpoint, LimitName};
pub use error::{Error, Result};
pub use fault::{Attempt, Failure, Fault, Spent};
pub use import::{Imported, import};
pub use ladder::{FailureClass, Ladders};
#[cfg(feature = "network")]
pub use network::{Client, Options, Passed};
pub use outgoing::Outgoing;
pub use price::{Electricity, Long, Price, Prices, Rates};
pub use rung::{Names, Reach, Rung, RungName};
pub use secrets::{Finding, Scanner};
pub use translate::{Event, Translation};
