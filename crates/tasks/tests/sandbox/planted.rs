//! Commands that leave something behind for programs that run later, outside of the sandbox: git, its hooks,
//! and this program. Whatever they leave is found, told and taken back; what ordinary commands leave is not.

use std::path::Path;
use std::process::Command;

use coder_tasks::verify::{Exit, Guarded, Sandbox};

use crate::support::{Ground, limits, sandboxes};

/// Above this folder git looks for no repository: a test whose own is broken must not work in that of the checkout.
const CEILING: &str = "GIT_CEILING_DIRECTORIES";

/// Runs a script as a task's command is run, and gives what it had to be told.
fn judged(ground: &Ground, sandbox: &Sandbox, script: &str) -> (Exit, Vec<String>) {
    let argv = ["sh", "-c", script].map(str::to_owned);
    let guarded = Guarded::take(&ground.tree(), &[], &argv, sandbox).unwrap();
    let done = ground.sh(sandbox, script, &limits());
    (done.exit, guarded.restore(&mut |_, _| Ok(())).unwrap())
}

/// Git as the user runs it, in a folder of the tree.
fn git(folder: &Path, line: &str) {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"];
    let mut git = Command::new("git");
    git.args(identity).args(line.split(' ')).current_dir(folder).env("GIT_CONFIG_NOSYSTEM", "1");
    git.env(CEILING, env!("CARGO_TARGET_TMPDIR"));
    let done = git.output().unwrap();
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A repository with a commit, in which `evil.sh` leaves a mark in the folder outside.
fn repository(ground: &Ground, folder: &str) {
    let folder = ground.tree().join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    git(&folder, "init --quiet");
    std::fs::write(folder.join("a"), "a\n").unwrap();
    git(&folder, "add a");
    git(&folder, "commit --quiet -m a");
}

/// What a script needs to plant something: `$evil` is a program.
fn evil(ground: &Ground) -> String {
    let mark = ground.outside().join("ran");
    format!(
        "printf '#!/bin/sh\\ntouch \"{}\"\\n' > evil.sh; chmod +x evil.sh; evil=\"$PWD/evil.sh\"\n",
        mark.display()
    )
}

/// Prepares a tree, lets a script plant something in it, and uses git in some folders as a user does.
fn assert_found(prepare: &dyn Fn(&Ground), script: &str, folders: &[&str]) {
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        prepare(&ground);
        let script = evil(&ground) + script;
        let (exit, changed) = judged(&ground, sandbox, &script);
        let refused = exit != Exit::Code(0);
        assert!(refused || !changed.is_empty(), "{name}: {script}: nothing was noticed");
        for folder in folders {
            for line in [&["status"][..], &["commit", "--quiet", "--allow-empty", "-m", "b"]] {
                let identity = ["-c", "user.name=a", "-c", "user.email=a@b"];
                let folder = ground.tree().join(folder);
                let _ = Command::new("git")
                    .args(identity)
                    .args(line)
                    .current_dir(folder)
                    .env(CEILING, env!("CARGO_TARGET_TMPDIR"))
                    .output();
            }
        }
        ground.assert_untouched(&format!("{name}: {script}: {exit:?}, {changed:?}"));
    }
}

/// Without this the other tests would show nothing.
#[test]
fn the_trap_works() {
    let ground = Ground::new();
    repository(&ground, "");
    let script = evil(&ground) + "git config core.fsmonitor \"$evil\"; git status";
    let done = Command::new("sh").args(["-c", &script]).current_dir(ground.tree()).output().unwrap();
    assert!(ground.outside().join("ran").exists(), "{done:?}");
}

