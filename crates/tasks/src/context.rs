//! Context files: at most two are shown whole, of further ones and too long ones a summary: of code its symbols, of prose and
//! data an outline (S1-56).
//!
//! Nothing is left out silently: a summary says in its first line that it is one, and the run's record names its file.

use crate::prompt::ContextFile;
use crate::symbols;
use crate::task::Task;
use crate::workspace::{MAX_FILE_BYTES, Workspace};
use crate::{Error, Result, language, outline, path};

/// The most bytes of a file that is as good as its summary.
const SHORT: usize = 4 << 10;

/// What of its context files a task's prompt shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextRules {
    /// How many files are shown whole, the first ones that the task names.
    pub files: usize,
    /// What becomes of the others.
    pub others: Others,
    /// How many files that the task does not name are shown beside them: those that share the most words with it.
    pub related: usize,
    /// The most bytes of all together.
    pub bytes: u64,
}

/// What becomes of context files that are too many or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Functions' bodies, and most lines of prose and data, are left out.
    Summarise,
    /// The task is refused.
    Refuse,
}

impl Default for ContextRules {
    fn default() -> Self {
        ContextRules { files: 2, others: Others::Summarise, related: 0, bytes: 256 << 10 }
    }
}

/// How much is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// As much as the rules allow.
    Full,
    /// A summary of every file, because the prompt would be too long.
    Symbols,
}

/// The context files as a prompt shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// In the order in which the task names them; then those that it does not name.
    pub files: Vec<ContextFile>,
    /// Paths of those of which a summary is shown.
    pub summarised: Vec<String>,
    /// Paths of those that the task does not name.
    pub related: Vec<String>,
}

/// Reads a task's context files, and of those that are `related` to it as many as fit. Files that the task itself changes are
/// not among them: they are shown anyway.
pub fn gather(
    task: &Task,
    related: &[String],
    workspace: &Workspace,
    rules: &ContextRules,
    detail: Detail,
) -> Result<Context> {
    let mut read = Vec::new();
    for path in task.context.iter().filter(|path| !task.files.contains(path)) {
        if path::is_secret(path) {
            return Err(Error::Secret { path: path.clone() });
        }
        read.push(ContextFile { path: path.clone(), content: workspace.read(path, MAX_FILE_BYTES)? });
    }
    let found = related.iter().filter_map(|path| {
        let content = workspace.read(path, MAX_FILE_BYTES).ok()?;
        Some(ContextFile { path: path.clone(), content })
    });
    with_related(read, found.collect(), rules, detail)
}

/// The files that a task names, and as many others as there is room for: no task fails for these.
fn with_related(
    named: Vec<ContextFile>,
    mut others: Vec<ContextFile>,
    rules: &ContextRules,
    detail: Detail,
) -> Result<Context> {
    loop {
        let chosen = choose([named.as_slice(), &others].concat(), rules, detail);
        // The one that cannot be shown goes, or, where all are too much together, the one that belongs least to the task.
        let out = match &chosen {
            Err(Error::TooManyContextFiles { path, .. }) => {
                others.iter().rposition(|file| file.path == *path)
            }
            _ => None,
        };
        match chosen {
            Err(_) if !others.is_empty() => drop(others.remove(out.unwrap_or(others.len() - 1))),
            chosen => {
                let related = others.into_iter().map(|file| file.path).collect();
                return chosen.map(|context| Context { related, ..context });
            }
        }
    }
}

/// Which of the files are shown whole.
fn choose(mut files: Vec<ContextFile>, rules: &ContextRules, detail: Detail) -> Result<Context> {
    let count = files.len();
    let mut short: Vec<bool> = vec![false; count];
    for (at, file) in files.iter_mut().enumerate() {
        let too_many = at >= rules.files;
        if too_many && (rules.others == Others::Refuse || !knows(&file.path)) {
            return Err(Error::TooManyContextFiles {
                files: count,
                limit: rules.files,
                path: file.path.clone(),
            });
        }
        if too_many || (detail == Detail::Symbols && rules.others == Others::Summarise) {
            short[at] = shorten(file);
        }
    }
    let total = |files: &[ContextFile]| files.iter().map(|file| file.content.len() as u64).sum::<u64>();
    // The longest file that is still whole makes room for the others.
    while total(&files) > rules.bytes {
        let whole = (0..count).filter(|at| !short[*at] && knows(&files[*at].path));
        let longest = whole.max_by_key(|at| files[*at].content.len());
        match longest.filter(|_| rules.others == Others::Summarise) {
            Some(at) if shorten(&mut files[at]) => short[at] = true,
            _ => {
                let path = "context files".to_owned();
                return Err(Error::TooLarge { path, bytes: total(&files), limit: rules.bytes });
            }
        }
    }
    let summarised = files.iter().zip(&short).filter(|(_, short)| **short).map(|(file, _)| file.path.clone());
    Ok(Context { summarised: summarised.collect(), related: Vec::new(), files })
}

