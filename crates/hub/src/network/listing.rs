//! What a repository has, by the hub's own account, which is a stranger's word: every name, size and fingerprint is checked.

use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use super::Hub;
use crate::name::shown;
use crate::quant::{DEFAULT, FileSet, Part, sets};
use crate::{Error, RepoId, Result};

/// Pages of a list of files; a page has up to 1,000.
const PAGES: usize = 20;

/// The largest size of a file that is believed, 16 TiB.
const LARGEST: u64 = 1 << 44;

/// The longest path of a file that is believed.
const LONGEST_PATH: usize = 200;

/// What a repository has at one commit.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Its name, as the hub writes it.
    pub repo: RepoId,
    /// The branch, tag or commit that was asked for.
    pub revision: String,
    /// Which commit it is.
    pub commit: String,
    /// The architecture of its GGUF files, if the hub has looked into them.
    pub architecture: Option<String>,
    /// Its license, if it says one.
    pub license: Option<String>,
    /// Its GGUF files.
    pub files: Vec<Part<Remote>>,
}

/// What a hub says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its size.
    pub bytes: u64,
    /// Its fingerprint, in hexadecimal.
    pub sha256: String,
}

impl Listing {
    /// The models that the files are.
    pub fn sets(&self) -> Vec<FileSet<Remote>> {
        sets(self.files.iter().cloned())
    }

    /// The model in a quantization (in capitals), or in a file of this name; without one, in the first of `preferred` that
    /// is there, or the only one.
    ///
    /// # Errors
    /// [`Error::NoModel`], [`Error::NoQuantization`], [`Error::Ambiguous`], [`Error::PartsMissing`].
    pub fn choose(&self, quant: Option<&str>, preferred: &[&str]) -> Result<FileSet<Remote>> {
        let sets = self.sets();
        let repo = self.repo.to_string();
        let mut there: Vec<String> = sets.iter().filter_map(|set| set.label.clone()).collect();
        there.dedup();
        if sets.is_empty() {
            return Err(Error::NoModel { repo });
        }
        // Some repositories have a model in one file and in parts, under the same name.
        let split_too =
            |set: &FileSet<Remote>| set.of > 1 && sets.iter().any(|one| one.of == 1 && one.name == set.name);
        let with = |wanted: &str| -> Vec<&FileSet<Remote>> {
            let is = |set: &&FileSet<Remote>| {
                set.parts[0].path == wanted || (set.label.as_deref() == Some(wanted) && !split_too(set))
            };
            sets.iter().filter(is).collect()
        };
        let found = match quant {
            Some(quant) => with(quant),
            None => {
                let preferred = preferred.iter().map(|wanted| with(wanted)).find(|found| !found.is_empty());
                preferred.unwrap_or_else(|| sets.iter().collect())
            }
        };
        let choices = |sets: &[&FileSet<Remote>]| {
            sets.iter().map(|set| format!("{repo}:{}", set.parts[0].path)).collect::<Vec<_>>()
        };
        match found[..] {
            [set] if set.is_whole() => Ok(set.clone()),
            [set] => {
                let (there, of) = (set.parts.len(), set.of);
                Err(Error::PartsMissing { repo, file: shown(&set.name), there, of })
            }
            [] => Err(Error::NoQuantization { repo, quant: quant.unwrap_or(DEFAULT).to_owned(), there }),
            _ if quant.is_none() && !there.is_empty() => {
                Err(Error::NoQuantization { repo, quant: DEFAULT.to_owned(), there })
            }
            _ => Err(Error::Ambiguous {
                name: format!("{repo}:{}", quant.unwrap_or_default()),
                choices: choices(&found),
            }),
        }
    }
}

/// `GET /api/models/OWNER/REPO/revision/REV`, as far as it is of use.
#[derive(Deserialize)]
struct Info {
    id: Option<String>,
    sha: String,
    #[serde(default)]
    gguf: Option<GgufInfo>,
    #[serde(default, rename = "cardData")]
    card: Option<Value>,
}

