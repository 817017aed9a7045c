//! `coder pull`, `models`, `show` and `rm` against a hub on this machine: what is fetched, kept, found and removed.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::hub::{Act, COMMIT, Home, Hub, sha256, tiny};

const REPO: &str = "Qwen/Qwen2.5-Coder-7B-Instruct-GGUF";
const FILE: &str = "qwen2.5-coder-7b-instruct-q8_0.gguf";

/// A hub with the bundled model under the name of a published one.
fn published() -> Vec<(&'static str, Vec<u8>)> {
    vec![("Qwen/Qwen2.5-Coder-7B-Instruct-GGUF/qwen2.5-coder-7b-instruct-q8_0.gguf", tiny())]
}

fn one() -> Vec<(&'static str, Vec<u8>)> {
    vec![("a/b/m-Q4_K_M.gguf", tiny())]
}

/// Covers S0-12, S0-13, S0-14 and S2-13: a model by name and tag, from the hub to an answer, and away again.
#[test]
fn a_model_is_pulled_listed_shown_run_and_removed() {
    let home = Home::new(Hub::good(&published()));
    let name = "qwen2.5-coder:7b-q8_0";
    let said = home.fails(&["ask", "--model", name, "--user", "Hi"]);
    assert!(said.contains(&format!("`coder pull {name}`")), "{said}");
    let plan = home.json(&["pull", name, "--dry-run", "--json"]);
    assert_eq!((&plan["name"], &plan["repository"]), (&name.into(), &REPO.into()));
    assert_eq!((plan["needed_bytes"].as_u64(), home.files().len()), (Some(tiny().len() as u64), 0));
    assert_eq!(
        (&plan["files"][0]["sha256"], &plan["files"][0]["sha256_from"]),
        (&sha256(&tiny()).into(), &"hub".into())
    );

    let (done, out, err) = home.run(&["pull", name]);
    assert!(done, "{err}");
    let path = out.trim().strip_prefix(&format!("{name}  ")).unwrap().to_owned();
    assert_eq!(fs::read(&path).unwrap(), tiny());
    assert!(
        path.ends_with(&format!("models--Qwen--Qwen2.5-Coder-7B-Instruct-GGUF/snapshots/{COMMIT}/{FILE}")),
        "{path}"
    );
    assert!(err.starts_with(&format!("{name}: {FILE}, 5.3 MB from 127.0.0.1")), "{err}");

    let listed = home.json(&["models", "--json"]);
    let row = listed.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
    assert_eq!((&row["from"], &row["quantization"]), (&"cache".into(), &"Q8_0".into()));
    assert!(row["fit"]["fits"] == "cpu" || row["fit"]["fits"] == "card", "{row}");
    let shown = home.json(&["show", name, "--json"]);
    assert_eq!((&shown["here"], &shown["files"][0]["sha256"]), (&true.into(), &sha256(&tiny()).into()));
    assert_eq!(shown["facts"]["architecture"], "qwen3");
    let (done, _, err) = home.run(&[
        "ask",
        "--model",
        "qwen2.5-coder:7b",
        "--user",
        "Classify: login fails",
        "--max-tokens",
        "8",
    ]);
    assert!(done, "the only quantization that is here is meant: {err}");

    assert!(home.fails(&["rm", name]).contains("say --yes"));
    let removed = home.json(&["rm", name, "--yes", "--json"]);
    assert_eq!(removed["bytes"].as_u64(), Some(tiny().len() as u64));
    assert_eq!(home.files(), Vec::<std::path::PathBuf>::new());
    assert!(home.fails(&["rm", name, "--yes"]).contains("is not here"));
    assert!(home.fails(&["rm", "coder-tiny", "--yes"]).contains("part of the program"));
}

/// The catalog is listed without a connection, and says what cannot be run. Covers S0-05, S3-08.
#[test]
fn the_catalog_is_listed_and_shown_offline() {
    let home = Home::new(Hub::good(&[]));
    let all = home.json(&["models", "--all", "--json"]);
    let row = |name: &str| all.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
    assert!(row("qwen2.5-coder:32b")["bytes"].as_u64().unwrap() > 19_000_000_000);
    assert!(row("deepseek-coder-v2:16b")["problem"].as_str().unwrap().contains("deepseek2"));
    let shown = home.json(&["show", "qwen3-coder:30b", "--json"]);
    assert_eq!((&shown["here"], &shown["entry"]["calls"]), (&false.into(), &"xml".into()));
    let (_, text, _) = home.run(&["show", "qwen3-coder:30b"]);
    assert!(text.contains("(catalog) Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf"), "{text}");
    let said = home.fails(&["pull", "deepseek-coder-v2:16b"]);
    assert!(said.contains("cannot be run here") && said.contains("--anyway"), "{said}");
    assert!(home.fails(&["pull", "qwen2.5-codr:7b"]).contains("did you mean `qwen2.5-coder:7b`"));
    assert_eq!(home.hub.asked().len(), 0);
}

