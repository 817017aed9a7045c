//! What both dialects ask for, in neither of them.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use coder_engine::{Engine, Grammar, Limit, Message, Request, SamplerOptions, SpecialTokens, Tool, ToolSet};
use serde_json::{Map, Value, json};

use crate::tools::Tools;
use crate::{Error, Limits, Result};

/// Texts that may end an answer: each is looked for after every token.
const STOPS: usize = 64;

/// Answers to one request.
const ANSWERS: usize = 16;

/// The field that asks for the form of an answer, where nothing else is said.
pub(crate) const FORM: &str = "response_format";

/// One request for answers.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) prompt: Prompt,
    /// Tokens that an answer may have. With 0 only the prompt is computed, for requests that begin like it.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) sampler: SamplerOptions,
    /// Without it, every answer is another.
    pub(crate) seed: Option<u64>,
    pub(crate) stop: Vec<String>,
    pub(crate) grammar: Option<Grammar>,
    /// The field that asks for it.
    pub(crate) grammar_field: &'static str,
    /// How many answers.
    pub(crate) count: usize,
}

/// What comes before the answer.
#[derive(Debug)]
pub(crate) enum Prompt {
    Chat(Chat),
    Text(String),
    Tokens(Vec<u32>),
    /// The answer belongs between the two.
    Fim {
        prefix: String,
        suffix: String,
    },
}

impl Prompt {
    /// The field that it comes from, where nothing else is said.
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::Chat(_) => "messages",
            Self::Text(_) | Self::Tokens(_) | Self::Fim { .. } => "prompt",
        }
    }
}

/// A conversation.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    pub(crate) messages: Vec<Message>,
    /// What the answer begins with.
    pub(crate) begun: String,
    /// Variables of the template.
    pub(crate) variables: Map<String, Value>,
    pub(crate) tools: Tools,
}

/// What the engine is asked, and how its answers are read.
pub(crate) struct Plan {
    /// One for each answer, of the same prompt.
    pub(crate) requests: Vec<Request>,
    /// If an answer may have calls.
    pub(crate) tools: Option<Arc<ToolSet>>,
    /// If the model may think before it answers: whether the prompt has begun the thought.
    pub(crate) thinks: Option<bool>,
}

impl Chat {
    /// Sets a variable of the template that is ours to give.
    ///
    /// # Errors
    /// [`Error::Request`] for one that is not.
    pub(crate) fn set(&mut self, name: String, value: Value) -> Result<()> {
        if ["messages", "tools", "documents", "add_generation_prompt"].contains(&name.as_str()) {
            let problem = format!("`chat_template_kwargs`: `{name}` is not a variable of its own");
            return Err(Error::request("chat_template_kwargs", problem));
        }
        self.variables.insert(name, value);
        Ok(())
    }

    /// The tokens of the prompt. Takes a while for long ones.
    ///
    /// # Errors
    /// [`Error::Request`] for what the template refuses, and for tools that cannot be called.
    pub(crate) fn prompt(&self, engine: &Engine) -> Result<Vec<u32>> {
        self.with_tools(engine, None).map(|(prompt, _)| prompt)
    }

    /// The same, with the tools for the model's way to write calls, where there are any.
    fn with_tools(&self, engine: &Engine, form: Option<&Grammar>) -> Result<(Vec<u32>, Option<ToolSet>)> {
        let is_empty = self.tools.declared.is_empty();
        let set = if is_empty { None } else { Some(self.tools.set(engine, form)?) };
        let shown: Vec<Value> = self.tools.shown.iter().map(Tool::declaration).collect();
        let shown = (!shown.is_empty()).then_some(shown);
        let mut prompt = engine.chat_as(&self.messages, shown.as_deref(), &self.variables)?.prompt;
        prompt.extend(engine.tokenizer().encode(&self.begun, SpecialTokens::Plain)?);
        Ok((prompt, set))
    }
}

impl Ask {
    /// One greedy answer, as long as there is room.
    pub(crate) fn new(prompt: Prompt) -> Self {
        let sampler = SamplerOptions::default();
        Self {
            prompt,
            max_tokens: None,
            sampler,
            seed: None,
            stop: Vec::new(),
            grammar: None,
            grammar_field: FORM,
            count: 1,
        }
    }

    /// Checks what the engine would not.
    ///
    /// # Errors
    /// [`Error::Request`] naming the field.
    pub(crate) fn check(&self) -> Result<()> {
        if self.stop.len() > STOPS {
            return Err(Error::request("stop", format!("`stop`: up to `{STOPS}` texts may end an answer")));
        }
        if !(1..=ANSWERS).contains(&self.count) {
            return Err(Error::request("n", format!("`n`: must be between `1` and `{ANSWERS}`")));
        }
        Ok(())
    }

    /// What the engine is asked. Takes a while for long prompts.
    pub(crate) fn plan(self, engine: &Engine, limits: &Limits) -> Result<Plan> {
        let (mut tools, mut thinks) = (None, None);
        let mut request = match &self.prompt {
            Prompt::Chat(chat) => {
                let (prompt, set) = chat.with_tools(engine, self.grammar.as_ref())?;
                if self.grammar.is_none() && chat.tools.leave_free() {
                    thinks = thought(engine, &prompt);
                }
                tools = set.map(|set| Arc::new(set.thinking(thinks == Some(true))));
                Request::new(prompt)
            }
            // All of it is the caller's, markers as well: templates of editors, and of clients that have their own.
            Prompt::Text(text) => engine.prompt_as(text, SpecialTokens::Parse)?,
            Prompt::Tokens(tokens) => Request::new(tokens.clone()),
            Prompt::Fim { prefix, suffix } => engine.fim(prefix, suffix)?,
        };
        // The engine computes no prompt without a token after it, which is dropped where none was wanted.
        let most = self.max_tokens.unwrap_or(usize::MAX).max(1);
        request.limit = Limit::UpTo(most.min(limits.answer_tokens.unwrap_or(usize::MAX)));
        request.sampler = self.sampler;
        request.stop = self.stop;
        request = match &tools {
            Some(set) => request.tools(set),
            None => request.grammar(self.grammar),
        };
        request.deadline = limits.answer_time.and_then(|time| Instant::now().checked_add(time));
        let seed = self.seed.unwrap_or_else(random);
        let with_seed = |i| {
            let mut request = request.clone();
            request.sampler.seed = seed.wrapping_add(i);
            request
        };
        Ok(Plan { requests: (0..self.count as u64).map(with_seed).collect(), tools, thinks })
    }
}

/// Whether the model may think before it answers, and then whether the prompt has begun the thought.
fn thought(engine: &Engine, prompt: &[u32]) -> Option<bool> {
    let tokenizer = engine.tokenizer();
    tokenizer.token_id("<think>")?;
    let end = tokenizer.decode(&prompt[prompt.len().saturating_sub(4)..]);
    Some(end.trim_ascii_end().ends_with(b"<think>"))
}

/// Another number every time; whoever guesses it gains nothing.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// The grammar of any JSON object.
pub(crate) fn any_object() -> Grammar {
    Grammar::JsonSchema(json!({ "type": "object" }))
}
