use super::*;

/// A text of each language, and one that is broken.
const TEXTS: [(&str, &str, &str); 9] = [
    ("a.rs", "fn a() -> u8 { if let Some(x) = y && x > 1 { x } else { 0 } }\n", "fn a() -> u8 { (1 }\n"),
    ("a.py", "def a(x: int) -> int:\n    match x:\n        case 1: return 2\n", "def a(x:\n    return 1\n"),
    ("a.js", "export const a = async (x) => { await x?.y ?? 1; };\n", "export function a( { return 1; }\n"),
    ("a.jsx", "export const A = () => <p className=\"b\">c</p>;\n", "export const A = () => <p>c</q;\n"),
    ("a.ts", "export interface A<T> { readonly b?: T[] }\n", "export interface A { b: ; }\n"),
    ("a.tsx", "export const A = (p: { b: string }) => <p>{p.b}</p>;\n", "const A = (p: { b: }) => <p>;\n"),
    ("a.go", "package a\n\nfunc A[T any](x T) T { return x }\n", "package a\n\nfunc A( { return }\n"),
    ("a.json", "{\"a\": [1, 2.5e3, null, \"\\u00e9\"]}\n", "{\"a\": [1, 2,, }\n"),
    ("a.toml", "[a]\nb = [1, 2]\nc = { d = 1979-05-27 }\n", "[a\nb = = 1\n"),
];

/// Covers S1-34.
#[test]
fn every_language_knows_right_from_wrong() {
    for (path, right, wrong) in TEXTS {
        assert_eq!(errors(path, right), [], "{path}");
        assert!(!errors(path, wrong).is_empty(), "{path}");
    }
    assert_eq!(errors("a.yaml", "a:\n  - b: 1\n    c: [d, e]\n"), []);
    assert!(!errors("a.yml", "a: [1, 2\nb: }\n").is_empty());
    assert_eq!(errors("a.yaml", "a: {{ .Values.b }}\n"), []);
    assert_eq!(errors("a.json", "{\"a\": [1e+22, -1.5E+3, 0]}\n"), []);
    assert!(!errors("a.json", "{\"a\": [1e+22, -1.5E+3, 0}\n").is_empty());
    assert_eq!(errors("a.md", "((((\n"), []);
    assert_eq!(errors("a.rs", ""), []);
}

#[test]
fn an_error_has_its_place_and_its_line() {
    let found = errors("a.py", "x = 1\n\ndef f():\n    é = (1, 2\n    return é\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].line, found[0].text.as_str()), (4, "é = (1, 2"));
    let missing = errors("a.rs", "fn a() {\n    b(1;\n}\n");
    assert_eq!(missing[0].to_string(), "line 2, column 8: missing `)`\n    b(1;");
}

/// Covers S1-34.
#[test]
fn errors_that_were_there_before_are_not_charged() {
    let old = "fn a() { (1 }\n\nfn b() {}\n";
    assert!(!errors("a.rs", old).is_empty());
    let moved = format!("// A line more.\n{old}\nfn c() {{}}\n");
    assert_eq!(new_errors("a.rs", Some(old), &moved), []);
    let worse = format!("{old}\nfn c() {{ [2 }}\n");
    let charged = new_errors("a.rs", Some(old), &worse);
    assert!(charged.iter().all(|error| error.text == "fn c() { [2 }"), "{charged:?}");
    assert!(!charged.is_empty());
    assert_eq!(new_errors("a.rs", None, old), errors("a.rs", old));
    assert_eq!(new_errors("a.rs", Some("fn a() {}\n"), old), errors("a.rs", old));
}

#[test]
fn hostile_texts_cost_neither_stack_nor_patience() {
    let deep = ["(", "[", "{", "<", "\"", "'", "/*", "`${", "#[", "a: ", "- ", "\t"];
    for (path, ..) in TEXTS.into_iter().chain([("a.yaml", "", "")]) {
        for piece in deep {
            let begun = Instant::now();
            let found = errors(path, &piece.repeat(2_000));
            assert!(found.len() <= MAX_ERRORS);
            assert!(begun.elapsed() < 2 * PATIENCE, "{path} {piece} {:?}", begun.elapsed());
        }
        // Deeper with every line.
        let stairs: String = (0..1000).map(|n| format!("{}if a:\n", " ".repeat(n))).collect();
        errors(path, &stairs);
    }
}

#[test]
fn the_sources_of_this_crate_have_no_errors() {
    let mut folders = vec![std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"))];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(name) = path.to_str().filter(|name| Language::of(name).is_some()) {
                let text = std::fs::read_to_string(name).unwrap();
                assert_eq!(errors(name, &text), [], "{name}");
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "{seen} files");
}

/// Pieces of source at random, on which no grammar may choke.
#[test]
fn random_texts_are_parsed_or_left() {
    let pieces = [
        "a", " ", "\n", "\t", "    ", "(", ")", "[", "]", "{", "}", "<", ">", "\"", "'", "`", ":", "- ",
        ": ", "? ", "|", ">\n", "#", "\\", "\\\n", "é", "\u{2028}", "\r\n", "/*", "*/", "//", "fn ", "def ",
        "f\"{", "r#\"", "${", "<a>", "</a>", "=", ",", ";", "&x", "*x", "!!t ", "---\n", "0x", "'''",
        "\"\"\"", "=>", "%", "@", "\0",
    ];
    let paths: Vec<&str> = TEXTS.map(|(path, ..)| path).into_iter().chain(["a.yaml"]).collect();
    let mut random = 20_261_128_u64;
    for round in 0..4000 {
        let mut text = String::new();
        for _ in 0..round % 200 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text += pieces[(random >> 33) as usize % pieces.len()];
        }
        assert!(errors(paths[round % paths.len()], &text).len() <= MAX_ERRORS);
    }
}
