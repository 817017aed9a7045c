//! Text without what only a terminal reads.

/// Takes control sequences out of text that comes in pieces: escape sequences whole, other control
/// characters one by one, except newline and tab. ECMA-48 calls the parts by these names.
#[derive(Debug, Default)]
pub struct Plain {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and intermediate bytes such as `(`.
    Intermediate,
    /// In a control sequence, until its final byte.
    Sequence,
    /// In a string such as a window title, until BEL or ESC `\`.
    String,
}

impl Plain {
    /// The harmless part of `text`.
    pub fn filter(&mut self, text: &str) -> String {
        text.chars().filter(|&c| self.shows(c)).collect()
    }

    fn shows(&mut self, c: char) -> bool {
        use State::*;
        let (state, shows) = match (self.state, c) {
            (_, '\u{1b}') => (Escape, false),
            (Escape, '[') => (Sequence, false),
            (Escape, ']' | 'P' | 'X' | '^' | '_') => (String, false),
            (Escape | Intermediate, ' '..='/') => (Intermediate, false),
            (Escape | Intermediate, '0'..='~') => (Text, false),
            (Sequence, ' '..='?') => (Sequence, false),
            (Sequence, '@'..='~') => (Text, false),
            (String, '\u{7}' | '\u{9c}') => (Text, false),
            // A string without an end must not swallow the rest of the answer.
            (String, '\n') => (Text, true),
            (String, _) => (String, false),
            (_, '\u{9b}') => (Sequence, false),
            (_, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => (String, false),
            (_, '\n' | '\t') => (Text, true),
            (_, c) => (Text, !c.is_control()),
        };
        self.state = state;
        shows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(pieces: &[&str]) -> String {
        let mut plain = Plain::default();
        pieces.iter().map(|piece| plain.filter(piece)).collect()
    }

    #[test]
    fn control_sequences_disappear() {
        assert_eq!(filter(&["a\u{1b}[31mred\u{1b}[0m b\tc\n"]), "ared b\tc\n");
        assert_eq!(filter(&["\u{1b}]0;title\u{7}x\u{1b}]8;;http://a\u{1b}\\y"]), "xy");
        assert_eq!(filter(&["\u{1b}(0q\u{1b}7z\r\u{8}\u{7f}\u{0}"]), "qz");
        assert_eq!(filter(&["\u{9b}2Jhi\u{9d}0;t\u{9c}!"]), "hi!");
        assert_eq!(filter(&["żółw 日本 🐢"]), "żółw 日本 🐢");
    }

    #[test]
    fn a_sequence_may_be_cut_anywhere() {
        let text = "a\u{1b}[1;31mb\u{1b}]2;t\u{1b}\\c";
        let pieces: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(filter(&pieces.iter().map(String::as_str).collect::<Vec<_>>()), "abc");
    }

    #[test]
    fn an_unfinished_string_ends_with_its_line() {
        assert_eq!(filter(&["\u{1b}]0;title\nnext"]), "\nnext");
    }
}
