//! The program as its users see it: the real binary, its output, its exit codes.

mod ask;
mod check;
mod config;
mod egress;
mod escalation;
mod forward;
#[cfg(feature = "pull")]
mod hub;
mod interruption;
mod killed_plan;
mod network;
mod plan;
#[cfg(feature = "pull")]
mod pull;
#[cfg(feature = "pull")]
mod pull_faults;
mod quantize;
mod related;
mod run;
mod rungs;
mod sandbox;
mod serve;
mod server;
mod stats;
mod support;
mod text;
mod tools;
mod translate;
mod user;
