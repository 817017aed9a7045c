//! Models elsewhere as writers: what one is asked goes through egress, budget and ledger before it leaves, and comes back
//! as a draft or an answer. The only place where a request of a task is sent.

#[cfg(all(feature = "cloud", feature = "serve"))]
mod pass;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use coder_escalate::{
    Answer, Ask, Budget, Clearance, Config, Decision, Egress, End, Endpoint, Outgoing, Policy, Price, Prices,
    Reach, Rung, RungName, Said, Shown, Speaker, Spent, Tokens,
};
use coder_tasks::ledger::{Answered, DayLimit, Sending};
use coder_tasks::{
    DraftOptions, FailureClass, Prompt, PromptMessage, Purpose, Question, Reply, Role, Task, Usage, Writer,
    WriterError,
};

use crate::failure::Outcome;
use crate::ledger::Recorder;
use crate::live::Live;
use crate::writer::Stop;

/// Milliseconds of a day; days of budgets begin at midnight UTC, as those of `coder stats` do.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Bytes of a token that is long on the average: a prompt with more for each token of a context cannot fit. What fits by
/// this, the server counts.
const LONG_TOKEN: u64 = 8;

/// All that may be asked elsewhere during one command, and under which conditions.
pub(crate) struct Cloud<'a> {
    config: &'a Config,
    prices: Prices,
    egress: Egress,
    budget: Budget,
    #[cfg(feature = "cloud")]
    client: coder_escalate::Client,
    recorder: &'a Recorder,
    /// When the day of its budget began.
    today: i64,
    stop: Stop,
    /// What must not be written over while somebody is asked.
    live: OnceLock<Arc<Live>>,
    /// Rung and host that the user let have the rest of this run.
    agreed: Mutex<Vec<(RungName, String)>>,
    /// Tells this run's requests from all others.
    run: String,
    requests: AtomicU64,
}

/// What is about to be asked.
struct Job<'j> {
    rung: &'j RungName,
    purpose: Purpose,
    task: Option<&'j Task>,
    messages: &'j [PromptMessage],
    files: Vec<Shown<'j>>,
    schema: Option<serde_json::Value>,
    max_tokens: Option<usize>,
}

/// A request that was sent, and what came of it.
pub(crate) struct Paid {
    pub(crate) answer: Result<Answer, coder_escalate::Failure>,
    usage: Usage,
    cost_usd: f64,
}

/// A request that may leave.
pub(crate) struct Cleared {
    pub(crate) outgoing: Outgoing,
    clearance: Clearance,
    price: Price,
    most_usd: f64,
}

impl<'a> Cloud<'a> {
    /// For one run of a command. Nothing is connected, and no key is read, before something is asked.
    pub(crate) fn new(config: &'a Config, recorder: &'a Recorder, stop: Stop) -> Outcome<Self> {
        let now = crate::ledger::now();
        let today = now - now.rem_euclid(DAY_MS);
        let spent = recorder.spent(today);
        let rungs = spent.into_iter().filter_map(|(rung, usd)| Some((RungName::new(&rung).ok()?, usd)));
        let spent = coder_escalate::SpentToday { rungs: rungs.collect::<BTreeMap<_, _>>() };
        Ok(Self {
            prices: config.prices(),
            egress: Egress::of(config).map_err(crate::failure::Failure::new)?,
            budget: Budget::new(&config.budget, &spent),
            #[cfg(feature = "cloud")]
            client: coder_escalate::Client::new(coder_escalate::Options::default()),
            config,
            recorder,
            today,
            stop,
            live: OnceLock::new(),
            agreed: Mutex::default(),
            run: format!("{:x}-{:x}", now, std::process::id()),
            requests: AtomicU64::new(1),
        })
    }

    /// What is shown meanwhile.
    pub(crate) fn beside(&self, live: &Arc<Live>) {
        // The first one stays: a command has one screen.
        let _ = self.live.set(live.clone());
    }

