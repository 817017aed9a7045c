//! The bundled model.

/// The bundled model's name.
pub(crate) const NAME: &str = "coder-tiny";

/// The bundled model is part of the program, so that it is there in every directory and nothing is written to disk.
/// Tensors in GGUF files start at multiples of 32 bytes; the alignment keeps that true in memory.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);
static BUNDLED: &Aligned<[u8]> = &Aligned(*include_bytes!("../../models/coder-tiny.gguf"));

/// The bundled model, a GGUF file.
pub(crate) fn bytes() -> &'static [u8] {
    &BUNDLED.0
}

/// Says on standard error that the bundled model answers, where nobody named it: what it says to a question is
/// nonsense, and a fresh machine has no other.
pub(crate) fn note(given: Option<&str>, name: &str) {
    if given != Some(NAME) && name == NAME {
        eprintln!(
            "note: {NAME} answers, the small bundled model, which writes one family of files and knows nothing else; get a \
             real one with `coder pull qwen2.5-coder:7b`, and name it with --model"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_model_is_a_gguf_file() {
        assert_eq!(&bytes()[..4], b"GGUF");
        assert_eq!(bytes().as_ptr() as usize % 64, 0);
        assert!(bytes().len() <= 16 << 20);
    }
}
