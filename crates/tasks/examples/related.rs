//! How well passages are found: for each commit of a git repository, whether its message finds the files that it changed.
//!
//! `cargo run --release -p coder-tasks --example related -- FOLDER`
//!
//! Counted are commits that changed one to six files that are still there; the texts are today's. Printed are the share of
//! these files among the first 4 and 8 found, the mean reciprocal rank of the first, and the same by the words of paths alone.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use coder_tasks::{Denied, Project, related};

/// Commits that are looked at.
const COMMITS: &str = "1000";

/// Files that a commit changes, at most: what changes more is no task.
const FILES: usize = 6;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("name the folder of a git repository")?;
    let project = Project::open(Path::new(&folder), &Denied::default())?;
    let bytes: usize = project.files.iter().map(|file| file.content.len()).sum();
    println!("{} files, {bytes} bytes", project.files.len());
    let commits = commits(&folder, &project)?;
    println!("{} commits", commits.len());
    for (name, found) in measures(&project) {
        let found = commits.iter().map(|(message, changed)| (found(message), changed));
        let sums = found.fold([0.0; 3], |[four, eight, rank], (found, changed)| {
            let share = |most| {
                let hits = found.iter().take(most).filter(|path| changed.contains(**path)).count();
                hits as f64 / changed.len() as f64
            };
            let first = found.iter().position(|path| changed.contains(*path));
            [four + share(4), eight + share(8), rank + first.map_or(0.0, |at| 1.0 / (at + 1) as f64)]
        });
        let [four, eight, rank] = sums.map(|sum| sum / commits.len() as f64);
        println!("{name}: {four:.2} among the first 4, {eight:.2} among 8, reciprocal rank {rank:.2}");
    }
    Ok(())
}

/// Finds the files that belong to a text, the best first.
type Measure<'p> = Box<dyn Fn(&str) -> Vec<&'p str> + 'p>;

fn measures(project: &Project) -> [(&'static str, Measure<'_>); 2] {
    let paths = move || project.files.iter().map(|file| (file.path.as_str(), "\n"));
    [
        ("words", Box::new(move |message| project.found(message))),
        ("paths alone", Box::new(move |message| related::files(related::passages(paths(), message)))),
    ]
}

/// The message of a commit, and the files that it changed.
type Commit = (String, HashSet<String>);

/// What is known of the last commits.
fn commits(folder: &str, project: &Project) -> Result<Vec<Commit>, Box<dyn std::error::Error>> {
    let args = ["log", "--no-merges", "-n", COMMITS, "--format=%x00%B%x01", "--name-only", "-z"];
    let log = Command::new("git").arg("-C").arg(folder).args(args).output()?;
    let here: HashSet<&str> = project.files.iter().map(|file| file.path.as_str()).collect();
    let mut found = Vec::new();
    let mut message = None;
    let mut changed = HashSet::new();
    let mut keep = |message: Option<String>, changed: HashSet<String>| {
        if let Some(message) = message.filter(|_| (1..=FILES).contains(&changed.len())) {
            found.push((message, changed));
        }
    };
    for part in String::from_utf8_lossy(&log.stdout).split('\0') {
        if let Some((words, _)) = part.split_once('\u{1}') {
            keep(message.replace(words.to_owned()), std::mem::take(&mut changed));
        } else if here.contains(part.trim_start_matches('\n')) {
            changed.insert(part.trim_start_matches('\n').to_owned());
        }
    }
    keep(message, changed);
    Ok(found)
}
