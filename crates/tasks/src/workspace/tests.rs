//! A transaction that dies after any of its effects, and its journal cut anywhere.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::fault::{acts_after, dies_after, lives};
use super::*;
use crate::edit::Change;

/// Path, content and permissions of every file below a folder, and its folders.
type Tree = BTreeMap<String, (String, u32)>;

struct Bench {
    folder: tempfile::TempDir,
    state: tempfile::TempDir,
}

const OLD: [(&str, &str, u32); 3] =
    [("a.py", "a = 1\r\n", 0o751), ("gone.py", "x = 1\n", 0o640), ("src/kept.py", "k = 1\n", 0o644)];

/// One file changes, one is new in new folders, one goes.
fn changes() -> Vec<Change> {
    let change = |path: &str, content: Option<&str>| Change {
        path: path.to_owned(),
        content: content.map(str::to_owned),
        moved_from: None,
    };
    vec![
        change("a.py", Some("a = 2\r\n")),
        change("src/new/deep/b.py", Some("b = 2\n")),
        change("gone.py", None),
    ]
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { folder: private(), state: private() };
        for (path, text, mode) in OLD {
            let path = bench.folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        bench
    }

    fn workspace(&self) -> Workspace {
        Workspace::open(self.folder.path(), self.state.path()).unwrap()
    }

    fn tree(&self) -> Tree {
        let mut found = Tree::new();
        list(self.folder.path(), self.folder.path(), &mut found);
        found
    }

    /// A task that dies after so many effects; whether it said that it is done.
    fn task(&self, steps: u64) -> (bool, u64) {
        let workspace = self.workspace();
        workspace.recover().unwrap();
        let files: Vec<String> = changes().into_iter().map(|change| change.path).collect();
        dies_after(steps);
        let done = workspace.begin("T-1", &files).and_then(|mut transaction| {
            transaction.write(&changes())?;
            transaction.commit()
        });
        (done.is_ok(), lives())
    }

    /// The journal that is open, and where it lies.
    fn journal(&self) -> Option<(PathBuf, Vec<u8>)> {
        let open =
            files(self.state.path()).into_iter().find(|path| path.extension().is_some_and(|e| e == "open"));
        open.map(|path| (path.clone(), std::fs::read(path).unwrap()))
    }

    /// The next start: everything is old or everything is new, and nothing else is there.
    fn recovers(&self, what: &str) -> bool {
        self.workspace().recover().unwrap_or_else(|error| panic!("{what}: {error}"));
        let (tree, old, new) = (self.tree(), old(), new());
        assert!(tree == old || tree == new, "{what}: {tree:?}");
        assert_eq!(self.journal(), None, "{what}");
        tree == new
    }
}

/// A folder in memory, where there is such a place: thousands of runs wait for a disk otherwise, and what
/// a dead run leaves is the same.
fn private() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn list(root: &Path, folder: &Path, found: &mut Tree) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.insert(name, (String::new(), 0));
            list(root, &path, found);
        } else {
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            found.insert(name, (std::fs::read_to_string(&path).unwrap(), mode));
        }
    }
}

fn old() -> Tree {
    let mut tree: Tree =
        OLD.iter().map(|(path, text, mode)| ((*path).to_owned(), ((*text).to_owned(), *mode))).collect();
    tree.insert("src".into(), (String::new(), 0));
    tree
}

fn new() -> Tree {
    let bench = Bench::new();
    assert!(bench.task(u64::MAX).0);
    let tree = bench.tree();
    assert_eq!(tree["a.py"], ("a = 2\r\n".to_owned(), 0o751));
    assert!(tree.contains_key("src/new/deep/b.py") && !tree.contains_key("gone.py"));
    tree
}

