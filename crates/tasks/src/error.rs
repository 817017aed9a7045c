use std::path::PathBuf;

/// What can go wrong with a task, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A task file breaks its format: correct the file.
    #[error("`{file}`: {at}: {problem}")]
    BadTask {
        /// Which task file.
        file: String,
        /// The line or the field, such as "line 12" or "field `task_id`".
        at: String,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// A command line needs a shell, or is not a command line.
    #[error("command `{command}`: {problem}")]
    Command {
        /// The command line.
        command: String,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// A path may not be read or written: name another file.
    #[error("path `{path}`: {problem}")]
    Path {
        /// The path as it was given.
        path: String,
        /// Why it is refused, and the remedy.
        problem: &'static str,
    },
    /// A file is larger than the limit; nothing is ever truncated.
    #[error("`{path}` has `{bytes}` bytes, the limit is `{limit}`; use a smaller file or raise the limit")]
    TooLarge {
        /// Which file, or which group of files.
        path: String,
        /// Its size.
        bytes: u64,
        /// The largest size that is accepted.
        limit: u64,
    },
    /// A file is not UTF-8 text, so it can be neither shown to a model nor edited.
    #[error("`{path}` is not UTF-8 text; only text files can be edited or given as context")]
    NotText {
        /// Which file.
        path: String,
    },
    /// The task does not name a file that other programs run or trust.
    #[error("`{path}` is {what}; it is changed only by a task that names it under `## File to modify`")]
    Guarded {
        /// Which file.
        path: String,
        /// What it is, such as "a build script".
        what: &'static str,
    },
    /// A file that may hold secrets is not shown to a model.
    #[error("`{path}` may hold secrets, and is not shown to a model; remove it from the context files")]
    Secret {
        /// Which file.
        path: String,
    },
    /// Another process works on the same folder.
    #[error("another coder (process `{holder}`) works on `{}`; wait until it ends, or stop it", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
        /// Its process id.
        holder: String,
    },
    /// There is no folder for journals and old contents.
    #[error("there is no home folder to keep old contents in; name a folder with --state-dir")]
    NoState,
    /// The folder for journals and old contents is one that a task could change.
    #[error("the state folder `{}` is inside the working directory; name one outside with --state-dir", path.display())]
    StateInside {
        /// The state folder.
        path: PathBuf,
    },
    /// A file of the state folder is not what was written: restore it, or go without.
    #[error("`{}` is damaged; what it would restore was left as it is", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// There is no such task to undo, or more than one.
    #[error("{}{problem}", if task.is_empty() { String::new() } else { format!("cannot undo `{task}`: ") })]
    NothingToUndo {
        /// The task, as it was named; empty for the last one.
        task: String,
        /// Why not, and the remedy.
        problem: String,
    },
    /// A task of a plan is a commit, which is git's to take back.
    #[error(
        "task `{task}` is commit `{commit}`; take it back with `git revert {commit}`, or the files of its whole plan with `coder undo --number {number}`"
    )]
    Committed {
        /// The task.
        task: String,
        /// Its commit.
        commit: String,
        /// The number of the plan's entry in the history.
        number: u64,
    },
    /// A file is not as the task left it; it was left alone.
    #[error("`{path}` was changed after task `{task_id}`; undo what came later first, or use --force")]
    ChangedSince {
        /// Which file.
        path: String,
        /// The task that is to be undone.
        task_id: String,
    },
    /// Somebody changed the target while it was being worked on; it was left as it is.
    #[error("`{path}` was changed by another program in the meantime; run the task again")]
    Changed {
        /// Which file.
        path: String,
    },
    /// A model's reply holds no file content.
    #[error("the reply is empty; reply with the whole content of the file in one fenced block")]
    EmptyReply,
    /// A model's reply holds more than one fenced block, so the content is ambiguous.
    #[error("the reply holds `{count}` fenced blocks; reply with the whole file in exactly one")]
    SeveralBlocks {
        /// How many blocks.
        count: usize,
    },
    /// A fenced block has no end: the reply was cut off.
    #[error("the fenced block that begins on line `{line}` of the reply has no end; the reply was cut off")]
    OpenBlock {
        /// Line of the opening fence in the reply, 1-based.
        line: usize,
    },
    /// A model's reply names another file than the one of the task.
    #[error("the reply is for `{got}`, the task's file is `{expected}`; write only that file")]
    WrongFile {
        /// The path in the reply.
        got: String,
        /// The path in the task.
        expected: String,
    },
    /// A fenced block of a reply does not say for which of the task's files it is.
    #[error(
        "the fenced block on line `{line}` of the reply names no file; write the path after the language"
    )]
    NoPath {
        /// Line of the opening fence in the reply, 1-based.
        line: usize,
    },
    /// A reply or a list of changes has one file twice.
    #[error("`{path}` is given twice; write every file once")]
    SameFile {
        /// Which file.
        path: String,
    },
    /// A change is to a file that the task does not name.
    #[error(
        "`{path}` is not one of the task's files; name it under `## Files to modify`, or leave it as it is"
    )]
    NotNamed {
        /// Which file.
        path: String,
    },
    /// A task names more files than its policy lets one task change.
    #[error(
        "the task changes `{files}` files, the policy allows `{limit}`; split it, or name another policy"
    )]
    TooManyFiles {
        /// How many the task names.
        files: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// A model's reply is neither a whole file nor edits.
    #[error("the reply holds no edit; reply in the form that was asked for")]
    NoEdit,
    /// An edit is malformed.
    #[error("line `{line}` of the reply: {problem}")]
    BadEdit {
        /// The line of the reply, 1-based.
        line: usize,
        /// What is wrong with it, and the remedy.
        problem: &'static str,
    },
    /// The lines that an edit replaces are not in the file.
    #[error(
        "the edit on line `{line}` of the reply replaces lines that `{path}` does not have; copy them exactly{near}"
    )]
    NoMatch {
        /// Which file.
        path: String,
        /// The line of the reply, 1-based.
        line: usize,
        /// The nearest lines of the file, numbered; "" where none is like them.
        near: String,
    },
    /// The lines that an edit replaces stand at several places.
    #[error(
        "the edit on line `{line}` of the reply fits `{count}` places in `{path}`, from lines `{places}`; add neighbouring lines until it fits one"
    )]
    Ambiguous {
        /// Which file.
        path: String,
        /// The line of the reply, 1-based.
        line: usize,
        /// How many places.
        count: usize,
        /// The first lines of them, 1-based.
        places: String,
    },
    /// Two edits change the same lines.
    #[error(
        "the edits on lines `{first}` and `{second}` of the reply change the same lines of `{path}`; make them one"
    )]
    Overlap {
        /// Which file.
        path: String,
        /// The line of one in the reply, 1-based.
        first: usize,
        /// The line of the other.
        second: usize,
    },
    /// The edits replace lines by themselves.
    #[error("the reply changes nothing; write what the lines shall become")]
    NothingChanged,
    /// Code cannot be inserted there.
    #[error("cannot insert at line `{line}`: the file has `{lines}` lines, so the last place is line `{}`", lines + 1)]
    NoSuchLine {
        /// The line that the task names, 1-based.
        line: usize,
        /// Lines of the file.
        lines: usize,
    },
    /// The new content holds a NUL byte, so it is not source text.
    #[error("line `{line}` of the new content holds a NUL byte; write plain text")]
    NulByte {
        /// The line, 1-based.
        line: usize,
    },
    /// The new content holds the marker of an unresolved merge conflict.
    #[error("line `{line}` of the new content is a conflict marker; write the resolved content")]
    ConflictMarker {
        /// The line, 1-based.
        line: usize,
    },
    /// The new content lost most of the old one.
    #[error(
        "the new content has `{new}` lines where the file had `{old}`; write the whole file, also the parts that do not change"
    )]
    Shrunk {
        /// Non-blank lines before.
        old: usize,
        /// Non-blank lines after.
        new: usize,
    },
    /// The new content stands for code instead of being it.
    #[error("line `{line}` of the new content is a placeholder, `{text}`; write the code itself")]
    Placeholder {
        /// The line, 1-based.
        line: usize,
        /// The line's text.
        text: String,
    },
    /// The model gave the same draft again and again, and it has failed already, for this reason.
    #[error(
        "the draft is the one that failed before ({0}); describe the task in other words or use another model"
    )]
    SameDraft(String),
    /// A task wants a shell for a line that nobody has approved.
    #[error(
        "command `{command}` is for a shell, and nobody has approved it; read it, then run once with `--approve-shell`"
    )]
    ShellNotApproved {
        /// The line.
        command: String,
    },
    /// A draft breaks the grammar of its language.
    #[error("`{path}` has syntax errors:\n{errors}")]
    Syntax {
        /// Which file.
        path: String,
        /// Places, problems and lines.
        errors: String,
    },
    /// A draft breaks one of the task's rules.
    #[error("`{path}` breaks the rule \"{rule}\": {problem}")]
    Constraint {
        /// Which file.
        path: String,
        /// The rule, as the task has it.
        rule: String,
        /// What is wrong.
        problem: String,
    },
    /// Nothing keeps a command from the rest of the machine, and nobody said that it need not.
    #[error(
        "no sandbox for commands: {problem}; install bubblewrap, or allow them everything with `--no-sandbox`"
    )]
    NoSandbox {
        /// Why there is none.
        problem: String,
    },
    /// Two tasks of a plan have one id.
    #[error("`{second}`: the id `{id}` is that of `{first}` too; give each task an id of its own")]
    DuplicateTask {
        /// The id.
        id: String,
        /// The task file that has it first.
        first: String,
        /// The task file that has it again.
        second: String,
    },
    /// A plan speaks of a task that it does not have.
    #[error("{place}: no task `{id}` in this plan; correct the id or add the task")]
    UnknownTask {
        /// The id.
        id: String,
        /// Who names it, such as "task `T-002`" or "`batches.md`, line 4".
        place: String,
    },
    /// Tasks of a plan wait for each other.
    #[error("tasks wait for each other: {}; remove one of these dependencies", tasks.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(" → "))]
    Cycle {
        /// The ids in the order of their dependencies; the last one is the first one again.
        tasks: Vec<String>,
    },
    /// The batches of a plan contradict its dependencies.
    #[error("task `{task}` depends on `{on}`, which is not in an earlier batch; move one of them")]
    LateDependency {
        /// The task that depends.
        task: String,
        /// What it depends on.
        on: String,
    },
    /// A task of a plan with batches is in none of them.
    #[error(
        "`{batches}` has no place for task `{task}` (`{source_file}`); add it to a batch, or remove its file"
    )]
    Unplanned {
        /// The file of batches.
        batches: String,
        /// The task's id.
        task: String,
        /// The task's file.
        source_file: String,
    },
    /// Git cannot be used here, or said no.
    #[error("git {command}: {problem}")]
    Git {
        /// The subcommand.
        command: String,
        /// What it said, or the problem and the remedy.
        problem: String,
    },
    /// The checkout has changes that are not committed.
    #[error("`{}` {} not committed; commit, or keep the changes out of the plan with --stash", files.join("`, `"), if files.len() == 1 { "is" } else { "are" })]
    Dirty {
        /// The files, the first few.
        files: Vec<String>,
    },
    /// A file that a task writes is not in the checkout as it is in the last commit.
    #[error("`{path}` {problem}, and task `{task}` writes it; commit, remove or restore it first")]
    InTheWay {
        /// The file.
        path: String,
        /// The task that writes it.
        task: String,
        /// What is the matter with it.
        problem: &'static str,
    },
    /// The checkout is not as it was when the plan began.
    #[error(
        "{problem}; the plan's commits are `{from}..{to}`: pick them by hand and forget the run with --restart, or put that back as it was and use --resume"
    )]
    Moved {
        /// What is different.
        problem: String,
        /// The commit on which the plan stands.
        from: String,
        /// Its last commit.
        to: String,
    },
    /// A former run in this folder was killed, stopped, or left tasks undone.
    #[error(
        "`{plan}` is not complete in this folder, with `{done}` tasks done {}; go on with it as it was begun and --resume, or forget it with --restart",
        if *in_worktrees { "in worktrees (--commit or --jobs)" } else { "in place (without --commit and --jobs)" }
    )]
    Unfinished {
        /// The plan as it was named.
        plan: String,
        /// How many of its tasks were done.
        done: usize,
        /// Whether it was a run in worktrees.
        in_worktrees: bool,
    },
    /// The record of a former run cannot be understood.
    #[error("`{}`: {problem}; forget that run with --restart", path.display())]
    BadJournal {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The policy keeps a task from a local model, and nobody else is to do it.
    #[error(
        "the task is not for a local model by {rules}; divide it, correct what it says, or run it without `--only-eligible`"
    )]
    NotEligible {
        /// The rules that keep it away, with their requirements.
        rules: String,
    },
    /// A task names more context files than may be shown, and this one has no summary that could stand for it.
    #[error(
        "`{files}` context files, `{limit}` are shown whole, and `{path}` is not summarised; name fewer, or allow more with `--context-files`"
    )]
    TooManyContextFiles {
        /// How many the task names.
        files: usize,
        /// How many are shown whole.
        limit: usize,
        /// The first one that is too many.
        path: String,
    },
    /// A prompt has more tokens than its template's budget, even with its context files summarised.
    #[error(
        "the prompt has `{tokens}` tokens, the budget of template `{template}` is `{budget}`; show less context, or raise the budget in the template"
    )]
    OverBudget {
        /// Tokens of the prompt, by the model's own tokenizer.
        tokens: usize,
        /// The most that the template allows.
        budget: usize,
        /// The template's name.
        template: &'static str,
    },
    /// A file of policy tables is not as it must be: correct the file.
    #[error("policy tables `{file}`: {problem}")]
    Tables {
        /// Which file.
        file: String,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// The ledger cannot be read or written now: work goes on without it.
    #[error("ledger `{}`: {problem}; free it, or name another file with `--ledger`", path.display())]
    LedgerUnusable {
        /// Which file.
        path: PathBuf,
        /// SQLite's reason.
        problem: String,
    },
    /// The ledger's file is damaged; it was left as it is.
    #[error(
        "ledger `{}` is damaged: {problem}; it was not changed: move it away, and its `-wal` with it, or name another file with `--ledger`",
        path.display()
    )]
    LedgerDamaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file is some other program's database; it was left as it is.
    #[error("`{}` is a database of another program; name another file with `--ledger`", path.display())]
    NotALedger {
        /// Which file.
        path: PathBuf,
    },
    /// The ledger was written by a later version of this program; it was left as it is.
    #[error(
        "ledger `{}` has version `{version}`, this program knows `{known}`; use the newer program, or name another file with `--ledger`",
        path.display()
    )]
    LedgerNewer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: i64,
        /// The last version that is known here.
        known: usize,
    },
    /// A state file is not as it must be; it was left as it is.
    #[error("state file `{}`: {problem}; correct it, or move it away to begin a new one", path.display())]
    State {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A prompt template fails on this task.
    #[error("prompt template: {0}")]
    Template(String),
}
