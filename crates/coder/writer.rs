//! The engine as a writer of edits: what the tasks crate asks, a model in this process answers.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use coder_engine::{
    Canceller, Completion, EditFile, EditGrammar, Engine, Finish, Generation, Grammar, Limit, Matcher,
    Message, Request, SamplerOptions, Summary,
};
use coder_tasks::edit::{self, Base, Form};
use coder_tasks::prompt::ContextFile;
use coder_tasks::{
    DraftOptions, FailureClass, Prompt, PromptMessage, Purpose, Question, Reply, Usage, Writer, WriterError,
};

use indicatif::MultiProgress;

use crate::args::OpenArgs;
use crate::failure::{Failure, Outcome};
use crate::jobs::Room;
use crate::live::Live;
use crate::named::{self, Found};
use crate::progress;

/// The most bytes of a failed command's output that a model is shown.
const FEEDBACK_BYTES: usize = 8 << 10;

/// Room for a reply, where nobody says another.
pub(crate) const MAX_TOKENS: usize = 4096;

/// A model in this process, on behalf of a rung.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Local {
    /// As `--model` would say it.
    pub(crate) model: String,
    /// How long one answer may take, once the model is open.
    pub(crate) deadline: Option<Duration>,
}

impl Local {
    /// Whether it is the bundled one.
    pub(crate) fn is_bundled(&self) -> bool {
        named::find(&self.model) == Some(Found::Bundled)
    }
}

/// A local model that drafts edits. It is opened when the first draft is asked for: a task that carries its own
/// code needs none.
pub(crate) struct LocalWriter<'a> {
    args: &'a OpenArgs,
    stop: Stop,
    /// What moves on the screen meanwhile.
    bars: Option<MultiProgress>,
    /// The model that is open, by its name.
    open: Option<(String, Engine)>,
    /// What all drafts together took.
    pub(crate) decoded: Decoded,
    /// Drafts in progress.
    drafts: usize,
}

/// Tokens written, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decoded {
    tokens: usize,
    /// From the first to the last token of each draft.
    spells: Vec<(Instant, Instant)>,
}

impl Decoded {
    /// Adds a draft that ended at `end`, after it had been growing for so many seconds.
    fn add(&mut self, tokens: usize, seconds: f64, end: Instant) {
        self.tokens += tokens;
        let spell = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        self.spells.push((end.checked_sub(spell).unwrap_or(end), end));
    }

    /// Tokens of all drafts per second in which any of them grew, if there were any.
    pub(crate) fn tok_s(&self) -> Option<f64> {
        let mut spells = self.spells.clone();
        spells.sort();
        let (mut seconds, mut until) = (0.0, None);
        for (begin, end) in spells {
            let begin = until.map_or(begin, |until| begin.max(until));
            seconds += end.saturating_duration_since(begin).as_secs_f64();
            until = Some(end.max(begin));
        }
        (seconds > 0.0).then(|| self.tokens as f64 / seconds)
    }
}

/// Stops a run: a flag for the steps in between, and handles on the drafts in progress.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<Stopped>);

#[derive(Default)]
struct Stopped {
    flag: AtomicBool,
    /// By number.
    drafts: Mutex<Vec<(u64, Canceller)>>,
}

impl Stop {
    /// From the signal handler's thread.
    pub(crate) fn now(&self) {
        self.flag().store(true, Ordering::SeqCst);
        self.drafts().iter().for_each(|(_, draft)| draft.cancel());
    }

    /// What the steps look at.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.0.flag
    }

    fn drafts(&self) -> MutexGuard<'_, Vec<(u64, Canceller)>> {
        self.0.drafts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A draft that is to end as well, until its number is [forgotten](Self::forget).
    fn add(&self, draft: Canceller) -> u64 {
        let mut drafts = self.drafts();
        if self.flag().load(Ordering::SeqCst) {
            // The signal came before the handle was there.
            draft.cancel();
        }
        let number = drafts.last().map_or(0, |(number, _)| number + 1);
        drafts.push((number, draft));
        number
    }

    fn forget(&self, number: u64) {
        self.drafts().retain(|(other, _)| *other != number);
    }
}

