//! Which tools a conversation has, and where it tells of them.
//!
//! A tool with `defer_loading` is not in the prompt until a block of the conversation refers to it: what a client's search
//! among many tools found. Its declaration then stands at that place, so that what came before it is still in the cache.

use coder_engine::{Tool, ToolChoice};
use serde::Deserialize;
use serde_json::Value;

use crate::tools::Tools;
use crate::{Error, Result};

/// The tools of a request, while its messages are read.
#[derive(Debug, Default)]
pub(super) struct Offer {
    /// At the beginning of the prompt.
    shown: Vec<Tool>,
    /// Those that the conversation has not referred to yet.
    deferred: Vec<Tool>,
    /// Those that can be called so far.
    callable: Vec<Tool>,
}

/// A tool where a block names it.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Named {
    ToolReference { name: String },
    ToolDefinition { definition: Value },
}

impl Offer {
    pub(super) fn new(declared: &[Value]) -> Result<Self> {
        let mut offer = Self::default();
        for value in declared {
            let tool = Tool::from_anthropic(value)?;
            if value.get("defer_loading") == Some(&Value::Bool(true)) {
                offer.deferred.push(tool);
            } else {
                offer.shown.push(tool.clone());
                offer.callable.push(tool);
            }
        }
        Ok(offer)
    }

    /// What the model is told where the conversation refers to a tool, from where on it can be called.
    ///
    /// # Errors
    /// [`Error::Request`] for one that was not declared.
    pub(super) fn refer(&mut self, name: &str, field: &str) -> Result<String> {
        if let Some(at) = self.deferred.iter().position(|tool| tool.name == name) {
            self.callable.push(self.deferred.remove(at));
        }
        match self.callable.iter().find(|tool| tool.name == name) {
            Some(tool) => Ok(declaration(tool)),
            None => {
                let name: String = name.chars().take(128).collect();
                let problem = format!("`{field}`: no tool is called `{name}`; declare it in `tools`");
                Err(Error::Request { field: Some(field.to_owned()), problem })
            }
        }
    }

    /// The same for a tool that is added in the middle of a conversation.
    pub(super) fn add(&mut self, named: Named, field: &str) -> Result<String> {
        match named {
            Named::ToolReference { name } => self.refer(&name, field),
            Named::ToolDefinition { definition } => {
                let tool = Tool::from_anthropic(&definition)?;
                let told = declaration(&tool);
                self.callable.retain(|other| other.name != tool.name);
                self.callable.push(tool);
                Ok(told)
            }
        }
    }

    /// What the model is told where a tool is taken away. It may come back.
    pub(super) fn remove(&mut self, named: Named) -> Result<String> {
        let name = match named {
            Named::ToolReference { name } => name,
            Named::ToolDefinition { definition } => Tool::from_anthropic(&definition)?.name,
        };
        if let Some(at) = self.callable.iter().position(|tool| tool.name == name) {
            self.deferred.push(self.callable.remove(at));
        }
        Ok(format!("The tool `{name}` cannot be called any more."))
    }

    pub(super) fn into_tools(self, choice: ToolChoice, parallel: bool) -> Result<Tools> {
        Ok(Tools { shown: self.shown, ..Tools::new(self.callable, choice, parallel)? })
    }
}

/// A tool's declaration in the middle of a conversation, in the form of those at its beginning.
fn declaration(tool: &Tool) -> String {
    format!("<tools>\n{}\n</tools>", tool.declaration())
}
