//! What hostile commands do that no usual program does.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};

/// Says which act.
pub(crate) const ACT: &str = "CODER_TEST_ACT";

/// The hostile program. Without the variable it is no test. An act succeeds if it could be done.
#[test]
fn act() {
    let Ok(act) = std::env::var(ACT) else { return };
    let words: Vec<&str> = act.split(' ').collect();
    let done = match words.as_slice() {
        ["connect", address] => TcpStream::connect(*address).map(|_| ()),
        ["listen"] => TcpListener::bind("0.0.0.0:0").map(|_| ()),
        ["datagram", address] => {
            UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"x", address)).map(|_| ())
        }
        ["unix", path] => UnixStream::connect(path).map(|_| ()),
        ["unix-datagram", path] => {
            UnixDatagram::unbound().and_then(|socket| socket.send_to(b"x", path)).map(|_| ())
        }
        ["pair"] => pair(),
        ["fork", depth, mark] => fork(depth.parse().unwrap(), mark),
        ["memory", mebibytes] => memory(mebibytes.parse().unwrap()),
        ["disk", mebibytes, files] => disk(mebibytes.parse().unwrap(), files.parse().unwrap()),
        _ => panic!("no act {act}"),
    };
    match done {
        Ok(()) => println!("DONE"),
        Err(error) => {
            println!("REFUSED {error}");
            std::process::exit(9);
        }
    }
}

/// What the standard library and build tools need: a socket between parent and child.
fn pair() -> std::io::Result<()> {
    let (mut one, mut two) = UnixStream::pair()?;
    one.write_all(b"x")?;
    two.read_exact(&mut [0])
}

/// Each process starts two more, down to a depth, and waits to be killed. The mark is among their arguments.
fn fork(depth: u32, mark: &str) -> std::io::Result<()> {
    if depth > 0 {
        for _ in 0..2 {
            let act = format!("fork {} {mark}", depth - 1);
            Command::new(std::env::current_exe()?)
                .args(["--exact", "acts::act", "--nocapture", "--skip", mark])
                .env(ACT, act)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
        }
    }
    loop {
        std::thread::park();
    }
}

/// Fills memory in small pieces, up to a bound.
fn memory(mebibytes: usize) -> std::io::Result<()> {
    let pieces: Vec<Vec<u8>> = (0..mebibytes).map(|n| vec![n as u8 | 1; 1 << 20]).collect();
    println!("{} MiB", pieces.len());
    std::hint::black_box(pieces);
    Ok(())
}

/// Writes files, up to a bound.
fn disk(mebibytes: usize, files: usize) -> std::io::Result<()> {
    let piece = vec![7; 1 << 20];
    for file in 0..files {
        let mut file = std::fs::File::create(format!("fill-{file}"))?;
        for _ in 0..mebibytes {
            file.write_all(&piece)?;
        }
    }
    Ok(())
}
