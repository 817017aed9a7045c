//! Plans in repositories: worktrees, commits, what the user's checkout keeps, hostile repositories, resuming.

mod hostile;
mod repository;
mod resume;
mod worktrees;