impl<'a> LocalWriter<'a> {
    fn new(args: &'a OpenArgs, stop: Stop) -> Self {
        Self { args, stop, bars: None, open: None, decoded: Decoded::default(), drafts: 0 }
    }

    /// How many bytes of a failed command's output fit into the context of each of these models, beside the task and two
    /// drafts.
    pub(crate) fn output_bytes(&self, models: impl Iterator<Item = Local>) -> usize {
        // No token is shorter than a byte, and half of the context remains. A model that cannot be opened says so
        // when it is asked for a draft.
        let contexts = models.filter_map(|local| self.context(&local.model).ok());
        contexts.map(|context| context / 2).fold(FEEDBACK_BYTES, usize::min)
    }

    /// What each of these models has room for, without loading it. One that cannot be opened says so when it is asked.
    pub(crate) fn rooms(&self, models: impl Iterator<Item = Local>) -> impl Iterator<Item = Room> {
        let names: BTreeSet<String> = models.map(|local| local.model).collect();
        let room = |model: String| -> Outcome<Room> {
            let (options, _) = self.args.options(Some(&model))?;
            let room = options.room(options.source.weights()?.config())?;
            Ok(Room { context: room.context, cache: room.cache, answers: options.parallel })
        };
        names.into_iter().filter_map(move |model| room(model).ok())
    }

    /// The context of a model, without loading it.
    fn context(&self, model: &str) -> Outcome<usize> {
        if let Some(context) = self.args.context {
            return Ok(context);
        }
        if let Some((_, engine)) = self.open.as_ref().filter(|(open, _)| open == model) {
            return Ok(engine.info().context);
        }
        Ok(named::source(Some(model))?.0.weights()?.config().context)
    }

    fn engine(&mut self, model: &str) -> Outcome<&Engine> {
        if self.open.as_ref().is_none_or(|(open, _)| open != model) {
            // First away with the old one: there may not be room for two.
            self.open = None;
            let (options, shown) = self.args.options(Some(model))?;
            let engine = progress::open_beside(&options, &shown, self.bars.as_ref())?;
            return Ok(&self.open.insert((model.to_owned(), engine)).1);
        }
        self.open.as_ref().map(|(_, engine)| engine).ok_or_else(|| Failure::new("no model is open"))
    }

    /// Begins a draft, or another answer.
    fn begin(&mut self, model: &str, ask: impl FnOnce(&Engine) -> Outcome<Request>) -> Outcome<Drafting> {
        let stop = self.stop.clone();
        let engine = self.engine(model)?;
        let generation = engine.generate(ask(engine)?)?;
        let number = stop.add(generation.canceller());
        self.drafts += 1;
        Ok(Drafting { generation, stop, number })
    }

    /// Notes that a draft ended.
    fn ended(&mut self, summary: Option<&Summary>) {
        self.drafts -= 1;
        if let Some(summary) = summary {
            self.decoded.add(summary.usage.completion_tokens, summary.timings.decode_s, Instant::now());
        }
    }

    /// Whether a model is open, or could be opened without taking one from a draft.
    fn is_ready(&self, model: &str) -> bool {
        self.drafts == 0 || self.open.as_ref().is_some_and(|(name, _)| name == model)
    }
}

/// A draft in progress.
struct Drafting {
    generation: Generation,
    stop: Stop,
    /// Its number there.
    number: u64,
}

impl Drafting {
    /// Waits for the end.
    fn finish(self) -> Outcome<Completion> {
        let ended = self.generation.finish();
        self.stop.forget(self.number);
        Ok(ended?)
    }
}

fn messages(said: &[PromptMessage]) -> Vec<Message> {
    said.iter().map(|message| Message::new(message.role.as_str(), message.content.as_str())).collect()
}

/// Sampler, grammar and length of a draft. The first one leaves room for itself and for what was wrong with it in the
/// conversation of the second one: a draft that runs on to the end of the context could not be corrected.
fn request(request: Request, context: usize, prompt: &Prompt, options: DraftOptions) -> Request {
    let sampler =
        SamplerOptions { temperature: options.temperature, seed: options.seed, ..Default::default() };
    let room = context.saturating_sub(request.prompt.len());
    let most = if options.attempt == 1 { MAX_TOKENS.min(room / 2) } else { MAX_TOKENS };
    let limit = options.max_tokens.map_or(Limit::UpTo(most.max(1)), Limit::Require);
    request.sampler(sampler).limit(limit).grammar(grammar(prompt))
}

