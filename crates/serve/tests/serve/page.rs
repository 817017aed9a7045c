//! The page at `/`, and what its board is told.

use std::fs;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use coder_serve::{Access, Keep, Limits, Models, Server, Tasks};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};

use crate::support::{Reply, SERVER, bundled, model, models, own, start};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("page")
}

/// Name and text of every file of the page.
fn files() -> Vec<(String, String)> {
    let files = fs::read_dir(folder()).expect("the folder of the page");
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("a file").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, fs::read_to_string(path).expect("text"))
    };
    files.map(read).collect()
}

/// What `attribute="…"` says in a page.
fn links<'a>(page: &'a str, attribute: &'a str) -> impl Iterator<Item = &'a str> {
    page.match_indices(attribute).filter_map(move |(at, _)| {
        page[at + attribute.len()..].strip_prefix("=\"").and_then(|rest| rest.split('"').next())
    })
}

fn is_guarded(reply: &Reply) {
    let policy = reply.header("content-security-policy").expect("a policy");
    for rule in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.split("; ").any(|other| other == rule), "{rule}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.header("x-frame-options"), Some("deny"));
    assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
}

#[test]
fn the_page_and_all_its_files_are_there() {
    let page = SERVER.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    is_guarded(&page);
    let linked: Vec<&str> = links(&page.body, "src")
        .chain(links(&page.body, "href"))
        .filter(|link| !link.starts_with('#'))
        .collect();
    assert!(linked.contains(&"./page/page.js") && linked.contains(&"./page/page.css"), "{linked:?}");
    for link in linked {
        let path = link.strip_prefix('.').expect("a relative link");
        assert_eq!(SERVER.get(path).status, 200, "{link}");
    }
    for (name, text) in files().iter().filter(|(name, _)| name != "index.html") {
        let reply = SERVER.get(&format!("/page/{name}"));
        assert_eq!((reply.status, &reply.body), (200, text), "{name}");
        is_guarded(&reply);
        let kind = match name.rsplit_once('.').expect("a suffix").1 {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(reply.header("content-type"), Some(kind), "{name}");
    }
    for path in ["/page/", "/page/index.html", "/page/../Cargo.toml", "/page/page.js/", "/index.html"] {
        assert_eq!(SERVER.get(path).status, 404, "{path}");
    }
    assert_eq!(SERVER.post("/", &json!({})).status, 405);
}

/// Nothing is fetched from elsewhere, and no text becomes an element or a program.
#[test]
fn the_page_is_complete_and_makes_nothing_of_text() {
    for (name, text) in files() {
        for (at, _) in text.match_indices("://") {
            let rest: String = text[at..].chars().take(60).collect();
            // The name of a kind of elements; nobody fetches it.
            let is_name = rest.starts_with("://www.w3.org/2000/svg");
            assert!(is_name, "{name} has an address: {rest}");
        }
        for bad in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "@import",
            "url(",
        ] {
            assert!(!text.contains(bad), "{name} has {bad}");
        }
        assert!(text.lines().count() < 500, "{name} is too long");
    }
    let page = fs::read_to_string(folder().join("index.html")).expect("the page");
    // What the policy would not run.
    for bad in ["<style", " style=", " onclick=", " onload=", "javascript:", "<script>"] {
        assert!(!page.contains(bad), "{bad}");
    }
}

#[test]
fn the_board_counts_what_happens() {
    let closed = own().get("/api/board").json();
    assert_eq!(closed["models"][0]["open"], false);
    assert_eq!(closed["models"][0]["now"], Value::Null);
    assert_eq!(closed["memory"]["models_bytes"], 0);
    let running = own();
    let body = json!({ "messages": [{ "role": "user", "content": "Classify: crash" }], "temperature": 0 });
    let usage: Vec<Value> =
        (0..2).map(|_| running.post("/v1/chat/completions", &body).json()["usage"].clone()).collect();
    assert_eq!(running.get("/a/path/that/is/not").status, 404);
    let reply = running.get("/api/board");
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let board = reply.json();
    let sum = |path: &str| {
        usage.iter().map(|one| one.pointer(path).and_then(Value::as_u64).unwrap_or(0)).sum::<u64>()
    };
    let (prompt, cached, written) =
        (sum("/prompt_tokens"), sum("/prompt_tokens_details/cached_tokens"), sum("/completion_tokens"));
    let model = &board["models"][0];
    assert_eq!((&model["name"], &model["open"]), (&json!("coder-tiny"), &json!(true)));
    assert_eq!(model["others"], json!(["free", "claude-*", "qwen2.5-coder:32b"]));
    assert_eq!(model["answers"], json!({ "stop": 2 }));
    assert_eq!(model["prompt_tokens"], prompt);
    assert_eq!(model["cached_tokens"], cached);
    assert_eq!(model["completion_tokens"], written);
    assert!(model["prefill_s"].as_f64() > Some(0.0) && model["decode_s"].as_f64() > Some(0.0), "{model}");
    let now = &model["now"];
    assert_eq!(now["read_tokens"], prompt - cached);
    assert_eq!(now["written_tokens"], written);
    assert!(cached > 0 && now["blocks_filled"].as_u64() > Some(0), "{now}");
    assert!(now["at_s"].as_f64() <= board["uptime_s"].as_f64());
    assert_eq!(board["requests"], json!({ "open": 0, "most": 64, "refused": 1 }));
    assert_eq!(board["memory"]["models_bytes"], model["bytes"]);
    if cfg!(target_os = "linux") {
        assert!(board["memory"]["resident_bytes"].as_u64() > model["bytes"].as_u64(), "{board}");
    }
    assert_eq!(board.get("tasks"), None, "nobody said where tasks are");
}