#[test]
fn a_repository_cannot_be_led_elsewhere() {
    let copy = "mkdir e && cp -r .git/refs .git/objects .git/HEAD .git/config e/ && \
                git config --file e/config core.fsmonitor \"$evil\" &&";
    assert_found(&|ground| repository(ground, ""), &format!("{copy} echo ../e > .git/commondir"), &[""]);
    assert_found(
        &|ground| repository(ground, ""),
        &format!("{copy} mv .git f && echo gitdir: e > .git"),
        &[""],
    );
    assert_found(&|ground| repository(ground, ""), &format!("{copy} rm -rf .git && ln -s e .git"), &[""]);
    let linked = |ground: &Ground| {
        repository(ground, "");
        git(&ground.tree(), "worktree add --quiet .worktrees/w");
    };
    let record = format!("{copy} echo ../../../e > .git/worktrees/w/commondir");
    assert_found(&linked, &record, &[".worktrees/w"]);
    let own = "git init --quiet e && git -C e config core.fsmonitor \"$evil\" && echo gitdir: ../../e/.git >";
    assert_found(&linked, &format!("{own} .worktrees/w/.git"), &[".worktrees/w"]);
}

#[test]
fn a_linked_worktree_stays_what_it_is() {
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        let main = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        git(main.path(), "init --quiet");
        git(main.path(), "commit --quiet --allow-empty -m a");
        git(main.path(), &format!("worktree add --quiet --force {}", ground.tree().display()));
        let before = std::fs::read_to_string(ground.tree().join(".git")).unwrap();
        let (exit, changed) = judged(&ground, sandbox, "echo gitdir: x > .git");
        let refused = exit != Exit::Code(0);
        assert!(refused || changed == [".git"], "{name}: {exit:?}, {changed:?}");
        assert_eq!(std::fs::read_to_string(ground.tree().join(".git")).unwrap(), before, "{name}");
        let (exit, changed) = judged(&ground, sandbox, "git status && git diff && git stash list");
        assert_eq!((exit, changed), (Exit::Code(0), Vec::new()), "{name}");
    }
}

#[test]
fn nested_repositories_are_guarded() {
    let nested = |ground: &Ground| {
        for folder in ["", "sub", "build/deep/sub"] {
            repository(ground, folder);
        }
        git(&ground.tree(), "add -f sub build/deep/sub");
        git(&ground.tree(), "commit --quiet -m sub");
    };
    for sub in ["sub", "build/deep/sub"] {
        let config = format!("git config --file {sub}/.git/config core.fsmonitor \"$evil\"");
        assert_found(&nested, &config, &["", sub]);
        assert_found(&nested, &format!("cp evil.sh {sub}/.git/hooks/pre-commit"), &[sub]);
        assert_found(&nested, &format!("mv {sub}/.git {sub}/x; ln -s ../e {sub}/.git"), &[]);
    }
    let module = |ground: &Ground| {
        let other = ground.tree().join("../other");
        std::fs::create_dir(&other).unwrap();
        git(&other, "init --quiet");
        git(&other, "commit --quiet --allow-empty -m a");
        repository(ground, "");
        git(&ground.tree(), "submodule --quiet add ../other libs/other");
        std::fs::remove_dir_all(other).unwrap();
    };
    let config = "git config --file .git/modules/libs/other/config core.fsmonitor \"$evil\"";
    assert_found(&module, config, &["", "libs/other"]);
}

#[test]
fn a_repository_made_anew_runs_nothing() {
    let plain = |ground: &Ground| repository(ground, "");
    for folder in ["new", "target/new", "node_modules/a/b", "\"$(printf 'a\\377b')\""] {
        let made = format!("d={folder}; mkdir -p \"$d\"; git init --quiet \"$d\"; git -C \"$d\" config");
        let commit = "git -C \"$d\" -c user.name=a -c user.email=a@b commit --quiet --allow-empty -m a; \
                      git add -f \"$d\" || true";
        let script = format!("{made} user.name a; {commit}; git -C \"$d\" config core.fsmonitor \"$evil\"");
        assert_found(&plain, &script, &["", "new", "target/new"]);
    }
    let bare = "git init --quiet --bare new && git -C new config core.bare false && \
                git -C new config core.fsmonitor \"$evil\" && git -C new config core.worktree ..";
    assert_found(&plain, bare, &["new"]);
}

