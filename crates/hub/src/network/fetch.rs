//! One file: the lock, what is there of it already, the rest of it, and whether it is what was promised.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::ask::{Answer, Lapse, root};
use super::place::Place;
use super::{Hub, Listing, Remote};
use crate::name::shown;
use crate::quant::{FileSet, Part};
use crate::{Cache, Error, Result};

/// Room on the disk that is left to others.
const SPARE: u64 = 64 << 20;

/// How often it is looked whether another program has ended.
const TURN: Duration = Duration::from_millis(50);

/// What happens on the way.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A file of the model begins; it has so many bytes.
    Begins(&'a str, u64),
    /// Another program fetches it: this one waits.
    Waits(&'a str),
    /// So many bytes were there, and are read to go on with their fingerprint.
    Reads(u64),
    /// So many bytes are on the disk.
    Has(u64),
    /// The connection broke off, or the hub was busy, and another attempt will follow.
    Again(&'a Error),
}

/// Where a file came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It was there.
    Cache,
    /// The hub; so many bytes of it came now.
    Hub(u64),
}

/// A file that is here and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Path in the repository.
    pub file: String,
    /// Path to open.
    pub path: PathBuf,
    /// Its size and fingerprint.
    pub remote: Remote,
    /// Where it came from.
    pub source: Source,
}

/// Bytes that are missing of a model, and what is free where they would go.
pub(super) fn missing(cache: &Cache, listing: &Listing, set: &FileSet<Remote>) -> (u64, Option<u64>) {
    let place = Place::of(cache, listing);
    let needed = set.parts.iter().map(|part| left_of(&place, &part.about)).fold(0, u64::saturating_add);
    // The cache need not be there yet: what counts is the disk that it will be on.
    let there = place.folder().ancestors().find(|folder| folder.is_dir());
    (
        needed,
        there.and_then(|folder| rustix::fs::statvfs(folder).ok()).map(|disk| disk.f_bavail * disk.f_frsize),
    )
}

fn left_of(place: &Place, remote: &Remote) -> u64 {
    let length = |path: PathBuf| path.metadata().map_or(0, |data| data.len());
    let there = length(place.blob(&remote.sha256)).max(length(place.partial(&remote.sha256)));
    remote.bytes.saturating_sub(there)
}

/// Fetches all files of a model.
pub(super) fn all(
    hub: &Hub,
    cache: &Cache,
    listing: &Listing,
    set: &FileSet<Remote>,
    cancel: &AtomicBool,
    on: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<Fetched>> {
    if let (needed, Some(free)) = missing(cache, listing, set)
        && needed > 0
        && needed.saturating_add(SPARE) > free
    {
        return Err(Error::NoRoom { path: cache.folder().to_owned(), needed, free });
    }
    let place = Place::of(cache, listing);
    set.parts.iter().map(|part| One { hub, cache, listing, place: &place, part, cancel }.fetch(on)).collect()
}

/// One file of a model.
struct One<'a> {
    hub: &'a Hub,
    cache: &'a Cache,
    listing: &'a Listing,
    place: &'a Place,
    part: &'a Part<Remote>,
    cancel: &'a AtomicBool,
}

/// What is on the disk of a file, and the fingerprint of that.
struct Partial {
    file: File,
    path: PathBuf,
    done: u64,
    hash: Sha256,
    /// Whether bytes of an earlier attempt of somebody are in it.
    resumed: bool,
}

