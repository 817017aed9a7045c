//! How many tasks are at work at the same time.

use std::str::FromStr;

use crate::writer::MAX_TOKENS;

/// As many as there may be.
const MOST: usize = 256;

/// What `--jobs` says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Jobs {
    /// As many as cores and key-value cache allow.
    Auto,
    /// So many.
    Count(usize),
}

/// What a model has room for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Room {
    /// Tokens of prompt and answer.
    pub(crate) context: usize,
    /// Tokens of all answers that grow at the same time.
    pub(crate) cache: usize,
    /// Answers that grow at the same time.
    pub(crate) answers: usize,
}

impl FromStr for Jobs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = text.parse().ok().filter(|count| (1..=MOST).contains(count)).map(Jobs::Count);
        let auto = (text == "auto").then_some(Jobs::Auto);
        count.or(auto).ok_or_else(|| format!("give a number from 1 to {MOST}, or auto"))
    }
}

impl Jobs {
    /// Whether tasks are to be at work at the same time. Where `auto` comes to one, they work as they would elsewhere.
    pub(crate) fn are_several(self) -> bool {
        self != Jobs::Count(1)
    }

    /// The number, on this many cores and with these models. A task drafts in its model's cache, where it takes room for a
    /// prompt and a reply of usual lengths, and runs its command on a core.
    pub(crate) fn count(self, cores: usize, rooms: impl Iterator<Item = Room>) -> usize {
        let answers = |room: Room| (room.cache / room.context.clamp(1, 2 * MAX_TOKENS)).min(room.answers);
        match self {
            Jobs::Count(count) => count,
            Jobs::Auto => rooms.map(answers).fold(cores, usize::min).clamp(1, MOST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_auto() {
        assert_eq!(("3".parse(), "auto".parse()), (Ok(Jobs::Count(3)), Ok(Jobs::Auto)));
        for bad in ["0", "257", "-1", "", "Auto", "1.5"] {
            assert!(bad.parse::<Jobs>().unwrap_err().contains("auto"), "{bad}");
        }
    }

    /// Covers S4-27.
    #[test]
    fn as_many_as_cores_and_cache_allow() {
        let room = |context, cache| Room { context, cache, answers: 16 };
        for (cores, rooms, count) in [
            (8, vec![], 8),
            (8, vec![room(32_768, 32_768)], 4),
            (2, vec![room(32_768, 32_768)], 2),
            (8, vec![room(32_768, 131_072), room(32_768, 65_536)], 8),
            // Of a short context a task may take all.
            (8, vec![room(1024, 1024)], 1),
            (8, vec![room(1024, 3072)], 3),
            (1000, vec![room(1024, 1 << 20)], 16),
            (1000, vec![], 256),
            (0, vec![], 1),
        ] {
            assert_eq!(Jobs::Auto.count(cores, rooms.iter().copied()), count, "{cores} {rooms:?}");
            assert_eq!(Jobs::Count(7).count(cores, rooms.into_iter()), 7);
        }
        assert!(Jobs::Auto.are_several() && Jobs::Count(2).are_several() && !Jobs::Count(1).are_several());
    }
}
