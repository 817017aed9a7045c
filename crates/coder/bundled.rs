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
