//! Chat templates: a conversation to the text of a prompt, as Hugging Face's `transformers` renders it.
//!
//! Owns the messages and the Jinja environment; it knows nothing of tokens. Templates come with model files, so they
//! are hostile input: instructions and recursion are limited. Memory is not: minijinja lets a template double a text as
//! often as it likes.

mod message;
mod python;

use std::collections::BTreeMap;
use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::Value as Json;

pub use self::message::{Content, Message};
use crate::{Error, Result, Tokenizer, stack};

/// Instructions of one rendering. A conversation of a thousand messages takes about a hundred thousand.
const FUEL: u64 = 1_000_000;

/// Nested calls of macros and blocks.
const RECURSION: usize = 100;

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    variables: BTreeMap<String, Value>,
    has_tool_template: bool,
}

impl ChatTemplate {
    /// Compiles `source`. `variables` are what every rendering sees, such as `bos_token` and `eos_token`.
    ///
    /// # Errors
    /// [`Error::Template`] with the line of a syntax error.
    pub fn new(source: &str, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let mut environment = environment();
        environment.add_template_owned("default", plain_blocks(source)).map_err(failed)?;
        let variables = variables.into_iter().map(|(name, text)| (name, Value::from(text))).collect();
        Ok(Self { environment, variables, has_tool_template: false })
    }

    /// The template of a tokenizer, if it has one, with its variant for tools.
    ///
    /// # Errors
    /// [`Error::Template`] with the line of a syntax error.
    pub fn of(tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let Some(source) = tokenizer.chat_template("default") else { return Ok(None) };
        let mut template = Self::new(source, tokenizer.template_variables())?;
        if let Some(source) = tokenizer.chat_template("tool_use") {
            template.environment.add_template_owned("tool_use", plain_blocks(source)).map_err(failed)?;
            template.has_tool_template = true;
        }
        Ok(Some(template))
    }

    /// The Jinja source, of the variant for tools if that is asked for and there is one.
    pub fn source(&self, tools: bool) -> String {
        let name = if tools && self.has_tool_template { "tool_use" } else { "default" };
        // Both are there since `new`.
        self.environment.get_template(name).map_or_else(|_| String::new(), |found| found.source().to_owned())
    }

    /// The prompt for `messages`.
    ///
    /// `tools` are function declarations in the OpenAI form. With `add_generation_prompt` the prompt ends where the
    /// assistant's answer begins. `extra` are further variables of the template, such as `enable_thinking`; they win
    /// over all others.
    ///
    /// # Errors
    /// [`Error::Template`] with the template's own words (`raise_exception`), the line that fails, or the limit that
    /// it exceeds. [`Error::Request`] for content that is not text.
    pub fn render(
        &self,
        messages: &[Message],
        tools: Option<&[Json]>,
        add_generation_prompt: bool,
        extra: &serde_json::Map<String, Json>,
    ) -> Result<String> {
        let messages = messages.iter().map(Message::for_template).collect::<Result<Vec<_>>>()?;
        let mut context = self.variables.clone();
        context.insert("messages".to_owned(), Value::from(Serde(&messages)));
        context.insert("tools".to_owned(), Value::from(Serde(tools)));
        context.insert("documents".to_owned(), Value::from(()));
        context.insert("add_generation_prompt".to_owned(), Value::from(add_generation_prompt));
        for (name, value) in extra {
            context.insert(name.clone(), Value::from(Serde(value)));
        }
        let name = if tools.is_some() && self.has_tool_template { "tool_use" } else { "default" };
        let template = self.environment.get_template(name).map_err(failed)?;
        // A list can be nested as deep as a template has instructions for it, and is freed by recursion.
        stack::deep("chat template", move || template.render(context).map_err(failed))
            .map_err(Error::Template)?
    }
}

/// Jinja as `transformers` sets it up.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    if let Ok(syntax) = syntax.build() {
        environment.set_syntax(syntax);
    }
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    environment.set_debug(false);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(|out, _, value| {
        out.write_str(&python::text(value)?)?;
        Ok(())
    });
    environment.add_filter("tojson", to_json);
    environment.add_filter("string", |value: &Value| python::text(value));
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Undefined)
    });
    environment.add_test("iterable", |value: &Value| {
        let kind = value.kind();
        matches!(kind, ValueKind::String | ValueKind::Undefined)
            || (!value.is_none() && value.try_iter().is_ok())
    });
    environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: String| python::strftime(&format, SystemTime::now()));
    environment
}

/// `tojson` of `transformers`: `json.dumps` with `ensure_ascii=False` by default, and without the escapes for HTML
/// of Jinja's own filter.
fn to_json(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<String, minijinja::Error> {
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<Value>>("indent")?,
    };
    let indent = indent.filter(|indent| !indent.is_none()).map(usize::try_from).transpose()?;
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    options.assert_all_used()?;
    python::json(value, &python::JsonStyle { ascii, sort, indent, separators })
}

/// Replaces `{% generation %}`, with which `transformers` marks the assistant's words for training, by a block that
/// changes nothing and treats the white space around it in the same way.
fn plain_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(len) = rest[start..].find("%}") else { break };
        let block = &rest[start..start + len];
        out.push_str(&rest[..start]);
        match block[2..].trim_matches(['-', '+', ' ', '\t', '\n']) {
            "generation" => out.push_str(&block.replace("generation", "if true")),
            "endgeneration" => out.push_str(&block.replace("endgeneration", "endif")),
            _ => out.push_str(block),
        }
        rest = &rest[start + len..];
    }
    out + rest
}

fn failed(error: minijinja::Error) -> Error {
    let mut message = match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    };
    if let Some(line) = error.line() {
        message += &format!(" (line {line})");
    }
    Error::Template(message)
}

#[cfg(test)]
mod tests;
