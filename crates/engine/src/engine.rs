//! The engine as its users see it: open, ask, read events.

use crate::answer::Job;
use crate::draft::{self, DraftModel};
use crate::embedding::{Embedder, EmbeddingRequest, Pool, Pooling};
use crate::load::{self, LoadProgress, Loaded, ModelInfo, Options};
use crate::prefixes::Prefixes;
use crate::prompt;
use crate::scheduler::Capacity;
use crate::step::{Order, Stepper};
use crate::tokenizer::SpecialTokens;
use crate::tools;
use crate::{
    ChatTemplate, Error, Event, Grammar, Limit, Matcher, Message, Request, Result, Sampler, SamplerOptions,
    Summary, TextStream, Token, Tokenizer, ToolSet, Usage,
};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

/// A loaded model. Cheap to clone and to share between threads: answers to several requests grow side by side, each
/// the same as if it were alone.
///
/// ```no_run
/// # fn main() -> coder_engine::Result<()> {
/// use coder_engine::{Engine, Message, Options};
/// let engine = Engine::open(&Options::new("models/coder-tiny.gguf"))?;
/// let request = engine.chat(&[Message::new("user", "Write a Python function `add`.")])?;
/// println!("{}", engine.generate(request)?.finish()?.text);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    orders: Option<mpsc::Sender<Order>>,
    /// Requests that have not ended.
    open: Arc<AtomicUsize>,
    queue: usize,
    thread: Option<JoinHandle<()>>,
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    info: ModelInfo,
}

impl Engine {
    /// Loads a model and starts the thread that runs it.
    ///
    /// # Errors
    /// A file that is missing, broken or not supported; a model that does not fit into memory.
    pub fn open(options: &Options) -> Result<Self> {
        Self::open_with(options, |_| ())
    }

    /// The same, telling `progress` how far loading is.
    pub fn open_with(options: &Options, mut progress: impl FnMut(LoadProgress)) -> Result<Self> {
        draft::check(options)?;
        let loaded = load::open(options, options.logits(), &mut progress)?;
        Self::start(options, loaded, progress)
    }

    /// Starts the thread that runs a loaded model.
    pub(crate) fn start(
        options: &Options,
        loaded: Loaded,
        progress: impl FnMut(LoadProgress),
    ) -> Result<Self> {
        let (tokenizer, rows) = (Arc::new(loaded.tokenizer), loaded.info.chunk);
        let (draft, drafting) = DraftModel::open(options, &tokenizer, &loaded.info, progress)?.unzip();
        let (sender, received) = mpsc::channel();
        let open = Arc::new(AtomicUsize::new(0));
        let capacity = Capacity { rows, sequences: options.parallel };
        let mut stepper = Stepper::new(
            (loaded.runner, loaded.blocks),
            (capacity, options.logits().min(rows)),
            tokenizer.clone(),
            draft,
            open.clone(),
        );
        let mut info = ModelInfo { draft: drafting.map(Box::new), ..loaded.info };
        if let Some((file, identity)) = options.prefix_cache.clone().zip(loaded.identity)
            && let Some(notice) = stepper.keep(Prefixes::new(file, identity))?
        {
            info.notice = Some(info.notice.into_iter().chain([notice]).collect::<Vec<_>>().join("\n"));
        }
        let thread = std::thread::Builder::new()
            .name("coder-engine".into())
            .spawn(move || stepper.run(received))
            .map_err(|source| Error::Io { path: "thread".into(), source })?;
        let template = loaded.template;
        let (orders, thread, queue) = (Some(sender), Some(thread), options.queue);
        Ok(Self(Arc::new(Shared { orders, open, queue, thread, tokenizer, template, info })))
    }

