//! The order of attempts and rungs, and what each rung is shown.

use super::{Progress, Run, Showing, bases};
use crate::context::{self, Detail};
use crate::edit::{EditFormat, Form};
use crate::ledger::Verdict;
use crate::policy::{Decision, Outcome};
use crate::project::Project;
use crate::prompt::{ContextFile, Feedback, Prompt};
use crate::workspace::{Snapshot, Transaction};
use crate::writer::{DraftOptions, Writer, Writers};
use crate::{Error, Result};

/// Work that was refused, and why.
#[derive(Clone)]
pub(super) struct Fault {
    pub(super) work: Work,
    pub(super) feedback: Feedback,
}

/// Work as it is shown to who has to do better.
#[derive(Clone)]
pub(super) enum Work {
    /// A file's content.
    Content(String),
    /// What a model replied.
    Reply(String),
}

/// The rung that is asked at present.
pub(super) struct Asked<'w> {
    pub(super) rung: String,
    pub(super) writer: Box<dyn Writer + 'w>,
    pub(super) prompt: Prompt,
}

impl Run<'_> {
    /// Attempts until one works or no more are allowed.
    pub(super) fn attempts(
        &mut self,
        transaction: &mut Transaction<'_>,
        writers: &mut Writers<'_, '_>,
    ) -> Result<Outcome> {
        let first = self.settings.showing(&self.settings.policy.ladders.first);
        // Files that are missing or too many are found out before anything is tried.
        context::gather(self.task, &[], self.workspace, &first.context, Detail::Full)?;
        let mut fault = None;
        if let Some(code) = self.task.code.as_ref().filter(|code| self.is_mechanical(code, transaction)) {
            fault = self.mechanical(code, transaction)?;
        }
        let mut asked: Option<Asked<'_>> = None;
        loop {
            if self.cancelled() && !self.is_done() {
                return Ok(Outcome::Cancelled);
            }
            let (rung, mut options) = match self.settings.policy.next(&self.history) {
                Decision::Stop { outcome } => return Ok(outcome),
                Decision::Draft { rung, attempt, temperature, seed } => {
                    (rung, DraftOptions { attempt, seed, temperature, max_tokens: None })
                }
            };
            options.max_tokens = self.settings.showing(&rung).max_tokens;
            let former = asked.take();
            let mut now = match former {
                Some(same) if same.rung == rung => same,
                former => {
                    if former.is_some() {
                        self.escalated(&rung);
                    }
                    let Some(mut writer) = writers(&rung) else {
                        // What the task's own code came to is the task's outcome; otherwise nothing was tried.
                        return Ok(match self.history.is_empty() {
                            true => Outcome::Unavailable,
                            false => Outcome::Blocked,
                        });
                    };
                    let prompt = self.opening(&rung, &mut *writer, options, transaction, fault.as_ref())?;
                    Asked { rung, writer, prompt }
                }
            };
            if let Some(new) = self.attempt(&mut now, options, transaction, writers)? {
                if let Work::Reply(reply) = &new.work {
                    now.prompt = now.prompt.retry(reply, &new.feedback)?;
                }
                fault = Some(new);
            }
            asked = Some(now);
        }
    }

    /// Tells that the next rung is asked.
    fn escalated(&mut self, to: &str) {
        let Some(last) = self.history.last() else { return };
        let Verdict::Failed { class, .. } = last.verdict else { return };
        let from = last.rung().unwrap_or_default().to_owned();
        let gate = last.gate().unwrap_or_default();
        (self.observe)(&Progress::Escalated { from: &from, to, class, gate });
    }

    /// The prompt for a rung's first try, in a form to which its writer can hold its replies. Who asks for a form gets no
    /// other. If there was work before it, the conversation goes on after that.
    fn opening(
        &mut self,
        rung: &str,
        writer: &mut dyn Writer,
        options: DraftOptions,
        transaction: &Transaction<'_>,
        fault: Option<&Fault>,
    ) -> Result<Prompt> {
        if matches!(fault, Some(Fault { work: Work::Content(_), .. })) {
            // The code in its place is what a model would have replied, as a whole file.
            return self.budgeted(rung, writer, transaction, fault, Form::Whole);
        }
        let form = self.settings.edit_format.form(&bases(transaction.base()));
        let prompt = self.budgeted(rung, writer, transaction, fault, form)?;
        if self.settings.edit_format != EditFormat::Auto || form == Form::Whole {
            return Ok(prompt);
        }
        let Some(reason) = writer.unfit(&prompt, options) else { return Ok(prompt) };
        (self.observe)(&Progress::WholeFiles(&reason));
        self.budgeted(rung, writer, transaction, fault, Form::Whole)
    }

    /// A first prompt in this form. If there was work before, the model is told how it failed.
    fn first_prompt(
        &self,
        showing: &Showing,
        context: &[ContextFile],
        transaction: &Transaction<'_>,
        fault: Option<&Fault>,
        form: Form,
    ) -> Result<Prompt> {
        let current = |snapshot: &Snapshot| {
            let content = snapshot.text()?.to_owned();
            Some(ContextFile { path: snapshot.path.clone(), content })
        };
        let current: Vec<_> = transaction.base().iter().filter_map(current).collect();
        let prompt = Prompt::in_form(&showing.templates, self.task, context, &current, form)?;
        match fault {
            Some(Fault { work: Work::Content(content), feedback }) => {
                prompt.retry(&prompt.reply.wrap(content), feedback)
            }
            Some(Fault { work: Work::Reply(reply), feedback }) => prompt.retry(reply, feedback),
            None => Ok(prompt),
        }
    }

    /// The same within its budget. Where it has more tokens than its template allows, all context files are shown by their
    /// symbols, then only those that the task names; if that is not enough, the task is refused.
    fn budgeted(
        &mut self,
        rung: &str,
        writer: &mut dyn Writer,
        transaction: &Transaction<'_>,
        fault: Option<&Fault>,
        form: Form,
    ) -> Result<Prompt> {
        let showing = self.settings.showing(rung);
        let related = self.related(showing.context.related);
        let mut fitting = |related: &[String], detail| {
            let context = context::gather(self.task, related, self.workspace, &showing.context, detail)?;
            let prompt = self.first_prompt(showing, &context.files, transaction, fault, form)?;
            within_budget(&prompt, writer).map(|()| (prompt, context))
        };
        let mut found = fitting(&related, Detail::Full);
        for (related, detail) in
            [(&related[..], Detail::Symbols), (&[], Detail::Full), (&[], Detail::Symbols)]
        {
            if !matches!(found, Err(Error::OverBudget { .. })) {
                break;
            }
            found = fitting(related, detail);
        }
        let (prompt, context) = found?;
        if !context.related.is_empty() {
            (self.observe)(&Progress::Related(&context.related));
        }
        self.context = context;
        Ok(prompt)
    }

    /// The files that belong to the task by its words, at most so many; looked for once.
    fn related(&mut self, most: usize) -> Vec<String> {
        if most == 0 {
            return Vec::new();
        }
        let found = self.related.get_or_insert_with(|| {
            let project = Project::read(self.workspace, &self.settings.denied);
            if project.left_out > 0 {
                (self.observe)(&Progress::LeftOut(project.left_out));
            }
            project.related(self.task, most)
        });
        found.iter().take(most).cloned().collect()
    }
}

