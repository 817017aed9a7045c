//! Commands that reach for what is outside: files and sockets.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};

use coder_tasks::verify::Exit;

use crate::support::{Ground, assert_exit, limits, sandboxes};

/// Covers S1-34.
#[test]
fn nothing_outside_can_be_written() {
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        let tree = ground.tree();
        std::os::unix::fs::symlink("../outside", tree.join("link")).unwrap();
        std::os::unix::fs::symlink("../outside/file", tree.join("file")).unwrap();
        let out = ground.outside().to_str().unwrap().to_owned();
        for script in [
            format!("echo x > {out}/file"),
            format!("echo x >> {out}/new"),
            "echo x > ../outside/file".to_owned(),
            "echo x > ../beside".to_owned(),
            "echo x > link/new".to_owned(),
            "echo x > file".to_owned(),
            format!("rm {out}/file"),
            format!("rm -r {out}"),
            format!("mv {out}/file {out}/moved"),
            format!("mv {out}/file ."),
            format!("ln {out}/file hard && echo x > hard"),
            format!("chmod 0 {out}/file && test ! -r {out}/file && chmod 644 {out}/file && exit 1"),
            format!("mkdir {out}/new"),
            format!("mkfifo {out}/new"),
            format!("truncate -s 0 {out}/file"),
            format!("cp /bin/sh {out}/new && chmod u+s {out}/new"),
            "echo x > /etc/coder-was-here".to_owned(),
            "echo x > /usr/coder-was-here".to_owned(),
            "echo x > \"$HOME/coder-was-here\"".to_owned(),
            // What is written is what is there, in case it can be.
            "v=$(cat /proc/sys/kernel/panic) && echo $v > /proc/sys/kernel/panic".to_owned(),
            "mknod disk b 253 0 && head -c 1 disk".to_owned(),
            "mount -t tmpfs none .".to_owned(),
            "mount --bind / . && echo x > etc/coder-was-here".to_owned(),
            "unshare -Um sh -c 'mount --bind / . && echo x > etc/coder-was-here'".to_owned(),
            format!("cd {out} && echo x > new"),
        ] {
            let done = ground.sh(sandbox, &script, &limits());
            assert!(matches!(done.exit, Exit::Code(code) if code != 0), "{name}: {script}: {done:?}");
            ground.assert_untouched(&format!("{name}: {script}"));
        }
        let home = std::env::var("HOME").unwrap_or_default();
        for path in ["/etc/coder-was-here", "/usr/coder-was-here", &format!("{home}/coder-was-here")] {
            assert!(!std::path::Path::new(path).exists(), "{name}: {path}");
        }
    }
}

/// Covers S1-34.
#[test]
fn the_work_tree_and_the_private_folder_can_be_written() {
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        let script = "mkdir -p a/b && echo x > a/b/c && mv a/b/c a/d && ln a/d a/e && rm a/d && cat a/e \
                      && echo y > \"$TMPDIR/f\" && mkdir \"$TMPDIR/g\" && mv \"$TMPDIR/f\" a/ && cat a/f \
                      && mktemp && echo z > /dev/null && head -c 4 /dev/urandom | wc -c";
        let done = ground.sh(sandbox, script, &limits());
        assert_exit(&done, Exit::Code(0), name);
        assert!(done.output.starts_with("x\ny\n") && done.output.ends_with("4\n"), "{name}: {}", done.output);
        assert!(ground.tree().join("a/e").exists() && !ground.tree().join("a/d").exists());
        // What lies in the private folder is gone with the command.
        let again = ground.sh(sandbox, "ls -A \"$TMPDIR\"; echo \"$TMPDIR\"", &limits());
        assert_eq!(again.output.lines().count(), 1, "{name}: {}", again.output);
        ground.assert_untouched(name);
    }
}

/// Covers S1-34.
#[test]
fn no_service_can_be_reached() {
    let stream = TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        let path = ground.outside().join("file");
        std::fs::remove_file(&path).unwrap();
        let service = UnixListener::bind(&path).unwrap();
        service.set_nonblocking(true).unwrap();
        let acts = [
            format!("connect {}", stream.local_addr().unwrap()),
            "connect 192.0.2.1:80".to_owned(),
            format!("unix {}", path.display()),
        ];
        for act in acts {
            let done = ground.act(sandbox, &act, &limits());
            assert_exit(&done, Exit::Code(9), &format!("{name}: {act}"));
            assert!(done.output.contains("REFUSED"), "{name}: {act}: {}", done.output);
        }
        assert!(service.accept().is_err(), "{name}");
        // The name may be another one than the one that was bound.
        let moved = ground.outside().join("moved");
        std::fs::rename(&path, &moved).unwrap();
        let done = ground.act(sandbox, &format!("unix {}", moved.display()), &limits());
        assert_exit(&done, Exit::Code(9), name);
        assert!(service.accept().is_err(), "{name}");
        let mailbox = UnixDatagram::bind(&path).unwrap();
        mailbox.set_nonblocking(true).unwrap();
        // A datagram may seem to go away; what counts is that none arrives.
        ground.act(sandbox, &format!("unix-datagram {}", path.display()), &limits());
        assert!(mailbox.recv(&mut [0]).is_err(), "{name}");
        ground.act(sandbox, &format!("datagram {}", datagrams.local_addr().unwrap()), &limits());
        let done = ground.act(sandbox, "pair", &limits());
        assert_exit(&done, Exit::Code(0), name);
    }
    stream.set_nonblocking(true).unwrap();
    assert!(stream.accept().is_err());
    datagrams.set_nonblocking(true).unwrap();
    assert!(datagrams.recv(&mut [0]).is_err());
}
