//! `coder serve`: the APIs of OpenAI and Anthropic over local models.

use std::env;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
#[cfg(feature = "cloud")]
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use coder_engine::Options;
#[cfg(feature = "cloud")]
use coder_escalate::Config;
use coder_serve::{Access, Keep, Limits, Model, Models, Server};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing_subscriber::filter::LevelFilter;

use crate::args::{self, OpenArgs, at_least_one, bytes};
use crate::board::Figures;
use crate::bundled;
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::ledger::LedgerArgs;
use crate::named;
use crate::state::StateArgs;
#[cfg(feature = "cloud")]
use crate::{config, forward::Forward, forward::Served, ledger::Recorder, rungs::SpendArgs};

/// Serve local models over HTTP, as OpenAI and Anthropic do
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// A model: GGUF file, safetensors folder, or a name; may be given several times, and the first one answers where a
    /// request names none [default: rungs.local.engine of coder config, else the bundled coder-tiny]
    #[arg(long, value_name = "MODEL", value_parser = args::model())]
    model: Vec<String>,
    /// Another name for a model, such as free=coder-tiny or 'claude-*=qwen3-coder' (all names that begin like this); may
    /// be given several times. free and local are the first model, unless they are given. A rung of the configuration is
    /// a model too: 'claude-opus-*=opus'; those in this process are opened when they are asked for
    #[arg(long, value_name = "NAME=MODEL", value_parser = alias)]
    alias: Vec<(String, String)>,
    /// Form of the log on standard error; it has no word of what was asked and answered
    #[arg(long, value_name = "FORM", default_value = "text")]
    log: LogForm,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    open: OpenArgs,
    #[cfg(feature = "cloud")]
    #[command(flatten)]
    elsewhere: ElsewhereArgs,
    #[command(flatten)]
    board: BoardArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Who may ask")]
struct ListenArgs {
    /// Address to listen on; on any but a loopback address a key is needed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on; 0 takes a free one. The default is that of llama.cpp's server, and not Ollama's, so that both
    /// can run
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// File that holds the key that requests must have, readable by its owner alone; or set CODER_API_KEY. Without
    /// either, on any but a loopback address a random key is made and printed
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// A further name of this machine by which it may be asked without a key; may be given several times
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// A web page that may ask, such as http://localhost:3000; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Bytes that all open models may take together, such as 24GiB; the one that was not used for the longest time is
    /// closed for another [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    memory: Option<u64>,
    /// Close a model when it was not used for so long, such as 5m [default: never]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    keep_alive: Option<Duration>,
    /// Answers of a model that grow at the same time
    #[arg(long, value_name = "N", default_value_t = 16)]
    parallel: usize,
    /// Requests that may be open at a time; further ones are told to come later (429)
    #[arg(long, value_name = "N", default_value_t = 64)]
    queue: usize,
    /// Tokens that an answer may have, whatever the request says [default: as the context allows]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_tokens: Option<usize>,
    /// How long an answer may take before it is cut
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "30m")]
    max_time: Duration,
    /// How long open answers may go on after SIGTERM or Ctrl-C; a second one ends at once
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    drain: Duration,
}

#[cfg(feature = "cloud")]
#[derive(Args, Debug)]
#[command(next_help_heading = "Models elsewhere (see coder config)")]
struct ElsewhereArgs {
    #[command(flatten)]
    spend: SpendArgs,
    /// The rung that answers requests for a model that nobody has, such as sonnet [default: they are refused]
    #[arg(long, value_name = "RUNG")]
    default: Option<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "The ledger, which the page shows")]
