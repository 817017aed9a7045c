//! A server with one queue.

pub mod routes;
