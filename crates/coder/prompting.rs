//! What `coder run` shows to a model: templates and context files.

use std::path::{Path, PathBuf};

use clap::Args;
use coder_escalate::RungName;
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
    /// to replace the built-in templates; a folder in it with a rung's name, such as local or opus, has those for this
    /// rung alone [default: .coder/templates in the working folder]
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

    /// The templates for a rung. The bundled model knows one, that for code, and gets others only from --templates.
    pub(crate) fn templates(&self, rung: &RungName, bundled: bool, working_dir: &Path) -> Outcome<Templates> {
        match self.folder(working_dir)? {
            None if bundled => Ok(Templates::default()),
            Some(_) if bundled && self.templates.is_none() => Ok(Templates::default()),
            None => Ok(Templates::by_category()),
            Some(folder) => Ok(Templates::load(&folder)?.with(&folder.join(rung.as_str()))?),
        }
    }

    /// The folder of templates, if there is one.
    fn folder(&self, working_dir: &Path) -> Outcome<Option<PathBuf>> {
        let own = working_dir.join(FOLDER);
        let Some(folder) = &self.templates else { return Ok(own.is_dir().then_some(own)) };
        // A folder that is not there would be as good as an empty one.
        std::fs::read_dir(folder)
            .map_err(|source| coder_tasks::Error::Io { path: folder.clone(), source })?;
        Ok(Some(folder.clone()))
    }

    /// Folders within that of the templates that are of no rung: a misspelt one would change nothing.
    pub(crate) fn of_no_rung(
        &self,
        working_dir: &Path,
        is_rung: impl Fn(&str) -> bool,
    ) -> Outcome<Vec<PathBuf>> {
        let Some(folder) = self.folder(working_dir)? else { return Ok(Vec::new()) };
        let entries = std::fs::read_dir(&folder)
            .map_err(|source| coder_tasks::Error::Io { path: folder.clone(), source })?;
        let odd = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            path.is_dir() && !name.is_some_and(&is_rung)
        };
        let mut odd: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(odd).collect();
        odd.sort();
        Ok(odd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coder_tasks::{Task, TemplateKind};

    #[test]
    fn the_bundled_model_stays_with_the_template_for_code() {
        let folder = tempfile::tempdir().unwrap();
        let here = RungName::local();
        let chosen = |args: &PromptArgs, bundled| {
            let task = Task::of_text("Write unit tests for clamp", None);
            args.templates(&here, bundled, folder.path()).unwrap().choose(&task, false).as_str()
        };
        let none = PromptArgs { templates: None, context_files: 2, related: 0, no_summaries: false };
        assert_eq!((chosen(&none, true), chosen(&none, false)), ("code", "test"));
        let given = PromptArgs { templates: Some(folder.path().to_owned()), ..none.clone() };
        assert_eq!(chosen(&given, true), "test");
        let missing = PromptArgs { templates: Some(folder.path().join("none")), ..none.clone() };
        assert!(missing.templates(&here, true, folder.path()).is_err());
        // The working folder's own.
        std::fs::create_dir_all(folder.path().join(FOLDER)).unwrap();
        std::fs::write(folder.path().join(FOLDER).join("test.md"), "{% if %}").unwrap();
        assert!(none.templates(&here, false, folder.path()).is_err());
        assert!(none.templates(&here, true, folder.path()).is_ok());
    }

    /// Covers S3-36.
    #[test]
    fn a_rung_has_templates_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join(FOLDER);
        std::fs::create_dir_all(own.join("opus")).unwrap();
        std::fs::create_dir_all(own.join("opsu")).unwrap();
        std::fs::write(own.join("test.md"), "for all").unwrap();
        std::fs::write(own.join("opus").join("prompt-test.md"), "for opus").unwrap();
        let args = PromptArgs { templates: None, context_files: 2, related: 0, no_summaries: false };
        let digest = |rung: &str| {
            let templates = args.templates(&RungName::new(rung).unwrap(), false, folder.path()).unwrap();
            [TemplateKind::Test, TemplateKind::Code].map(|kind| templates.digest(kind))
        };
        let (opus, haiku) = (digest("opus"), digest("haiku"));
        assert_ne!(opus[0], haiku[0]);
        assert_eq!(opus[1], haiku[1]);
        let odd = args.of_no_rung(folder.path(), |name| name == "opus").unwrap();
        assert_eq!(odd, [own.join("opsu")]);
    }
}
