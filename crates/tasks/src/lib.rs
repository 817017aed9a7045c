//! From a task file to a verified edit: task → prompt → draft → edit → verify → retry or stop.
//!
//! [`run_task`] is the loop; the modules are its steps. There is no network, no device and no model
//! here: who drafts is a [`Writer`], given from outside.
#![forbid(unsafe_code)]

pub mod command;
pub mod context;
pub mod edit;
mod error;
pub mod language;
pub mod ledger;
pub mod outline;
pub mod path;
mod plain;
pub mod plan;
pub mod planner;
pub mod policy;
pub mod project;
pub mod prompt;
pub mod related;
pub mod run;
pub mod stages;
pub mod symbols;
pub mod syntax;
pub mod task;
pub mod verify;
pub mod workspace;
pub mod writer;

pub use command::Command;
pub use edit::{EditFormat, Form};
pub use error::Error;
pub use ledger::{Record, Status, TaskResult, Usage};
pub use plain::Plain;
pub use plan::{Conduct, Crew, Event, Finished, Plan, run_plan};
pub use policy::{FailureClass, Outcome, Policy};
pub use project::{Denied, Project};
pub use prompt::{Prompt, PromptMessage, ReplyShape, Role, TemplateKind, Templates};
pub use run::{Progress, Settings, run_task};
pub use stages::{Stage, StageOutcome};
pub use task::Task;
pub use verify::{Sandbox, Verification};
pub use workspace::Workspace;
pub use writer::{DraftOptions, Purpose, Question, Reply, Writer, WriterError, Writers};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