#[test]
fn any_repository_is_pulled_and_parts_are_one_model() {
    // Parts of a split model, cut anywhere: they are fetched, and that they are no model is seen then.
    let bytes = tiny();
    let files = [
        ("a/b/Q4_K_M/m-Q4_K_M-00001-of-00002.gguf", bytes[..1_000_000].to_vec()),
        ("a/b/Q4_K_M/m-Q4_K_M-00002-of-00002.gguf", bytes[1_000_000..].to_vec()),
        ("a/b/m-IQ2_XXS.gguf", b"x".to_vec()),
        ("a/b/n-Q8_0-00001-of-00002.gguf", b"y".to_vec()),
        ("a/b/mmproj-Q8_0.gguf", b"z".to_vec()),
    ];
    let home = Home::new(Hub::good(&files));
    let said = home.fails(&["pull", "hf.co/a/b"]);
    assert!(said.contains("is what was promised, but cannot be run"), "{said}");
    let listed = home.json(&["models", "--json"]);
    let row = listed.as_array().unwrap().iter().find(|row| row["name"] == "a/b:Q4_K_M").unwrap();
    assert_eq!(row["bytes"].as_u64(), Some(tiny().len() as u64));
    assert!(row["problem"].is_string());
    let said = home.fails(&["pull", "a/b:q8_0"]);
    assert!(said.contains("`1` of `2` parts"), "{said}");
    let said = home.fails(&["pull", "a/b:iq2_xxs"]);
    assert!(said.contains("the quantization IQ2_XXS is not implemented"), "{said}");
    assert_eq!(home.hub.contents().len(), 2);
    let said = home.fails(&["pull", "a/b:q5_k_m"]);
    assert!(said.contains("has no `Q5_K_M`; it has") && said.contains("`Q4_K_M`"), "{said}");
    home.json(&["rm", "a/b:Q4_K_M", "--yes", "--json"]);
    assert_eq!(home.files().len(), 0);
}

/// Cut at random places, also several times in a row: every byte is fetched once.
#[test]
fn a_cut_download_goes_on_where_it_was() {
    let (mut seed, total) = (7_u64, tiny().len());
    for _ in 0..8 {
        let mut cuts = Vec::new();
        let mut at = 0;
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let more = (seed >> 33) as usize % (total / 4);
            cuts.push(more);
            at += more;
        }
        assert!(at < total);
        let told = cuts.clone();
        let nth = AtomicUsize::new(0);
        let home = Home::new(Hub::start(&one(), move |asked, _| {
            let turn = if asked.away { nth.fetch_add(1, Ordering::SeqCst) } else { usize::MAX };
            told.get(turn).map_or(Act::Well, |after| Act::Cut(*after))
        }));
        let done = home.json(&["pull", "a/b", "--json"]);
        assert_eq!(done["fetched_bytes"].as_u64(), Some(total as u64), "{cuts:?}");
        let ends: Vec<u64> = cuts
            .iter()
            .scan(0, |at, more| {
                *at += *more as u64;
                Some(*at)
            })
            .collect();
        assert_eq!(home.hub.contents(), [&[0][..], &ends[..]].concat());
        assert_eq!(sha256(&fs::read(done["files"][0]["path"].as_str().unwrap()).unwrap()), sha256(&tiny()));
        assert_eq!(home.partial().len(), 0);
    }
}

/// Waits until a child of this hub has so many bytes on the disk.
fn on_disk(home: &Home, bytes: u64) {
    loop {
        let there: u64 =
            home.partial().iter().filter_map(|path| path.metadata().ok()).map(|data| data.len()).sum();
        if there >= bytes {
            return;
        }
        std::thread::yield_now();
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
}

/// A hub whose first answer with content holds after so many bytes, and the others do not.
fn holding(bytes: usize) -> Hub {
    let first = AtomicBool::new(true);
    Hub::start(&one(), move |asked, _| {
        let holds = asked.away && first.swap(false, Ordering::SeqCst);
        if holds { Act::Hold(bytes) } else { Act::Well }
    })
}

#[test]
fn a_killed_download_goes_on_where_it_was() {
    let home = Home::new(holding(2_000_000));
    let mut child = home.spawn(&["pull", "a/b"]);
    home.hub.wait_held(1);
    on_disk(&home, 2_000_000);
    signal(&child, "-KILL");
    child.wait().unwrap();
    assert_eq!((home.files().len(), home.partial().len()), (1, 1));
    let (_, _, err) = home.run(&["models"]);
    assert!(err.contains("2.0 MB of downloads that are not finished"), "{err}");
    let (done, _, err) = home.run(&["pull", "a/b"]);
    assert!(done && err.contains("3.3 MB of 5.3 MB"), "{err}");
    assert_eq!(home.hub.contents(), [0, 2_000_000]);
    home.hub.release();
}

#[test]
fn ctrl_c_keeps_what_is_there_and_says_so() {
    let home = Home::new(holding(1_500_000));
    let child = home.spawn(&["pull", "a/b"]);
    home.hub.wait_held(1);
    on_disk(&home, 1_500_000);
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(
        said.contains("stopped: 1.5 MB of 5.3 MB are kept, `coder pull a/b:Q4_K_M` goes on there"),
        "{said}"
    );
    let done = home.json(&["pull", "a/b:Q4_K_M", "--json"]);
    assert_eq!(done["fetched_bytes"].as_u64(), Some(tiny().len() as u64 - 1_500_000));
    home.hub.release();
    assert_eq!(home.json(&["rm", "a/b", "--yes", "--json"])["bytes"].as_u64(), Some(tiny().len() as u64));
}

#[test]
fn two_at_once_fetch_once() {
    let home = Home::new(holding(1_000_000));
    let first = home.spawn(&["pull", "a/b", "--json"]);
    home.hub.wait_held(1);
    let mut second = home.spawn(&["pull", "a/b", "--json"]);
    let mut said = String::new();
    let mut lines = BufReader::new(second.stderr.take().unwrap());
    while !said.contains("another program is fetching it") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "{said}");
    }
    assert!(home.fails(&["rm", "a/b", "--yes"]).contains("a/b"));
    home.hub.release();
    let done = |child: Child| -> serde_json::Value {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!(done(first)["fetched_bytes"].as_u64(), Some(tiny().len() as u64));
    assert_eq!(done(second)["fetched_bytes"].as_u64(), Some(0));
    drop(lines);
    assert_eq!(home.hub.contents(), [0]);
}