struct BoardArgs {
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Show nothing of it, and write nothing into it; without a ledger nothing is sent elsewhere
    #[arg(long, conflicts_with = "ledger")]
    no_ledger: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum LogForm {
    Text,
    Json,
    None,
}

const EXAMPLES: &str = "Examples:
  coder serve           the local model at http://127.0.0.1:8080, with a page
  coder serve --model qwen3-coder-30b.gguf --alias 'claude-*=qwen3-coder-30b'
  coder serve --model qwen2.5-coder-32b.gguf --model qwen2.5-coder-7b.gguf \\
              --alias fast=qwen2.5-coder-7b --memory 24GiB --keep-alive 10m
  CODER_API_KEY=… coder serve --host 0.0.0.0
                        for other machines and containers
  coder serve --egress allow --alias 'claude-opus-*=opus' --default sonnet
                        the rest goes to the rungs of coder config

Clients:
  curl http://127.0.0.1:8080/v1/chat/completions \\
       -H 'Content-Type: application/json' \\
       -d '{\"messages\": [{\"role\": \"user\", \"content\": \"What is EINTR?\"}]}'
  OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=none …
  ANTHROPIC_BASE_URL=http://127.0.0.1:8080 ANTHROPIC_AUTH_TOKEN=none …

Without a key, only this machine's own names are answered (see --allow-host), and no web page but the server's own
(see --allow-origin). Clients of both dialects may ask every rung, whichever its server speaks.
Prompt and answer must fit into --context; what does not is refused and never cut.";

pub(crate) fn run(args: ServeArgs) -> Outcome {
    log(args.log);
    let access = args.listen.access()?;
    let Prepared { server, first, others } = args.prepare(access)?;
    args.board.show(&server);
    let interrupt = Interrupt::install()?;
    let (stop, mut stopped) = watch::channel(false);
    let _during = interrupt.during(move || {
        // The receiver lives as long as the server.
        let _ = stop.send(true);
    });
    // The engine's threads compute; these two only pass on what they say.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // How long open models are waited for, at the end.
    let mut patience = Duration::ZERO;
    let outcome = runtime.block_on(async {
        let address = (args.listen.host, args.listen.port);
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let what = if error.kind() == io::ErrorKind::AddrNotAvailable { "host" } else { "port" };
            Failure::new(format!("`{}:{}`: {error}; choose another --{what}", address.0, address.1))
        })?;
        let mut end = Box::pin(async move {
            // An error means that nobody can stop it any more, so it is stopped.
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        tokio::select! {
            opened = server.models().open(&first) => match opened {
                Err(problem) if others => eprintln!("warning: {problem}; meanwhile, the others answer"),
                opened => opened.map_err(Failure::new)?,
            },
            // Nobody has asked for anything yet.
            () = &mut end => return Ok(()),
        }
        patience = Duration::from_secs(5);
        if args.log == LogForm::Text {
            bundled::note(args.model.first().map(String::as_str), &first);
        }
        eprintln!("listening on http://{}", listener.local_addr()?);
        coder_serve::serve(listener, server, end).await.map_err(Failure::new)
    });
    runtime.shutdown_timeout(patience);
    outcome
}

/// A server that has opened no model yet.
struct Prepared {
    server: Server,
    /// The name of the model that answers where none is named.
    first: String,
    /// Whether somebody answers if that one cannot be opened.
    others: bool,
}

/// Other names, each with the name that it stands for.
type Aliases = Vec<(String, String)>;

impl ServeArgs {
    fn prepare(&self, access: Access) -> Outcome<Prepared> {
        #[cfg_attr(not(feature = "cloud"), expect(unused_mut))]
        let mut models = self.given()?;
        let first = models[0].name.clone();
        #[cfg_attr(not(feature = "cloud"), expect(unused_mut))]
        let mut words = named::WORDS.map(|word| (word.to_owned(), first.clone())).to_vec();
        #[cfg(feature = "cloud")]
        let (config, served) = {
            let config = self.elsewhere.config()?;
            let served =
                Served::new(&config, &mut models, self.limits.keep(), |model| self.model(Some(model)));
            words.extend(served.words());
            (config, served)
        };
        let others = models.len() > 1;
        let (aliases, unknown) = self.aliases(&models, words);
        if let Some((alias, name)) = unknown.first().filter(|_| cfg!(not(feature = "cloud"))) {
            return Err(Failure::usage(format!("`{alias}`: no --model is called `{name}`")));
        }
        let models = Models::new(models, aliases, self.limits.keep()).map_err(Failure::new)?;
        let server = Server::new(models, access, self.limits.limits());
        #[cfg(feature = "cloud")]
        let (server, others) = {
            let forward = self.elsewhere.forward(config, served, unknown, &self.board)?;
            let others = others || forward.may_ask();
            (server.with_elsewhere(Arc::new(forward)), others)
        };
        Ok(Prepared { server, first, others })
    }