/// Covers S1-10, S1-20, S1-55.
#[test]
fn a_task_that_dies_after_any_effect_is_done_or_undone() {
    let mut seen = [0, 0];
    for steps in 0.. {
        let bench = Bench::new();
        let (done, effects) = bench.task(steps);
        let is_new = bench.recovers(&format!("after {steps} effects"));
        assert!(is_new || !done, "a task that is done stays done");
        seen[usize::from(is_new)] += 1;
        if is_new {
            // What it replaced is still there.
            let undone = bench.workspace().undo(None, false).unwrap();
            assert_eq!((undone.task_id.as_str(), undone.files.len()), ("T-1", 3));
            assert_eq!(bench.tree(), old());
        }
        if effects < steps {
            break;
        }
    }
    println!("undone after {} of the places to die, done after {}", seen[0], seen[1]);
    assert!(seen[0] > 30 && seen[1] > 1, "{seen:?}");
}

/// Covers S1-10, S1-55.
#[test]
fn a_recovery_that_dies_after_any_effect_is_taken_up_again() {
    let mut died = 0;
    let (_, all) = Bench::new().task(u64::MAX);
    for steps in (0..all).rev().step_by(6) {
        for again in 0.. {
            let bench = Bench::new();
            bench.task(steps);
            dies_after(again);
            let recovered = bench.workspace().recover();
            let effects = lives();
            bench.recovers(&format!("after {steps} effects and {again} of the recovery"));
            if recovered.is_ok() && effects < again {
                break;
            }
            died += 1;
        }
    }
    println!("{died} recoveries died");
    assert!(died > 50, "{died}");
}

/// A line that is not on the disk yet may be there in part after a power cut, and nothing that comes after it.
///
/// Covers S1-10, S1-55.
#[test]
fn a_journal_whose_last_line_is_torn_anywhere_is_recovered() {
    let mut length = 0;
    let mut cuts = 0;
    for steps in 0.. {
        let bench = Bench::new();
        let (_, effects) = bench.task(steps);
        if effects < steps {
            break;
        }
        let Some((_, bytes)) = bench.journal() else { continue };
        if bytes.len() > length {
            for cut in (length..=bytes.len()).step_by(17).chain([bytes.len() - 1]) {
                let bench = Bench::new();
                bench.task(steps);
                let (path, bytes) = bench.journal().unwrap();
                std::fs::write(path, &bytes[..cut]).unwrap();
                let is_new = bench.recovers(&format!("journal of {} bytes cut at {cut}", bytes.len()));
                assert!(!is_new || cut == bytes.len());
                cuts += 1;
            }
        }
        length = bytes.len();
    }
    println!("{cuts} cuts");
    assert!(cuts > 60, "{cuts}");
}

/// Covers S1-55.
#[test]
fn an_undo_that_dies_after_any_effect_is_done_or_not() {
    let mut seen = [0, 0];
    for steps in 0.. {
        let bench = Bench::new();
        bench.task(u64::MAX);
        let workspace = bench.workspace();
        workspace.recover().unwrap();
        dies_after(steps);
        let undone = workspace.undo(Some("T-1"), false);
        let effects = lives();
        drop(workspace);
        let is_new = bench.recovers(&format!("after {steps} effects of the undo"));
        assert!(!is_new || undone.is_err());
        assert_eq!(bench.workspace().history().unwrap()[0].undone, !is_new);
        seen[usize::from(is_new)] += 1;
        if undone.is_ok() && effects < steps {
            break;
        }
    }
    assert!(seen[0] > 1 && seen[1] > 20, "{seen:?}");
}