/// Whether there are summaries of such files.
fn knows(path: &str) -> bool {
    symbols::knows(path) || outline::knows(path)
}

/// The first of these files of which there are summaries, at most so many, in summary; a short one is its own. All together
/// have no more bytes than the context files of a task.
pub fn summarised<'f>(files: impl Iterator<Item = &'f ContextFile>, most: usize) -> Vec<ContextFile> {
    let mut left = ContextRules::default().bytes;
    let summary = |file: &ContextFile| {
        let mut file = file.clone();
        let is_short = shorten(&mut file) || file.content.len() <= SHORT;
        left = left.checked_sub(file.content.len() as u64).filter(|_| is_short)?;
        Some(file)
    };
    files.filter_map(summary).take(most).collect()
}

/// Puts a summary in place of a file's content; false if there is nothing to leave out.
fn shorten(file: &mut ContextFile) -> bool {
    let (summary, what, gap) = match symbols::knows(&file.path) {
        true => (symbols::summary(&file.path, &file.content), "signatures, types and comments", "a body"),
        false => {
            (outline::outline(&file.path, &file.content), "its ends, headings and keys", "what is left out")
        }
    };
    let Some(summary) = summary else { return false };
    let comment = language::comment(language::of(&file.path));
    let shown = summary.text.lines().filter(|line| *line != "…").count();
    file.content = format!(
        "{comment} Summary of {}: {what}, {shown} of {} lines; `…` stands for {gap}.\n{}",
        file.path, summary.lines, summary.text
    );
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "/// Adds.\npub fn add(a: i32) -> i32 {\n    let b = a;\n    b\n}\n";

    fn file(path: &str, content: &str) -> ContextFile {
        ContextFile { path: path.into(), content: content.into() }
    }

    fn three() -> Vec<ContextFile> {
        vec![file("a.rs", CODE), file("b.rs", CODE), file("c.rs", CODE)]
    }

    /// Covers S1-56.
    #[test]
    fn two_files_are_whole_and_the_third_is_a_summary_that_says_so() {
        let context = choose(three(), &ContextRules::default(), Detail::Full).unwrap();
        assert_eq!(context.summarised, ["c.rs"]);
        assert_eq!((context.files[0].content.as_str(), context.files[1].content.as_str()), (CODE, CODE));
        assert_eq!(
            context.files[2].content,
            "// Summary of c.rs: signatures, types and comments, 2 of 5 lines; `…` stands for a body.\n\
             /// Adds.\npub fn add(a: i32) -> i32 { … }\n"
        );
        let all = choose(three(), &ContextRules::default(), Detail::Symbols).unwrap();
        assert_eq!(all.summarised, ["a.rs", "b.rs", "c.rs"]);
    }

    /// Covers S1-56.
    #[test]
    fn the_third_file_is_refused_where_asked_or_where_it_has_no_summary() {
        let refuse = ContextRules { others: Others::Refuse, ..ContextRules::default() };
        let error = choose(three(), &refuse, Detail::Full).unwrap_err().to_string();
        assert!(error.starts_with("`3` context files, `2` are shown whole"), "{error}");
        let mut files = three();
        files[2] = file("notes.c", "x");
        let error = choose(files.clone(), &ContextRules::default(), Detail::Full).unwrap_err().to_string();
        assert!(error.contains("`notes.c`"), "{error}");
        let more = ContextRules { files: 3, ..ContextRules::default() };
        assert!(choose(files, &more, Detail::Full).unwrap().summarised.is_empty());
    }

    /// Covers S1-56.
    #[test]
    fn a_third_file_of_prose_or_data_is_an_outline_that_says_so() {
        let long = "x\n".repeat(100);
        for (path, comment) in [("notes.txt", "//"), ("README.md", "//"), ("ci.yaml", "#")] {
            let mut files = three();
            files[2] = file(path, &long);
            let context = choose(files, &ContextRules::default(), Detail::Full).unwrap();
            assert_eq!(context.summarised, [path]);
            let first = context.files[2].content.lines().next().unwrap();
            assert_eq!(
                first,
                format!(
                    "{comment} Summary of {path}: its ends, headings and keys, 30 of 100 lines; `…` stands for what is left out."
                )
            );
        }
        // What is short says as much as its outline would.
        let mut files = three();
        files[2] = file("notes.txt", "x\n");
        let context = choose(files, &ContextRules::default(), Detail::Full).unwrap();
        assert_eq!((context.summarised.len(), context.files[2].content.as_str()), (0, "x\n"));
    }

    /// Covers S1-56, S3-28.
    #[test]
    fn files_that_a_task_does_not_name_are_shown_as_far_as_there_is_room() {
        let paths = |files: &[ContextFile]| files.iter().map(|file| file.path.clone()).collect::<Vec<_>>();
        let named = vec![file("a.rs", CODE)];
        let others = vec![file("b.rs", CODE), file("c.rs", CODE), file("d.c", "int d;\n")];
        let show =
            |rules: &ContextRules| with_related(named.clone(), others.clone(), rules, Detail::Full).unwrap();
        // The third has a summary, and of the fourth there is none.
        let all = show(&ContextRules::default());
        assert_eq!(paths(&all.files), ["a.rs", "b.rs", "c.rs"]);
        assert_eq!(
            (all.related, all.summarised),
            (vec!["b.rs".to_owned(), "c.rs".into()], vec!["c.rs".to_owned()])
        );
        let refuse = ContextRules { others: Others::Refuse, ..ContextRules::default() };
        assert_eq!(show(&refuse).related, ["b.rs"]);
        let tight = ContextRules { bytes: CODE.len() as u64, ..refuse };
        assert_eq!(show(&tight).related, Vec::<String>::new());
        // One of which there is no summary goes alone.
        let others = vec![file("b.rs", CODE), file("seed.sql", "--\n"), file("c.rs", CODE)];
        let shown =
            with_related(named.clone(), others.clone(), &ContextRules::default(), Detail::Full).unwrap();
        assert_eq!(shown.related, ["b.rs", "c.rs"]);
        // What the task names itself is an error where it is too much.
        let tighter = ContextRules { bytes: 1, ..refuse };
        assert!(with_related(named.clone(), others.clone(), &tighter, Detail::Full).is_err());
    }

    /// Covers S3-28.
    #[test]
    fn what_has_no_summary_is_no_summary_of_itself() {
        let rows = "insert into t values (1);\n".repeat(200);
        let table = format!("{}\n", "pub const N: u8 = 1;\n".repeat(400));
        let notes = format!("# Notes\n{}", "words\n".repeat(400));
        let huge = "pub fn f();\nfn g() {\n    1\n}\n".repeat(20_000);
        let files = [
            file("seed.sql", &rows),
            file("table.rs", &table),
            file("huge.rs", &huge),
            file("a.rs", CODE),
            file("short.sql", "select 1;\n"),
            file("notes.md", &notes),
        ];
        let of = |most| {
            let shown = summarised(files.iter(), most);
            shown.into_iter().map(|file| file.path).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((of(9), of(2)), ("a.rs short.sql notes.md".to_owned(), "a.rs short.sql".to_owned()));
    }

    /// Covers S1-56.
    #[test]
    fn the_longest_file_is_summarised_when_all_are_too_long() {
        let long = format!("pub fn long() {{\n{}}}\n", "    step();\n".repeat(100));
        let files = vec![file("a.rs", CODE), file("long.rs", &long)];
        let rules = ContextRules { bytes: 500, ..ContextRules::default() };
        let context = choose(files.clone(), &rules, Detail::Full).unwrap();
        assert_eq!(context.summarised, ["long.rs"]);
        let tight = ContextRules { bytes: 50, ..rules };
        assert!(matches!(
            choose(files.clone(), &tight, Detail::Full),
            Err(Error::TooLarge { limit: 50, .. })
        ));
        let refuse = ContextRules { others: Others::Refuse, ..rules };
        assert!(matches!(choose(files, &refuse, Detail::Full), Err(Error::TooLarge { .. })));
    }
}