#[test]
fn hooks_and_included_configurations_are_guarded() {
    let with = |settings: &'static [&'static str], files: &'static [&'static str]| {
        move |ground: &Ground| {
            repository(ground, "");
            for file in files {
                let file = ground.tree().join(file);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                Command::new("install").args(["-m", "755", "/dev/null"]).arg(file).status().unwrap();
            }
            settings.iter().for_each(|line| git(&ground.tree(), line));
        }
    };
    let husky = with(&["config core.hooksPath .husky"], &[".husky/pre-commit"]);
    assert_found(&husky, "cat evil.sh >> .husky/pre-commit", &[""]);
    assert_found(&husky, "cp evil.sh .husky/post-commit", &[""]);
    let scripts = with(&["config core.hooksPath scripts"], &["scripts/lib/common"]);
    assert_found(&scripts, "cp evil.sh scripts/pre-commit", &[""]);
    assert_found(&scripts, "cat evil.sh >> scripts/lib/common", &[""]);
    assert_found(&scripts, "mv scripts s; mkdir e; cp evil.sh e/pre-commit; ln -s e scripts", &[""]);
    let root = with(&["config core.hooksPath ."], &[]);
    assert_found(&root, "cp evil.sh pre-commit", &[""]);
    let included = with(&["config include.path ../shared.config"], &["shared.config"]);
    assert_found(&included, "git config --file shared.config core.fsmonitor \"$evil\"", &[""]);
}

#[test]
fn nothing_is_planted_for_this_program() {
    for (name, sandbox) in sandboxes() {
        for (before, script, left) in [
            ("true", "mkdir -p .coder/templates; echo x > .coder/templates/code.md", ".coder"),
            ("true", "echo 'egress = \"ask\"' > coder.toml", "coder.toml"),
            ("mkdir .coder", "mkdir e; echo x > e/code.md; ln -s ../e .coder/templates", ".coder/templates"),
        ] {
            let ground = Ground::new();
            Command::new("sh").args(["-c", before]).current_dir(ground.tree()).status().unwrap();
            let (exit, changed) = judged(&ground, sandbox, script);
            let refused = exit != Exit::Code(0);
            assert!(refused || changed == [left], "{name}: {script}: {exit:?}, {changed:?}");
            assert!(ground.tree().join(left).symlink_metadata().is_err(), "{name}: {script}");
        }
        let ground = Ground::new();
        std::fs::write(ground.tree().join("coder.toml"), "egress = \"never\"\n").unwrap();
        let (_, changed) = judged(&ground, sandbox, "echo > coder.toml");
        assert_eq!(changed, ["coder.toml"], "{name}");
    }
}

#[test]
fn nothing_is_planted_for_the_users_tools() {
    let tools = [
        ".cargo/config.toml",
        ".envrc",
        ".hg/hgrc",
        ".mcp.json",
        ".mvn/extensions.xml",
        ".vscode/tasks.json",
        "sub/.claude/settings.json",
    ];
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        std::fs::create_dir(ground.tree().join("sub")).unwrap();
        let planted = tools.map(|path| format!("mkdir -p \"$(dirname {path})\"; echo x > {path}; ")).concat();
        let (exit, changed) = judged(&ground, sandbox, &planted);
        assert_eq!((exit, changed.as_slice()), (Exit::Code(0), &tools.map(str::to_owned)[..]), "{name}");
        assert!(tools.iter().all(|path| !ground.tree().join(path).exists()), "{name}");
        std::fs::write(ground.tree().join(".envrc"), "mine\n").unwrap();
        let (_, changed) = judged(&ground, sandbox, "echo x >> .envrc");
        assert_eq!(changed, [".envrc"], "{name}");
        assert_eq!(std::fs::read_to_string(ground.tree().join(".envrc")).unwrap(), "mine\n", "{name}");
        // A task that is to write it writes it.
        let guarded = Guarded::take(&ground.tree(), &[".envrc".to_owned()], &[], sandbox).unwrap();
        std::fs::write(ground.tree().join(".envrc"), "new\n").unwrap();
        assert_eq!(guarded.restore(&mut |_, _| Ok(())).unwrap(), Vec::<String>::new(), "{name}");
    }
}

