//! What is said between the program, the supervisor of a command, and the process that becomes the command.
//!
//! All of it goes over one socket in each direction, as lines of JSON: arguments and variables can be read
//! by others, and the socket's end tells each side that the other one is gone.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::sandbox::Means;

/// What the supervisor is to run, and how.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Plan {
    /// The command.
    pub(super) argv: Vec<String>,
    /// The work tree: where it runs, and what it may write.
    #[serde(with = "path")]
    pub(super) dir: PathBuf,
    /// Further folders that it may write.
    #[serde(with = "paths")]
    pub(super) writable: Vec<PathBuf>,
    /// What in the work tree it may not write, relative to it, where the means can tell.
    #[serde(with = "paths")]
    pub(super) kept: Vec<PathBuf>,
    /// Further secrets, which it may not see.
    #[serde(with = "paths")]
    pub(super) hidden: Vec<PathBuf>,
    /// Arguments that make this program the launcher again.
    pub(super) launcher: Vec<String>,
    /// How it is confined.
    pub(super) means: Means,
    /// Limits that the supervisor watches.
    pub(super) bounds: Bounds,
}

/// Limits of all processes of a command together.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Bounds {
    pub(super) memory_bytes: u64,
    pub(super) written_bytes: u64,
    pub(super) file_bytes: u64,
    pub(super) processes: usize,
}

/// What the process that becomes the command needs to know.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Confinement {
    pub(super) argv: Vec<String>,
    pub(super) bounds: Bounds,
    /// The most threads that its user may have, its other programs among them.
    pub(super) threads: u64,
    /// The priority that the program itself has.
    pub(super) niceness: i32,
    /// The places that may be read and written, where Landlock is the means.
    pub(super) places: Option<Places>,
}

/// What a command may touch; everything else is closed to it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Places {
    #[serde(with = "paths")]
    pub(super) readable: Vec<PathBuf>,
    #[serde(with = "paths")]
    pub(super) writable: Vec<PathBuf>,
    /// Devices that hold nothing, such as `/dev/null`.
    pub(super) devices: Vec<PathBuf>,
}

/// What the process that becomes the command says on its way.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    /// It is confined, and about to become the command.
    Confined,
    /// It cannot be confined.
    Open(String),
    /// The command does not exist.
    NotFound,
    /// The command cannot be started.
    NotStarted(String),
    /// The command ended with this status.
    Code(i32),
    /// The command was killed by this signal.
    Signal(i32),
}

/// How the supervisor says that the command ended.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    Code(i32),
    Signal(i32),
    Memory,
    Written,
    Processes,
    NotFound,
    NotStarted(String),
    /// The sandbox itself could not be set up.
    NoSandbox(String),
}

/// A path in JSON, which knows only text: the bytes where it is none.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&PathBuf> for Name {
    fn from(path: &PathBuf) -> Name {
        let bytes = path.as_os_str().as_bytes();
        path.to_str().map_or_else(|| Name::Bytes(bytes.to_vec()), |text| Name::Text(text.to_owned()))
    }
}

impl From<Name> for PathBuf {
    fn from(name: Name) -> PathBuf {
        match name {
            Name::Text(text) => text.into(),
            Name::Bytes(bytes) => OsString::from_vec(bytes).into(),
        }
    }
}

mod path {
    use super::{Deserialize, Name, PathBuf, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(path: &PathBuf, to: S) -> Result<S::Ok, S::Error> {
        Name::from(path).serialize(to)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        Ok(Name::deserialize(from)?.into())
    }
}

mod paths {
    use super::{Deserialize, Name, PathBuf};

    pub(super) fn serialize<S: serde::Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(paths.iter().map(Name::from))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
        Ok(Vec::<Name>::deserialize(from)?.into_iter().map(PathBuf::from).collect())
    }
}

/// Asks the supervisor to end the command, but to let it clean up.
pub(super) const TERMINATE: u8 = b'T';

/// The longest line that is read. Command lines end at two megabytes.
const MAX_LINE: u64 = 8 << 20;

pub(super) fn send(stream: &UnixStream, message: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    std::io::Write::write_all(&mut &*stream, &line)
}

/// The next line. It is read byte by byte, so nothing after it is taken.
pub(super) fn receive<T: serde::de::DeserializeOwned>(stream: &UnixStream) -> std::io::Result<T> {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.take(1).read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
        if line.len() as u64 > MAX_LINE {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
    }
    Ok(serde_json::from_slice(&line)?)
}

/// All lines that have come already; the other side may go on to hold its end.
pub(super) fn received<T: serde::de::DeserializeOwned>(stream: &UnixStream) -> std::io::Result<Vec<T>> {
    stream.set_nonblocking(true)?;
    let mut text = Vec::new();
    match stream.take(MAX_LINE).read_to_end(&mut text) {
        Ok(_) => {}
        // What was read before is kept.
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| Ok(serde_json::from_slice(line)?))
        .collect()
}
