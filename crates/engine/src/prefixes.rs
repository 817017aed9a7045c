//! The cache on disk, so that another process begins with what this one ended with.
//!
//! A file is a header and whole blocks, each behind the one that it goes on from, what was used last first:
//!
//! - `coderKV\n`, version and positions of a block (`u32`), identity, number of blocks and bytes of one (`u64`), SHA-256
//!   of all that;
//! - of each block its parent's key, its tokens (`u32`), its numbers as the device lays them out, and SHA-256 of the
//!   identity and all that.
//!
//! Everything is little endian. The identity is of all that the numbers depend on: weights, program, device, types. What
//! is not as it was written is not used. A file is replaced as a whole, so that whoever reads it meanwhile reads the old
//! one. Its sums are no signatures, as little as a model file has one: a file that others may write is not used either.

use crate::kv::Cache;
use crate::model::{Limits, Runner};
use crate::sequence::{Key, ROOT, key_after};
use crate::weights::{Role, Weights};
use crate::{Error, Result};
use coder_kernels::BLOCK;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::NamedTempFile;

/// Where an engine keeps the beginnings that it has computed from one process to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixCache {
    /// The file, of one model. It is read when the engine opens, if it is there, and replaced as a whole when the engine
    /// ends, with permission for its owner alone. What other engines wrote into it meanwhile is kept as far as there is
    /// room; of two that end at the same moment, one's stays.
    pub path: PathBuf,
    /// Bytes that it may have; what was not used for the longest time is left out.
    pub bytes: u64,
}

impl PrefixCache {
    /// The file at `path`, of up to a gibibyte.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), bytes: 1 << 30 }
    }
}

const MAGIC: &[u8; 8] = b"coderKV\n";
const VERSION: u32 = 1;
/// Without its sum.
const HEADER: usize = 8 + 4 + 4 + 32 + 8 + 8;
const SUM: usize = 32;
/// What comes before a block's numbers.
const NAME: usize = 32 + 4 * BLOCK;

/// What is read of each weight to know the model by: so many pieces of so many bytes, evenly spread, and the end.
const PIECES: usize = 64;
const PIECE: usize = 64;

/// The name of all that a block's numbers depend on beside its tokens: this program, the device, the types, and the
/// model by its dimensions, its file's size and time, and pieces of every weight.
///
/// # Errors
/// Those of weights that cannot be read.
pub(crate) fn identity(weights: &Weights, limits: Limits, runner: &dyn Runner) -> Result<Key> {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    let dated = |path: &Path| fs::metadata(path).ok().map(|file| (file.len(), file.modified().ok()));
    let program = std::env::current_exe().ok().and_then(|path| dated(&path));
    let about = (env!("CARGO_PKG_VERSION"), program, runner.arithmetic(), runner.block_bytes(), limits.kv);
    add(format!("{about:?} {:?} {:?}", weights.config(), dated(weights.path())).as_bytes());
    for role in Role::all(weights.config()) {
        let matrix = weights.matrix(role)?;
        add(format!("{role:?} {:?}", matrix.kind()).as_bytes());
        let data = matrix.into_data();
        add(&(data.len() as u64).to_le_bytes());
        for piece in data.chunks(data.len().div_ceil(PIECES).max(PIECE)) {
            add(&piece[..piece.len().min(PIECE)]);
        }
        add(&data[data.len().saturating_sub(PIECE)..]);
    }
    Ok(hash.finalize().into())
}

/// An engine's file.
#[derive(Debug)]
pub(crate) struct Prefixes {
    file: PrefixCache,
    identity: Key,
    /// Whether the file is not as it was written.
    damaged: bool,
}

/// What there is under the file's name.
enum Found {
    Nothing,
    /// It is one of ours, and of no use, which the words say why.
    Unusable(&'static str),
    /// The header is whole, and the reader behind it.
    Blocks {
        reader: BufReader<File>,
        /// As the header says.
        count: u64,
        /// Whether it is as long as the header says.
        complete: bool,
    },
}

impl Prefixes {
    pub(crate) fn new(file: PrefixCache, identity: Key) -> Self {
        Self { file, identity, damaged: false }
    }

