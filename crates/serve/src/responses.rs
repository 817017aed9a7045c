//! POST /v1/responses: the API of OpenAI that Codex and other agents speak. Nothing is stored, so every request holds its
//! whole conversation.
//!
//! Owns what the fields of a request ask for; `items` is the conversation, `tools` the tools in it, `answer` the response
//! and its events.

mod answer;
mod items;
mod tools;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use coder_engine::SamplerOptions;
use serde::Deserialize;
use serde_json::{Map, Value};

use self::items::Input;
use self::tools::{Choose, Declared};
use crate::answer::Answers;
use crate::ask::{Ask, Chat, Prompt};
use crate::body::Fields;
use crate::dialect::Dialect;
use crate::elsewhere::here;
use crate::openai::{Format, Sampling, refuse, some_tokens};
use crate::{Error, Result, Server};

#[derive(Debug, Deserialize)]
struct Body {
    model: Option<String>,
    input: Input,
    instructions: Option<String>,
    max_output_tokens: Option<usize>,
    stream: Option<bool>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Choose>,
    parallel_tool_calls: Option<bool>,
    text: Option<Text>,
    reasoning: Option<Reasoning>,
    chat_template_kwargs: Option<Map<String, Value>>,
    truncation: Option<String>,
    include: Option<Vec<String>>,
    top_logprobs: Option<usize>,
    background: Option<bool>,
    previous_response_id: Option<Value>,
    conversation: Option<Value>,
    prompt: Option<Value>,
    moderation: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Text {
    format: Option<Format>,
}

#[derive(Debug, Deserialize)]
struct Reasoning {
    effort: Option<String>,
}

/// POST /v1/responses
pub(crate) async fn respond(
    State(server): State<Server>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response> {
    let named = here(&server, Dialect::OpenAi, &headers, &fields)?;
    let body: Body = fields.get()?;
    let (model, streams) = (named.or_else(|| body.model.clone()), body.stream.unwrap_or(false));
    let keeps_thoughts = body.includes("reasoning.encrypted_content");
    let declared = Declared::new(body.tools.as_deref().unwrap_or_default())?;
    let names = declared.names.clone();
    let (sampler, seed) = fields.get::<Sampling>()?.options(&server)?;
    let echo = answer::echo(&fields.get()?, &sampler);
    let ask = body.into_ask(declared, sampler, seed)?;
    let answers = Answers::begin(&server, model.as_deref(), ask).await.map_err(rename)?;
    let growing = answer::Growing::new(&answers.model, echo, names, keeps_thoughts);
    if streams { Ok(growing.send(answers)) } else { growing.whole(answers).await }
}

impl Body {
    fn into_ask(self, declared: Declared, sampler: SamplerOptions, seed: Option<u64>) -> Result<Ask> {
        self.check()?;
        let mut chat = Chat {
            tools: declared.choose(self.tool_choice, self.parallel_tool_calls.unwrap_or(true))?,
            messages: items::messages(self.instructions, self.input)?,
            ..Chat::default()
        };
        if self.reasoning.is_some_and(|reasoning| reasoning.effort.as_deref() == Some("none")) {
            chat.set("enable_thinking".to_owned(), Value::Bool(false))?;
        }
        for (name, value) in self.chat_template_kwargs.into_iter().flatten() {
            chat.set(name, value)?;
        }
        let format =
            self.text.and_then(|text| text.format).map(Format::grammar).transpose().map_err(rename)?;
        Ok(Ask {
            max_tokens: some_tokens("max_output_tokens", self.max_output_tokens)?,
            sampler,
            seed,
            grammar: format.flatten(),
            ..Ask::new(Prompt::Chat(chat))
        })
    }

    fn includes(&self, name: &str) -> bool {
        self.include.iter().flatten().any(|what| what == name)
    }

    /// Refuses what cannot be had.
    fn check(&self) -> Result<()> {
        const STATELESS: &str = ": nothing is stored here; send the whole conversation as `input`";
        refuse("previous_response_id", self.previous_response_id.as_ref(), STATELESS)?;
        refuse("conversation", self.conversation.as_ref(), STATELESS)?;
        refuse("prompt", self.prompt.as_ref(), STATELESS)?;
        refuse("moderation", self.moderation.as_ref(), "")?;
        let background = self.background.filter(|background| *background).map(Value::Bool);
        refuse("background", background.as_ref(), "; use `stream`")?;
        if self.truncation.as_ref().is_some_and(|truncation| truncation != "disabled") {
            let problem = "`truncation`: only `disabled` is supported: nothing is ever left out of a prompt";
            return Err(Error::request("truncation", problem));
        }
        if self.includes("message.output_text.logprobs") || self.top_logprobs.is_some_and(|top| top > 0) {
            let problem =
                "`top_logprobs` is not supported here; `/v1/chat/completions` has log-probabilities";
            return Err(Error::request("top_logprobs", problem));
        }
        Ok(())
    }
}

/// The same error with the name that a field has in this API.
fn rename(error: Error) -> Error {
    error.renamed(&[("response_format", "text.format"), ("messages", "input")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_names_of_this_api() {
        let error = rename(Error::request("response_format", "`response_format.json_schema`: no"));
        assert_eq!(error.to_string(), "`text.format.json_schema`: no");
        let error = rename(Error::request("tools", "`tools`: no"));
        assert_eq!(error.to_string(), "`tools`: no");
    }
}
