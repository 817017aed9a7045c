//! Tools: what a request says about them, for the model that it is sent to. What a call is belongs to the engine.

use coder_engine::{CallFormat, Engine, Grammar, Tool, ToolChoice, ToolSet};

use crate::{Error, Result};

/// The tools of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tools {
    /// Those that can be called.
    pub(crate) declared: Vec<Tool>,
    /// Those that the prompt begins with.
    pub(crate) shown: Vec<Tool>,
    pub(crate) choice: ToolChoice,
    /// Whether an answer may have several calls.
    pub(crate) parallel: bool,
}

impl Tools {
    /// # Errors
    /// [`Error::Request`] for a choice of tools that are not there.
    pub(crate) fn new(declared: Vec<Tool>, choice: ToolChoice, parallel: bool) -> Result<Self> {
        if declared.is_empty() && !matches!(choice, ToolChoice::Auto | ToolChoice::None) {
            return Err(Error::request("tool_choice", "`tool_choice`: there are no `tools`"));
        }
        Ok(Self { shown: declared.clone(), declared, choice, parallel })
    }

    /// Whether an answer may begin as free text.
    pub(crate) fn leave_free(&self) -> bool {
        self.declared.is_empty() || matches!(self.choice, ToolChoice::Auto | ToolChoice::None)
    }

    /// The set for the model's way to write calls. Where an answer has a form, one that calls nothing has it.
    ///
    /// # Errors
    /// [`Error::Request`] for tools that cannot be called as they are declared.
    pub(crate) fn set(&self, engine: &Engine, form: Option<&Grammar>) -> Result<ToolSet> {
        // The template's, which need not be the one that came with the model.
        let source = engine.template().map(|template| template.source(true));
        let format = source.map_or(CallFormat::Json, |source| CallFormat::of_template(&source));
        let set = ToolSet::new(self.declared.clone(), format)?;
        Ok(set.choice(self.choice.clone())?.parallel(self.parallel).answer(form.cloned())?)
    }
}