    /// The writer of a rung that is elsewhere, for a task or for none.
    pub(crate) fn writer<'w>(&'w self, rung: RungName, task: Option<Task>) -> CloudWriter<'w, 'a> {
        CloudWriter { cloud: self, rung, task }
    }

    /// The rung, where it is reached, and its model.
    fn reach(&self, name: &RungName) -> Result<(&'a Rung, &'a Endpoint, &'a str), WriterError> {
        let rung = self.config.rungs.get(name);
        let Some((rung, Reach::Endpoint { endpoint, model })) = rung.map(|rung| (rung, &rung.reach)) else {
            return Err(unavailable(format!(
                "`{name}` is no rung behind an endpoint; see coder config show"
            )));
        };
        let found = self.config.endpoints.get(endpoint);
        let found =
            found.ok_or_else(|| unavailable(format!("rung `{name}` has no endpoint `{endpoint}`")))?;
        found.without_address(endpoint).map_or(Ok((rung, found, model)), |problem| Err(unavailable(problem)))
    }

    fn ask(&self, job: &Job<'_>) -> Result<Reply, WriterError> {
        let cleared = self.cleared(job)?;
        let task = job.task.map(|task| task.id.as_str());
        let paid = self.pay((job.rung, job.purpose.as_str(), task), &cleared, |again| {
            self.deliver(&cleared.outgoing, again)
        });
        reply(paid.map_err(unavailable)?)
    }

    /// Sends what is cleared, if there is money for it and it can be written down, and counts what it cost. The error says
    /// why nothing was sent.
    pub(crate) fn pay(
        &self,
        (rung, purpose, task): (&RungName, &str, Option<&str>),
        cleared: &Cleared,
        deliver: impl FnOnce(&mut dyn FnMut(Spent) -> bool) -> Result<Answer, coder_escalate::Failure>,
    ) -> Result<Paid, String> {
        let Cleared { outgoing, clearance, price, most_usd } = cleared;
        let most_usd = *most_usd;
        let refused = |refused: coder_escalate::Refused| refused.to_string();
        let mut reserved = vec![self.budget.reserve(rung, most_usd).map_err(refused)?];
        let sending = Sending {
            id: outgoing.id(),
            purpose,
            rung: rung.as_str(),
            model: outgoing.model(),
            host: &clearance.host,
            files: &clearance.files,
            bytes: clearance.bytes as u64,
            sha256: &clearance.sha256,
            most_usd,
        };
        let limit = self.day(rung);
        let written = self.recorder.sending(task, &sending, &limit);
        if let Err(reason) = written
            && (clearance.leaves || most_usd > 0.0)
        {
            settle(reserved, 0.0);
            return Err(reason);
        }
        // Asked before every attempt after one that may have cost something; only what is new needs more money.
        let mut paid = Spent::NOTHING;
        let mut again = |spent: Spent| {
            if spent == std::mem::replace(&mut paid, spent) {
                return true;
            }
            let Ok(more) = self.budget.reserve(rung, most_usd) else { return false };
            if !self.recorder.sending_again(&sending, &limit) {
                more.settle(0.0);
                return false;
            }
            reserved.push(more);
            true
        };
        let answer = deliver(&mut again);
        Ok(self.settled(answer, outgoing, price, reserved))
    }

    /// The request has ended: what it cost is counted and written down.
    fn settled(
        &self,
        answer: Result<Answer, coder_escalate::Failure>,
        outgoing: &Outgoing,
        price: &Price,
        reserved: Vec<coder_escalate::Reservation>,
    ) -> Paid {
        let most = outgoing.most();
        let (all, error) = match &answer {
            Ok(answer) => (attempts(&answer.failed, Some(answer.tokens), &most), String::new()),
            Err(failure) => (attempts(&failure.attempts, None, &most), failure.to_string()),
        };
        // Each attempt is a request with a price of its own. The sum of nothing is -0.0.
        let cost_usd = all.iter().map(|tokens| price.usd(tokens)).sum::<f64>() + 0.0;
        settle(reserved, cost_usd);
        let mut usage = Usage::default();
        all.iter().for_each(|tokens| usage += self::usage(tokens));
        let answered = Answered {
            usage,
            cache_write_tokens: all.iter().map(|tokens| tokens.cache_write).sum(),
            tries: u32::try_from(all.len()).unwrap_or(u32::MAX),
            cost_usd,
            error: &error,
        };
        self.recorder.answered(outgoing.id(), &answered);
        Paid { answer, usage, cost_usd }
    }

    /// What the day may cost; the budget in memory has the run's own limit as well.
    fn day(&self, rung: &RungName) -> DayLimit {
        let limits = &self.config.budget;
        DayLimit { since: self.today, usd: limits.day_usd, rung_usd: limits.rungs.get(rung).copied() }
    }

    /// Makes the request, and finds out whether it may leave. It has cost nothing so far.
    fn cleared(&self, job: &Job<'_>) -> Result<Cleared, WriterError> {
        let (rung, endpoint, model) = self.reach(job.rung)?;
        let said = |message: &PromptMessage| Said {
            by: match message.role {
                Role::System => Speaker::System,
                Role::User => Speaker::User,
                Role::Assistant => Speaker::Assistant,
            },
            text: message.content.clone(),
        };
        let most = job.max_tokens.map_or(rung.max_tokens, |most| u32::try_from(most).unwrap_or(u32::MAX));
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let ask = Ask {
            id: format!("{}-{number}", self.run),
            model: model.to_owned(),
            messages: job.messages.iter().map(said).collect(),
            max_tokens: most.min(rung.max_tokens),
            schema: job.schema.clone(),
            effort: rung.effort,
        };
        let failed = |error: coder_escalate::Error| unavailable(error.to_string());
        let outgoing = Outgoing::prepare(endpoint, &ask).map_err(failed)?;
        if let Some(context) =
            rung.context.filter(|context| outgoing.body().len() as u64 / LONG_TOKEN > *context)
        {
            return Err(unavailable(format!(
                "`{}` bytes are more than the `{context}` tokens of `{}`'s context can hold; show the model less",
                outgoing.body().len(),
                job.rung
            )));
        }
        let price = self.prices.of_rung(job.rung, rung).map_err(failed)?;
        let most_usd = price.most_usd(&outgoing.most());
        let task = job.task.and_then(|task| task.egress).map_or(Policy::Allow, policy);
        let clearance = match self.egress.decide(job.rung, &outgoing, &job.files, task) {
            Decision::Cleared(clearance) => clearance,
            Decision::Refused(refusal) => return Err(unavailable(refusal.to_string())),
            Decision::AskFirst(question) => {
                #[cfg(feature = "cloud")]
                self.client.has_key(endpoint).map_err(|fault| unavailable(fault.to_string()))?;
                self.agree(question.clearance(), &outgoing, job, most_usd)?;
                question.agreed()
            }
        };
        Ok(Cleared { outgoing, clearance, price, most_usd })
    }

    #[cfg(feature = "cloud")]
    fn deliver(
        &self,
        outgoing: &Outgoing,
        again: &mut dyn FnMut(Spent) -> bool,
    ) -> Result<coder_escalate::Answer, coder_escalate::Failure> {
        self.client.ask(outgoing, self.stop.flag(), again)
    }

    #[cfg(not(feature = "cloud"))]
    fn deliver(
        &self,
        outgoing: &Outgoing,
        _again: &mut dyn FnMut(Spent) -> bool,
    ) -> Result<coder_escalate::Answer, coder_escalate::Failure> {
        let problem = "this program was built without a network client; build it with the feature `cloud`";
        let url = outgoing.url().to_owned();
        let fault = coder_escalate::Fault::BadEndpoint { url, problem: problem.to_owned() };
        Err(coder_escalate::Failure { fault, attempts: Vec::new(), seconds: 0.0 })
    }

    /// Shows what would leave and waits for the user's word. Tasks at work side by side ask one after the other.
    fn agree(
        &self,
        clearance: &Clearance,
        outgoing: &Outgoing,
        job: &Job<'_>,
        most_usd: f64,
    ) -> Result<(), WriterError> {
        let mut agreed = self.agreed.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stop.flag().load(Ordering::SeqCst) {
            return Err(WriterError::new(FailureClass::Cancelled, "cancelled"));
        }
        let pair = (clearance.rung.clone(), clearance.host.clone());
        if agreed.contains(&pair) {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(unavailable(
                "nobody could be asked whether it may be sent; answer at a terminal, or allow it (--egress allow)",
            ));
        }
        let ask = || self.dialogue(clearance, outgoing, job, most_usd);
        let said = match self.live.get() {
            Some(live) => live.suspended(ask),
            None => ask(),
        };
        match said {
            Consent::Once => Ok(()),
            Consent::Run => {
                agreed.push(pair);
                Ok(())
            }
            Consent::No => Err(unavailable("you did not agree that it is sent")),
            Consent::Stop => {
                self.stop.now();
                Err(WriterError::new(FailureClass::Cancelled, "cancelled"))
            }
        }
    }

    fn dialogue(&self, clearance: &Clearance, outgoing: &Outgoing, job: &Job<'_>, most_usd: f64) -> Consent {
        let plain = |text: &str| coder_tasks::Plain::default().filter(text);
        let what = job.task.map_or(String::new(), |task| format!("{}: ", task.id));
        let files = match clearance.files.as_slice() {
            [] => "no file".to_owned(),
            files => files.join(", "),
        };
        eprintln!(
            "{}a {} from {} ({}) at {}: {} bytes with {}, at most ${most_usd:.4} an attempt; ${:.4} spent in this run",
            plain(&what),
            job.purpose.as_str(),
            clearance.rung,
            plain(outgoing.model()),
            plain(&clearance.host),
            clearance.bytes,
            plain(&files),
            self.budget.spent_usd()
        );
        let Ok(mut editor) = rustyline::DefaultEditor::new() else { return Consent::No };
        loop {
            match editor.readline("Send it? [y]es, [a]ll to this host in this run, [s]how, [n]o: ") {
                Ok(line) => match line.trim().to_ascii_lowercase().as_str() {
                    "y" | "yes" => return Consent::Once,
                    "a" | "all" => return Consent::Run,
                    "s" | "show" => eprintln!("{}", plain(&String::from_utf8_lossy(outgoing.body()))),
                    "n" | "no" => return Consent::No,
                    _ => {}
                },
                Err(rustyline::error::ReadlineError::Interrupted) => return Consent::Stop,
                Err(_) => return Consent::No,
            }
        }
    }
}

