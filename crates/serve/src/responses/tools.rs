//! The tools of a request: functions, alone or in namespaces.

use std::collections::BTreeMap;

use coder_engine::{Tool, ToolChoice};
use serde::Deserialize;
use serde_json::Value;

use crate::tools::Tools;
use crate::{Error, Result};

/// Functions that are declared, and what they are called outside of the model.
#[derive(Debug, Default)]
pub(super) struct Declared {
    tools: Vec<Tool>,
    pub(super) names: Names,
}

/// Of functions in namespaces: by the name that the model knows, the namespace and the name in it.
pub(super) type Names = BTreeMap<String, (String, String)>;

/// Whether tools are called, and which.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected `auto`, `none`, `required`, or the name of a function")]
pub(super) enum Choose {
    Word(Word),
    Named(Function),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    Auto,
    None,
    Required,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Function {
    Function { name: String, namespace: Option<String> },
}

/// The name that the model knows a function by.
pub(super) fn full_name(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or(name.to_owned(), |namespace| format!("{namespace}.{name}"))
}

impl Declared {
    /// # Errors
    /// [`Error::Request`] for tools that are not functions, by their type: they would have to run here.
    pub(super) fn new(declared: &[Value]) -> Result<Self> {
        let mut all = Self::default();
        for value in declared {
            match kind(value) {
                "namespace" => all.namespace(value)?,
                _ => all.tools.push(function(value)?),
            }
        }
        Ok(all)
    }

    fn namespace(&mut self, value: &Value) -> Result<()> {
        let space = value.get("name").and_then(Value::as_str).unwrap_or_default();
        let Some(inner) = value.get("tools").and_then(Value::as_array) else {
            return Err(Error::request("tools", "`tools`: a namespace has `name` and `tools`"));
        };
        for value in inner {
            let tool = function(value)?;
            let name = full_name(Some(space), &tool.name);
            self.names.insert(name.clone(), (space.to_owned(), tool.name));
            let strict = tool.strict;
            self.tools.push(Tool { strict, ..Tool::new(name, tool.description, Some(tool.parameters))? });
        }
        Ok(())
    }

    pub(super) fn choose(self, choice: Option<Choose>, parallel: bool) -> Result<Tools> {
        let choice = match choice {
            None | Some(Choose::Word(Word::Auto)) => ToolChoice::Auto,
            Some(Choose::Word(Word::None)) => ToolChoice::None,
            Some(Choose::Word(Word::Required)) => ToolChoice::Required,
            Some(Choose::Named(Function::Function { name, namespace })) => {
                ToolChoice::Named(full_name(namespace.as_deref(), &name))
            }
        };
        Tools::new(self.tools, choice, parallel)
    }
}

fn kind(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or("function")
}

fn function(value: &Value) -> Result<Tool> {
    match kind(value) {
        "function" => Ok(Tool::from_openai(value)?),
        kind => {
            let kind: String = kind.chars().take(100).collect();
            let remedy = match kind.as_str() {
                "custom" => "declare a `function` with one parameter",
                "web_search" | "web_search_preview" => {
                    "leave it out (Codex: `web_search = \"disabled\"` in its configuration)"
                }
                _ => "leave it out",
            };
            let problem = format!("`tools`: a tool of type `{kind}` is not supported; {remedy}");
            Err(Error::request("tools", problem))
        }
    }
}
