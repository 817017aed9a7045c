//! Which file a reply means by a name.

use super::Base;
use crate::{Error, Result, path};

/// The file that a name in a reply means: its path, the end of it where that fits one file alone, or an absolute path
/// that ends with it, as models in a sandbox see it.
pub(super) fn resolve(name: &str, files: &[Base<'_>]) -> Result<usize> {
    let plain = plain(name);
    let same = |wanted: &str| files.iter().position(|file| file.path == wanted);
    let in_git = || ["a/", "b/"].iter().find_map(|prefix| plain.strip_prefix(prefix)).and_then(same);
    let by_end = || {
        let ending = format!("/{plain}");
        let mut found = files.iter().enumerate().filter(|(_, file)| file.path.ends_with(&ending));
        match (found.next(), found.next()) {
            (Some((at, _)), None) => Some(at),
            _ => None,
        }
    };
    let absolute = || longer(&plain, files).filter(|_| plain.starts_with('/'));
    same(&plain).or_else(in_git).or_else(by_end).or_else(absolute).ok_or_else(|| wrong(name, files))
}

/// The file whose path a longer name ends with. A file that is in no folder has too short a path to be known by it.
pub(super) fn longer(name: &str, files: &[Base<'_>]) -> Option<usize> {
    let plain = plain(name);
    let ends =
        |path: &str| path.contains('/') && plain.strip_suffix(path).is_some_and(|up| up.ends_with('/'));
    let found = files.iter().enumerate().filter(|(_, file)| ends(file.path));
    found.max_by_key(|(_, file)| file.path.len()).map(|(at, _)| at).filter(|_| !plain.contains("../"))
}

/// What is to be said of a name that is none of the files'.
pub(super) fn wrong(name: &str, files: &[Base<'_>]) -> Error {
    let expected: Vec<&str> = files.iter().map(|file| file.path).collect();
    Error::WrongFile { got: name.trim().to_owned(), expected: expected.join("`, `") }
}

/// A name as a path in plain form; as it is if it is none, so that it fits no file.
fn plain(name: &str) -> String {
    let name = name.trim().trim_matches(['`', '"', '\'', '*']).replace('\\', "/");
    path::relative(&name).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_one_file_or_none() {
        let base = |path| Base { path, content: None };
        let files = [base("src/a.py"), base("lib/a.py"), base("src/Makefile"), base("b.py")];
        let at = |name| resolve(name, &files).ok();
        assert_eq!([at("src/a.py"), at("./lib/a.py"), at(" `src\\a.py` ")], [Some(0), Some(1), Some(0)]);
        assert_eq!([at("b/lib/a.py"), at("Makefile"), at("a.py")], [Some(1), Some(2), None]);
        assert_eq!([at("/src/a.py"), at("/workspace/lib/a.py"), at("/b.py")], [Some(0), Some(1), None]);
        assert_eq!([at("../src/a.py"), at("/x/../src/a.py"), at("c/src/a.py"), at("")], [None; 4]);
        let longer = |name| longer(name, &files);
        assert_eq!([longer("c/src/a.py"), longer("c/b.py"), longer("../src/a.py")], [Some(0), None, None]);
    }
}
