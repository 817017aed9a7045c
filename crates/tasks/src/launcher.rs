//! The launcher of sandboxes as a program: for those who use the library and whose own program is not one.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    // A word that is no text cannot be one of the launcher's.
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    coder_tasks::verify::launch(&arguments)
}
