//! Files that other programs run or trust, and files that hold secrets.

use super::split;

/// What a file is that other programs run or trust, such as "a build script"; None for an ordinary file.
/// `path` is in plain form. Only a task that names such a file changes it.
///
/// Letter case is ignored throughout, because on some file systems it does not matter.
pub fn guarded(path: &str) -> Option<&'static str> {
    let path = path.to_ascii_lowercase();
    let (folder, name) = split(&path);
    let parts: Vec<&str> = folder.split('/').collect();
    let within = |names: &[&str]| parts.iter().any(|part| names.contains(part));
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    let starts = |beginnings: &[&str]| beginnings.iter().any(|beginning| name.starts_with(beginning));
    let hook = parts.last() == Some(&"hooks") && HOOKS.contains(&name);
    if hook || within(&[".githooks", ".husky"]) || HOOK_FILES.contains(&name) {
        return Some(HOOK);
    }
    let github = path.contains(".github/workflows/") || path.contains(".github/actions/");
    if github || within(CI_FOLDERS) || CI.contains(&name) || name.starts_with(".woodpecker") {
        return Some("a file of continuous integration, which servers run");
    }
    if is_secret(&path) {
        return Some("a file that may hold secrets");
    }
    let cargo = matches!(name, "config" | "config.toml") && parts.last() == Some(&".cargo");
    if cargo || within(TOOL_FOLDERS) || TOOLS.contains(&name) || starts(&[".yarnrc"]) {
        return Some(TOOL);
    }
    if BUILD.contains(&name) || ends(BUILD_ENDINGS) || starts(&["dockerfile", "docker-compose"]) {
        return Some("a build script, which builds run");
    }
    None
}

/// What [`guarded`] calls a hook.
pub(crate) const HOOK: &str = "a hook, which git runs";

/// What [`guarded`] calls the configuration of a tool.
pub(crate) const TOOL: &str = "the configuration of a tool, which decides what it runs";

/// Whether a file is likely to hold secrets, by its name. `path` is in plain form.
pub fn is_secret(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    let (folder, name) = split(&path);
    let example = [".example", ".sample", ".template", ".dist"].iter().any(|end| name.ends_with(end));
    let environment = name == ".env" || name.starts_with(".env.") && !example;
    let key = |start: &str| name.strip_prefix(start).is_some_and(|rest| matches!(rest, "" | ".old" | ".bak"));
    environment
        || ["id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"].into_iter().any(key)
        || SECRETS.contains(&name)
        || SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending))
        || folder.split('/').any(|part| matches!(part, ".ssh" | ".aws" | ".gnupg" | ".kube"))
}

/// The names in githooks(5).
const HOOKS: [&str; 28] = [
    "applypatch-msg",
    "pre-applypatch",
    "post-applypatch",
    "pre-commit",
    "pre-merge-commit",
    "prepare-commit-msg",
    "commit-msg",
    "post-commit",
    "pre-rebase",
    "post-checkout",
    "post-merge",
    "pre-push",
    "pre-receive",
    "update",
    "proc-receive",
    "post-receive",
    "post-update",
    "reference-transaction",
    "push-to-checkout",
    "pre-auto-gc",
    "post-rewrite",
    "sendemail-validate",
    "fsmonitor-watchman",
    "p4-changelist",
    "p4-prepare-changelist",
    "p4-post-changelist",
    "p4-pre-submit",
    "post-index-change",
];

const HOOK_FILES: [&str; 4] = [".pre-commit-config.yaml", "lefthook.yml", "lefthook.yaml", ".lefthook.yml"];

const CI_FOLDERS: &[&str] = &[".circleci", ".buildkite", ".gitlab"];

const CI: [&str; 10] = [
    ".gitlab-ci.yml",
    ".travis.yml",
    "azure-pipelines.yml",
    "jenkinsfile",
    ".drone.yml",
    "bitbucket-pipelines.yml",
    "appveyor.yml",
    ".appveyor.yml",
    ".cirrus.yml",
    "cloudbuild.yaml",
];

const TOOL_FOLDERS: &[&str] =
    &[".vscode", ".idea", ".devcontainer", ".claude", ".codex", ".cursor", ".aider", ".config"];

const TOOLS: [&str; 15] = [
    ".gitmodules",
    ".gitattributes",
    ".gitconfig",
    ".npmrc",
    ".pypirc",
    "pip.conf",
    ".envrc",
    ".mcp.json",
    "rust-toolchain",
    "rust-toolchain.toml",
    ".tool-versions",
    ".mise.toml",
    ".bashrc",
    ".profile",
    ".zshrc",
];

const BUILD: [&str; 27] = [
    "build.rs",
    "makefile",
    "gnumakefile",
    "cmakelists.txt",
    "configure",
    "configure.ac",
    "setup.py",
    "conftest.py",
    "noxfile.py",
    "tox.ini",
    "package.json",
    "gruntfile.js",
    "gulpfile.js",
    "justfile",
    ".justfile",
    "rakefile",
    "vagrantfile",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "settings.gradle",
    "settings.gradle.kts",
    "meson.build",
    "build.bazel",
    "workspace.bazel",
    "containerfile",
    "build.xml",
];

const BUILD_ENDINGS: &[&str] = &[".mk", ".cmake", ".gemspec", ".podspec"];

const SECRETS: [&str; 12] = [
    ".netrc",
    ".pgpass",
    ".htpasswd",
    ".git-credentials",
    "credentials",
    "credentials.json",
    "credentials.toml",
    "secrets.yml",
    "secrets.yaml",
    "secrets.json",
    "secrets.toml",
    ".vault-token",
];

const SECRET_ENDINGS: [&str; 8] = [".pem", ".key", ".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".ppk"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_programs_run_is_guarded() {
        for (path, what) in [
            ("hooks/pre-commit", "a hook"),
            ("repo/Hooks/Post-Receive", "a hook"),
            (".husky/pre-push", "a hook"),
            (".github/workflows/ci.yml", "continuous integration"),
            ("sub/.GitHub/Workflows/ci.yml", "continuous integration"),
            (".gitlab-ci.yml", "continuous integration"),
            (".cargo/config.toml", "configuration of a tool"),
            ("crates/a/.cargo/config", "configuration of a tool"),
            (".vscode/tasks.json", "configuration of a tool"),
            (".gitattributes", "configuration of a tool"),
            ("build.rs", "a build script"),
            ("sub/MAKEFILE", "a build script"),
            ("Dockerfile.dev", "a build script"),
            ("package.json", "a build script"),
            (".env", "secrets"),
            (".ENV.production", "secrets"),
            ("certs/server.key", "secrets"),
            (".ssh/config", "secrets"),
            ("id_ed25519", "secrets"),
        ] {
            let found = guarded(path).unwrap_or_else(|| panic!("{path}"));
            assert!(found.contains(what), "{path}: {found}");
        }
    }

    #[test]
    fn ordinary_files_are_not() {
        for path in [
            "src/build.py",
            "src/hooks/useTheme.js",
            "src/hooks/update.js",
            ".env.example",
            "src/keys.rs",
            "src/key.rs",
            "docs/makefile.md",
            ".github/ISSUE_TEMPLATE.md",
            "id_rsa.pub",
            "Cargo.toml",
            "config.toml",
            ".gitignore",
        ] {
            assert_eq!(guarded(path), None, "{path}");
        }
    }
}