    /// Fills an empty cache with what the file holds. Gives what a person should know, if it is not all used or if nothing
    /// will be kept.
    ///
    /// # Errors
    /// [`Error::Request`] for a file that is something else or another user's, which is not to be replaced, and for a size
    /// without room for a block; those of reading, and of the device.
    pub(crate) fn load(&mut self, cache: &mut Cache, runner: &mut dyn Runner) -> Result<Option<String>> {
        let unused = self.read(cache, runner)?;
        // Told now and not when all work is done: then nobody listens any more.
        let unkept = self.partial().err().map(|error| format!("{error}; what is computed will not be kept"));
        Ok(unused.into_iter().chain(unkept).reduce(|one, other| format!("{one}\n{other}")))
    }

    fn read(&mut self, cache: &mut Cache, runner: &mut dyn Runner) -> Result<Option<String>> {
        let bytes = runner.block_bytes();
        if self.room(bytes) == 0 {
            let least = HEADER + SUM + NAME + bytes + SUM;
            return Err(
                self.bad(format!("`{}` bytes hold no block; give at least `{least}`", self.file.bytes))
            );
        }
        let path = self.file.path.display().to_string();
        let (mut reader, count, complete) = match self.find(bytes)? {
            Found::Nothing => return Ok(None),
            Found::Unusable(why) => return Ok(Some(format!("`{path}` {why}; the cache starts empty"))),
            Found::Blocks { reader, count, complete } => (reader, count, complete),
        };
        let mut record = vec![0; NAME + bytes + SUM];
        let mut loaded = 0;
        while loaded < count && cache.has_free() {
            if reader.read_exact(&mut record).is_err() || !self.restore(&record, loaded, cache, runner)? {
                break;
            }
            loaded += 1;
        }
        self.damaged = loaded < count && cache.has_free() || !complete;
        Ok(self.damaged.then(|| format!("`{path}` is damaged; `{loaded}` blocks of `{count}` are used")))
    }

    /// Opens what there is, for blocks of `bytes`.
    fn find(&self, bytes: usize) -> Result<Found> {
        let path = &self.file.path;
        let failed = |source| Error::Io { path: path.clone(), source };
        let no_cache =
            || self.bad(format!("`{}` is there and no prefix cache; name another file", path.display()));
        let about = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(failed(error)),
            // Nothing else is opened: that could wait for ever.
            Ok(found) if !found.is_file() => return Err(no_cache()),
            Ok(found) if found.len() == 0 => return Ok(Found::Nothing),
            Ok(found) => found,
        };
        let mut reader = BufReader::new(File::open(path).map_err(failed)?);
        let mut header = Vec::with_capacity(HEADER + SUM);
        reader.by_ref().take((HEADER + SUM) as u64).read_to_end(&mut header).map_err(failed)?;
        if !header.starts_with(MAGIC) {
            return Err(no_cache());
        }
        if is_of_another_user(&about) {
            return Err(self.bad(format!("`{}` belongs to another user; name another file", path.display())));
        }
        if others_may_write(&about) {
            return Ok(Found::Unusable("may be written by other users"));
        }
        if header.len() < HEADER + SUM || header[HEADER..] != self.sum(&[&header[..HEADER]]) {
            return Ok(Found::Unusable("is damaged, or of another model, device or version of this program"));
        }
        let count = header[HEADER - 16..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if header[..HEADER] != self.header(count, bytes)[..] {
            return Ok(Found::Unusable("is of another model, device or version of this program"));
        }
        let all = count.checked_mul((NAME + bytes + SUM) as u64);
        let complete = all.and_then(|all| all.checked_add((HEADER + SUM) as u64)) == Some(about.len());
        Ok(Found::Blocks { reader, count, complete })
    }

    /// Takes one block, the `number`-th; `false` if it is not as it was written.
    fn restore(
        &self,
        record: &[u8],
        number: u64,
        cache: &mut Cache,
        runner: &mut dyn Runner,
    ) -> Result<bool> {
        let (content, sum) = record.split_at(record.len() - SUM);
        if sum != self.sum(&[content]) {
            return Ok(false);
        }
        let (name, numbers) = content.split_at(NAME);
        let Some((parent, tokens)) = split(name) else { return Ok(false) };
        let Some(block) = cache.restore(parent, tokens, number) else { return Ok(false) };
        runner.write_block(block, numbers)?;
        Ok(true)
    }

