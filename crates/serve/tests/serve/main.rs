//! The server over a real socket, with the bundled model.

mod admin;
mod anthropic;
mod claude;
mod elsewhere;
mod embeddings;
mod fifty;
mod fuzz;
mod openai;
mod openapi;
mod page;
mod pool;
mod responses;
mod support;
mod tools;
mod trouble;
