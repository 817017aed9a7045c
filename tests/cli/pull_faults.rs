//! `coder pull` against a hub that fails, lies or wants harm, and on a disk that is full.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::hub::{Act, COMMIT, Home, Hub, sha256, tiny};

fn one() -> Vec<(&'static str, Vec<u8>)> {
    vec![("a/b/m-Q4_K_M.gguf", tiny())]
}

/// A hub that does this with every question about its own.
fn refusing(status: u16, headers: &'static str) -> Home {
    Home::new(Hub::start(&one(), move |_, _| Act::Status(status, headers, "{\"error\":\"no\"}")))
}

#[test]
fn what_is_not_what_was_promised_is_removed() {
    let mut other = tiny();
    other[2_000_000] ^= 1;
    let home = Home::new(Hub::start(
        &one(),
        move |asked, _| if asked.away { Act::Other(other.clone()) } else { Act::Well },
    ));
    let said = home.fails(&["pull", "a/b"]);
    assert!(
        said.contains("`m-Q4_K_M.gguf` is damaged or forged") && said.contains(&sha256(&tiny())),
        "{said}"
    );
    assert_eq!(home.files().len(), 0);
    assert_eq!(home.hub.contents(), [0]);
}

/// Where nobody listens, nothing is waited for before anything is done.
#[test]
fn a_hub_that_is_not_there_is_told_at_once() {
    let mut hub = Hub::good(&one());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    hub.url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let home = Home::new(hub);
    let began = std::time::Instant::now();
    let said = home.fails(&["pull", "a/b"]);
    assert!(said.contains("127.0.0.1"), "{said}");
    // The attempts that other faults are worth take half a minute.
    assert!(began.elapsed().as_secs() < 15, "{:?}", began.elapsed());
}

/// A partial file that a crash left wrong is found out and fetched anew, once.
#[test]
fn a_damaged_partial_file_is_begun_again() {
    let home = Home::new(Hub::good(&one()));
    let blobs = home.folder.path().join("hf/hub/models--a--b/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.incomplete", sha256(&tiny()))), vec![0; 3_000_000]).unwrap();
    let done = home.json(&["pull", "a/b", "--json"]);
    assert_eq!(home.hub.contents(), [3_000_000, 0]);
    assert_eq!(done["fetched_bytes"].as_u64(), Some(2 * tiny().len() as u64 - 3_000_000));
    // One that is too long is none.
    let home = Home::new(Hub::good(&one()));
    let blobs = home.folder.path().join("hf/hub/models--a--b/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.incomplete", sha256(&tiny()))), vec![0; 6_000_000]).unwrap();
    home.json(&["pull", "a/b", "--json"]);
    assert_eq!(home.hub.contents(), [0]);
}

/// A file that is another one than the catalog knows, or than was fetched before, is not taken unasked.
#[test]
fn a_changed_file_is_refused() {
    let known = "Qwen/Qwen3-32B-GGUF/Qwen3-32B-Q4_K_M.gguf";
    let home = Home::new(Hub::good(&[(known, tiny())]));
    let said = home.fails(&["pull", "qwen3:32b"]);
    assert!(
        said.contains("another one than the catalog knows") && said.contains("efd971561896866f"),
        "{said}"
    );
    assert!(said.contains("--update") && home.hub.contents().is_empty(), "{said}");
    assert_eq!(home.json(&["pull", "qwen3:32b", "--update", "--json"])["files"][0]["sha256_from"], "hub");
    assert_eq!(home.json(&["pull", "qwen3:32b", "--json"])["files"][0]["sha256_from"], "earlier pull");
    let mut newer = tiny();
    newer.push(0);
    let changed = Home { hub: Hub::good(&[(known, newer)]), ..home };
    assert!(changed.fails(&["pull", "qwen3:32b"]).contains("--update"));

    let home = Home::new(Hub::good(&one()));
    home.json(&["pull", "a/b", "--json"]);
    let mut newer = tiny();
    newer.extend([0; 64]);
    let changed = Home { hub: Hub::good(&[("a/b/m-Q4_K_M.gguf", newer)]), ..home };
    let said = changed.fails(&["pull", "a/b"]);
    assert!(said.contains("another one than was fetched before"), "{said}");
    changed.json(&["pull", "a/b", "--update", "--json"]);
    assert_eq!(changed.json(&["pull", "a/b", "--json"])["files"][0]["sha256_from"], "earlier pull");
}