    /// Replaces the file by what the cache holds, as far as it may be large, and behind that by what it holds itself;
    /// gives the number of its blocks. Nothing is written if that is as it was.
    ///
    /// # Errors
    /// Those of writing, and of the device. The file is as it was then.
    pub(crate) fn save(&mut self, cache: &Cache, runner: &mut dyn Runner) -> Result<usize> {
        let bytes = runner.block_bytes();
        let room = self.room(bytes);
        let blocks = cache.whole_blocks(room);
        let ours: Vec<Key> = blocks.iter().filter_map(|&block| cache.key_of(block)).collect();
        let mut before = match self.find(bytes)? {
            Found::Blocks { mut reader, count, complete } => {
                let names = Names::read(&mut reader, count, bytes);
                Some((reader, names, complete && !self.damaged))
            }
            Found::Unusable(_) if ours.is_empty() => return Ok(0),
            Found::Unusable(_) | Found::Nothing => None,
        };
        let known: HashSet<Key> = ours.iter().copied().collect();
        let others: Vec<usize> = before.as_ref().map_or(Vec::new(), |(_, names, _)| {
            let others = names.0.iter().enumerate().filter(|(_, name)| !known.contains(&name.key));
            others.map(|(at, _)| at).take(room - blocks.len()).collect()
        });
        let is_same = before.as_ref().is_some_and(|(_, names, sound)| {
            let wanted = ours.iter().copied().chain(others.iter().map(|&at| names.0[at].key));
            *sound && wanted.eq(names.0.iter().map(|name| name.key))
        });
        if is_same || (ours.is_empty() && before.is_none()) {
            return Ok(ours.len() + others.len());
        }
        let mut out = Output::new(self, bytes)?;
        for &block in &blocks {
            let Some((parent, tokens)) = cache.content(block) else { continue };
            out.block(parent, tokens, |numbers| runner.read_block(block, numbers))?;
        }
        let mut written = known;
        if let Some((reader, names, _)) = &mut before {
            for Name { key, parent, at } in others.iter().map(|&at| &names.0[at]) {
                if (*parent == ROOT || written.contains(parent)) && out.copy(reader, *at)? {
                    written.insert(*key);
                }
            }
        }
        let blocks = out.finish()?;
        self.damaged = false;
        Ok(blocks)
    }

    /// A file beside ours, to be written and to replace it.
    fn partial(&self) -> Result<NamedTempFile> {
        let path = &self.file.path;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
        remove_abandoned(folder, &name);
        let file = tempfile::Builder::new().prefix(&name).suffix(PARTIAL).tempfile_in(folder);
        file.map_err(|source| Error::Io { path: path.clone(), source })
    }

    /// Blocks of `bytes` that the file may have.
    fn room(&self, bytes: usize) -> usize {
        let room = self.file.bytes.saturating_sub((HEADER + SUM) as u64) / (NAME + bytes + SUM) as u64;
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    fn bad(&self, problem: String) -> Error {
        Error::Request { field: "prefix_cache", problem }
    }

    fn sum(&self, parts: &[&[u8]]) -> [u8; SUM] {
        let mut hash = Sha256::new_with_prefix(self.identity);
        parts.iter().for_each(|part| hash.update(part));
        hash.finalize().into()
    }

    fn header(&self, blocks: u64, bytes: usize) -> Vec<u8> {
        let mut header = MAGIC.to_vec();
        header.extend(VERSION.to_le_bytes());
        header.extend((BLOCK as u32).to_le_bytes());
        header.extend(self.identity);
        header.extend(blocks.to_le_bytes());
        header.extend((bytes as u64).to_le_bytes());
        header
    }
}

/// What a file's blocks are called, in its order.
struct Names(Vec<Name>);

struct Name {
    key: Key,
    parent: Key,
    /// Where its record begins.
    at: u64,
}

impl Names {
    /// Reads up to `count` of them, as many as there are, without what lies between.
    fn read(reader: &mut BufReader<File>, count: u64, bytes: usize) -> Self {
        let mut names = Vec::new();
        let mut name = [0; NAME];
        let mut at = (HEADER + SUM) as u64;
        for _ in 0..count {
            let read = reader.seek(SeekFrom::Start(at)).and_then(|_| reader.read_exact(&mut name));
            let Some((parent, tokens)) = read.ok().and_then(|()| split(&name)) else { break };
            names.push(Name { key: key_after(&parent, &tokens), parent, at });
            at += (NAME + bytes + SUM) as u64;
        }
        Self(names)
    }
}

/// The parent's key, and the tokens.
fn split(name: &[u8]) -> Option<(Key, Vec<u32>)> {
    let (parent, tokens) = name.split_first_chunk::<32>()?;
    Some((*parent, tokens.as_chunks().0.iter().map(|&token| u32::from_le_bytes(token)).collect()))
}

/// A file that is being written, beside the one that it is to replace.
struct Output<'a> {
    prefixes: &'a Prefixes,
    out: BufWriter<NamedTempFile>,
    blocks: u64,
    /// The record that is being written.
    record: Vec<u8>,
}

impl<'a> Output<'a> {
    fn new(prefixes: &'a Prefixes, bytes: usize) -> Result<Self> {
        let file = prefixes.partial()?;
        let mut output =
            Self { prefixes, out: BufWriter::new(file), blocks: 0, record: vec![0; NAME + bytes + SUM] };
        // The header says how many blocks follow; its place is kept until that is known.
        output.write(&[0; HEADER + SUM])?;
        Ok(output)
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Io { path: self.prefixes.file.path.clone(), source }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| self.failed(error))
    }