/// Generators and their tests make such files in folders of their own: no tool of the user is at work there.
#[test]
fn tools_of_a_folder_made_anew_are_its_own() {
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        let made = "mkdir -p out/.vscode out/.config/x out/.cargo out/.husky; touch out/.npmrc out/.config/x/y \
                    out/.cargo/config.toml out/.husky/pre-commit; echo '{}' > out/.vscode/settings.json";
        // The last one finds what the one before it left.
        for script in [
            format!("{made}; rm -rf out"),
            made.to_owned(),
            format!("rm -rf out; {made}"),
            "rm -rf out".to_owned(),
        ] {
            let (exit, changed) = judged(&ground, sandbox, &script);
            assert_eq!((exit, changed), (Exit::Code(0), Vec::new()), "{name}: {script}");
        }
        assert!(!ground.tree().join("out").exists(), "{name}");
        let (_, changed) = judged(&ground, sandbox, &format!("{made}; cp -r out/.vscode out/.cargo ."));
        assert_eq!(changed, [".cargo/config.toml", ".vscode/settings.json"], "{name}");
        assert!(ground.tree().join("out/.npmrc").exists(), "{name}");
        // A folder in the place of one that was there is not new.
        std::fs::create_dir_all(ground.tree().join("sub/.claude")).unwrap();
        std::fs::write(ground.tree().join("sub/.claude/settings.json"), "mine\n").unwrap();
        let (_, changed) =
            judged(&ground, sandbox, "rm -rf sub; mkdir -p sub/.claude; echo x > sub/.claude/settings.json");
        assert_eq!(changed, ["sub/.claude/settings.json"], "{name}");
        let settings = std::fs::read_to_string(ground.tree().join("sub/.claude/settings.json"));
        assert_eq!(settings.unwrap(), "mine\n", "{name}");
    }
}

/// What a command cannot write, the user may save at any time.
#[test]
fn what_the_user_saves_for_their_tools_meanwhile_is_theirs() {
    for (name, sandbox) in sandboxes().iter().filter(|(name, _)| name.contains("bwrap")) {
        let ground = Ground::new();
        let path = |path: &str| ground.tree().join(path);
        for folder in [".claude", ".cargo", ".vscode", "sub/.vscode"] {
            std::fs::create_dir_all(path(folder)).unwrap();
        }
        let files = [".claude/settings.local.json", ".cargo/config.toml", ".envrc"];
        files.iter().for_each(|file| std::fs::write(path(file), "old\n").unwrap());
        let own = [".vscode/tasks.json".to_owned()];
        let sandbox = &sandbox.keeping(&ground.tree(), &own);
        for file in files {
            let (exit, changed) = judged(&ground, sandbox, &format!("echo x > {file}"));
            assert!(exit != Exit::Code(0) && changed.is_empty(), "{name}: {file}: {exit:?}, {changed:?}");
            assert_eq!(std::fs::read_to_string(path(file)).unwrap(), "old\n", "{name}: {file}");
        }
        let guarded = Guarded::take(&ground.tree(), &own, &[], sandbox).unwrap();
        let saved = [".claude/settings.local.json", ".claude/new.json", ".envrc"];
        saved.iter().for_each(|file| std::fs::write(path(file), "mine\n").unwrap());
        assert_eq!(guarded.restore(&mut |_, _| Ok(())).unwrap(), Vec::<String>::new(), "{name}");
        assert!(saved.iter().all(|file| std::fs::read_to_string(path(file)).unwrap() == "mine\n"), "{name}");
        // A folder can be put in the place of one with a file that cannot be written.
        let script = "mv .cargo away && mkdir .cargo && echo x > .cargo/config.toml";
        let (exit, changed) = judged(&ground, sandbox, script);
        assert_eq!((exit, changed), (Exit::Code(0), vec![".cargo/config.toml".to_owned()]), "{name}");
        assert_eq!(std::fs::read_to_string(path(".cargo/config.toml")).unwrap(), "old\n", "{name}");
        // The task's own file is its commands' too, and what is beside it is guarded otherwise.
        let (exit, changed) = judged(&ground, sandbox, "echo x > .cargo/other; echo x > .vscode/tasks.json");
        assert_eq!((exit, changed), (Exit::Code(0), vec![".vscode/tasks.json".to_owned()]), "{name}");
    }
}

