//! The known name that somebody who wrote another one most likely meant.

/// The most similar name; None if none is similar.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let word: String = word.chars().take(80).collect();
    known
        .map(|name| (strsim::normalized_damerau_levenshtein(&word, name), name))
        // Half of the letters are right: more would find names for everything.
        .filter(|(similar, _)| *similar >= 0.5)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_similar_is_near() {
        let known = ["egress", "endpoints", "rungs"];
        assert_eq!(nearest("egres", known.into_iter()).as_deref(), Some("egress"));
        assert_eq!(nearest("rung", known.into_iter()).as_deref(), Some("rungs"));
        assert_eq!(nearest("wombat", known.into_iter()), None);
    }
}
