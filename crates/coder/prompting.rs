//! What `coder run` shows to a model: templates and context files.

use std::path::{Path, PathBuf};

use clap::Args;
use coder_tasks::Templates;
use coder_tasks::context::{ContextRules, Others};

use crate::failure::Outcome;

/// Where a working folder keeps templates of its own.
const FOLDER: &str = ".coder/templates";

/// Templates and context files of prompts.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Prompts")]
pub(crate) struct PromptArgs {
    /// Folder with code.md, test.md, refactor.md, documentation.md, edit.md (or prompt-code.md and so on), as far as they are
    /// to replace the built-in templates [default: .coder/templates in the working folder]
    #[arg(long, value_name = "FOLDER")]
    templates: Option<PathBuf>,
    /// Context files that are shown whole; of further ones a summary is: signatures, types and comments of code;
    /// ends, headings and keys of Markdown, text, JSON, TOML and YAML
    #[arg(long, value_name = "N", default_value_t = ContextRules::default().files)]
    context_files: usize,
    /// Show as many files more, that the task does not name: those of the project that share the most words with it (see
    /// coder related). Only models in this process are shown them; what these write may quote them
    #[arg(long, value_name = "N", default_value_t = 0)]
    related: usize,
    /// Refuse a task with more or longer context files, in place of showing summaries
    #[arg(long)]
    no_summaries: bool,
}

impl PromptArgs {
    /// What of its context files a prompt shows. What a task does not name is for models in this process alone.
    pub(crate) fn context(&self, is_here: bool) -> ContextRules {
        let others = if self.no_summaries { Others::Refuse } else { Others::Summarise };
        let related = if is_here { self.related } else { 0 };
        ContextRules { files: self.context_files, others, related, ..ContextRules::default() }
    }

    /// The templates for a task. The bundled model knows one, that for code, and gets others only from --templates.
    pub(crate) fn templates(&self, bundled: bool, working_dir: &Path) -> Outcome<Templates> {
        let own = working_dir.join(FOLDER);
        Ok(match &self.templates {
            Some(folder) => {
                // A folder that is not there would be as good as an empty one.
                std::fs::read_dir(folder)
                    .map_err(|source| coder_tasks::Error::Io { path: folder.clone(), source })?;
                Templates::load(folder)?
            }
            None if bundled => Templates::default(),
            None if own.is_dir() => Templates::load(&own)?,
            None => Templates::by_category(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coder_tasks::Task;

    #[test]
    fn the_bundled_model_stays_with_the_template_for_code() {
        let folder = tempfile::tempdir().unwrap();
        let chosen = |args: &PromptArgs, bundled| {
            let task = Task::of_text("Write unit tests for clamp", None);
            args.templates(bundled, folder.path()).unwrap().choose(&task, false).as_str()
        };
        let none = PromptArgs { templates: None, context_files: 2, related: 0, no_summaries: false };
        assert_eq!((chosen(&none, true), chosen(&none, false)), ("code", "test"));
        let given = PromptArgs { templates: Some(folder.path().to_owned()), ..none.clone() };
        assert_eq!(chosen(&given, true), "test");
        let missing = PromptArgs { templates: Some(folder.path().join("none")), ..none.clone() };
        assert!(missing.templates(true, folder.path()).is_err());
        // The working folder's own.
        std::fs::create_dir_all(folder.path().join(FOLDER)).unwrap();
        std::fs::write(folder.path().join(FOLDER).join("test.md"), "{% if %}").unwrap();
        assert!(none.templates(false, folder.path()).is_err());
        assert!(none.templates(true, folder.path()).is_ok());
    }
}
