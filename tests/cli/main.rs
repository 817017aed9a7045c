//! The program as its users see it: the real binary, its output, its exit codes.

mod ask;
mod check;
mod config;
mod egress;
mod escalation;
mod interruption;
mod killed_plan;
mod network;
mod plan;
mod quantize;
mod run;
mod sandbox;
mod serve;
mod server;
mod stats;
mod support;
mod text;
mod tools;
mod user;
