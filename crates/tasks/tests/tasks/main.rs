//! The crate from outside: the loop, hostile paths and texts, several files, crashes, and the grammar of replies.

mod attempts;
mod checks;
mod classifier;
mod crash;
mod edits;
mod escalation;
mod hostile;
mod judged;
mod ledger;
mod paths;
mod reply;
mod scripted;
mod several;
mod statistics;
mod undo;