#[test]
fn what_somebody_wrote_after_the_crash_is_left_and_told() {
    let bench = Bench::new();
    let (_, all) = Bench::new().task(u64::MAX);
    // All files are in place, and the last line is not written.
    bench.task(all - 4);
    assert_eq!(bench.tree(), new());
    std::fs::write(bench.folder.path().join("a.py"), "mine\n").unwrap();
    let workspace = bench.workspace();
    let told = workspace.recover().unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].task_id.as_str(), told[0].files.len()), ("T-1", 2));
    let (path, kept) = &told[0].left[0];
    assert_eq!(path, "a.py");
    assert_eq!(std::fs::read_to_string(kept.as_ref().unwrap()).unwrap(), "a = 1\r\n");
    let mut expected = old();
    expected.get_mut("a.py").unwrap().0 = "mine\n".to_owned();
    assert_eq!(bench.tree(), expected);
    assert_eq!(workspace.recover().unwrap(), []);
    // It is in the history, so it can be undone on request.
    assert_eq!(workspace.undo(None, false).unwrap().files, ["a.py"]);
    assert_eq!(bench.tree(), old());
}

/// The user edits one file of the task while the model drafts anew, and the program is killed.
#[test]
fn what_a_killed_task_never_wrote_is_not_its_to_undo() {
    let bench = Bench::new();
    let workspace = bench.workspace();
    let names = ["a.py", "gone.py", "src/new/deep/b.py"].map(str::to_owned);
    let mut transaction = workspace.begin("T-1", &names).unwrap();
    transaction.write(&changes()[..1]).unwrap();
    transaction.restore().unwrap();
    std::fs::write(bench.folder.path().join("gone.py"), "mine\n").unwrap();
    std::mem::forget(transaction);
    drop(workspace);
    let workspace = bench.workspace();
    let told = workspace.recover().unwrap();
    assert_eq!((told.len(), told[0].files.as_slice()), (1, &["a.py".to_owned()][..]));
    assert_eq!(told[0].left[0].0, "gone.py");
    assert_eq!(std::fs::read_to_string(told[0].left[0].1.as_ref().unwrap()).unwrap(), "x = 1\n");
    let error = workspace.undo(None, false).unwrap_err().to_string();
    assert!(error.contains("nothing that was done"), "{error}");
    assert_eq!(std::fs::read_to_string(bench.folder.path().join("gone.py")).unwrap(), "mine\n");
}

/// Another program writes a file between any two effects of a task that is taken back in the end, or of
/// one that is done: what it wrote is in the folder or in the store.
///
/// Covers S1-55.
#[test]
fn what_another_program_writes_at_any_moment_is_not_lost() {
    let mut refused = 0;
    for (path, done) in [("a.py", true), ("a.py", false), ("gone.py", false), ("src/new/deep/b.py", false)] {
        for steps in 0.. {
            let bench = Bench::new();
            let workspace = bench.workspace();
            workspace.recover().unwrap();
            let names: Vec<String> = changes().into_iter().map(|change| change.path).collect();
            let file = bench.folder.path().join(path);
            acts_after(steps, move || {
                // Where the folder is not there yet, the other program has nowhere to write.
                let _ = std::fs::write(file, "mine\n");
            });
            let mut transaction = workspace.begin("T-1", &names).unwrap();
            let written = transaction.write(&changes());
            refused += u32::from(matches!(written, Err(Error::Changed { .. })));
            let ended = match done {
                true => transaction.commit().map(drop),
                false => transaction.abort(),
            };
            let acted = lives() > steps;
            let refusal = matches!(written, Ok(()) | Err(Error::Changed { .. }));
            assert!(refusal && ended.is_ok(), "`{path}` after {steps} effects: {written:?}, {ended:?}");
            let all = files(bench.folder.path()).into_iter().chain(files(bench.state.path()));
            let kept = all.filter(|file| std::fs::read(file).unwrap() == b"mine\n").count();
            let nowhere = path.contains("new") && kept == 0;
            assert!(!acted || kept > 0 || nowhere, "`{path}` after {steps} effects, done: {done}");
            if !acted {
                break;
            }
        }
    }
    println!("{refused} writes were refused");
    assert!(refused > 20, "{refused}");
}

