//! Standard error, for all that is no result. It takes the place of the standard macros in this crate, which panic where
//! standard error cannot be written to: its reader is gone, or the disk that the log is on is full. Nobody is there to
//! be told, and no work is to end for it. Names of files, servers' words and models' replies may stand in what is said, so
//! what only a terminal reads is taken out of it.

macro_rules! eprint {
    ($($said:tt)*) => {{
        let said = coder_tasks::Plain::default().filter(&format!($($said)*));
        // Nobody can be told.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes());
    }};
}

macro_rules! eprintln {
    ($($said:tt)*) => { eprint!("{}\n", format_args!($($said)*)) };
}