    /// Writes one block, whose numbers `fill` knows.
    fn block(
        &mut self,
        parent: &Key,
        tokens: &[u32],
        fill: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let mut record = std::mem::take(&mut self.record);
        let end = record.len() - SUM;
        let (content, sum) = record.split_at_mut(end);
        let (name, numbers) = content.split_at_mut(NAME);
        name[..32].copy_from_slice(parent);
        for (place, token) in name[32..].chunks_exact_mut(4).zip(tokens) {
            place.copy_from_slice(&token.to_le_bytes());
        }
        fill(numbers)?;
        sum.copy_from_slice(&self.prefixes.sum(&[content]));
        self.write(&record)?;
        self.record = record;
        self.blocks += 1;
        Ok(())
    }

    /// Copies a record of the file before; `false` if it is not as it was written.
    fn copy(&mut self, from: &mut BufReader<File>, at: u64) -> Result<bool> {
        let mut record = std::mem::take(&mut self.record);
        let read = from.seek(SeekFrom::Start(at)).and_then(|_| from.read_exact(&mut record));
        let (content, sum) = record.split_at(record.len() - SUM);
        let is_sound = read.is_ok() && sum == self.prefixes.sum(&[content]);
        if is_sound {
            self.write(&record)?;
            self.blocks += 1;
        }
        self.record = record;
        Ok(is_sound)
    }

    /// Puts it in the place of the one before, on the disk as a whole.
    fn finish(mut self) -> Result<usize> {
        let bytes = self.record.len() - NAME - SUM;
        let header = self.prefixes.header(self.blocks, bytes);
        let sum = self.prefixes.sum(&[&header]);
        self.out.seek(SeekFrom::Start(0)).map_err(|error| self.failed(error))?;
        self.write(&header)?;
        self.write(&sum)?;
        let Self { prefixes, out, blocks, .. } = self;
        let path = &prefixes.file.path;
        let failed = |source| Error::Io { path: path.clone(), source };
        let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(blocks as usize)
    }
}

#[cfg(unix)]
fn is_of_another_user(file: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(file) != rustix::process::geteuid().as_raw()
}

#[cfg(unix)]
fn others_may_write(file: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::mode(file) & 0o022 != 0
}

/// Elsewhere the folder's permissions say it.
#[cfg(not(unix))]
fn is_of_another_user(_: &Metadata) -> bool {
    false
}

#[cfg(not(unix))]
fn others_may_write(_: &Metadata) -> bool {
    false
}

const PARTIAL: &str = ".partial";

/// Removes what processes left that were killed while they wrote: nobody writes for an hour.
fn remove_abandoned(folder: &Path, name: &str) {
    let old = |entry: &fs::DirEntry| {
        let modified = entry.metadata().and_then(|file| file.modified()).ok()?;
        SystemTime::now().duration_since(modified).ok().filter(|age| *age > Duration::from_secs(3600))
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let found = entry.file_name().to_string_lossy().into_owned();
        if found.starts_with(name) && found.ends_with(PARTIAL) && old(&entry).is_some() {
            let _ = fs::remove_file(entry.path()); // it only takes room
        }
    }
}