#[test]
fn refusals_name_the_remedy() {
    for (status, words) in [
        (404, &["has no `a/b` (404)", "check the name"][..]),
        (401, &["(401)", "not public", "HF_TOKEN", "hf/token"]),
        (403, &["(403)", "accept its terms at http://127.0.0.1", "/a/b"]),
    ] {
        let home = refusing(status, "");
        let said = home.fails(&["pull", "a/b"]);
        assert!(words.iter().all(|word| said.contains(word)), "{status}: {said}");
        assert_eq!(home.hub.asked().len(), 1, "{status} is not asked again");
    }
    let home = refusing(401, "");
    let said = home.coder(&["pull", "a/b"]).env("HF_TOKEN", "hf_wrong").output().unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("the token is not valid") && !said.contains("hf_wrong"), "{said}");
}

#[test]
fn what_may_pass_is_asked_again_and_not_for_ever() {
    for status in [429, 500, 503] {
        let home = refusing(status, "retry-after: 0\r\n");
        let said = home.fails(&["pull", "a/b"]);
        assert!(said.contains(&status.to_string()) && said.contains("the same command goes on"), "{said}");
        assert_eq!(home.hub.asked().len(), 6, "{status}");
    }
    let home = refusing(429, "retry-after: 3600\r\n");
    assert!(home.fails(&["pull", "a/b"]).contains("in 3600 s"));
    assert_eq!(home.hub.asked().len(), 1);
    // Every first attempt fails; and addresses that have expired are asked for anew.
    let home = Home::new(Hub::start(&one(), |_, before| match before % 2 == 0 && before < 6 {
        true => Act::Status(503, "retry-after: 0\r\n", ""),
        false => Act::Well,
    }));
    home.json(&["pull", "a/b", "--json"]);
    let times = AtomicUsize::new(0);
    let home = Home::new(Hub::start(&one(), move |asked, _| {
        match asked.away && times.fetch_add(1, Ordering::SeqCst) < 2 {
            true => Act::Status(403, "retry-after: 0\r\n", "expired"),
            false => Act::Well,
        }
    }));
    home.json(&["pull", "a/b", "--json"]);
}

/// Covers S3-02: the token goes to the hub alone, and no address that is signed is shown.
#[test]
fn the_token_stays_with_the_hub() {
    let home = Home::new(Hub::start(&one(), cut_twice()));
    fs::create_dir_all(home.folder.path().join("hf")).unwrap();
    fs::write(home.folder.path().join("hf/token"), "hf_secret\n").unwrap();
    let (done, out, err) = home.run(&["pull", "a/b"]);
    assert!(done, "{err}");
    let asked = home.hub.asked();
    assert!(
        asked
            .iter()
            .filter(|asked| !asked.away)
            .all(|asked| asked.token.as_deref() == Some("Bearer hf_secret"))
    );
    assert!(asked.iter().filter(|asked| asked.away).all(|asked| asked.token.is_none()));
    assert_eq!(asked.iter().filter(|asked| asked.away).count(), 3);
    assert!(
        !format!("{out}{err}").contains("hf_secret") && !format!("{out}{err}").contains("signature"),
        "{err}"
    );
    let kept = home.files().iter().filter_map(|path| fs::read_to_string(path).ok()).collect::<String>();
    assert!(!kept.replace("hf_secret\n", "").contains("hf_secret"));
}

fn cut_twice() -> impl Fn(&crate::hub::Asked, usize) -> Act + Send + Sync {
    let times = AtomicUsize::new(0);
    move |asked, _| match asked.away && times.fetch_add(1, Ordering::SeqCst) < 2 {
        true => Act::Cut(1_000_000),
        false => Act::Well,
    }
}

/// Servers that do not know of parts send all of it again.
#[test]
fn a_server_without_ranges_begins_again() {
    let times = AtomicUsize::new(0);
    let home =
        Home::new(Hub::start(&one(), move |asked, _| match (asked.away, times.load(Ordering::SeqCst)) {
            (true, 0) => {
                times.store(1, Ordering::SeqCst);
                Act::Cut(700_000)
            }
            (true, _) => Act::Whole,
            _ => Act::Well,
        }));
    let done = home.json(&["pull", "a/b", "--json"]);
    assert_eq!(done["fetched_bytes"].as_u64(), Some(tiny().len() as u64 + 700_000));
}

