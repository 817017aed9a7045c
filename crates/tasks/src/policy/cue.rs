//! Patterns over words: what the classifier looks for, written in `tables.yaml`.

use serde::Deserialize;

/// A text as words, with marks on those that look like code.
#[derive(Clone, Debug)]
pub(super) struct Words(Vec<Word>);

#[derive(Clone, Debug)]
struct Word {
    /// Lower case.
    text: String,
    marks: Vec<&'static str>,
    /// Whether it stands in the first sentence, which says what the task is.
    first: bool,
}

/// Words of a polite beginning that say nothing.
const LEAD: [&str; 20] = [
    "please", "we", "need", "to", "should", "must", "let's", "lets", "let", "us", "want", "can", "could",
    "you", "i", "would", "like", "also", "just", "now",
];

/// Hooks that come with React: a component that has them is no simple one.
const BUILTIN_HOOKS: [&str; 9] = [
    "useState",
    "useEffect",
    "useReducer",
    "useContext",
    "useMemo",
    "useRef",
    "useCallback",
    "useLayoutEffect",
    "useSyncExternalStore",
];

/// A text of so few words says too little to work on.
const FEW: usize = 3;

/// Words that a first sentence has at most.
const FIRST: usize = 40;

impl Words {
    /// Splits a text. An id before it, such as "T-003:", is left out, and so is a polite beginning.
    pub(super) fn of(text: &str) -> Words {
        let text = without_id(text.trim());
        let mut words: Vec<Word> = Vec::new();
        let mut first = true;
        let mut rest = text;
        while let Some(start) = rest.find(is_word) {
            // The first sentence ends at a full stop or an empty line, not at a dot within a name.
            let gap = &rest[..start];
            if gap.contains(". ") || gap.contains(".\n") || gap.contains("\n\n") || words.len() >= FIRST {
                first = false;
            }
            let from = &rest[start..];
            let end = from.find(|c| !is_word(c)).unwrap_or(from.len());
            let (word, after) = from.split_at(end);
            words.push(Word { text: word.to_lowercase(), marks: marks(word, gap, after), first });
            rest = after;
        }
        let lead = words.iter().take_while(|word| LEAD.contains(&word.text.as_str())).count();
        // "Let x" is a beginning like "Make x"; a text of nothing but such words stays.
        let lead = if lead < words.len() { lead } else { 0 };
        let lead = if lead == 1 && words[0].text == "let" { 0 } else { lead };
        words.drain(..lead);
        let named = words.iter().any(|word| !word.marks.is_empty());
        if words.len() <= FEW && !named {
            words.push(Word { text: "<few>".into(), marks: vec!["<few>"], first: true });
        }
        if text.ends_with('?') {
            words.push(Word { text: "<question>".into(), marks: vec!["<question>"], first: true });
        }
        Words(words)
    }

    /// Lower-case texts of the words, one after the other.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|word| word.text.as_str())
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '\''
}

/// The text after an id such as "T-003:" or "#12 ".
fn without_id(text: &str) -> &str {
    let Some((id, rest)) = text.split_once(char::is_whitespace) else { return text };
    let name = id.trim_end_matches([':', '.', ')']);
    let is_id = name.strip_prefix('#').is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
        || name.rsplit_once('-').is_some_and(|(letters, number)| {
            !letters.is_empty()
                && letters.bytes().all(|b| b.is_ascii_uppercase())
                && !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
                && id.ends_with(':')
        });
    if is_id { rest.trim_start() } else { text }
}

/// What a word looks like, from its letters and what stands around it.
fn marks(word: &str, before: &str, after: &str) -> Vec<&'static str> {
    let mut marks = Vec::new();
    let upper = word.chars().any(char::is_uppercase);
    let lower = word.chars().any(char::is_lowercase);
    if BUILTIN_HOOKS.contains(&word) {
        marks.push("<builtin-hook>");
    } else if word.strip_prefix("use").is_some_and(|rest| rest.starts_with(char::is_uppercase)) {
        marks.push("<hook>");
    }
    if after.starts_with('(') {
        marks.push("<call>");
    }
    let snake = word.trim_matches('_').contains('_');
    if snake && upper && !lower {
        marks.push("<constant>");
    }
    let camel = lower && word.chars().skip(1).any(char::is_uppercase);
    let quoted = before.ends_with('`') && after.starts_with('`');
    let file = after.strip_prefix('.').is_some_and(|ending| ending.starts_with(char::is_alphanumeric));
    if snake || camel || quoted || file || after.starts_with('(') {
        marks.push("<name>");
    }
    marks
}