    /// Starts a generation. Everything about the request is checked before this returns.
    ///
    /// # Errors
    /// [`Error::ContextTooLong`], [`Error::Grammar`], [`Error::Request`]; [`Error::Busy`] when the queue is full.
    pub fn generate(&self, request: Request) -> Result<Generation> {
        let max_tokens = self.check(&request)?;
        let sampler = Sampler::new(&request.sampler, self.0.info.vocab)?;
        let matcher = match &request.grammar {
            // The last token is left for the end of the text, which says that the answer is complete.
            Some(grammar) => Some(Matcher::within(&self.0.tokenizer, grammar, max_tokens - 1)?),
            None => None,
        };
        let (events, receiver) = mpsc::channel();
        let canceller = Canceller::default();
        let job = Job {
            text: TextStream::new(&request.stop)?,
            prompt: request.prompt,
            max_tokens,
            sampler,
            matcher,
            show_special: request.show_special,
            tags: match &request.grammar {
                Some(Grammar::Tools(_)) => tools::tags(&self.0.tokenizer),
                _ => Vec::new(),
            },
            ignore_end: request.ignore_end,
            pool: None,
            speculate: request.speculate,
            priority: request.priority,
            deadline: request.deadline,
            events,
            canceller: canceller.clone(),
            queued: Instant::now(),
        };
        self.submit(job)?;
        Ok(Generation { events: receiver, canceller, ended: false })
    }

    /// Starts to read a text whose vector is wanted. What it has in common with others is computed once, if only its
    /// last token counts.
    ///
    /// # Errors
    /// [`Error::ContextTooLong`], [`Error::Request`]; [`Error::Busy`] when the queue is full.
    pub fn embed(&self, request: EmbeddingRequest) -> Result<Embedder> {
        let EmbeddingRequest { tokens, pooling, priority, deadline } = request;
        self.check_tokens(&tokens)?;
        let context = self.0.info.context;
        if tokens.len() > context {
            return Err(Error::ContextTooLong { prompt: tokens.len(), requested: 0, context });
        }
        let (sender, reply) = mpsc::channel();
        let canceller = Canceller::default();
        self.submit(Job {
            pool: Some(Pool::new(pooling, tokens.len(), sender)),
            prompt: tokens,
            max_tokens: 0,
            sampler: Sampler::new(&SamplerOptions::default(), self.0.info.vocab)?,
            matcher: None,
            text: TextStream::new(&[])?,
            show_special: false,
            tags: Vec::new(),
            ignore_end: false,
            speculate: false,
            priority,
            deadline,
            events: mpsc::channel().0, // nobody listens to the events of a text that is only read
            canceller: canceller.clone(),
            queued: Instant::now(),
        })?;
        Ok(Embedder { reply, canceller })
    }

