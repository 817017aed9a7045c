//! Models in several files: `name-00001-of-00003.gguf` and so on, as llama.cpp's gguf-split writes them.

use std::path::{Path, PathBuf};

use super::{bad, key, metadata::Metadata, part::Part};
use crate::{Error, Result};

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// Opens the other parts of the set that `part` belongs to. The first part, which has the metadata, comes
/// first in the result, whichever part was given. A file that is no part of a set comes back alone.
pub(super) fn open_all(part: Part) -> Result<Vec<Part>> {
    let Some(place) = Place::read(&part)? else { return Ok(vec![part]) };
    let name = SplitName::parse(&part.path).filter(|n| n.no == place.no && n.count == place.count);
    let Some(name) = name else {
        let problem = format!(
            "says part {} of {}, so the file's name must end in `{}`",
            place.no + 1,
            place.count,
            suffix(place.no, place.count)
        );
        return Err(bad(&part.path, &key(COUNT), problem));
    };
    let mut given = Some(part);
    let mut parts = Vec::new();
    for no in 0..place.count {
        let opened = match given.take_if(|_| no == place.no) {
            Some(part) => part,
            None => open_part(&name, no)?,
        };
        parts.push(opened);
    }
    check_tensor_count(&parts)?;
    Ok(parts)
}

/// Refuses a part of a set where the other parts cannot be had.
pub(super) fn must_be_whole(part: &Part) -> Result<()> {
    match Place::read(part)? {
        None => Ok(()),
        Some(place) => {
            let problem = format!("is {}: the other parts are needed too", place.count);
            Err(bad(&part.path, &key(COUNT), problem))
        }
    }
}

fn open_part(name: &SplitName, no: u16) -> Result<Part> {
    let path = name.folder.join(format!("{}{}", name.stem, suffix(no, name.count)));
    let part = Part::open(&path)?;
    match Place::read(&part)? {
        Some(place) if place.no == no && place.count == name.count => Ok(part),
        _ => {
            let problem = format!("is missing or differs; the name says part {} of {}", no + 1, name.count);
            Err(bad(&part.path, &format!("keys `{NO}` and `{COUNT}`"), problem))
        }
    }
}

fn check_tensor_count(parts: &[Part]) -> Result<()> {
    let found: usize = parts.iter().map(|p| p.tensors.len()).sum();
    let first = &parts[0];
    match (Metadata { part: first }).usize(TENSORS)? {
        Some(claimed) if claimed != found => {
            let problem = format!("is {claimed}, the {} parts have {found} tensors", parts.len());
            Err(bad(&first.path, &key(TENSORS), problem))
        }
        Some(_) => Ok(()),
        None => Err(bad(&first.path, &key(TENSORS), "is missing".into())),
    }
}

/// Which part of how many a file says that it is.
struct Place {
    /// From 0.
    no: u16,
    /// At least 2.
    count: u16,
}

impl Place {
    fn read(part: &Part) -> Result<Option<Self>> {
        let metadata = Metadata { part };
        let number = |name: &str, problem: &str| match metadata.u32(name)? {
            Some(n) => u16::try_from(n).map(Some).map_err(|_| bad(&part.path, &key(name), problem.into())),
            None => Ok::<_, Error>(None),
        };
        let Some(count) = number(COUNT, "must be at most 65535")?.filter(|&n| n > 1) else { return Ok(None) };
        match number(NO, "must be below `split.count`")? {
            Some(no) if no < count => Ok(Some(Self { no, count })),
            Some(no) => Err(bad(&part.path, &key(NO), format!("is {no}, must be below {count}"))),
            None => Err(bad(&part.path, &key(NO), "is missing".into())),
        }
    }
}

/// A path of the form `FOLDER/STEM-00001-of-00003.gguf`.
struct SplitName {
    folder: PathBuf,
    stem: String,
    no: u16,
    count: u16,
}

impl SplitName {
    fn parse(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, no) = rest.rsplit_once('-')?;
        let no = number(no)?.checked_sub(1)?;
        Some(Self { folder: path.parent()?.to_owned(), stem: stem.to_owned(), no, count: number(count)? })
    }
}

/// Five digits, which is how [`suffix`] writes them: other spellings would name other files.
fn number(digits: &str) -> Option<u16> {
    let plain = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

fn suffix(no: u16, count: u16) -> String {
    format!("-{:05}-of-{count:05}.gguf", u32::from(no) + 1)
}