/// A command that cannot write the repository's configuration has not written it.
#[test]
fn what_the_user_configures_meanwhile_is_theirs() {
    for (name, sandbox) in sandboxes().iter().filter(|(name, _)| name.contains("bwrap")) {
        let ground = Ground::new();
        repository(&ground, "");
        std::fs::create_dir_all(ground.tree().join(".coder/templates")).unwrap();
        let guarded = Guarded::take(&ground.tree(), &[], &[], sandbox).unwrap();
        git(&ground.tree(), "config core.editor vi");
        std::fs::write(ground.tree().join(".coder/templates/code.md"), "mine\n").unwrap();
        assert_eq!(guarded.restore(&mut |_, _| Ok(())).unwrap(), Vec::<String>::new(), "{name}");
        git(&ground.tree(), "config core.editor");
        assert!(ground.tree().join(".coder/templates/code.md").exists(), "{name}");
        // Where the command could put another folder in its place, it is looked at.
        let mut wide = sandbox.clone();
        wide.writable.push(ground.tree().parent().unwrap().to_owned());
        let guarded = Guarded::take(&ground.tree(), &[], &[], &wide).unwrap();
        git(&ground.tree(), "config core.editor ed");
        assert_eq!(guarded.restore(&mut |_, _| Ok(())).unwrap(), [".git/config"], "{name}");
    }
}

#[test]
fn what_ordinary_commands_leave_is_theirs() {
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        repository(&ground, "");
        git(&ground.tree(), "config core.hooksPath scripts");
        std::fs::create_dir(ground.tree().join("scripts")).unwrap();
        for script in [
            "touch -d '1 hour ago' a; git status; git diff; git stash list; git log; git worktree list",
            "mkdir -p target && git init --quiet target/tmp/a && git init --quiet --bare target/tmp/b",
            "rm -rf target/tmp && mkdir target/tmp && git init --quiet target/tmp/a && git -C target/tmp/a \
             -c user.name=a -c user.email=a@b commit --quiet --allow-empty -m a",
            "rm -rf target; mkdir -p .pytest_cache fixtures && git init --quiet fixtures/new",
            "mkdir -p .idea .github/workflows; touch .idea/workspace.xml .github/workflows/ci.yml Makefile .env",
            "echo x > scripts/report.txt; mkdir -p src; echo y > src/config; touch HEAD",
        ] {
            let (exit, changed) = judged(&ground, sandbox, script);
            assert_eq!((exit, changed), (Exit::Code(0), Vec::new()), "{name}: {script}");
        }
        // Another run of this program, or the user, has a worktree made, and removed, meanwhile.
        let guarded = Guarded::take(&ground.tree(), &[], &[], sandbox).unwrap();
        git(&ground.tree(), "worktree add --quiet .worktrees/w");
        assert_eq!(guarded.restore(&mut |_, _| Ok(())).unwrap(), Vec::<String>::new(), "{name}");
        let guarded = Guarded::take(&ground.tree(), &[], &[], sandbox).unwrap();
        git(&ground.tree(), "commit --quiet --allow-empty -m c");
        git(&ground.tree(), "worktree remove --force .worktrees/w");
        let changed = guarded.restore(&mut |_, _| Ok(())).unwrap();
        assert_eq!(changed, Vec::<String>::new(), "{name}");
    }
}
