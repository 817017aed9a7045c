//! Local models behind HTTP, in the dialects of OpenAI and Anthropic.
//!
//! [`Server::router`] is an axum router that can be mounted in another; [`serve`] serves it on a listener, with the times
//! and limits that a server needs among hostile clients. No tasks, no files, no connections of its own.
//!
//! What is where: `server` has the state, the limits and the paths; `access`, `body` and `listen` keep bad requests and slow
//! clients away; `models` opens and closes engines; `ask` is a request and `answer` an answer in no dialect, `openai`,
//! `responses` and `anthropic` say them in theirs, `dialect` errors; `stream` sends events; `elsewhere` is the way out, for
//! whoever has one; `admin` and `metrics` are for those who run it, `page` and `board` for those who look at it.
#![forbid(unsafe_code)]

mod access;
mod admin;
mod answer;
mod anthropic;
mod ask;
mod board;
mod body;
mod dialect;
mod elsewhere;
mod error;
mod listen;
mod metrics;
mod models;
mod openai;
mod page;
mod responses;
mod server;
mod stream;
mod thinking;
mod tools;

pub use access::Access;
pub use board::{Day, Prices, Tasks, Tier};
pub use dialect::Dialect;
pub use elsewhere::{Asked, Choice, Client, Elsewhere, Lack};
pub use error::{Error, Result};
pub use listen::serve;
pub use models::{Keep, Model, Models};
pub use server::{Limits, Server};