    /// Counts a job and sends it to the engine's thread.
    fn submit(&self, job: Job) -> Result<()> {
        let count = |open| (open < self.0.queue).then_some(open + 1);
        let counted = self.0.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, count);
        counted.map_err(|open| Error::Busy { open })?;
        self.send(Order::Job(Box::new(job))).inspect_err(|_| {
            self.0.open.fetch_sub(1, Ordering::AcqRel);
        })
    }

    fn send(&self, order: Order) -> Result<()> {
        let orders = self.0.orders.as_ref().ok_or(Error::Stopped)?;
        orders.send(order).map_err(|_| Error::Stopped)
    }

    /// What the engine has done and is doing. Waits for the step that is running.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn stats(&self) -> Result<Stats> {
        let (reply, stats) = mpsc::channel();
        self.send(Order::Stats(reply))?;
        stats.recv().map_err(|_| Error::Stopped)
    }

    /// Writes the file of [`Options::prefix_cache`] now, and not only when the engine ends; gives the number of blocks,
    /// of 32 tokens each, that it has. 0 where there is to be none.
    ///
    /// # Errors
    /// [`Error::Io`], and the file is as it was; [`Error::Stopped`].
    pub fn save_prefixes(&self) -> Result<usize> {
        let (reply, saved) = mpsc::channel();
        self.send(Order::Save(reply))?;
        saved.recv().map_err(|_| Error::Stopped)?
    }

    /// The tokens that the answer may have.
    fn check(&self, request: &Request) -> Result<usize> {
        self.check_tokens(&request.prompt)?;
        let (prompt, context) = (request.prompt.len(), self.0.info.context);
        let (requested, at_most) = match request.limit {
            Limit::Require(n) => (n, n),
            Limit::UpTo(n) => (n.min(1), n.min(context.saturating_sub(prompt))),
        };
        if at_most == 0 && requested == 0 {
            let problem = "no token asked for; ask for at least one".into();
            return Err(Error::Request { field: "limit", problem });
        }
        if prompt.saturating_add(requested) > context {
            return Err(Error::ContextTooLong { prompt, requested, context });
        }
        Ok(at_most)
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let bad = |problem: String| Err(Error::Request { field: "prompt", problem });
        let vocab = self.0.info.vocab;
        match tokens.iter().find(|&&t| t as usize >= vocab) {
            None if tokens.is_empty() => bad("is empty; at least one token is needed".into()),
            None => Ok(()),
            Some(t) => bad(format!("token `{t}` is not in the vocabulary of `{vocab}`")),
        }
    }

    /// A request from a conversation, through the model's chat template. Names of special tokens in a
    /// message are plain text.
    ///
    /// # Errors
    /// [`Error::Template`] if the model has none or it refuses these messages.
    pub fn chat(&self, messages: &[Message]) -> Result<Request> {
        self.chat_with(messages, None)
    }

    /// The same with tool definitions (OpenAI's `tools`).
    pub fn chat_with(&self, messages: &[Message], tools: Option<&[serde_json::Value]>) -> Result<Request> {
        self.chat_as(messages, tools, &serde_json::Map::new())
    }

    /// The same with further variables for the template, such as `enable_thinking`.
    pub fn chat_as(
        &self,
        messages: &[Message],
        tools: Option<&[serde_json::Value]>,
        variables: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Request> {
        let template = self.0.template.as_ref().ok_or_else(|| {
            Error::Template(
                "the model has none; open it with one (`--chat-template`, `Options::chat_template`), or use a raw \
                 prompt"
                    .into(),
            )
        })?;
        Ok(Request::new(prompt::encode(template, &self.0.tokenizer, messages, tools, variables)?))
    }

    /// The same with tools that the answer may call; [`ToolStream`](crate::ToolStream) reads the calls.
    pub fn chat_tools(&self, messages: &[Message], set: &Arc<ToolSet>) -> Result<Request> {
        let declarations = set.declarations();
        let shown = (!declarations.is_empty()).then_some(declarations.as_slice());
        Ok(self.chat_with(messages, shown)?.tools(set))
    }

    /// A request from raw text. Names of special tokens in it are plain text.
    pub fn prompt(&self, text: &str) -> Result<Request> {
        self.prompt_as(text, SpecialTokens::Plain)
    }

    /// The same; names of special tokens are those tokens where whoever wrote the text wrote a prompt's markers with it.
    pub fn prompt_as(&self, text: &str, special: SpecialTokens) -> Result<Request> {
        let tokenizer = &self.0.tokenizer;
        let tokens = tokenizer.encode(text, special)?;
        let begun = tokens.first().copied();
        let begin = tokenizer.bos().filter(|&bos| tokenizer.add_bos() && begun != Some(bos));
        Ok(Request::new(begin.into_iter().chain(tokens).collect()))
    }

    /// A request for the vector of a text, pooled as the model was trained, or by the mean if it was not for this.
    /// Names of special tokens in the text are plain text.
    pub fn embedding(&self, text: &str) -> Result<EmbeddingRequest> {
        let mut tokens = self.prompt(text)?.prompt;
        tokens.extend(self.0.tokenizer.text_end());
        let pooling = self.0.info.pooling.unwrap_or(Pooling::Mean);
        Ok(EmbeddingRequest { tokens, pooling, priority: 0, deadline: None })
    }

    /// A request for what belongs between `prefix` and `suffix` (fill in the middle).
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the vocabulary has no tokens for it.
    pub fn fim(&self, prefix: &str, suffix: &str) -> Result<Request> {
        let tokenizer = &self.0.tokenizer;
        let fim = tokenizer.fim().ok_or_else(|| Error::Unsupported {
            what: "fill in the middle with model",
            got: self.0.info.name.clone(),
            supported: "models whose vocabulary has fim tokens, such as Qwen2.5-Coder".into(),
        })?;
        let mut prompt = vec![fim.prefix];
        prompt.extend(tokenizer.encode(prefix, SpecialTokens::Plain)?);
        prompt.push(fim.suffix);
        prompt.extend(tokenizer.encode(suffix, SpecialTokens::Plain)?);
        prompt.push(fim.middle);
        Ok(Request::new(prompt))
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// The chat template, if the model has one.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.0.template.as_ref()
    }

    /// What was loaded.
    pub fn info(&self) -> &ModelInfo {
        &self.0.info
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Engine").field(&self.0.info).finish()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.orders.take()); // the thread ends when nobody can send any more
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What an engine has done since it was opened, and what it is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Requests that ended.
    pub ended: u64,
    /// Requests that wait.
    pub waiting: usize,
    /// Requests whose answers grow.
    pub running: usize,
    /// Forward passes.
    pub steps: u64,
    /// Rows of all of them.
    pub rows: u64,
    /// Prompt tokens that were computed so far, also of requests that run or were cancelled.
    pub read_tokens: u64,
    /// Answer tokens so far, of the same.
    pub written_tokens: u64,
    /// Prompt tokens of the requests that ended.
    pub prompt_tokens: u64,
    /// How many of them were in the cache already.
    pub cached_tokens: u64,
    /// Answer tokens of the requests that ended.
    pub completion_tokens: u64,
    /// Tokens that were guessed and verified.
    pub drafted_tokens: u64,
    /// How many of them were right.
    pub accepted_tokens: u64,
    /// How often a request had to give its blocks to another, to start again later.
    pub preemptions: u64,
    /// Blocks of the key-value cache, of 32 tokens each.
    pub blocks: usize,
    /// Those that requests use.
    pub blocks_used: usize,
    /// Those that hold something, for requests to come or for those that run.
    pub blocks_filled: usize,
}

impl Stats {
    pub(crate) fn add(&mut self, usage: &Usage) {
        self.ended += 1;
        self.prompt_tokens += usage.prompt_tokens as u64;
        self.cached_tokens += usage.cached_tokens as u64;
        self.completion_tokens += usage.completion_tokens as u64;
        self.drafted_tokens += usage.drafted_tokens as u64;
        self.accepted_tokens += usage.accepted_tokens as u64;
    }
}

/// Stops a generation from elsewhere, such as a signal handler's thread.
#[derive(Clone, Debug, Default)]
pub struct Canceller(Arc<AtomicBool>);

impl Canceller {
    /// Asks for the end; a `Done` event with [`Finish::Cancelled`](crate::Finish::Cancelled) follows after
    /// the current step.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The events of one generation, as they happen. Dropping it cancels.
#[derive(Debug)]
pub struct Generation {
    events: mpsc::Receiver<Result<Event>>,
    canceller: Canceller,
    ended: bool,
}

impl Generation {
    /// Asks for the end; the iterator still gives what remains.
    pub fn cancel(&self) {
        self.canceller.cancel();
    }

    /// A handle that cancels from another thread.
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Waits for the end and gives the whole answer.
    pub fn finish(self) -> Result<Completion> {
        let (mut text, mut tokens) = (String::new(), Vec::new());
        for event in self {
            match event? {
                Event::Prefill { .. } => {}
                Event::Token(token) => {
                    text.push_str(&token.text);
                    tokens.push(token);
                }
                Event::Done(summary) => {
                    text.push_str(&summary.text);
                    return Ok(Completion { text, tokens, summary });
                }
            }
        }
        Err(Error::Stopped)
    }
}

impl Iterator for Generation {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().unwrap_or(Err(Error::Stopped));
        self.ended = matches!(event, Ok(Event::Done(_)) | Err(_));
        Some(event)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.canceller.cancel();
    }
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<Token>,
    /// Why it ended, what it counted, how long it took.
    pub summary: Summary,
}
