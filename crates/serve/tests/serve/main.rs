//! The server over a real socket, with the bundled model.

mod admin;
mod anthropic;
mod claude;
mod embeddings;
mod fuzz;
mod openai;
mod pool;
mod responses;
mod support;
mod tools;
mod trouble;
