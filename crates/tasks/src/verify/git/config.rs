//! A reader of git's configuration files, for two questions: what a setting says, and whether all of them are
//! such as name no program. Their syntax is that of git-config(1).

/// Settings that tell of a repository's format, its remotes and its author.
const HARMLESS: [&str; 26] = [
    "branch.merge",
    "branch.remote",
    "commit.gpgsign",
    "core.autocrlf",
    "core.bare",
    "core.eol",
    "core.filemode",
    "core.ignorecase",
    "core.logallrefupdates",
    "core.precomposeunicode",
    "core.repositoryformatversion",
    "core.safecrlf",
    "core.symlinks",
    "extensions.compatobjectformat",
    "extensions.objectformat",
    "extensions.refstorage",
    "gc.auto",
    "init.defaultbranch",
    "maintenance.auto",
    "push.default",
    "remote.fetch",
    "remote.url",
    "tag.gpgsign",
    "user.email",
    "user.name",
    "user.useconfigonly",
];

/// Whether every setting is one that can start nothing. What is not understood is not harmless.
pub(super) fn is_harmless(text: &str) -> bool {
    let (settings, understood) = settings(text);
    // `ext::` and the like name a program.
    understood
        && settings.iter().all(|(key, value)| {
            HARMLESS.contains(&key.as_str()) && !(key == "remote.url" && value.contains("::"))
        })
}

/// The settings as "section.name" in lower case, without what stands between the two, and whether each line
/// was understood.
pub(super) fn settings(text: &str) -> (Vec<(String, String)>, bool) {
    let (mut found, mut understood, mut section) = (Vec::new(), true, String::new());
    for line in text.trim_start_matches('\u{feff}').split('\n') {
        // A value that goes on in the next line is nothing that git writes.
        understood &= !line.trim_end().ends_with('\\');
        let mut rest = line.trim();
        if rest.starts_with('[') {
            match header(rest) {
                Some((name, after)) => (section, rest) = (name, after.trim()),
                None => {
                    understood = false;
                    continue;
                }
            }
        }
        if rest.is_empty() || rest.starts_with(['#', ';']) {
            continue;
        }
        let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
        let name = name.trim();
        understood &= !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        found.push((format!("{section}.{}", name.to_ascii_lowercase()), unquoted(value.trim())));
    }
    (found, understood)
}

/// The first part of a section's name, and what follows after the bracket.
fn header(line: &str) -> Option<(String, &str)> {
    let name = line.strip_prefix('[')?;
    let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.')))?;
    let (name, mut rest) = name.split_at(end);
    rest = rest.trim_start();
    if let Some(quoted) = rest.strip_prefix('"') {
        let mut escaped = false;
        let end = quoted.find(|c| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        })?;
        rest = &quoted[end + 1..];
    }
    let name = name.split('.').next().unwrap_or(name);
    Some((name.to_ascii_lowercase(), rest.strip_prefix(']')?))
}

/// A value without quotation marks and without the comment behind it.
fn unquoted(value: &str) -> String {
    let (mut made, mut quoted) = (String::new(), false);
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '#' | ';' if !quoted => break,
            '\\' => made.extend(chars.next()),
            c => made.push(c),
        }
    }
    made.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_git_reads_them() {
        let text =
            "\u{feff}# c\n[Core]\n\thooksPath = \"a b\" ; c\n\tbare\n[branch \"x]\\\"y\"] merge=z # c\n";
        let expected = [("core.hookspath", "a b"), ("core.bare", ""), ("branch.merge", "z")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(settings(text), (expected.to_vec(), true));
    }

    #[test]
    fn what_names_a_program_is_not_harmless() {
        let made =
            "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n[user]\n\tname = a\n";
        assert!(is_harmless(made) && is_harmless(""));
        for evil in [
            "[core]\n\tfsmonitor = x",
            "[core] FSMonitor = x",
            "[\"core\"]\nfsmonitor = x",
            "[user]\n\tname = a \\\n[core]\n\tfsmonitor = x",
            "[user]\n\tname = a\r[core]\n\tfsmonitor = x",
            "[filter \"a\"]\n\tclean = x",
            "[diff.a]\n\ttextconv = x",
            "[include]\n\tpath = ../x",
            "[remote \"a\"]\n\turl = ext::sh -c x",
            "[remote \"a\"]\n\tuploadpack = x",
            "[core\nfsmonitor = x",
        ] {
            assert!(!is_harmless(&format!("{made}{evil}\n")), "{evil}");
        }
    }
}
