//! A small package to run tasks on: `coder run examples/tasks --working-dir examples/tasks`.

pub mod greeting;
