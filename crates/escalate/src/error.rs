/// What can go wrong with escalation, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A name stands for no rung.
    #[error("`{name}` is not a rung; use one of local (free), haiku (cheap), sonnet (balanced), opus (best)")]
    UnknownRung {
        /// The name.
        name: String,
    },
    /// A question that no server would take: a mistake of the program that asks, or too long a conversation.
    #[error("the question cannot be sent: {problem}")]
    BadAsk {
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// A table of prices is not as it must be: correct the file.
    #[error("prices: {problem}; see `coder stats --help`")]
    BadPrices {
        /// What is wrong with it.
        problem: String,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
