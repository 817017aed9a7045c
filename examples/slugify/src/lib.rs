//! Titles as parts of a web address. `slugify.rs` is not written yet: that is the task.

mod slugify;

pub use slugify::slugify;
