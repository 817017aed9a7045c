//! The program as its users see it: the real binary, its output, its exit codes.

mod ask;
mod check;
mod config;
mod escalation;
mod interruption;
mod killed_plan;
mod network;
mod plan;
mod quantize;
mod run;
mod sandbox;
<<<<<<< HEAD
mod server;
=======
mod serve;
>>>>>>> 98bc131 (Serve: the APIs of OpenAI and Anthropic over local models, safe by default; coder serve)
mod stats;
mod support;
mod text;
mod tools;