/// A task that gives `a.py` a content of its own.
fn done(workspace: &Workspace, number: usize) {
    let content = Some(format!("a = {number}\n"));
    let mut transaction = workspace.begin(&format!("T-{number}"), &["a.py".to_owned()]).unwrap();
    transaction.write(&[Change { path: "a.py".to_owned(), content, moved_from: None }]).unwrap();
    transaction.commit().unwrap();
}

fn make_old(file: &Path) {
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(100 * 24 * 60 * 60);
    std::fs::File::options().write(true).open(file).unwrap().set_modified(long_ago).unwrap();
}

#[test]
fn only_the_last_tasks_can_be_undone_and_nothing_else_is_kept() {
    let bench = Bench::new();
    let workspace = bench.workspace();
    let count = prune::KEPT + 3;
    (1..=count).for_each(|number| done(&workspace, number));
    drop(workspace);
    let objects = || {
        files(bench.state.path()).iter().filter(|path| path.parent().unwrap().ends_with("objects")).count()
    };
    assert_eq!(objects(), count + 1);
    // A prune that dies after any effect is done by the next start.
    for steps in 0..4 {
        dies_after(steps);
        let _ = bench.workspace().recover();
        lives();
    }
    let workspace = bench.workspace();
    let history = workspace.history().unwrap();
    assert_eq!((history.len(), history[0].number, &*history[0].task_id), (prune::KEPT, 4, "T-4"));
    assert_eq!(objects(), prune::KEPT + 1);
    // The oldest one that is left: its old content is that of the last one that is gone.
    workspace.undo(Some("T-4"), true).unwrap();
    assert_eq!(std::fs::read_to_string(bench.folder.path().join("a.py")).unwrap(), "a = 3\n");
    done(&workspace, 1000);
    assert_eq!(workspace.history().unwrap().last().unwrap().number as usize, count + 2);
}

#[test]
fn what_changes_nothing_pushes_nothing_out_of_the_history() {
    let bench = Bench::new();
    let workspace = bench.workspace();
    (0..=prune::KEPT).for_each(|_| done(&workspace, 1));
    drop(workspace);
    let workspace = bench.workspace();
    workspace.recover().unwrap();
    assert_eq!(workspace.history().unwrap().len(), 1);
    workspace.undo(None, false).unwrap();
}

#[test]
fn contents_that_no_task_names_stay_for_a_while() {
    let bench = Bench::new();
    let workspace = bench.workspace();
    done(&workspace, 1);
    let state = workspace.state().unwrap();
    let kept = state.content_path(&state.save(b"what somebody wrote").unwrap());
    drop(workspace);
    bench.workspace().recover().unwrap();
    assert!(kept.exists());
    files(bench.state.path()).iter().for_each(|file| make_old(file));
    let workspace = bench.workspace();
    workspace.recover().unwrap();
    assert!(!kept.exists());
    assert_eq!(workspace.undo(None, false).unwrap().task_id, "T-1");
}

/// A task that came to nothing, during which another program wrote into its file.
#[test]
fn what_another_program_wrote_is_told_and_outlives_the_tasks_after_it() {
    let bench = Bench::new();
    let workspace = bench.workspace();
    let mut transaction = workspace.begin("T-0", &["a.py".to_owned()]).unwrap();
    transaction.write(&changes()[..1]).unwrap();
    std::fs::write(bench.folder.path().join("a.py"), "mine\n").unwrap();
    transaction.restore().unwrap();
    let [displaced] = transaction.displaced() else { panic!("{:?}", transaction.displaced()) };
    let displaced = vec![displaced.clone()];
    transaction.abort().unwrap();
    assert_eq!(bench.tree(), old());
    assert_eq!(workspace.history().unwrap()[0].displaced, displaced);
    (1..=prune::KEPT).for_each(|number| done(&workspace, number));
    drop(workspace);
    let workspace = bench.workspace();
    assert_eq!(workspace.history().unwrap()[0].task_id, "T-1");
    assert_eq!(std::fs::read_to_string(&displaced[0].kept).unwrap(), "mine\n");
}

