//! Hostile commands, under every means of confinement that works here: nothing outside is touched, nothing
//! outlives them, and each ends with its own error.
//!
//! Where a command must do what no usual program does, it is this program itself, as a test that acts
//! only if a variable says so. Whatever it takes is bounded, so a sandbox that fails costs no machine.

mod acts;
mod daily;
mod escape;
mod excess;
mod killed;
mod planted;
mod secrets;
mod support;