/// What a hub may say to do harm: every one is refused in words, and nothing is written but empty folders.
#[test]
fn hostile_hubs_are_refused() {
    let sha = "ab".repeat(32);
    let node = |path: &str, oid: &str, size: u64| {
        json!([{ "type": "file", "path": path, "size": size, "lfs": { "oid": oid, "size": size } }])
            .to_string()
    };
    let trees = [
        (node("../../../evil-Q4_K_M.gguf", &sha, 5), "out of its folder"),
        (node("/tmp/evil-Q4_K_M.gguf", &sha, 5), "out of its folder"),
        (node("x/../../evil-Q4_K_M.gguf", &sha, 5), "out of its folder"),
        (node("x\\..\\evil-Q4_K_M.gguf", &sha, 5), "out of its folder"),
        (node("a\u{1b}[2J-Q4_K_M.gguf", &sha, 5), "out of its folder"),
        (node("m-Q4_K_M.gguf", "../../../x", 5), "is no SHA-256"),
        (node("m-Q4_K_M.gguf", &sha, u64::MAX), "bytes"),
        (node("m-Q4_K_M.gguf", &sha, 0), "bytes"),
        (node("m-Q4_K_M.gguf", &sha, 1 << 43), "the disk has"),
        (json!([{ "type": "file", "path": "m-Q4_K_M.gguf", "size": -1 }]).to_string(), "nonsense"),
        (
            json!([{ "type": "file", "path": "m-Q4_K_M.gguf", "size": 5 }]).to_string(),
            "could not be verified",
        ),
        ("[".repeat(100_000), "no JSON"),
        ("{}".to_string(), "nonsense"),
        ("[]".to_string(), "no GGUF files"),
        (" ".repeat(40 << 20), "bytes about"),
    ];
    for (tree, word) in trees {
        let says = tree.clone();
        let home = Home::new(Hub::start(&one(), move |asked, _| {
            if asked.path.contains("/tree/") { Act::Says(says.clone()) } else { Act::Well }
        }));
        let said = home.fails(&["pull", "a/b"]);
        assert!(said.contains(word) && !said.contains('\u{1b}'), "{}: {said}", &tree[..tree.len().min(80)]);
        assert_eq!(home.files().len(), 0, "{said}");
        assert!(!home.folder.path().join("evil-Q4_K_M.gguf").exists());
    }
    for (info, word) in [
        (json!({ "sha": "../../x" }), "is no commit"),
        (json!({ "sha": COMMIT, "id": "../x" }), "no name of a model"),
        (json!({ "sha": COMMIT, "id": "a/b/c" }), "no name of a model"),
        (json!({ "sha": COMMIT, "gguf": { "architecture": "llama\u{1b}[2J" } }), "is not implemented"),
        (json!("text"), "nonsense"),
    ] {
        let home = Home::new(Hub::start(&one(), move |asked, _| {
            if asked.path.contains("/revision/") { Act::Says(info.to_string()) } else { Act::Well }
        }));
        let said = home.fails(&["pull", "a/b"]);
        assert!(said.contains(word) && !said.contains('\u{1b}'), "{said}");
        assert_eq!(home.files().len(), 0);
    }
}

/// The file's own answers may lie too.
#[test]
fn hostile_files_are_refused() {
    let mut longer = tiny();
    longer.extend([1; 100]);
    type Rule = Box<dyn Fn(&crate::hub::Asked) -> Act + Send + Sync>;
    let status = |at: &'static str, headers: &'static str| -> Rule {
        Box::new(move |asked| if asked.path.contains(at) { Act::Status(302, headers, "") } else { Act::Well })
    };
    let rules: Vec<(Rule, &str)> = vec![
        (
            Box::new(move |asked| if asked.away { Act::Other(longer.clone()) } else { Act::Well }),
            "with other than its",
        ),
        (status("/resolve/", "location: /a/b/resolve/x\r\nx-linked-size: 5\r\n"), "the size is `5`"),
        (status("/resolve/", "location: /a/b/resolve/y\r\nx-linked-etag: \"aa\"\r\n"), "the SHA-256 is `aa`"),
        (status("/resolve/", "location: /a/b/resolve/z\r\nx-repo-commit: 77\r\n"), "the commit is `77`"),
        (status("/resolve/", "location: /a/b/resolve/again\r\n"), "redirects"),
        (status("/resolve/", "location: file:///etc/passwd\r\n"), "not https"),
        (status("/resolve/", ""), "a redirect to nowhere"),
    ];
    for (rule, word) in rules {
        // A redirect of the hub's to itself ends here, with what was said on the way.
        let home = Home::new(Hub::start(&one(), move |asked, _| {
            let ends = ["x", "y", "z"].iter().any(|end| asked.path.ends_with(&format!("/resolve/{end}")));
            if ends { Act::Status(200, "", "x") } else { rule(asked) }
        }));
        let said = home.fails(&["pull", "a/b"]);
        assert!(said.contains(word), "{word}: {said}");
        assert!(
            home.files().iter().all(|path| path.metadata().unwrap().len() == 0),
            "{word}: {:?}",
            home.files()
        );
    }
}

