//! From the text after `--model` to a model: the bundled one, a path, or a name in a models folder.

use std::env;
use std::path::{Path, PathBuf};

use coder_engine::Source;

use crate::failure::{Failure, Outcome};

/// The bundled model's name.
pub(crate) const NAME: &str = "coder-tiny";

/// The bundled model is part of the program, so that it is there in every directory and nothing is written to disk.
/// Tensors in GGUF files start at multiples of 32 bytes; the alignment keeps that true in memory.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);
static BUNDLED: &Aligned<[u8]> = &Aligned(*include_bytes!("../../models/coder-tiny.gguf"));

/// The bundled model, a GGUF file.
pub(crate) fn bytes() -> &'static [u8] {
    &BUNDLED.0
}

/// Where a model comes from.
#[derive(Debug, PartialEq)]
pub(crate) enum Found {
    /// Part of the program.
    Bundled,
    /// A GGUF file or a folder.
    Path(PathBuf),
}

/// The model that `--model` names, and its name for people.
pub(crate) fn source(model: Option<&str>) -> Outcome<(Source, String)> {
    let name = model.unwrap_or(NAME);
    match find(name).ok_or_else(|| missing(name))? {
        Found::Bundled => Ok((Source::Bytes { name: NAME, data: bytes() }, NAME.to_string())),
        Found::Path(path) => {
            let name = name_of(&path);
            Ok((Source::Path(path), name))
        }
    }
}

/// What `name` means. `local` and `free` are the seeds' words for the default model.
pub(crate) fn find(name: &str) -> Option<Found> {
    if matches!(name, NAME | "local" | "free") {
        return Some(Found::Bundled);
    }
    let path = Path::new(name);
    if path.exists() {
        return Some(Found::Path(path.to_path_buf()));
    }
    let is_name = path.components().count() == 1;
    folders().iter().filter(|_| is_name).find_map(|folder| in_folder(folder, name)).map(Found::Path)
}

/// Folders that are searched for names: `models/` here, then the user's own.
pub(crate) fn folders() -> Vec<PathBuf> {
    let data = env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(env::home_dir()?.join(".local/share")));
    [Some(PathBuf::from("models")), data.map(|data| data.join("coder/models"))].into_iter().flatten().collect()
}

/// `name`, `name.gguf`, or the first part of a split `name`.
fn in_folder(folder: &Path, name: &str) -> Option<PathBuf> {
    let exact = folder.join(name);
    if is_model(&exact) {
        return Some(exact);
    }
    list(folder).into_iter().find(|path| name_of(path) == name)
}

/// The models in a folder, sorted by path: GGUF files (of split ones the first) and folders with a `config.json`.
pub(crate) fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).filter(|path| is_model(path)).collect();
    paths.sort();
    paths
}

fn is_model(path: &Path) -> bool {
    if path.is_dir() {
        return path.join("config.json").is_file();
    }
    let gguf = path.extension().is_some_and(|extension| extension == "gguf");
    let part = split_name(path).map(|(_, part)| part);
    gguf && path.is_file() && part.is_none_or(|part| part == "00001")
}

/// What a model in a folder is called: the file without its ending and without the number of its part.
pub(crate) fn name_of(path: &Path) -> String {
    match split_name(path) {
        Some((name, _)) => name,
        None if path.is_dir() => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        None => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

/// Name and part of `name-00001-of-00003.gguf`.
fn split_name(path: &Path) -> Option<(String, String)> {
    let stem = path.file_stem()?.to_str()?;
    let (rest, total) = stem.rsplit_once("-of-")?;
    let (name, part) = rest.rsplit_once('-')?;
    let number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    (number(part) && number(total)).then(|| (name.to_string(), part.to_string()))
}

fn missing(name: &str) -> Failure {
    let mut names = vec![NAME.to_string()];
    names.extend(folders().iter().flat_map(|folder| list(folder)).map(|path| name_of(&path)));
    Failure::new(format!(
        "no model `{name}`: give the path of a GGUF file, or one of the names {} (`coder models` lists them)",
        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_bundled_model_is_a_gguf_file() {
        assert_eq!(&bytes()[..4], b"GGUF");
        assert_eq!(bytes().as_ptr() as usize % 64, 0);
        assert!(bytes().len() <= 16 << 20);
        assert_eq!(find("coder-tiny"), Some(Found::Bundled));
        assert_eq!(find("no-such-model"), None);
    }

    #[test]
    fn a_folder_lists_whole_models() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.gguf", "a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "notes.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("c")).unwrap();
        fs::write(folder.path().join("c/config.json"), "{}").unwrap();
        let names: Vec<_> = list(folder.path()).iter().map(|path| name_of(path)).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(in_folder(folder.path(), "a").unwrap().ends_with("a-00001-of-00002.gguf"));
        assert!(in_folder(folder.path(), "b").unwrap().ends_with("b.gguf"));
        assert_eq!(in_folder(folder.path(), "d"), None);
    }
}