#[test]
fn what_is_here_is_not_fetched_again() {
    let home = Home::new(Hub::good(&one()));
    home.json(&["pull", "a/b", "--json"]);
    let (done, _, err) = home.run(&["pull", "a/b"]);
    assert!(done && err.starts_with("a/b:Q4_K_M: m-Q4_K_M.gguf is here"), "{err}");
    assert_eq!(home.hub.contents(), [0]);
    // And others of the cache's users find it: content by fingerprint, a relative link, the branch's commit.
    let root = home.folder.path().join("hf/hub/models--a--b");
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    let link = fs::read_link(root.join("snapshots").join(COMMIT).join("m-Q4_K_M.gguf")).unwrap();
    assert_eq!(link.to_str().unwrap(), format!("../../blobs/{}", sha256(&tiny())));
}

/// What branches of others' programs mean is not changed by a pull of another revision.
#[test]
fn a_revision_moves_no_other_branch() {
    let home = Home::new(Hub::good(&one()));
    let root = home.folder.path().join("hf/hub/models--a--b");
    let before = "1".repeat(40);
    fs::create_dir_all(root.join("refs")).unwrap();
    fs::create_dir_all(root.join("snapshots").join(&before)).unwrap();
    fs::write(root.join("refs/main"), &before).unwrap();
    fs::write(root.join("snapshots").join(&before).join("m-Q4_K_M.gguf"), "older").unwrap();
    for revision in [COMMIT, "v1", "refs/pr/1"] {
        let (done, _, err) = home.run(&["pull", "a/b", "--revision", revision]);
        assert!(done && err.contains(&format!("the name means the one of {before}; --model /")), "{err}");
        assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), before, "{revision}");
        let named = fs::read_to_string(root.join("refs").join(revision));
        assert_eq!(named.ok().as_deref(), (revision != COMMIT).then_some(COMMIT), "{revision}");
    }
    let (done, _, err) = home.run(&["pull", "a/b"]);
    assert!(done && !err.contains("the name means"), "{err}");
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
}

/// Names are what clients of the server see. Covers S0-27, S2-14.
#[test]
fn the_server_takes_names_and_says_how_to_get_what_is_missing() {
    let home = Home::new(Hub::good(&published()));
    let said = home.fails(&["serve", "--port", "0", "--model", "qwen3-coder:30b"]);
    assert!(
        said.contains("model `qwen3-coder:30b` is not here; get it with `coder pull qwen3-coder:30b`"),
        "{said}"
    );
    let (_, doctor, _) = home.run(&["doctor"]);
    assert!(doctor.contains("none but the bundled one; get one with coder pull "), "{doctor}");
    home.json(&["pull", "qwen2.5-coder:7b-q8_0", "--json"]);
    let (_, doctor, _) = home.run(&["doctor"]);
    assert!(doctor.contains("models   qwen2.5-coder:7b-q8_0"), "{doctor}");
    let mut server =
        home.spawn(&["serve", "--port", "0", "--log", "none", "--model", "qwen2.5-coder:7b-q8_0"]);
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let address =
        lines.find_map(|line| Some(line.unwrap().strip_prefix("listening on http://")?.to_owned())).unwrap();
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(stream, "GET /api/tags HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"name\":\"qwen2.5-coder:7b-q8_0\""), "{answer}");
    signal(&server, "-TERM");
    assert!(server.wait().unwrap().success());
}
