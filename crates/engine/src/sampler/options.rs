//! What a request may say about sampling.

use crate::{Error, Result};

/// How the next token is chosen. The default is greedy: always the most probable token.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerOptions {
    /// Divides the logits; 0 is greedy (of equally probable tokens the lowest id). At least 0, finite.
    pub temperature: f32,
    /// Only the `k` most probable tokens; 0 is all.
    pub top_k: usize,
    /// Only the most probable tokens that together have this probability (Holtzman et al., "The Curious Case of
    /// Neural Text Degeneration", 2020); 1 is all. From 0 (the most probable token alone) to 1.
    pub top_p: f32,
    /// Only tokens that are at least this probable, as a fraction of the most probable one (Nguyen et al., "Turning
    /// Up the Heat", 2024); 0 is all. From 0 to 1.
    pub min_p: f32,
    /// Divides positive logits of tokens in prompt or answer, multiplies negative ones (Keskar et al., "CTRL",
    /// 2019); 1 is off. Above 0, finite.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of every token in the answer, as in the OpenAI API; 0 is off. From -2 to 2.
    pub presence_penalty: f32,
    /// Subtracted once for each time the token is in the answer, as in the OpenAI API; 0 is off. From -2 to 2.
    pub frequency_penalty: f32,
    /// How many of the last tokens the penalties look at; `None` is all.
    pub penalty_window: Option<usize>,
    /// Added to the logits of these tokens, as in the OpenAI API: -100 as good as forbids one, 100 as good as
    /// forces it. From -100 to 100.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same tokens.
    pub seed: u64,
    /// How many of the most probable tokens to report with their log-probabilities: up to 100.
    pub logprobs: Option<usize>,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: None,
            logit_bias: Vec::new(),
            seed: 0,
            logprobs: None,
        }
    }
}

impl SamplerOptions {
    /// Checks every option, for a vocabulary of `vocab` tokens.
    ///
    /// # Errors
    /// [`Error::Request`] naming the first option that is out of range.
    pub fn validate(&self, vocab: usize) -> Result<()> {
        let finite = f32::MAX;
        in_range("temperature", self.temperature, 0.0, finite)?;
        in_range("top_p", self.top_p, 0.0, 1.0)?;
        in_range("min_p", self.min_p, 0.0, 1.0)?;
        in_range("repetition_penalty", self.repetition_penalty, f32::MIN_POSITIVE, finite)?;
        in_range("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        in_range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        in_range("logprobs", self.logprobs.unwrap_or(0) as f32, 0.0, 100.0)?;
        for &(id, bias) in &self.logit_bias {
            in_range("logit_bias", bias, -100.0, 100.0)?;
            if id as usize >= vocab {
                let problem = format!("token `{id}` does not exist; the vocabulary has `{vocab}` tokens");
                return Err(Error::Request { field: "logit_bias", problem });
            }
        }
        Ok(())
    }

    /// Whether logits are changed before the choice.
    pub(super) fn adjusts(&self) -> bool {
        !self.logit_bias.is_empty()
            || self.repetition_penalty != 1.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
    }
}

fn in_range(field: &'static str, value: f32, low: f32, high: f32) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let allowed = match (low, high) {
        (f32::MIN_POSITIVE, _) => "a number above `0`".to_owned(),
        (_, f32::MAX) => format!("a number of at least `{low}`"),
        _ => format!("between `{low}` and `{high}`"),
    };
    Err(Error::Request { field, problem: format!("must be {allowed}, got `{value}`") })
}