impl One<'_> {
    fn fetch(&self, on: &mut dyn FnMut(Event<'_>)) -> Result<Fetched> {
        let Part { path: file, about: remote } = self.part;
        on(Event::Begins(file, remote.bytes));
        let blob = self.place.blob(&remote.sha256);
        let lock = self.lock(on)?;
        let source = if blob.metadata().is_ok_and(|data| data.len() == remote.bytes) {
            Source::Cache
        } else {
            Source::Hub(self.download(on)?)
        };
        let path = self.place.name(file, &remote.sha256)?;
        drop(lock);
        Ok(Fetched { file: file.clone(), path, remote: remote.clone(), source })
    }

    /// Nobody else writes this content while the result lives, whatever program they use: the locks are those of Hugging
    /// Face's own.
    fn lock(&self, on: &mut dyn FnMut(Event<'_>)) -> Result<File> {
        let path = self.cache.lock_of(self.place.folder(), &self.part.about.sha256);
        let failed = |source| Error::Io { path: path.clone(), source };
        for folder in [path.parent(), self.place.blob("x").parent()].into_iter().flatten() {
            fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.to_owned(), source })?;
        }
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
                Err(TryLockError::WouldBlock) if self.cancel.load(Ordering::Relaxed) => {
                    return Err(self.stopped(0));
                }
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut told, true) {
                        on(Event::Waits(&self.part.path));
                    }
                    std::thread::sleep(TURN);
                }
            }
        }
    }

    fn stopped(&self, done: u64) -> Error {
        Error::Cancelled { done, total: self.part.about.bytes }
    }

    /// Fetches what is missing and verifies all of it; returns the bytes that came. A partial file that turns out to be
    /// damaged, as a crash of the machine can leave it, is fetched anew once.
    fn download(&self, on: &mut dyn FnMut(Event<'_>)) -> Result<u64> {
        let Remote { sha256, .. } = &self.part.about;
        let mut came = 0;
        loop {
            let mut partial = self.open(on)?;
            let stopped = self.stopped(partial.done);
            let outcome = self.hub.run(self.cancel, stopped, self.rest(&mut partial, &mut came, on));
            if let Err(Error::Cancelled { total, .. }) = outcome {
                return Err(Error::Cancelled { done: partial.done, total });
            }
            outcome?;
            let failed = |source| Error::Io { path: partial.path.clone(), source };
            partial.file.sync_all().map_err(failed)?;
            let found = hex(&partial.hash.finalize());
            if found == *sha256 {
                self.place.keep(sha256)?;
                return Ok(came);
            }
            fs::remove_file(&partial.path).map_err(failed)?;
            let wrong = Error::WrongHash { file: self.part.path.clone(), found, wanted: sha256.clone() };
            if !partial.resumed {
                return Err(wrong);
            }
            on(Event::Again(&wrong));
        }
    }

    /// What is there, with its fingerprint so far.
    fn open(&self, on: &mut dyn FnMut(Event<'_>)) -> Result<Partial> {
        let Remote { bytes, sha256 } = &self.part.about;
        let path = self.place.partial(sha256);
        let failed = |source| Error::Io { path: path.clone(), source };
        let mut options = File::options();
        let mut file =
            options.create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
        let mut hash = Sha256::new();
        let mut done = 0;
        if file.metadata().map_err(failed)?.len() > *bytes {
            file.set_len(0).map_err(failed)?;
        }
        let mut buffer = vec![0; 1 << 20];
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(self.stopped(done));
            }
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                read => {
                    hash.update(&buffer[..read]);
                    done += read as u64;
                    on(Event::Reads(done));
                }
            }
        }
        Ok(Partial { file, path, done, hash, resumed: done > 0 })
    }

    /// The bytes that are missing, in as many attempts as it takes while each brings something.
    async fn rest(&self, partial: &mut Partial, came: &mut u64, on: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let mut attempt = 0;
        while partial.done < self.part.about.bytes {
            let before = *came;
            if let Err(lapse) = self.stream(partial, came, on).await {
                let lapse = match lapse.midway() {
                    Lapse::Passing(error, after) => {
                        on(Event::Again(&error));
                        let error = self.kept(error, partial.done);
                        // An attempt that brought something is gone on with at once, and counts for none.
                        let brought = *came > before;
                        attempt = if brought { 0 } else { attempt };
                        Lapse::Passing(error, after.or(brought.then_some(Duration::ZERO)))
                    }
                    lapse => lapse,
                };
                self.hub.rest(lapse, &mut attempt).await?;
            }
        }
        Ok(())
    }

    /// An error that says what is left of the work, if there is anything.
    fn kept(&self, error: Error, done: u64) -> Error {
        match error {
            Error::Unreachable { host, problem } if done > 0 => Error::CutOff {
                file: self.part.path.clone(),
                done,
                total: self.part.about.bytes,
                problem: format!("{host}: {problem}"),
            },
            error => error,
        }
    }

    /// One attempt.
    async fn stream(
        &self,
        partial: &mut Partial,
        came: &mut u64,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Lapse> {
        let total = self.part.about.bytes;
        let answer = self.ask(partial).await?;
        let mut response = answer.response;
        let broke = |problem| Lapse::Passing(Error::Unreachable { host: answer.host.clone(), problem }, None);
        loop {
            let chunk = timeout(self.hub.options.idle, response.chunk()).await;
            let chunk = chunk.map_err(|_| broke("it says no more".to_owned()))?;
            let Some(chunk) = chunk.map_err(|error| broke(root(&error)))? else { break };
            if chunk.len() as u64 > total - partial.done {
                let problem = format!(
                    "more than the `{total}` bytes of `{}`, which were removed",
                    shown(&self.part.path)
                );
                // Not to be gone on with. That it cannot be removed is found when it is next verified.
                let _ = fs::remove_file(&partial.path);
                return Err(Lapse::Final(Error::Malformed { host: answer.host.clone(), problem }));
            }
            partial.write(&chunk).map_err(|source| Lapse::Final(self.unwritten(partial, source)))?;
            *came += chunk.len() as u64;
            on(Event::Has(partial.done));
        }
        if partial.done < total {
            return Err(broke("it ended the connection".to_owned()));
        }
        Ok(())
    }

    /// Asks for the bytes from where the partial file ends, or for all if the other side cannot do that.
    async fn ask(&self, partial: &mut Partial) -> Result<Answer, Lapse> {
        let Part { path: file, about: remote } = self.part;
        let repo = self.listing.repo.as_str();
        let mut path: Vec<&str> = repo.split('/').collect();
        path.extend(["resolve", &self.listing.commit]);
        path.extend(file.split('/'));
        let from = Some(partial.done).filter(|done| *done > 0);
        let answer = self.hub.get(self.hub.url(&path), &format!("{repo} {file}"), from).await?;
        let nonsense =
            |host: &str, problem: String| Lapse::Final(Error::Malformed { host: host.to_owned(), problem });
        check_linked(&answer.hub, remote, &self.listing.commit)
            .map_err(|problem| nonsense(self.hub.host(), problem))?;
        let headers = answer.response.headers();
        match (answer.response.status(), from) {
            (StatusCode::PARTIAL_CONTENT, Some(from)) => {
                let range =
                    headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
                if !range.starts_with(&format!("bytes {from}-"))
                    || !range.ends_with(&format!("/{}", remote.bytes))
                {
                    let problem = format!("`{}` for the bytes from {from} on", shown(range));
                    return Err(nonsense(&answer.host, problem));
                }
            }
            (StatusCode::OK, _) => {
                let length =
                    headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
                if length.is_some_and(|length| length != remote.bytes) {
                    let problem = format!("`{}` with other than its `{}` bytes", shown(file), remote.bytes);
                    return Err(nonsense(&answer.host, problem));
                }
                // It does not know of parts: all of it comes again.
                partial.restart().map_err(|source| Lapse::Final(self.unwritten(partial, source)))?;
            }
            (status, _) => {
                return Err(nonsense(&answer.host, format!("status {status} for `{}`", shown(file))));
            }
        }
        Ok(answer)
    }

    /// A full disk keeps what is on it.
    fn unwritten(&self, partial: &Partial, source: io::Error) -> Error {
        let path = partial.path.clone();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Error::DiskFull { path, done: partial.done, total: self.part.about.bytes }
            }
            _ => Error::Io { path, source },
        }
    }
}

impl Partial {
    /// Adds bytes. If not all of them can be written, none are: what is on the disk and its fingerprint agree.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            self.file.set_len(self.done)?;
            self.file.seek(SeekFrom::Start(self.done))?;
            return Err(error);
        }
        self.hash.update(bytes);
        self.done += bytes.len() as u64;
        Ok(())
    }

    /// Forgets what is there.
    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        (self.done, self.hash, self.resumed) = (0, Sha256::new(), false);
        Ok(())
    }
}

/// What the hub says of the file when it is asked for it must be what it said before.
fn check_linked(headers: &HeaderMap, remote: &Remote, commit: &str) -> Result<(), String> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let etag = header("x-linked-etag").map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
    for (name, found, wanted) in [
        ("SHA-256", etag.map(str::to_owned), remote.sha256.clone()),
        ("size", header("x-linked-size").map(str::to_owned), remote.bytes.to_string()),
        ("commit", header("x-repo-commit").map(str::to_owned), commit.to_owned()),
    ] {
        if let Some(found) = found.filter(|found| *found != wanted) {
            return Err(format!("the {name} is `{}`, it said `{wanted}` before", shown(&found)));
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
