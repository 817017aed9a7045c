//! What comes from elsewhere on its way to the client: as it is, or in the client's dialect.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use coder_escalate::{Dialect, Event, Passed, Translation};
use coder_serve::{Asked, Client, Error, Lack};

/// The client of an answer that comes.
pub(super) struct Hearing<'c> {
    client: &'c Client,
    /// Whether the client does not want the count of tokens, which was asked for here.
    hides_count: bool,
    /// The way into the client's dialect, if the server speaks the other one, or what is wrong with what it said.
    translation: Option<Mutex<Result<Translation, String>>>,
}

impl<'c> Hearing<'c> {
    /// Of a client who asked somebody that speaks `server`.
    pub(super) fn new(asked: &Asked, server: Dialect, client: &'c Client) -> Self {
        let counts = asked.body.get("stream_options").is_some_and(|options| options["include_usage"] == true);
        let created = u64::try_from(crate::ledger::now() / 1000).unwrap_or(0);
        let to = spoken(asked.dialect);
        let translation = (to != server).then(|| Mutex::new(Ok(Translation::new(to, created, counts))));
        Self { client, hides_count: to == Dialect::Openai && !counts, translation }
    }

    /// Tells the client.
    pub(super) fn hear(&self, passed: Passed<'_>) {
        let Some(translation) = &self.translation else { return self.as_it_is(passed) };
        let mut state = translation.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(translation) = &mut *state else { return };
        let told = match passed {
            Passed::Whole(json) => translation.whole(json).map(|json| self.client.whole(&json)),
            Passed::Event { data, .. } => translation.event(data).map(|events| self.tell(&events)),
        };
        if let Err(problem) = told {
            *state = Err(problem);
            // Nobody can hear the rest, which would only cost.
            self.client.gone().store(true, Ordering::Relaxed);
        }
    }

    /// Whether all that came could be said in the client's dialect.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn understood(&self) -> coder_serve::Result<()> {
        let Some(translation) = &self.translation else { return Ok(()) };
        match &*translation.lock().unwrap_or_else(PoisonError::into_inner) {
            Ok(_) => Ok(()),
            Err(problem) => Err(Error::Elsewhere {
                status: 502,
                kind: "malformed",
                lack: Lack::Presence,
                after_s: None,
                problem: format!("the answer is malformed: {problem}"),
            }),
        }
    }

    /// Tells the client that the answer has ended.
    pub(super) fn end(self) {
        let Some(translation) = &self.translation else { return };
        if let Ok(translation) = &mut *translation.lock().unwrap_or_else(PoisonError::into_inner) {
            self.tell(&translation.end());
        }
    }

    fn as_it_is(&self, passed: Passed<'_>) {
        match passed {
            Passed::Whole(json) => self.client.whole(json),
            Passed::Event { data, .. } if self.hides_count && is_count(data) => {}
            Passed::Event { name, data } => self.client.event(name, data),
        }
    }

    fn tell(&self, events: &[Event]) {
        events.iter().for_each(|event| self.client.event(event.name, &event.data));
    }
}

/// The same dialect, as it is called on the other side.
pub(super) fn spoken(dialect: coder_serve::Dialect) -> Dialect {
    match dialect {
        coder_serve::Dialect::OpenAi => Dialect::Openai,
        coder_serve::Dialect::Anthropic => Dialect::Anthropic,
    }
}

/// Whether a chunk has the count of tokens and nothing of an answer.
fn is_count(data: &str) -> bool {
    let Ok(chunk) = serde_json::from_str::<serde_json::Value>(data) else { return false };
    chunk["usage"].is_object() && chunk["choices"].as_array().is_some_and(Vec::is_empty)
}