#[derive(Deserialize)]
struct GgufInfo {
    architecture: Option<String>,
}

/// `GET /api/models/OWNER/REPO/tree/COMMIT?recursive=true`, one of its entries.
#[derive(Deserialize)]
struct Node {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    lfs: Option<Lfs>,
}

/// Where the content of a large file is.
#[derive(Deserialize)]
struct Lfs {
    /// Its SHA-256.
    oid: String,
    size: u64,
}

impl Hub {
    /// Asks for the commit, then for the files that it has.
    pub(super) async fn list(&self, repo: &RepoId, revision: &str) -> Result<Listing> {
        let (owner, name) = repo.as_str().split_once('/').unwrap_or((repo.as_str(), ""));
        let nonsense = |problem: String| Error::Malformed { host: self.host.clone(), problem };
        let about = |error: serde_json::Error| nonsense(format!("about `{repo}`: {error}"));
        let url = self.url(&["api", "models", owner, name, "revision", revision]);
        let (value, _) = self.json(&url, repo.as_str()).await?;
        let info: Info = serde_json::from_value(value).map_err(about)?;
        if !is_hex(&info.sha, 40) {
            return Err(nonsense(format!("`{}` is no commit", shown(&info.sha))));
        }
        // Names of repositories are found in any case, and under names that they had before.
        let repo = match &info.id {
            Some(id) => RepoId::new(id).map_err(|error| nonsense(error.to_string()))?,
            None => repo.clone(),
        };
        let mut url = self.url(&["api", "models", owner, name, "tree", &info.sha]);
        url.set_query(Some("recursive=true"));
        let mut files = Vec::new();
        for page in 0.. {
            let (value, link) = self.json(&url, repo.as_str()).await?;
            let nodes: Vec<Node> = serde_json::from_value(value).map_err(about)?;
            for node in nodes {
                files.extend(node.part().map_err(nonsense)?);
            }
            match link.as_deref().and_then(next_page) {
                Some(next) if page < PAGES => {
                    let next = url.join(next).ok().filter(|next: &Url| self.is_own(next));
                    url = next.ok_or_else(|| nonsense("the next page is elsewhere".to_owned()))?;
                }
                Some(_) => return Err(nonsense(format!("more than {PAGES} pages of files"))),
                None => break,
            }
        }
        let license = info.card.as_ref().and_then(|card| Some(shown(card.get("license")?.as_str()?)));
        let architecture = info.gguf.and_then(|gguf| gguf.architecture).map(|name| shown(&name));
        Ok(Listing { repo, revision: revision.to_owned(), commit: info.sha, architecture, license, files })
    }
}

impl Node {
    /// The GGUF file that this is, checked; none if it is none. A repository with a name that would leave its folder is not
    /// to be trusted in anything else.
    fn part(self) -> Result<Option<Part<Remote>>, String> {
        if self.kind != "file" || !self.path.ends_with(".gguf") {
            return Ok(None);
        }
        if !is_plain(&self.path) {
            return Err(format!("the file name `{}` would lead out of its folder", shown(&self.path)));
        }
        let Some(lfs) = self.lfs else {
            return Err(format!("`{}` has no SHA-256, so it could not be verified", shown(&self.path)));
        };
        let bytes = lfs.size;
        if !(1..=LARGEST).contains(&bytes) || (self.size != 0 && self.size != bytes) {
            return Err(format!("`{}` has {bytes} bytes and {} bytes", shown(&self.path), self.size));
        }
        let sha256 = lfs.oid.strip_prefix("sha256:").unwrap_or(&lfs.oid).to_owned();
        if !is_hex(&sha256, 64) {
            return Err(format!("`{}` is no SHA-256", shown(&sha256)));
        }
        Ok(Some(Part { path: self.path, about: Remote { bytes, sha256 } }))
    }
}

/// Whether a path stays in its folder, on every system.
pub(super) fn is_plain(path: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.contains(['\\', ':'])
            && !part.chars().any(char::is_control)
    };
    path.len() <= LONGEST_PATH && path.split('/').all(part)
}

