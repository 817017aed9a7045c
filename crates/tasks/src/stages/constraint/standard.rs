//! What a file takes from others, and what of that belongs to neither language nor project.

use super::super::syntax::{self, Language, Step};

/// The packages and modules from outside, in the order of the text. A module that a task's own files could
/// be is one of the project.
pub(super) fn foreign(path: &str, text: &str) -> Vec<String> {
    let Some(language) = Language::of(path) else { return Vec::new() };
    let Some(tree) = syntax::parse(language, text) else { return Vec::new() };
    let own = |name: &str| text.contains(&format!("mod {name};")) || text.contains(&format!("mod {name} {{"));
    let mut found = Vec::new();
    syntax::each(&mut tree.walk(), |node| {
        let words = text.get(node.byte_range()).unwrap_or("");
        let field = |name: &str| node.child_by_field_name(name).and_then(|part| text.get(part.byte_range()));
        match (language, node.kind()) {
            (
                Language::JavaScript | Language::TypeScript | Language::Tsx,
                "import_statement" | "export_statement",
            ) => {
                found.extend(field("source").and_then(|source| package(quoted(source))));
            }
            (Language::JavaScript | Language::TypeScript | Language::Tsx, "call_expression") => {
                if matches!(field("function"), Some("require" | "import")) {
                    let source = field("arguments").unwrap_or("").trim_matches(['(', ')', ' ']);
                    found.extend(package(quoted(source)).filter(|_| source.starts_with(['"', '\''])));
                }
            }
            (Language::Python, "import_statement") => {
                let names = words.trim_start_matches("import").split(',');
                found.extend(names.filter_map(|name| module(name.split_whitespace().next()?)));
            }
            (Language::Python, "import_from_statement") => {
                found.extend(field("module_name").filter(|name| !name.starts_with('.')).and_then(module));
            }
            (Language::Rust, "use_declaration") => {
                let name = field("argument").unwrap_or("").split("::").next().unwrap_or("").trim();
                let known = matches!(name, "std" | "core" | "alloc" | "crate" | "self" | "super" | "");
                let local = known || own(name) || !name.starts_with(|c: char| c.is_lowercase());
                found.extend((!local).then(|| name.to_owned()));
            }
            (Language::Go, "import_spec") => {
                let name = quoted(field("path").unwrap_or(""));
                let first = name.split('/').next().unwrap_or("");
                found.extend(first.contains('.').then(|| name.to_owned()));
            }
            _ => return Step::Into,
        }
        Step::Into
    });
    found
}

fn quoted(text: &str) -> &str {
    text.trim_matches(['"', '\'', '`'])
}

/// The package of an ECMAScript module, unless it is Node's or lies in the project.
fn package(source: &str) -> Option<String> {
    let project = ["./", "../", "/", "@/", "~/", "#", "node:"].iter().any(|start| source.starts_with(start));
    let first = source.split('/').next().unwrap_or("");
    let local = project || matches!(source, "." | ".." | "") || NODE.split(' ').any(|name| name == first);
    (!local).then(|| source.to_owned())
}

/// The top module of a Python import, unless it is of the standard library.
fn module(name: &str) -> Option<String> {
    let first = name.split('.').next().unwrap_or("");
    let standard = first.starts_with('_') || PYTHON.split_whitespace().any(|known| known == first);
    (!standard && !first.is_empty()).then(|| first.to_owned())
}

/// Modules of Node.
const NODE: &str = "assert async_hooks buffer child_process cluster console constants crypto dgram \
    diagnostics_channel dns domain events fs http http2 https inspector module net os path perf_hooks process \
    punycode querystring readline repl stream string_decoder sys timers tls tty url util v8 vm wasi \
    worker_threads zlib";

/// Modules of Python's standard library (`sys.stdlib_module_names` of 3.11).
const PYTHON: &str = "abc aifc antigravity argparse array ast asynchat asyncio asyncore atexit audioop base64 bdb binascii \
    bisect builtins bz2 cProfile calendar cgi cgitb chunk cmath cmd code codecs codeop collections \
    colorsys compileall concurrent configparser contextlib contextvars copy copyreg crypt csv ctypes \
    curses dataclasses datetime dbm decimal difflib dis distutils doctest email encodings ensurepip enum \
    errno faulthandler fcntl filecmp fileinput fnmatch fractions ftplib functools gc genericpath getopt \
    getpass gettext glob graphlib grp gzip hashlib heapq hmac html http idlelib imaplib imghdr imp \
    importlib inspect io ipaddress itertools json keyword lib2to3 linecache locale logging lzma mailbox \
    mailcap marshal math mimetypes mmap modulefinder msilib msvcrt multiprocessing netrc nis nntplib nt \
    ntpath nturl2path numbers opcode operator optparse os ossaudiodev pathlib pdb pickle pickletools \
    pipes pkgutil platform plistlib poplib posix posixpath pprint profile pstats pty pwd py_compile \
    pyclbr pydoc pydoc_data pyexpat queue quopri random re readline reprlib resource rlcompleter runpy \
    sched secrets select selectors shelve shlex shutil signal site smtpd smtplib sndhdr socket \
    socketserver spwd sqlite3 sre_compile sre_constants sre_parse ssl stat statistics string stringprep \
    struct subprocess sunau symtable sys sysconfig syslog tabnanny tarfile telnetlib tempfile termios \
    textwrap this threading time timeit tkinter token tokenize tomllib trace traceback tracemalloc tty \
    turtle turtledemo types typing unicodedata unittest urllib uu uuid venv warnings wave weakref \
    webbrowser winreg winsound wsgiref xdrlib xml xmlrpc zipapp zipfile zipimport zlib zoneinfo";