/// What the user said.
enum Consent {
    Once,
    Run,
    No,
    Stop,
}

/// A rung that is elsewhere, on behalf of one task.
pub(crate) struct CloudWriter<'w, 'a> {
    cloud: &'w Cloud<'a>,
    rung: RungName,
    task: Option<Task>,
}

impl Writer for CloudWriter<'_, '_> {
    fn draft(&mut self, prompt: &Prompt, options: DraftOptions) -> Result<Reply, WriterError> {
        let task = self.task.as_ref();
        let shown = prompt.context.iter().chain(&prompt.files);
        let files = shown.map(|file| Shown { path: &file.path, text: &file.content }).collect();
        let job = Job {
            rung: &self.rung,
            purpose: Purpose::Draft,
            task,
            messages: &prompt.messages,
            files,
            schema: None,
            max_tokens: options.max_tokens,
        };
        self.cloud.ask(&job)
    }

    fn answer(&mut self, question: &Question) -> Result<Reply, WriterError> {
        let job = Job {
            rung: &self.rung,
            purpose: question.purpose,
            task: self.task.as_ref(),
            messages: &question.messages,
            files: question.files.iter().map(|path| Shown { path, text: "" }).collect(),
            schema: Some(question.schema.clone()),
            max_tokens: Some(question.max_tokens),
        };
        self.cloud.ask(&job)
    }
}