/// Whether a text is that many lower-case hexadecimal digits: nothing else becomes part of a path.
pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The address of `<…>; rel="next"`.
fn next_page(link: &str) -> Option<&str> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    next.trim().strip_prefix('<')?.split_once('>').map(|(url, _)| url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        for path in ["a.gguf", "Q4/a b.gguf", "..a/b..gguf", "ü.gguf"] {
            assert!(is_plain(path), "{path}");
        }
        let long = format!("{}.gguf", "x".repeat(200));
        for path in
            ["", "../a.gguf", "/a.gguf", "a//b.gguf", "a/../b", "a/.", "..\\a", "C:a", "a\0", "a\nb", &long]
        {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn what_hubs_say_of_files_is_checked() {
        let sha = "0123456789abcdef".repeat(4);
        let part = |json: Value| serde_json::from_value::<Node>(json).unwrap().part();
        let file = |path: &str, size: u64, oid: &str| serde_json::json!({ "type": "file", "path": path, "size": size, "lfs": { "oid": oid, "size": size } });
        let found = part(file("a.gguf", 5, &sha)).unwrap().unwrap();
        assert_eq!(found.about, Remote { bytes: 5, sha256: sha.clone() });
        assert!(part(file("a.txt", 5, &sha)).unwrap().is_none());
        assert!(part(file("../a.gguf", 5, &sha)).unwrap_err().contains("out of its folder"));
        assert!(part(file("a.gguf", 0, &sha)).is_err() && part(file("a.gguf", u64::MAX, &sha)).is_err());
        assert!(part(file("a.gguf", 5, "../../x")).unwrap_err().contains("no SHA-256"));
        let small = serde_json::json!({ "type": "file", "path": "a.gguf", "size": 5 });
        assert!(part(small).unwrap_err().contains("could not be verified"));
    }

    #[test]
    fn pages_are_linked() {
        assert_eq!(next_page("<https://h/x?c=1>; rel=\"next\""), Some("https://h/x?c=1"));
        assert_eq!(next_page("<a>; rel=\"prev\", <b>; rel=\"next\""), Some("b"));
        assert_eq!(next_page("<a>; rel=\"prev\""), None);
    }

    fn listing(files: &[&str]) -> Listing {
        let remote = Remote { bytes: 1, sha256: "0".repeat(64) };
        let files =
            files.iter().map(|path| Part { path: (*path).to_owned(), about: remote.clone() }).collect();
        let (repo, revision, commit) = (RepoId::new("a/b").unwrap(), "main".to_owned(), "0".repeat(40));
        Listing { repo, revision, commit, architecture: None, license: None, files }
    }

    #[test]
    fn the_quantization_is_chosen() {
        let all = listing(&["m-Q4_K_M.gguf", "m-Q8_0.gguf", "n-Q8_0.gguf", "o-Q6_K-00001-of-00002.gguf"]);
        let choose = |quant| all.choose(quant, &["Q5_K_M", "Q4_K_M"]);
        assert_eq!(choose(None).unwrap().name, "m-Q4_K_M");
        assert_eq!(choose(Some("n-Q8_0.gguf")).unwrap().name, "n-Q8_0");
        let error = choose(Some("Q8_0")).unwrap_err().to_string();
        assert!(error.contains("`a/b:m-Q8_0.gguf`, `a/b:n-Q8_0.gguf`"), "{error}");
        let error = choose(Some("Q2_K")).unwrap_err().to_string();
        assert!(error.contains("`Q4_K_M`, `Q8_0`, `Q6_K`"), "{error}");
        assert!(choose(Some("Q6_K")).unwrap_err().to_string().contains("`1` of `2` parts"));
        assert_eq!(listing(&["x-Q8_0.gguf"]).choose(None, &["Q4_K_M"]).unwrap().name, "x-Q8_0");
        assert!(matches!(listing(&["a.bin"]).choose(None, &[]), Err(Error::NoModel { .. })));
    }
}
