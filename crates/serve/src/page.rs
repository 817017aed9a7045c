//! The page at `/`: a conversation, and a board of what the server does.
//!
//! Its files are in the program, ask nobody but this server, and hold no data, so they need no key; what they show does.
//! Answers of a model are hostile: the page may run its own files alone, and may not make elements out of text.

use axum::Router;
use axum::body::Body;
use axum::extract::OriginalUri;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use axum::routing::get;

use crate::Server;

const INDEX: &str = include_str!("../page/index.html");

const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const ICON: &str = "image/svg+xml";

/// Path, type and content of a file of the page.
macro_rules! file {
    ($name:literal, $kind:expr) => {
        (concat!("/page/", $name), $kind, include_str!(concat!("../page/", $name)))
    };
}

/// What the page is made of, besides the page.
const FILES: [(&str, &str, &str); 14] = [
    file!("icon.svg", ICON),
    file!("page.css", CSS),
    file!("chat.css", CSS),
    file!("board.css", CSS),
    file!("theme.js", SCRIPT),
    file!("page.js", SCRIPT),
    file!("chat.js", SCRIPT),
    file!("board.js", SCRIPT),
    file!("server.js", SCRIPT),
    file!("store.js", SCRIPT),
    file!("markdown.js", SCRIPT),
    file!("highlight.js", SCRIPT),
    file!("draw.js", SCRIPT),
    file!("dom.js", SCRIPT),
];

/// Nothing but this server's files and answers; no element out of text; in no other page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// Whether a path needs no key: it has nothing that is anybody's.
pub(crate) fn is_open(path: &str) -> bool {
    path == "/health" || path == "/" || FILES.iter().any(|(own, ..)| *own == path)
}

/// The page and its files.
pub(crate) fn files() -> Router<Server> {
    let page = Router::new().route("/", get(index));
    FILES.into_iter().fold(page, |page, (path, kind, content)| {
        page.route(path, get(move || async move { file(kind, content.into()) }))
    })
}

/// GET /
async fn index(OriginalUri(uri): OriginalUri) -> Response {
    file("text/html; charset=utf-8", INDEX.replace("{root}", &root(uri.path())).into())
}

/// Where the server's paths begin, as a page at `path` says it: under another router that is `/its/path`, and a link to
/// `x` would be `/its/x`.
fn root(path: &str) -> String {
    let last = path.rsplit('/').next().unwrap_or_default();
    let mut root = "./".to_owned();
    for byte in last.bytes() {
        match byte {
            b'%' | b'-' | b'.' | b'_' | b'~' => root.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => root.push(char::from(byte)),
            byte => root += &format!("%{byte:02X}"),
        }
    }
    if !last.is_empty() {
        root.push('/');
    }
    root
}

fn file(kind: &'static str, content: Body) -> Response {
    let mut response = Response::new(content);
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        // The next version of the program has other files.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_below_the_page() {
        for (path, expected) in [
            ("/", "./"),
            ("/coder", "./coder/"),
            ("/a/coder/", "./"),
            ("/a/b%20c", "./b%20c/"),
            ("/x:\"><script>", "./x%3A%22%3E%3Cscript%3E/"),
            ("", "./"),
        ] {
            assert_eq!(root(path), expected, "{path}");
        }
    }
}