fn unavailable(message: impl Into<String>) -> WriterError {
    WriterError::new(FailureClass::Availability, message)
}

/// What came of it as the reply of a writer.
fn reply(Paid { answer, usage, cost_usd }: Paid) -> Result<Reply, WriterError> {
    let failed = |class, error: String| WriterError { usage, cost_usd, ..WriterError::new(class, error) };
    match answer {
        Ok(answer) if answer.end == End::Length => Err(failed(
            FailureClass::Quality,
            format!("its answer was cut off after {} tokens; raise `max_tokens`", answer.tokens.output),
        )),
        Ok(Answer { text, seconds, model, .. }) => Ok(Reply { text, usage, seconds, cost_usd, model }),
        Err(failure) => Err(failed(class(&failure.fault), failure.to_string())),
    }
}

/// What a fault says about the model, in the words of tasks.
fn class(fault: &coder_escalate::Fault) -> FailureClass {
    match fault {
        coder_escalate::Fault::Cancelled => FailureClass::Cancelled,
        fault if fault.class() == coder_escalate::FailureClass::Quality => FailureClass::Quality,
        _ => FailureClass::Availability,
    }
}

pub(crate) fn policy(task: coder_tasks::task::Egress) -> Policy {
    match task {
        coder_tasks::task::Egress::Never => Policy::Never,
        coder_tasks::task::Egress::Ask => Policy::Ask,
        coder_tasks::task::Egress::Allow => Policy::Allow,
    }
}

