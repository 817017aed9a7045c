//! `coder related`: which passages of a project belong to a text, and what `coder ask` shows of them with a question (S3-28).

use std::path::{Path, PathBuf};

use clap::Args;
use coder_engine::{Engine, SpecialTokens};
use coder_escalate::{Config, Egress};
use coder_tasks::related::Passage;
use coder_tasks::{Denied, Project};
use serde_json::json;

use crate::ask;
use crate::config;
use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// Find the passages of a project that belong to a text, with no model and no index to keep
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RelatedArgs {
    /// A question, a task, an error message or code; without it, standard input
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// The folder of the project
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    working_dir: PathBuf,
    /// Passages at most, the best first
    #[arg(long, value_name = "N", default_value_t = 10)]
    most: usize,
    /// Print the passages themselves, as a model is shown them
    #[arg(long, conflicts_with = "json")]
    show: bool,
    /// Print JSON: passages {path, from, to, score, text}, lines counted from 1
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  coder related 'Where is the budget checked before a request is sent?'
  cargo test 2>&1 | coder related --most 5
  coder related 'retry after 429' --show | coder ask --system 'Explain'
  coder ask --user 'Who writes the ledger?' --related .
  coder run task.md --related 2

Passages are found by the words that they share with the text, rare ones first (BM25 over the parts of identifiers). Files that
git ignores, hidden ones, those with secrets by their names or of [egress] deny, lock files and what is no text are not looked
at, nor data where all are more than 16 MiB.
Exit code 1 if nothing is found.";

/// Passages that are tried, at most: behind so many that are too long there is nothing that is worth its tokens.
const TRIED: usize = 50;

/// Bytes of a token, at most, in text that is worth to be counted.
const TOKEN_BYTES: usize = 16;

/// What a question is shown with.
#[derive(Args, Clone, Debug)]
pub(crate) struct ShowRelatedArgs {
    /// Show the passages of a project that belong to the question before it (see coder related)
    #[arg(long, value_name = "FOLDER")]
    related: Option<PathBuf>,
    /// Tokens that these passages may have together
    #[arg(long, value_name = "N", default_value_t = 2048, requires = "related")]
    related_tokens: usize,
}

pub(crate) fn run(args: RelatedArgs) -> Outcome {
    let text = ask::question(args.text.as_deref(), None)?
        .ok_or_else(|| Failure::new("nothing to look for; give a text or pipe it in"))?;
    let project = open(&args.working_dir)?;
    let mut passages = project.passages(&text);
    passages.truncate(args.most);
    let mut out = Output::new();
    if args.json {
        let of = |found: &Passage<'_>| {
            let Passage { path, lines, text, score } = found;
            json!({ "path": path, "from": lines.start + 1, "to": lines.end, "score": score, "text": text })
        };
        out.json(&json!({ "passages": passages.iter().map(of).collect::<Vec<_>>() }))?;
    } else if args.show {
        out.text(&passages.iter().map(Passage::block).collect::<Vec<_>>().join("\n"))?;
    } else {
        passages.iter().try_for_each(|found| out.text(&format!("{}\n", found.place())))?;
    }
    match passages.is_empty() {
        true => Err(Failure::new("no passage shares a word with the text")),
        false => Ok(()),
    }
}

impl ShowRelatedArgs {
    /// The question behind the passages that belong to it, as many as their tokens allow; a line says which. One that is too
    /// long alone is passed over.
    pub(crate) fn before(&self, question: &str, engine: &Engine) -> Outcome<String> {
        let Some(folder) = &self.related else { return Ok(question.to_owned()) };
        let project = open(folder)?;
        let (mut shown, mut places, mut tokens) = (String::new(), Vec::new(), 0);
        for passage in project.passages(question).into_iter().take(TRIED) {
            let block = passage.block() + "\n";
            if block.len() > self.related_tokens.saturating_mul(TOKEN_BYTES) {
                continue;
            }
            let more = engine.tokenizer().encode(&block, SpecialTokens::Plain)?.len();
            if more > self.related_tokens {
                continue;
            }
            if tokens + more > self.related_tokens {
                break;
            }
            tokens += more;
            shown.push_str(&block);
            places.push(passage.place());
        }
        match places.is_empty() {
            true => eprintln!("note: no passage of `{}` is shown with the question", folder.display()),
            false => eprintln!("note: shown with the question: {}", places.join(", ")),
        }
        Ok(shown + question)
    }
}

fn open(folder: &Path) -> Outcome<Project> {
    let project = Project::open(folder, &denied(&config::load(folder, "")?)?)?;
    note(&project);
    Ok(project)
}

/// The files that may be shown to nobody elsewhere: what a model here makes of them may go there.
pub(crate) fn denied(config: &Config) -> Outcome<Denied> {
    let egress = Egress::of(config).map_err(Failure::new)?;
    Ok(Denied::by(move |path| egress.denies(path).is_some()))
}

/// Says what of a project is too much.
pub(crate) fn note(project: &Project) {
    if project.left_out > 0 {
        let (read, left) = (project.files.len(), project.left_out);
        eprintln!("note: only {read} files are looked at, and {left} are not: they are too much together");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coder_escalate::DENIED;
    use coder_tasks::path::{SECRET_ENDINGS, SECRET_FOLDERS, SECRETS, is_secret};

    #[test]
    fn what_is_secret_by_its_name_is_not_sent_and_the_other_way_round() {
        let egress = Egress::of(&Config::bundled()).unwrap();
        let secret = SECRETS.map(str::to_owned).into_iter();
        let secret = secret.chain(SECRET_ENDINGS.map(|ending| format!("sub/a{ending}")));
        let keys = ["id_ed25519_sk", "id_rsa.old", "x.tfstate.backup", ".docker/config.json", ".env.local"];
        for path in
            secret.chain(SECRET_FOLDERS.map(|folder| format!("{folder}/a"))).chain(keys.map(str::to_owned))
        {
            assert!(is_secret(&path) && egress.denies(&path).is_some(), "{path}");
        }
        // Hidden ones that tools read are guarded as such.
        let tools = [".npmrc", ".yarnrc*", ".pypirc", ".git", ".config/gcloud"];
        for pattern in DENIED.into_iter().filter(|pattern| !tools.contains(pattern)) {
            let path = format!("sub/{}", pattern.replace('*', ".x"));
            assert!(is_secret(&path) || is_secret(&format!("{path}/a")), "{pattern}");
        }
    }
}