/// Holds a prompt to its template's budget, as far as the writer can count its tokens.
fn within_budget(prompt: &Prompt, writer: &mut dyn Writer) -> Result<()> {
    let Some(budget) = prompt.budget else { return Ok(()) };
    match writer.tokens(prompt) {
        Some(tokens) if tokens > budget => {
            Err(Error::OverBudget { tokens, budget, template: prompt.kind.as_str() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Templates;
    use crate::task::Task;
    use crate::writer::{Reply, WriterError};

    struct Counting(Option<usize>);

    impl Writer for Counting {
        fn draft(&mut self, _: &Prompt, _: DraftOptions) -> Result<Reply, WriterError> {
            Ok(Reply::default())
        }

        fn tokens(&mut self, _: &Prompt) -> Option<usize> {
            self.0
        }
    }

    #[test]
    fn a_prompt_keeps_to_its_templates_budget() {
        let task = Task::of_text("Create tests for validateEmail", Some("a.test.js"));
        let budgeted = Prompt::by(&Templates::by_category(), &task, &[], &[]).unwrap();
        let budget = budgeted.budget.unwrap();
        assert!(within_budget(&budgeted, &mut Counting(Some(budget))).is_ok());
        assert!(within_budget(&budgeted, &mut Counting(None)).is_ok());
        let error = within_budget(&budgeted, &mut Counting(Some(budget + 1))).unwrap_err().to_string();
        let expected =
            format!("the prompt has `{}` tokens, the budget of template `test` is `{budget}`", budget + 1);
        assert!(error.starts_with(&expected), "{error}");
        let code = Prompt::new(&task, &[], &[]).unwrap();
        assert!(within_budget(&code, &mut Counting(Some(1 << 20))).is_ok());
    }
}
