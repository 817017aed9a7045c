/// What can go wrong with escalation, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A name stands for no rung.
    #[error("`{name}` is not a rung{}; known are {known}; coder.toml can define others", did_you_mean(.near))]
    UnknownRung {
        /// The name.
        name: String,
        /// The most similar one.
        near: Option<String>,
        /// All rungs with their aliases.
        known: String,
    },
    /// A name that no rung can have.
    #[error(
        "`{name}` cannot be a rung's name; use up to 64 of a-z, 0-9, `.`, `_`, `:`, `-`, and not `mechanical`"
    )]
    BadRungName {
        /// The name.
        name: String,
    },
    /// A configuration is not as it must be: correct the file.
    #[error("{at}: {problem}")]
    BadConfig {
        /// Which file and line.
        at: String,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// A project's configuration tries what only the user's own may do.
    #[error(
        "{at}: `{key}` cannot be set by a project, which may only restrict (egress, budget, ladders); \
         if you want it, write it into your own file, which `coder config path` shows"
    )]
    Untrusted {
        /// Which file and line.
        at: String,
        /// The key.
        key: String,
    },
    /// A question that no server would take: a mistake of the program that asks, or too long a conversation.
    #[error("the question cannot be sent: {problem}")]
    BadAsk {
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// A client's request says something for which the dialect of the server that is to answer it has no words.
    #[error("`{field}` has no counterpart in {dialect} dialect, which this model's server speaks; {remedy}")]
    NoCounterpart {
        /// What it is, such as `messages[0].name`.
        field: String,
        /// Whose dialect.
        dialect: &'static str,
        /// What to do.
        remedy: String,
    },
    /// A table of prices is not as it must be: correct the file.
    #[error("prices: {problem}; see `coder stats --help`")]
    BadPrices {
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody said what a model costs, so it can be neither budgeted nor accounted for.
    #[error(
        "nobody knows what `{model}` of rung `{rung}` costs; write it into `[rungs.\"{rung}\".price]` of coder.toml, 0 if it \
         costs nothing"
    )]
    UnknownPrice {
        /// The rung.
        rung: String,
        /// The model.
        model: String,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// " (did you mean `x`?)" or nothing.
pub(crate) fn did_you_mean(near: &Option<String>) -> String {
    near.as_ref().map_or(String::new(), |near| format!(" (did you mean `{near}`?)"))
}
