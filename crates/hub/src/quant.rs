//! What file names say: the quantization, and which files are parts of one model.

/// The quantization that is taken where none is asked for.
pub const DEFAULT: &str = "Q4_K_M";

/// The quantization that a GGUF file's name ends with, in capitals, such as `Q4_K_M` or `UD-Q4_K_XL`; none if it says
/// none. `fp16` is how some write `F16`.
pub fn label(file: &str) -> Option<String> {
    let stem = stem(file).to_ascii_uppercase();
    let pieces: Vec<&str> = stem.split(['-', '.']).collect();
    let at = pieces.iter().rposition(|piece| is_label(piece))?;
    let name = match pieces[at] {
        "FP16" => "F16",
        "FP32" => "F32",
        name => name,
    };
    // Mixes that give each tensor a type of its own are marked like this.
    let own = at > 0 && pieces[at - 1] == "UD";
    Some(if own { format!("UD-{name}") } else { name.to_owned() })
}

/// Whether a word in capitals is the name of a quantization.
pub(crate) fn is_label(word: &str) -> bool {
    if matches!(word, "F16" | "F32" | "BF16" | "FP16" | "FP32") || word.starts_with("MXFP4") {
        return true;
    }
    let rest = word.strip_prefix('I').unwrap_or(word);
    let rest = rest.strip_prefix('Q').or_else(|| word.strip_prefix("TQ"));
    rest.is_some_and(|rest| {
        let (digits, more) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        digits.len() == 1 && more.starts_with('_') && more.len() > 1
    })
}

/// One file of a model, as a hub or a folder lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<T> {
    /// Path within the repository, with `/`.
    pub path: String,
    /// What is known about it.
    pub about: T,
}

/// The files that together are one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSet<T> {
    /// The path without the number of the part and without its ending.
    pub name: String,
    /// The quantization that the name says.
    pub label: Option<String>,
    /// In order.
    pub parts: Vec<Part<T>>,
    /// Parts that the names say there are.
    pub of: usize,
}

impl<T> FileSet<T> {
    /// Whether no part is missing.
    pub fn is_whole(&self) -> bool {
        self.parts.len() == self.of
    }
}

/// The models among files: `.gguf` files, those that are split as one. Files that are no language model (`mmproj`,
/// `imatrix`) are left out. In the order of their names.
pub fn sets<T>(files: impl IntoIterator<Item = Part<T>>) -> Vec<FileSet<T>> {
    let mut files: Vec<Part<T>> = files.into_iter().filter(|file| is_model(&file.path)).collect();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let mut sets: Vec<FileSet<T>> = Vec::new();
    for part in files {
        let (name, number, of) = match split(&part.path) {
            Some((name, number, of)) => (name.to_owned(), number, of),
            None => (part.path[..part.path.len() - ".gguf".len()].to_owned(), 1, 1),
        };
        match sets.iter_mut().find(|set| set.name == name && set.of == of && of > 1) {
            // Sorted, and numbers have as many digits as one another: a part that is missing is never made up for.
            Some(set) if set.parts.len() + 1 == number => set.parts.push(part),
            Some(_) => {}
            None if number == 1 => {
                sets.push(FileSet { label: label(&part.path), name, parts: vec![part], of });
            }
            None => {}
        }
    }
    sets
}

fn is_model(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    name.len() > ".gguf".len()
        && path.ends_with(".gguf")
        && !name.starts_with("mmproj")
        && !name.contains("-mmproj")
        && !name.contains("imatrix")
}

/// Name, number from 1, and number of parts of `name-00001-of-00003.gguf`.
fn split(path: &str) -> Option<(&str, usize, usize)> {
    let number = |text: &str| {
        let plain = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<usize>().ok()).flatten()
    };
    let (rest, of) = path.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (name, at) = rest.rsplit_once('-')?;
    let (at, of) = (number(at)?, number(of)?);
    (!name.is_empty() && (1..=of).contains(&at)).then_some((name, at, of))
}

/// The file's name without folders, the number of its part and its ending.
fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    match split(name) {
        Some((name, _, _)) => name,
        None => name.strip_suffix(".gguf").unwrap_or(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_the_quantization() {
        for (file, wanted) in [
            ("qwen2.5-coder-7b-instruct-q4_k_m.gguf", Some("Q4_K_M")),
            ("Q8_0/Qwen3-Coder-Next-Q8_0-00001-of-00003.gguf", Some("Q8_0")),
            ("Qwen3-Coder-Next-UD-Q4_K_XL.gguf", Some("UD-Q4_K_XL")),
            ("codellama-34b.Q5_K_S.gguf", Some("Q5_K_S")),
            ("qwen2.5-coder-7b-instruct-fp16-00001-of-00004.gguf", Some("F16")),
            ("gpt-oss-20b-MXFP4_MOE.gguf", Some("MXFP4_MOE")),
            ("Qwen3-4B-IQ4_XS.gguf", Some("IQ4_XS")),
            ("Qwen3-4B.gguf", None),
            ("q4.gguf", None),
        ] {
            assert_eq!(label(file).as_deref(), wanted, "{file}");
        }
    }

    #[test]
    fn split_files_are_one_model_and_others_are_none() {
        let files = [
            "b-Q8_0-00002-of-00002.gguf",
            "b-Q8_0-00001-of-00002.gguf",
            "a-Q4_K_M.gguf",
            "mmproj-a-Q8_0.gguf",
            "a.imatrix.gguf",
            "c-Q8_0-00001-of-00003.gguf",
            "c-Q8_0-00003-of-00003.gguf",
            "d-Q8_0-00002-of-00002.gguf",
            "README.md",
            ".gguf",
        ];
        let sets = sets(files.map(|path| Part { path: path.to_owned(), about: () }));
        let found: Vec<_> =
            sets.iter().map(|set| (set.name.as_str(), set.parts.len(), set.is_whole())).collect();
        assert_eq!(found, [("a-Q4_K_M", 1, true), ("b-Q8_0", 2, true), ("c-Q8_0", 1, false)]);
        assert_eq!(sets[1].parts[0].path, "b-Q8_0-00001-of-00002.gguf");
    }
}
