//! The alphabet of byte-level vocabularies: one printable character for each byte.
//!
//! As in GPT-2: the printable characters of Latin-1 stand for themselves, the characters from U+0100 on for the 68
//! other bytes in order.

/// The alphabet.
pub(super) struct Alphabet {
    /// The bytes of U+0100, U+0101, …
    others: Vec<u8>,
}

impl Alphabet {
    pub(super) fn new() -> Self {
        Self { others: (0..=255).filter(|&byte| !stands_for_itself(byte)).collect() }
    }

    /// The bytes of a token's name; `None` when a character is not of the alphabet.
    pub(super) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let byte = |c: char| match u8::try_from(c) {
            Ok(byte) => Some(byte).filter(|&byte| stands_for_itself(byte)),
            Err(_) => self.others.get(u32::from(c) as usize - 0x100).copied(),
        };
        name.chars().map(byte).collect()
    }

    /// Every byte with its character.
    pub(super) fn characters(&self) -> impl Iterator<Item = (u8, char)> + '_ {
        let others = self.others.iter().copied().zip('\u{100}'..);
        (0..=255).filter(|&byte| stands_for_itself(byte)).map(|byte| (byte, char::from(byte))).chain(others)
    }
}

fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}
