//! What can be asked of the server.

pub mod message_queue;