    /// The models of --model, or the default one. If that one is not here, whoever asks for it is told, and others may answer.
    fn given(&self) -> Outcome<Vec<Model>> {
        if self.model.len() > 1 && self.open.prefix_cache.is_some() {
            return Err(Failure::usage(
                "a prefix cache is of one model; leave out --prefix-cache, or serve one --model",
            ));
        }
        match self.model.is_empty() {
            true => match named::source(None) {
                Ok(_) => Ok(vec![self.model(None)?]),
                Err(failure) => Ok(vec![Model {
                    name: named::WORDS[0].to_owned(),
                    options: Options::new(""),
                    problem: Some(failure.reason().to_owned()),
                }]),
            },
            false => self.model.iter().map(|model| self.model(Some(model))).collect(),
        }
    }

    fn model(&self, model: Option<&str>) -> Outcome<Model> {
        let (mut options, name) = self.open.options(model)?;
        options.parallel = self.limits.parallel;
        // The server counts requests, each of several answers at most.
        options.queue = self.limits.queue.saturating_mul(16);
        Ok(Model { name, options, problem: None })
    }

    /// Other names for models, and those that are for none of them. `words` are names where nothing else has them.
    fn aliases(&self, models: &[Model], words: Aliases) -> (Aliases, Aliases) {
        let is_model = |name: &str| models.iter().any(|model| model.name == name);
        let meant = |name: &str| -> String {
            let mut name = name;
            // A word may be given to another word, and not for ever.
            for _ in 0..=self.alias.len() {
                let Some((_, model)) = words.iter().find(|(word, _)| word == name && !is_model(name)) else {
                    break;
                };
                let given = self.alias.iter().find(|(alias, _)| alias == name);
                name = given.map_or(model, |(_, given)| given);
            }
            name.to_owned()
        };
        let given = self.alias.iter().map(|(alias, name)| (alias.clone(), meant(name)));
        let (mut aliases, unknown): (Aliases, Aliases) = given.partition(|(_, name)| is_model(name));
        let is_free = |(word, _): &(String, String)| {
            !is_model(word) && self.alias.iter().all(|(alias, _)| alias != word)
        };
        aliases.extend(words.iter().filter(|word| is_free(word)).cloned());
        (aliases, unknown)
    }
}

#[cfg(feature = "cloud")]
impl ElsewhereArgs {
    fn config(&self) -> Outcome<Config> {
        config::load(Path::new("."), &self.spend.layer())
    }

    fn forward(
        &self,
        config: Config,
        served: Served,
        aliases: Aliases,
        board: &BoardArgs,
    ) -> Outcome<Forward> {
        let recorder = match board.no_ledger {
            true => Recorder::none(),
            false => Recorder::open(&board.ledger, &board.state, Path::new(".")),
        };
        Forward::new(config, served, recorder, aliases, self.default.as_deref())
    }
}

impl ListenArgs {
    fn access(&self) -> Outcome<Access> {
        let mut key = match &self.api_key_file {
            Some(path) => Some(read_key(path)?),
            None => {
                let key = env::var_os("CODER_API_KEY").filter(|key| !key.is_empty());
                key.map(|key| usable("CODER_API_KEY", key.as_encoded_bytes())).transpose()?
            }
        };
        if key.is_none() && !self.host.is_loopback() {
            let random = Access::random_key().map_err(Failure::new)?;
            eprintln!("note: {} is not this machine alone, so a key is needed: {random}", self.host);
            key = Some(random);
        }
        Ok(Access { key, hosts: self.allow_host.clone(), origins: self.allow_origin.clone() })
    }
}

impl LimitArgs {
    fn keep(&self) -> Keep {
        Keep { memory: self.memory, alive: self.keep_alive }
    }

