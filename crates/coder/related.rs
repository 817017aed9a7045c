//! `coder related`: which passages of a project belong to a text, and what `coder ask` shows of them with a question (S3-28).

use std::path::PathBuf;

use clap::Args;
use coder_engine::{Engine, SpecialTokens};
use coder_tasks::Project;
use coder_tasks::related::Passage;
use serde_json::json;

use crate::ask;
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
git ignores, hidden ones, those with secrets by their names, lock files and what is no text are not looked at.
Exit code 1 if nothing is found.";

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
    let index = project.index();
    let mut passages = index.passages(&text);
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
    /// The question behind the passages that belong to it, as many as their tokens allow; a line says which.
    pub(crate) fn before(&self, question: &str, engine: &Engine) -> Outcome<String> {
        let Some(folder) = &self.related else { return Ok(question.to_owned()) };
        let project = open(folder)?;
        let index = project.index();
        let (mut shown, mut places, mut tokens) = (String::new(), Vec::new(), 0);
        for passage in index.passages(question) {
            let block = passage.block() + "\n";
            let more = engine.tokenizer().encode(&block, SpecialTokens::Plain)?.len();
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

fn open(folder: &std::path::Path) -> Outcome<Project> {
    let project = Project::open(folder)?;
    if project.left_out > 0 {
        let (read, left) = (project.files.len(), project.left_out);
        eprintln!(
            "note: only the first {read} files are looked at, and {left} are not: they are too much together"
        );
    }
    Ok(project)
}