/// The tokens of every attempt, the answer's the last.
fn attempts(failed: &[coder_escalate::Attempt], answer: Option<Tokens>, most: &Tokens) -> Vec<Tokens> {
    let failed = failed.iter().map(|attempt| attempt.spent.tokens);
    failed.chain(answer).map(|tokens| plausible(tokens, most)).collect()
}

/// What the server counted, also if it is more than was thought possible: it is what will be charged. A number that no
/// request has is none, and the most stands for it.
fn plausible(tokens: Tokens, most: &Tokens) -> Tokens {
    /// More than any context holds.
    const TOO_MANY: u64 = 1 << 32;
    let prompt = [tokens.input, tokens.cache_write, tokens.cache_read].iter().all(|count| *count < TOO_MANY);
    let output = if tokens.output < TOO_MANY { tokens.output } else { most.output };
    if prompt { Tokens { output, ..tokens } } else { Tokens { output, ..*most } }
}

/// The first reservation is settled with what all attempts cost together, the others with nothing.
fn settle(reserved: Vec<coder_escalate::Reservation>, cost_usd: f64) {
    let mut left = cost_usd;
    for reservation in reserved {
        reservation.settle(std::mem::take(&mut left));
    }
}

fn usage(tokens: &Tokens) -> Usage {
    Usage {
        prompt_tokens: tokens.prompt(),
        cached_tokens: tokens.cache_read,
        completion_tokens: tokens.output,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_counted_is_never_made_less() {
        let most = Tokens { input: 2000, output: 50, ..Tokens::default() };
        for tokens in [
            Tokens { input: 7, output: 3, ..Tokens::default() },
            // A picture that was dearer than was thought, and a server that knows no limits.
            Tokens { input: 8500, cache_read: 9, output: 90, ..Tokens::default() },
        ] {
            assert_eq!(plausible(tokens, &most), tokens);
        }
        let nonsense = Tokens { input: u64::MAX, cache_read: 9, output: 3, ..Tokens::default() };
        assert_eq!(plausible(nonsense, &most), Tokens { output: 3, ..most });
        assert_eq!(plausible(Tokens { output: u64::MAX, ..most }, &most), most);
    }
}