/// The most tokens of a reply.
fn most(request: &Request, context: usize) -> usize {
    match request.limit {
        Limit::Require(tokens) => tokens,
        Limit::UpTo(tokens) => tokens.min(context.saturating_sub(request.prompt.len())),
    }
}

/// What the reply must look like. Search/replace blocks also fit the files, whatever the model thinks.
fn grammar(prompt: &Prompt) -> Grammar {
    let files = || prompt.files.iter();
    match prompt.form {
        Form::Whole => Grammar::Lark(prompt.reply.lark()),
        Form::Diff { marker } => {
            let file =
                |file: &ContextFile| EditFile { path: file.path.clone(), content: file.content.clone() };
            Grammar::Edit(EditGrammar { files: files().map(file).collect(), marker })
        }
        Form::Patch => {
            let bases: Vec<Base<'_>> =
                files().map(|file| Base { path: &file.path, content: Some(&file.content) }).collect();
            Grammar::Lark(edit::patch_lark(&bases))
        }
    }
}

/// The writer of this process, for tasks that are under way at the same time: their drafts grow side by side in one
/// model. Who wants another model waits until nobody drafts.
pub(crate) struct Writers<'a> {
    writer: Mutex<LocalWriter<'a>>,
    a_draft_ended: Condvar,
}

impl<'a> Writers<'a> {
    /// A writer that has opened nothing yet.
    pub(crate) fn new(args: &'a OpenArgs, stop: Stop) -> Self {
        Self { writer: Mutex::new(LocalWriter::new(args, stop)), a_draft_ended: Condvar::new() }
    }

    /// What is shown meanwhile.
    pub(crate) fn beside(&self, live: &Live) {
        self.lock().bars = live.bars();
    }

    /// The writer itself, between drafts.
    pub(crate) fn lock(&self) -> MutexGuard<'_, LocalWriter<'a>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On behalf of a task, with the model of a rung.
    pub(crate) fn with(&self, local: Local) -> Turn<'_, 'a> {
        Turn { writers: self, local }
    }
}

/// The writer on behalf of one task.
pub(crate) struct Turn<'w, 'a> {
    writers: &'w Writers<'a>,
    local: Local,
}

impl<'w, 'a> Turn<'w, 'a> {
    /// The writer, once the model can be had.
    fn writer(&self) -> MutexGuard<'w, LocalWriter<'a>> {
        let mut writer = self.writers.lock();
        while !writer.is_ready(&self.local.model) {
            writer = self.writers.a_draft_ended.wait(writer).unwrap_or_else(PoisonError::into_inner);
        }
        writer
    }
}

impl Turn<'_, '_> {
    /// One answer, from the beginning to the end.
    fn ask(&self, ask: impl FnOnce(&Engine) -> Outcome<Request>) -> Result<Reply, WriterError> {
        let unavailable = |failure: Failure| WriterError::new(FailureClass::Availability, failure.reason());
        let started = Instant::now();
        let Local { model, deadline } = &self.local;
        let ask = |engine: &Engine| -> Outcome<Request> {
            let request = ask(engine)?;
            Ok(request.deadline(deadline.map(|deadline| Instant::now() + deadline)))
        };
        let drafting = self.writer().begin(model, ask).map_err(unavailable)?;
        let ended = drafting.finish();
        self.writers.lock().ended(ended.as_ref().ok().map(|completion| &completion.summary));
        self.writers.a_draft_ended.notify_all();
        let Completion { text, summary, .. } = ended.map_err(unavailable)?;
        let usage = Usage {
            prompt_tokens: summary.usage.prompt_tokens as u64,
            cached_tokens: summary.usage.cached_tokens as u64,
            completion_tokens: summary.usage.completion_tokens as u64,
        };
        let failed = |class, reason: &str| Err(WriterError { usage, ..WriterError::new(class, reason) });
        match summary.finish {
            Finish::Cancelled => failed(FailureClass::Cancelled, "cancelled"),
            Finish::Deadline => {
                let seconds = deadline.unwrap_or_default().as_secs();
                let reason = format!(
                    "model `{model}`: no whole answer after `{seconds}` s; raise `deadline_s` of its rung in coder.toml"
                );
                failed(FailureClass::Availability, &reason)
            }
            _ => {
                let seconds = started.elapsed().as_secs_f64();
                Ok(Reply { text, usage, seconds, cost_usd: 0.0, model: model.clone() })
            }
        }
    }
}