/// Phrases of `tables.yaml`, separated by commas, of which one is to be found.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(from = "String")]
pub struct Cue {
    /// As it is written.
    pub text: String,
    phrases: Vec<Phrase>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Phrase {
    anchored: bool,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Word(Vec<String>),
    /// Up to [`GAP`] words.
    Gap,
}

const GAP: usize = 4;

impl From<String> for Cue {
    fn from(text: String) -> Cue {
        Cue { phrases: text.split(',').map(|phrase| Phrase::of(phrase.trim())).collect(), text }
    }
}

impl Cue {
    /// Whether one of the phrases stands in the words: None, or whether one does in the first sentence.
    pub(super) fn found(&self, words: &Words) -> Option<bool> {
        self.phrases.iter().filter_map(|phrase| phrase.found(words)).max()
    }
}

impl Phrase {
    fn of(text: &str) -> Phrase {
        let body = text.strip_prefix('^');
        let steps = body.unwrap_or(text).split_whitespace().map(|step| match step {
            ".." => Step::Gap,
            word => Step::Word(word.split('|').map(str::to_owned).collect()),
        });
        Phrase { anchored: body.is_some(), steps: steps.collect() }
    }

    fn found(&self, words: &Words) -> Option<bool> {
        let words = &words.0;
        if self.steps.is_empty() {
            return Some(true);
        }
        let starts = if self.anchored { 1 } else { words.len() };
        (0..starts.min(words.len()))
            .find(|start| fits(&self.steps, &words[*start..]))
            .map(|at| words[at].first)
    }
}

fn fits(steps: &[Step], words: &[Word]) -> bool {
    match steps.split_first() {
        None => true,
        Some((Step::Gap, rest)) => (0..=GAP.min(words.len())).any(|skip| fits(rest, &words[skip..])),
        Some((Step::Word(any), rest)) => words.split_first().is_some_and(|(word, after)| {
            any.iter().any(|pattern| {
                word.marks.contains(&pattern.as_str()) || like(pattern.as_bytes(), word.text.as_bytes())
            }) && fits(rest, after)
        }),
    }
}

/// Whether a text is what a pattern with `*` says.
pub(super) fn like(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last star stands, and how far its letters go.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && pattern[p] == text[t] {
            p += 1;
            t += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            p = at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(cue: &str, text: &str) -> Option<bool> {
        Cue::from(cue.to_owned()).found(&Words::of(text))
    }

    #[test]
    fn patterns_find_words() {
        assert_eq!(found("^fix|repair", "Please fix the login"), Some(true));
        assert_eq!(found("^fix", "T-003: Fix the login"), Some(true));
        assert_eq!(found("^fix", "The fix is here"), None);
        assert_eq!(found("split .. into", "split the big function up into two"), Some(true));
        assert_eq!(found("split .. into", "split one two three four five into"), None);
        assert_eq!(found("integrat*", "An integration. More"), Some(true));
        assert_eq!(found("more", "An integration. More"), Some(false));
        assert_eq!(found("<hook>", "Create `useTheme` for the app"), Some(true));
        assert_eq!(found("<hook>", "a component with useState in it"), None);
        assert_eq!(found("<builtin-hook>", "a component with useState in it"), Some(true));
        assert_eq!(found("<few>", "Clean up"), Some(true));
        assert_eq!(found("<few>", "Fix parse_date"), None);
        assert_eq!(found("<constant>", "Set MAX_SIZE to 3"), Some(true));
        assert_eq!(found("<call>", "slugify(title) of it"), Some(true));
        assert_eq!(found("", "anything"), Some(true));
        assert_eq!(found("stack overflow, crash*", "It crashes"), Some(true));
        assert_eq!(found("stack overflow, crash*", "the stack"), None);
    }

    #[test]
    fn stars_stand_for_any_letters() {
        for (pattern, text, expected) in [
            ("*.test.*", "src/a.test.js", true),
            ("*.test.*", "src/atest.js", false),
            ("a*b*c", "a__b_bc", true),
            ("a*b*c", "a__b_b", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(like(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
