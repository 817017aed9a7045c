//! The text that takes the place of lines: any lines but delimiters, as UTF-8 without control characters.

/// The characters of delimiters, and of conflict markers, that a line may begin with many of.
const RUNS: [u8; 4] = *b"<=>|";

/// The length of the markers that merges leave, and that are refused as the result of an edit.
const CONFLICT: u8 = 7;

/// Where in a line the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Line {
    /// Before its first byte.
    Start,
    /// It consists of so many of this character.
    Run { byte: u8, count: u8 },
    /// Anywhere else.
    Middle,
    /// Within a character.
    Within(Tail),
}

/// What must follow the bytes of a character that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Tail {
    /// One byte in this range.
    Last(u8, u8),
    /// One byte in this range, then one of any kind.
    Second(u8, u8),
    /// One byte in this range, then two of any kind.
    First(u8, u8),
}

/// The rules for lines, given the length of the delimiters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) marker: u8,
}

impl Rules {
    /// Whether a line that begins with exactly so many of a character is not allowed.
    pub(super) fn is_delimiter(self, count: u8) -> bool {
        count == self.marker || count == CONFLICT
    }

    /// The lengths of runs that are not allowed.
    pub(super) fn delimiters(self) -> impl Iterator<Item = u8> {
        let other = (self.marker != CONFLICT).then_some(self.marker);
        [CONFLICT].into_iter().chain(other)
    }

    /// The characters of runs.
    pub(super) fn runs() -> [u8; 4] {
        RUNS
    }

    /// The place after one byte more; none if it is not allowed.
    pub(super) fn step(self, line: Line, byte: u8) -> Option<Line> {
        match line {
            Line::Start if RUNS.contains(&byte) => Some(Line::Run { byte, count: 1 }),
            Line::Run { byte: run, count } if run == byte => match count < self.marker.max(CONFLICT) {
                true => Some(Line::Run { byte, count: count + 1 }),
                false => Some(Line::Middle),
            },
            Line::Run { count, .. } if self.is_delimiter(count) => None,
            Line::Start | Line::Run { .. } | Line::Middle => begin(byte),
            Line::Within(tail) => within(tail, byte),
        }
    }

    /// The next byte on the shortest way to the line's end, from within a character or a run that must go on.
    pub(super) fn finish(self, line: Line) -> u8 {
        match line {
            Line::Run { byte, count } if self.is_delimiter(count) => byte,
            Line::Within(Tail::Last(low, _) | Tail::Second(low, _) | Tail::First(low, _)) => low,
            Line::Start | Line::Run { .. } | Line::Middle => b'\n',
        }
    }
}

/// The first byte of a character: UTF-8 as in the Unicode Standard, table 3-7, without U+0080 to U+009F.
fn begin(byte: u8) -> Option<Line> {
    const ANY: (u8, u8) = (0x80, 0xBF);
    Some(match byte {
        b'\n' => Line::Start,
        b'\t' | b' '..=b'~' => Line::Middle,
        0xC2 => Line::Within(Tail::Last(0xA0, 0xBF)),
        0xC3..=0xDF => Line::Within(Tail::Last(ANY.0, ANY.1)),
        0xE0 => Line::Within(Tail::Second(0xA0, 0xBF)),
        0xED => Line::Within(Tail::Second(0x80, 0x9F)),
        0xE1..=0xEF => Line::Within(Tail::Second(ANY.0, ANY.1)),
        0xF0 => Line::Within(Tail::First(0x90, 0xBF)),
        0xF1..=0xF3 => Line::Within(Tail::First(ANY.0, ANY.1)),
        0xF4 => Line::Within(Tail::First(0x80, 0x8F)),
        _ => return None,
    })
}

fn within(tail: Tail, byte: u8) -> Option<Line> {
    let (Tail::Last(low, high) | Tail::Second(low, high) | Tail::First(low, high)) = tail;
    (low..=high).contains(&byte).then_some(match tail {
        Tail::Last(..) => Line::Middle,
        Tail::Second(..) => Line::Within(Tail::Last(0x80, 0xBF)),
        Tail::First(..) => Line::Within(Tail::Second(0x80, 0xBF)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(marker: u8, bytes: &[u8]) -> Option<Line> {
        bytes.iter().try_fold(Line::Start, |line, &byte| Rules { marker }.step(line, byte))
    }

    #[test]
    fn every_character_but_controls_is_text() {
        for c in '\0'..=char::MAX {
            let mut bytes = [0; 4];
            let ends = follow(7, c.encode_utf8(&mut bytes).as_bytes());
            assert_eq!(ends.is_some(), !c.is_control() || c == '\t' || c == '\n', "{c:?} {ends:?}");
            assert!(!matches!(ends, Some(Line::Within(_))), "{c:?}");
        }
        for bytes in
            [&b"\x80"[..], b"\xC0\x80", b"\xE0\x80", b"\xED\xA0", b"\xF0\x80", b"\xF4\x90", b"\xF5", b"\xFF"]
        {
            assert_eq!(follow(7, bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn no_line_begins_with_a_delimiter() {
        for text in
            ["=======\n", "======= x", ">>>>>>> REPLACE", "<<<<<<< SEARCH", "||||||| base", "x\n=======\n"]
        {
            assert_eq!(follow(7, text.as_bytes()), None, "{text}");
        }
        for text in
            ["======\n", "========\n", ">>>>>> REPLACE", "<<<<<<<< SEARCH\n", " =======\n", "a =======\n"]
        {
            assert!(follow(7, text.as_bytes()).is_some(), "{text}");
        }
        assert_eq!(follow(9, b"=========\n"), None);
        assert_eq!(follow(9, b"<<<<<<< HEAD"), None, "a conflict marker");
        assert!(follow(9, b"========\n").is_some());
    }
}
