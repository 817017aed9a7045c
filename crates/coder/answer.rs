//! One answer of a model: streamed to standard output, stopped by Ctrl-C, described in JSON.

use coder_engine::{Event, Finish, Generation, Summary};
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Progress;

/// Prompts shorter than this are read in no time on any machine.
const LONG_PROMPT: usize = 256;

/// What came of a generation.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The whole text.
    pub(crate) text: String,
    /// How it ended.
    pub(crate) summary: Summary,
    /// Whether the user stopped it.
    pub(crate) interrupted: bool,
}

/// Runs a generation to its end; with `stream`, every piece of text is shown as it comes.
pub(crate) fn receive(
    generation: Generation,
    interrupt: &Interrupt,
    mut stream: Option<&mut Output>,
) -> Outcome<Answer> {
    let canceller = generation.canceller();
    let during = interrupt.during(move || canceller.cancel());
    let mut progress = Some(Progress::count("reading the prompt"));
    let mut text = String::new();
    let mut show = |piece: &str| -> Outcome {
        text.push_str(piece);
        stream.as_mut().map_or(Ok(()), |out| out.text(piece))?;
        Ok(())
    };
    for event in generation {
        match event? {
            Event::Prefill { done, total } if total >= LONG_PROMPT => {
                progress.iter_mut().for_each(|progress| progress.at(done as u64, total as u64));
            }
            Event::Prefill { .. } => {}
            Event::Token(token) => {
                progress = None;
                show(&token.text)?;
            }
            Event::Done(summary) => {
                drop(progress);
                show(&summary.text)?;
                return Ok(Answer { text, summary, interrupted: during.happened() });
            }
        }
    }
    Err(Failure::new("the generation ended without a result"))
}

impl Answer {
    /// `{text, finish, usage, timings}`.
    pub(crate) fn json(&self) -> Value {
        let usage = &self.summary.usage;
        let timings = &self.summary.timings;
        json!({
            "text": self.text,
            "finish": finish(&self.summary.finish),
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "cached_tokens": usage.cached_tokens,
                "completion_tokens": usage.completion_tokens,
                "forced_tokens": usage.forced_tokens,
                "drafted_tokens": usage.drafted_tokens,
                "accepted_tokens": usage.accepted_tokens,
                "passes": usage.passes,
            },
            "timings": {
                "queue_s": timings.queue_s,
                "prefill_s": timings.prefill_s,
                "decode_s": timings.decode_s,
                "prefill_tok_s": timings.prefill_tok_s(usage),
                "decode_tok_s": timings.decode_tok_s(usage),
            },
        })
    }

    /// Whether the answer is all there. Under a grammar, a cut answer breaks its promise; free text is just short.
    pub(crate) fn check(&self, constrained: bool) -> Outcome {
        if self.interrupted {
            return Err(Failure::interrupted());
        }
        let tokens = self.summary.usage.completion_tokens;
        match self.summary.finish {
            Finish::Length if constrained => Err(Failure::new(format!(
                "the answer was cut after `{tokens}` tokens and does not fit its grammar; raise --max-tokens or --context"
            ))),
            Finish::Length => {
                eprintln!(
                    "note: the answer was cut after `{tokens}` tokens; raise --max-tokens or --context"
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Why it ended, in one word.
pub(crate) fn finish(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::StopString(_) => "stop_string",
        Finish::Length => "length",
        Finish::Cancelled => "cancelled",
        Finish::Deadline => "deadline",
    }
}