#[test]
fn the_board_shows_tasks_if_there_is_a_source() {
    let (good, bad) = (own(), own());
    good.server.show_tasks(|| Ok(Tasks { tasks: 7, cloud_usd: 0.5, ..Tasks::default() }));
    // The first one stays.
    good.server.show_tasks(|| Err("not this one".into()));
    let tasks = &good.get("/api/board").json()["tasks"];
    assert_eq!((&tasks["tasks"], &tasks["cloud_usd"]), (&json!(7), &json!(0.5)));
    bad.server.show_tasks(|| Err("`/home/somebody/ledger.db` is damaged".into()));
    let reply = bad.get("/api/board");
    assert_eq!(reply.json().get("tasks"), Some(&Value::Null));
    assert!(!reply.body.contains("somebody"), "{}", reply.body);
}

/// The page has nothing that is anybody's; what it shows needs the key.
#[test]
fn with_a_key_the_page_is_open_and_the_board_is_not() {
    let access = Access { key: Some("secret".into()), ..Access::default() };
    let running = start(models(), access, Limits::default());
    for (name, _) in files().iter().filter(|(name, _)| name != "index.html") {
        assert_eq!(running.get(&format!("/page/{name}")).status, 200, "{name}");
    }
    assert_eq!(running.get("/").status, 200);
    for path in ["/api/board", "/v1/models", "/page/", "/page", "//", "/page/nothing.js"] {
        assert_eq!(running.get(path).status, 401, "{path}");
    }
    assert_eq!(running.send("GET", "/api/board", &[("authorization", "Bearer secret")], b"").status, 200);
    assert_eq!(running.send("GET", "/", &[("origin", "http://evil.example")], b"").status, 403);
    for path in ["/", "/page/page.js", "/api/board"] {
        assert_eq!(SERVER.send("GET", path, &[("host", "evil.example")], b"").status, 403, "{path}");
        assert_eq!(SERVER.send("GET", path, &[("origin", "http://evil.example")], b"").status, 403, "{path}");
    }
}

/// Another program has the server below a path of its own; the page's links lead there.
#[test]
fn below_another_router() {
    let models =
        Models::new(vec![model("coder-tiny", bundled())], Vec::new(), Keep::default()).expect("a model");
    let access = Access { key: Some("secret".into()), ..Access::default() };
    let server = Server::new(models, access, Limits::default());
    let router: Router = Router::new().nest("/its/coder", server.router()).nest("/own/", server.router());
    let service = TowerToHyperService::new(router);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let get = |path: &str| {
        let request = Request::get(path).header("host", "localhost").body(Body::empty()).expect("a request");
        runtime.block_on(async {
            let response = service.call(request).await.expect("an answer");
            let status = response.status().as_u16();
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
            (status, String::from_utf8(body.to_vec()).expect("text"))
        })
    };
    for (page, base, link) in
        [("/its/coder", "/its/", "./coder/page/page.js"), ("/own/", "/own/", "./page/page.js")]
    {
        let (status, text) = get(page);
        assert_eq!(status, 200, "{page}");
        assert!(links(&text, "src").any(|other| other == link), "{text}");
        let path = base.to_owned() + link.strip_prefix("./").expect("a relative link");
        assert_eq!(get(&path).0, 200, "{path}");
    }
    assert_eq!(get("/its/coder/api/board").0, 401);
}