impl Writer for Turn<'_, '_> {
    /// By the model's own tokenizer and chat template. That a model does not open is the draft's complaint.
    fn tokens(&mut self, prompt: &Prompt) -> Option<usize> {
        let request = self.writer().engine(&self.local.model).ok()?.chat(&messages(&prompt.messages)).ok()?;
        Some(request.prompt.len())
    }

    /// Only search/replace blocks know how many tokens they take at the least.
    fn unfit(&mut self, prompt: &Prompt, options: DraftOptions) -> Option<String> {
        let Form::Diff { .. } = prompt.form else { return None };
        let mut writer = self.writer();
        let engine = writer.engine(&self.local.model).ok()?;
        let context = engine.info().context;
        let request = request(engine.chat(&messages(&prompt.messages)).ok()?, context, prompt, options);
        // The last token is that which ends the text. A prompt that leaves no room is the draft's complaint.
        let most = most(&request, context).checked_sub(1)?;
        match Matcher::within(engine.tokenizer(), &grammar(prompt), most) {
            Err(coder_engine::Error::Grammar(reason)) => Some(reason),
            _ => None,
        }
    }

    /// Every error says that the model could not be used; that its text is wrong, verification finds out.
    fn draft(&mut self, prompt: &Prompt, options: DraftOptions) -> Result<Reply, WriterError> {
        self.ask(|engine| {
            Ok(request(engine.chat(&messages(&prompt.messages))?, engine.info().context, prompt, options))
        })
    }

    /// It plans, held to the schema; it does not review what may be its own (S2-31, S2-33).
    fn answer(&mut self, question: &Question) -> Result<Reply, WriterError> {
        if question.purpose == Purpose::Review {
            return Err(WriterError::new(FailureClass::Availability, "a local model does not review"));
        }
        self.ask(|engine| {
            let request = engine.chat(&messages(&question.messages))?;
            let room = engine.info().context.saturating_sub(request.prompt.len()).max(1);
            let limit = Limit::UpTo(question.max_tokens.min(room));
            Ok(request.limit(limit).grammar(Grammar::JsonSchema(question.schema.clone())))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use coder_tasks::Role;
    use serde_json::json;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        open: OpenArgs,
    }

    /// Covers S2-05: a model that takes too long is one that cannot be used (decision 1).
    #[test]
    fn an_answer_has_its_time() {
        let line = Line::parse_from(["coder"]);
        let writers = Writers::new(&line.open, Stop::default());
        let question = Question {
            purpose: Purpose::Plan,
            messages: vec![PromptMessage { role: Role::User, content: "Classify: crash".to_owned() }],
            files: Vec::new(),
            schema: json!({ "type": "integer" }),
            max_tokens: 20,
        };
        let within = |deadline| {
            let local = Local { model: crate::bundled::NAME.to_owned(), deadline };
            writers.with(local).answer(&question)
        };
        let late = within(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(late.class, FailureClass::Availability);
        assert!(late.message.contains("`0` s") && late.message.contains("deadline_s"), "{}", late.message);
        assert!(within(Some(Duration::from_secs(3600))).is_ok() && within(None).is_ok());
    }

    #[test]
    fn the_rate_of_drafts_side_by_side_is_that_of_all_together() {
        let begin = Instant::now();
        let at = |seconds: f64| begin + Duration::from_secs_f64(seconds);
        let mut decoded = Decoded::default();
        assert_eq!(decoded.tok_s(), None);
        // Two at the same time, a third one within them, and one later.
        decoded.add(100, 10.0, at(10.0));
        decoded.add(100, 10.0, at(15.0));
        decoded.add(50, 1.0, at(8.0));
        decoded.add(50, 5.0, at(30.0));
        let rate = decoded.tok_s().expect("a rate");
        assert!((rate - 300.0 / 20.0).abs() < 1e-6, "{rate}");
    }
}