    fn limits(&self) -> Limits {
        Limits {
            open: self.queue,
            answer_tokens: self.max_tokens,
            answer_time: Some(self.max_time),
            drain_time: self.drain,
            ..Limits::default()
        }
    }
}

impl BoardArgs {
    /// Tasks are shown if there can be a ledger; the server has more to do than that.
    fn show(&self, server: &Server) {
        let path = if self.no_ledger { None } else { self.ledger.path(&self.state) };
        let Some(path) = path else { return };
        match Figures::new(path) {
            Ok(figures) => server.show_tasks(move || figures.tasks()),
            Err(failure) => eprintln!("note: the page shows no tasks: {}", failure.reason()),
        }
    }
}

/// The key in a file that nobody else can read.
fn read_key(path: &Path) -> Outcome<String> {
    let failure = |problem: &dyn std::fmt::Display| Failure::new(format!("`{}`: {problem}", path.display()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path).map_err(|error| failure(&error))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(failure(&format!("others can read it (mode {:o}); chmod 600", mode & 0o777)));
        }
    }
    match fs::read(path).map_err(|error| failure(&error))?.trim_ascii() {
        b"" => Err(failure(&"it holds no key")),
        key => usable(&path.display().to_string(), key),
    }
}

/// A key that a request can have: nothing else can be sent in a header by all clients.
fn usable(place: &str, key: &[u8]) -> Outcome<String> {
    let is_usable = |key: &&str| key.bytes().all(|byte| byte.is_ascii_graphic());
    let key = str::from_utf8(key).ok().filter(is_usable);
    let problem = || format!("`{place}`: a key has visible ASCII characters only; choose another one");
    key.map(str::to_owned).ok_or_else(|| Failure::usage(problem()))
}

/// What happens, to standard error.
fn log(form: LogForm) {
    let builder = tracing_subscriber::fmt();
    let builder = builder.with_max_level(LevelFilter::INFO).with_writer(io::stderr).with_target(false);
    // A log that cannot be written would be told of on standard error, which is this log, by a panic.
    let builder = builder.log_internal_errors(false);
    match form {
        LogForm::Text => builder.with_ansi(false).init(),
        LogForm::Json => builder.json().init(),
        LogForm::None => {}
    }
}

fn alias(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, model)) if !name.is_empty() && !model.is_empty() => {
            Ok((name.to_owned(), own_name(model)))
        }
        _ => Err("write NAME=MODEL".to_owned()),
    }
}

/// A model may be named as it was given to --model; what a word means is known when all models are.
fn own_name(model: &str) -> String {
    let found = Some(model).filter(|model| !named::WORDS.contains(model)).and_then(named::find);
    found.map_or_else(|| model.to_owned(), |found| found.name())
}

/// A time in which something can be done.
fn some_time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time.is_zero() { Err("must be more than no time".to_owned()) } else { Ok(time) }
}

/// A time such as `30s`, `5m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let factor = match unit {
        "s" | "" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("no unit `{unit}`; use ms, s, m or h")),
    };
    let number: f64 =
        number.trim().parse().map_err(|_| "write a number and a unit, such as 5m".to_owned())?;
    Duration::try_from_secs_f64(number * factor).map_err(|_| "must be a time that can pass".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        for bad in ["", "m", "-1s", "1d", "1e300h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(duration("0").is_ok() && some_time("0s").is_err() && some_time("1ms").is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_is_its_owners() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "sk-1\n").unwrap();
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o640);
        assert!(read_key(&path).unwrap_err().reason().contains("chmod 600"));
        mode(0o600);
        assert_eq!(read_key(&path).unwrap(), "sk-1");
        fs::write(&path, "\n").unwrap();
        assert!(read_key(&path).is_err());
        // What no client could send.
        for key in [&b"sk-\xff"[..], "klíč".as_bytes(), b"two words"] {
            fs::write(&path, key).unwrap();
            assert!(read_key(&path).unwrap_err().reason().contains("visible ASCII"));
        }
    }
}
