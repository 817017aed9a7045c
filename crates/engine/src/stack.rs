//! Work that recurses as deep as its input says.

/// Stack of the thread that does it; nothing but the part in use is ever backed by memory.
const STACK_BYTES: usize = 512 << 20;

/// Does `work` on a thread of its own, called `name`, with a large stack.
///
/// # Errors
/// What happened to the thread.
pub(crate) fn deep<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work).map_err(|error| format!("its thread: {error}"))?;
        thread.join().map_err(|_| "its thread panicked".to_owned())
    })
}
