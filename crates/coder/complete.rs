//! `coder complete`: raw text goes on, without a chat template; or the gap between two texts is filled.

use std::path::PathBuf;

use clap::Args;
use coder_engine::SpecialTokens;

use crate::args::{GrammarArgs, ModelArgs, SamplingArgs, read_text};
use crate::ask::{self, ShownArgs};
use crate::failure::{Failure, Outcome};

/// Continue raw text, or fill a gap in code
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompleteArgs {
    /// The text to continue; before --file, before standard input
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// File that holds the text to continue
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Fill the gap between two texts, for models that were trained to; names of special tokens in them are plain text
    #[arg(long, num_args = 2, value_names = ["PREFIX", "SUFFIX"], conflicts_with_all = ["prompt", "file"])]
    fim: Option<Vec<String>>,
    /// Treat names of special tokens such as <|im_end|> as plain text; without it they are those tokens, as in a prompt
    /// that has its markers already
    #[arg(long, conflicts_with = "fim")]
    plain: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    grammar: GrammarArgs,
    #[command(flatten)]
    shown: ShownArgs,
}

const EXAMPLES: &str = "Examples:
  coder complete --prompt 'def add(a, b):' --max-tokens 40
  head -20 src/main.rs | coder complete --stop '}'
  coder complete --fim $'def add(a, b):\\n    return ' $'\\n\\nprint(add(1, 2))'";

pub(crate) fn run(args: CompleteArgs) -> Outcome {
    let CompleteArgs { model, prompt, file, fim, plain, sampling, grammar, shown } = args;
    if let Some([prefix, suffix]) = fim.as_deref() {
        return ask::answer(&model, &sampling, &grammar, &shown, false, |engine| {
            Ok(engine.fim(prefix, suffix)?)
        });
    }
    let prompt = prompt.filter(|text| !text.is_empty());
    let text = match file.filter(|_| prompt.is_none()) {
        // Not what is piped in, if the name is wrong.
        Some(path) => Some(read_text(&path)?),
        None => ask::input(prompt.as_deref(), None)?,
    };
    let text = text
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Failure::exact("Error: provide --prompt, --file, or pipe stdin"))?;
    let special = if plain { SpecialTokens::Plain } else { SpecialTokens::Parse };
    ask::answer(&model, &sampling, &grammar, &shown, false, |engine| Ok(engine.prompt_as(&text, special)?))
}
