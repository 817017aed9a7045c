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
    let staged = starts(&[".lintstagedrc", "lint-staged.config."]);
    if hook || staged || within(&[".githooks", ".husky"]) || HOOK_FILES.contains(&name) {
        return Some(HOOK);
    }
    let github = path.contains(".github/workflows/") || path.contains(".github/actions/");
    if github || within(CI_FOLDERS) || CI.contains(&name) || name.starts_with(".woodpecker") {
        return Some("a file of continuous integration, which servers run");
    }
    if is_secret(&path) {
        return Some("a file that may hold secrets");
    }
    let placed = PLACED.iter().any(|(place, names)| {
        let above = folder.strip_suffix(place);
        names.contains(&name) && above.is_some_and(|above| above.is_empty() || above.ends_with('/'))
    });
    let yarn = [".yarn/releases", ".yarn/plugins"].iter().any(|run| folder.contains(run));
    if placed || yarn || within(TOOL_FOLDERS) || TOOLS.contains(&name) || starts(&[".yarnrc"]) {
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
    // Such as `id_ed25519_sk`. Sources have endings, and so have public keys.
    let key = name.strip_prefix("id_").map(|rest| rest.trim_end_matches(".old").trim_end_matches(".bak"));
    let account = name.starts_with("service-account") && name.ends_with(".json");
    environment
        || key.is_some_and(|rest| !rest.is_empty() && !rest.contains('.'))
        || account
        || name.contains(".tfstate.")
        || SECRETS.contains(&name)
        || SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending))
        || folder.split('/').any(|part| SECRET_FOLDERS.contains(&part))
        || folder.ends_with(".docker") && name == "config.json"
        || folder.ends_with(".cargo") && name.starts_with("credentials")
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

const HOOK_FILES: [&str; 12] = [
    ".pre-commit-config.yaml",
    "lefthook.yml",
    "lefthook.yaml",
    "lefthook.toml",
    "lefthook.json",
    "lefthook-local.yml",
    "lefthook-local.yaml",
    "lefthook-local.toml",
    "lefthook-local.json",
    ".lefthook.yml",
    ".lefthook.yaml",
    ".lefthook-local.yml",
];

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

/// Configurations that are known by their folder: of version control, which runs hooks and editors, and of cargo.
const PLACED: [(&str, &[&str]); 3] = [
    (".hg", &["hgrc", "hgrc-not-shared", "sharedpath"]),
    (".jj/repo", &["config.toml"]),
    (".cargo", &["config", "config.toml"]),
];

/// Of editors, of programs that write code, and `.mvn`, whose options and extensions are in every run of Maven's.
const TOOL_FOLDERS: &[&str] = &[
    ".vscode",
    ".idea",
    ".zed",
    ".helix",
    ".devcontainer",
    ".claude",
    ".codex",
    ".cursor",
    ".gemini",
    ".opencode",
    ".windsurf",
    ".kiro",
    ".roo",
    ".aider",
    ".config",
    ".mvn",
];

/// What is read without being asked for where its tool is started: shells, interpreters, package managers and the like.
const TOOLS: [&str; 26] = [
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
    ".bash_profile",
    ".profile",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".exrc",
    ".irbrc",
    ".pryrc",
    ".rprofile",
    ".ghci",
    ".bazelrc",
    ".pnpmfile.cjs",
    "opencode.json",
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

/// Names of files with secrets, in lower case. None of them may leave the machine: a test of the program's keeps these lists
/// and that of what is never sent together.
pub const SECRETS: [&str; 15] = [
    ".netrc",
    "_netrc",
    ".my.cnf",
    ".dockercfg",
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

/// Ends of such names.
pub const SECRET_ENDINGS: [&str; 16] = [
    ".env",
    ".pem",
    ".key",
    ".p8",
    ".p12",
    ".pfx",
    ".jks",
    ".keystore",
    ".kdbx",
    ".ppk",
    ".gpg",
    ".age",
    ".kubeconfig",
    ".tfstate",
    ".tfvars",
    "credentials.json",
];

/// Folders of such files.
pub const SECRET_FOLDERS: [&str; 5] = [".ssh", ".aws", ".gnupg", ".kube", ".azure"];

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
            (".hg/hgrc", "configuration of a tool"),
            ("sub/.hg/sharedpath", "configuration of a tool"),
            (".jj/repo/config.toml", "configuration of a tool"),
            (".mvn/jvm.config", "configuration of a tool"),
            (".mvn/wrapper/maven-wrapper.properties", "configuration of a tool"),
            ("web/.yarn/releases/yarn-4.cjs", "configuration of a tool"),
            (".Rprofile", "configuration of a tool"),
            ("lefthook-local.yml", "a hook"),
            (".lintstagedrc.json", "a hook"),
            ("build.rs", "a build script"),
            ("sub/MAKEFILE", "a build script"),
            ("Dockerfile.dev", "a build script"),
            ("package.json", "a build script"),
            (".env", "secrets"),
            (".ENV.production", "secrets"),
            ("certs/server.key", "secrets"),
            (".ssh/config", "secrets"),
            ("id_ed25519", "secrets"),
            ("keys/id_ecdsa_sk.bak", "secrets"),
            ("deploy/prod.env", "secrets"),
            ("infra/x.tfstate.backup", "secrets"),
            ("service-account-1.json", "secrets"),
            (".cargo/credentials.toml", "secrets"),
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
            "id_map.json",
            "src/env.py",
            "src/service-account.ts",
            "Cargo.toml",
            "config.toml",
            ".gitignore",
            "x.hg/hgrc",
            ".hg/store/00manifest.i",
            ".m2/settings.xml",
            ".yarn/install-state.gz",
        ] {
            assert_eq!(guarded(path), None, "{path}");
        }
    }
}