/// The program is gone while a command is at work, or cannot bring back what the command did.
#[test]
fn what_a_command_spoiled_is_kept_and_told() {
    for killed in [true, false] {
        let bench = Bench::new();
        let file = |name: &str| bench.folder.path().join(name);
        for name in ["t.py", "same.py"] {
            std::fs::write(file(name), "precious\n").unwrap();
        }
        let workspace = bench.workspace();
        let mut transaction = workspace.begin("T-1", &["a.py".to_owned(), "gone.py".to_owned()]).unwrap();
        transaction.write(&changes()[..1]).unwrap();
        let precious = &b"precious\n"[..];
        transaction.shelter([("t.py", precious), ("same.py", precious)]).unwrap();
        std::fs::write(file("t.py"), "spoiled").unwrap();
        match killed {
            true => {
                std::fs::write(file("gone.py"), "spoiled").unwrap();
                std::mem::forget(transaction);
            }
            false => transaction.abort().unwrap(),
        }
        drop(workspace);
        let workspace = bench.workspace();
        let told = workspace.recover().unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let kept = |(path, kept): &(String, Option<PathBuf>)| (path.clone(), read(kept.as_ref().unwrap()));
        let left: Vec<_> = told[0].left.iter().map(kept).collect();
        let expected = [("gone.py", "x = 1\n"), ("t.py", "precious\n")];
        let expected = expected.map(|(path, content)| (path.to_owned(), content.to_owned()));
        assert_eq!(left, expected[usize::from(!killed)..]);
        assert_eq!(
            (told[0].files.as_slice(), read(&file("a.py"))),
            (&["a.py".to_owned()][..], "a = 1\r\n".into())
        );
        assert_eq!(read(&file("t.py")), "spoiled");
        // Whether it was the command, or somebody else meanwhile, nobody knows: nothing is undone that the task did not do.
        let history = workspace.history().unwrap();
        let displaced =
            history[0].displaced.iter().map(|one| (one.path.as_str(), read(Path::new(&one.kept))));
        let kept = [("t.py", "precious\n".to_owned()), ("gone.py", "x = 1\n".to_owned())];
        assert_eq!(displaced.collect::<Vec<_>>(), kept[..1 + usize::from(killed)]);
        assert!(workspace.undo(None, false).is_err());
        drop(workspace);
        assert!(bench.workspace().recover().unwrap().is_empty());
        assert!(
            files(bench.state.path())
                .iter()
                .all(|path| path.extension().is_none_or(|end| end != "sheltered"))
        );
    }
}

#[test]
fn the_state_of_a_folder_that_is_gone_goes_unless_something_is_unfinished() {
    let bench = Bench::new();
    let used = |name: &str, steps: u64| {
        let folder = bench.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let workspace = Workspace::open(&folder, bench.state.path()).unwrap();
        workspace.recover().unwrap();
        dies_after(steps);
        let _ = workspace.begin("T-1", &["b.py".to_owned()]).and_then(|mut transaction| {
            transaction.write(&[Change {
                path: "b.py".to_owned(),
                content: Some("b\n".to_owned()),
                moved_from: None,
            }])?;
            transaction.commit()
        });
        lives();
        let state = workspace.state().unwrap().content_path("").ancestors().nth(1).unwrap().to_owned();
        make_old(&state.join("lock"));
        state
    };
    let (there, gone, unfinished, held) =
        (used("there", u64::MAX), used("gone", u64::MAX), used("unfinished", 12), used("held", u64::MAX));
    for name in ["gone", "unfinished", "held"] {
        std::fs::remove_dir_all(bench.folder.path().join(name)).unwrap();
    }
    let lock = std::fs::File::options().write(true).open(held.join("lock")).unwrap();
    lock.lock().unwrap();
    bench.workspace().recover().unwrap();
    assert!(there.exists() && unfinished.exists() && held.exists());
    assert!(!gone.exists());
}