/// A disk without room is told before anything is fetched, and one that becomes full keeps what it has. In a file system of
/// its own, where this user may make one; the limit of a file's size stands for it everywhere.
#[test]
fn a_full_disk_is_told() {
    let home = Home::new(Hub::start(&one(), |asked, before| {
        if asked.away && before < 4 { Act::Hold(1_000_000) } else { Act::Well }
    }));
    let limited = format!("trap '' XFSZ; ulimit -f 2000; exec {} pull a/b", env!("CARGO_BIN_EXE_coder"));
    home.hub.release();
    let mut shell = Command::new("bash");
    let output = shell.args(["-c", &limited]).envs(home.variables()).env_remove("HF_TOKEN").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the disk is full at `") && said.contains("they are kept"), "{said}");
    let kept = home.partial()[0].metadata().unwrap().len();
    assert!(
        (1_500_000..=2_048_000).contains(&kept) && said.contains(&format!("`{kept}` of")),
        "{kept}: {said}"
    );
    let done = home.json(&["pull", "a/b", "--json"]);
    assert_eq!(done["fetched_bytes"].as_u64(), Some(tiny().len() as u64 - kept));

    own_file_system("3m", "");
    own_file_system("72m", "fill");
}

/// Pulls into a file system of this size; with `fill`, it is filled by another while the download holds.
fn own_file_system(size: &str, fill: &str) {
    let hub = Hub::start(
        &one(),
        |asked, before| {
            if asked.away && before < 4 { Act::Hold(1_000_000) } else { Act::Well }
        },
    );
    let home = Home::new(hub);
    let disk = home.folder.path().join("hf");
    fs::create_dir(&disk).unwrap();
    let script = format!(
        "mount -t tmpfs -o size={size} tmpfs {disk} || exit 99
         {coder} pull a/b & pid=$!
         if [ -n '{fill}' ]; then read go; dd if=/dev/zero of={disk}/fill bs=64k 2>/dev/null; echo filled; fi
         wait $pid; echo \"first $?\"
         [ -n '{fill}' ] || exit 0
         rm {disk}/fill; {coder} pull a/b >/dev/null; echo \"second $?\"",
        disk = disk.display(),
        coder = env!("CARGO_BIN_EXE_coder"),
    );
    let mut shell = Command::new("unshare");
    shell.args(["-rm", "sh", "-c", &script]).envs(home.variables()).env_remove("HF_TOKEN");
    let mut child =
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    if !fill.is_empty() && usable() {
        home.hub.wait_held(1);
        child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "filled\n");
        home.hub.release();
    }
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if !usable() {
        return;
    }
    if fill.is_empty() {
        assert!(rest.contains("first 1") && said.contains("bytes, the disk has `"), "{rest}{said}");
        assert_eq!(home.hub.contents().len(), 0);
    } else {
        assert!(rest.contains("first 1\nsecond 0"), "{rest}{said}");
        assert!(said.contains("the disk is full at `"), "{said}");
        let contents = home.hub.contents();
        assert!(contents.len() == 2 && contents[0] == 0 && contents[1] >= 1_000_000, "{contents:?}");
    }
}

/// Whether this user may make a file system of its own.
fn usable() -> bool {
    let script = "d=$(mktemp -d) && mount -t tmpfs -o size=1m tmpfs $d && umount $d && rmdir $d";
    Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .output()
        .is_ok_and(|output| output.status.success())
}
