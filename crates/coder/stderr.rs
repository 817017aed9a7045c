//! Standard error, for all that is no result. It takes the place of the standard macros in this crate, which panic where
//! standard error cannot be written to: its reader is gone, or the disk that the log is on is full. Nobody is there to
//! be told, and no work is to end for it.

macro_rules! eprint {
    ($($said:tt)*) => {{
        // Nobody can be told.
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!($($said)*));
    }};
}

macro_rules! eprintln {
    ($($said:tt)*) => { eprint!("{}\n", format_args!($($said)*)) };
}
