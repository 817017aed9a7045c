use super::*;

fn holds(text: &str, wanted: bool) -> Option<Constraint> {
    Some(Constraint::Holds(text.into(), wanted))
}

/// Covers S1-34.
#[test]
fn rules_in_words_are_read() {
    let exports = |name: &str| Some(Constraint::Exports(Some(name.into())));
    let cases = [
        ("Export function `formatCurrency`", exports("formatCurrency")),
        ("Must export a named function `formatCurrency()`.", exports("formatCurrency")),
        ("`PI` is exported", exports("PI")),
        ("Export named function", Some(Constraint::Exports(None))),
        ("No default export", Some(Constraint::DefaultExport(false))),
        ("No dependencies", Some(Constraint::NoDependencies)),
        ("No external dependencies.", Some(Constraint::NoDependencies)),
        ("At most 50 lines", Some(Constraint::Lines(50))),
        ("under 30 lines", Some(Constraint::Lines(29))),
        ("Do not use `any`", holds("any", false)),
        ("Never call `eval`", holds("eval", false)),
        ("Must use `Intl.NumberFormat`", holds("Intl.NumberFormat", true)),
        // What says more, or something else, is left to those who can read.
        ("Export function that formats currencies", None),
        ("No dependencies on the database layer", None),
        ("`greeting(\"fr\")` is `Some(\"bonjour\")`", None),
        ("Use `foo` instead of `bar`", None),
        ("Do not change `foo`", None),
        ("At most 50 lines per function", None),
        ("Use ES modules", None),
        ("", None),
    ];
    for (rule, expected) in cases {
        assert_eq!(Constraint::read(rule), expected, "{rule}");
    }
}

fn check(rule: &str, path: &str, old: Option<&str>, new: &str) -> Result<(), String> {
    Constraint::read(rule).unwrap().check(&[(path, old, new)]).map_err(|(_, problem)| problem)
}

/// Covers S1-34, S1-37.
#[test]
fn exports_are_found_in_every_language() {
    let cases = [
        ("a.js", "export function a() {}\nexport const b = 1, c = () => { const d = 1; };\n", "a b c", "d"),
        ("a.js", "const a = 1;\nexport { a, x as b };\nexport default a;\n", "a b", "x"),
        ("a.js", "module.exports = { a, b: c };\nexports.d = 1;\n", "a b d", "c"),
        ("a.ts", "export interface A { b: string }\nexport type C = A;\nexport class D {}\n", "A C D", "b"),
        ("a.rs", "pub fn a() { fn b() {} }\npub(crate) const C: u8 = 1;\nstruct D;\n", "a C", "b D"),
        ("a.py", "A = 1\nb: int = 2\n\n@c\ndef d():\n    e = 1\nclass F: pass\n", "A b d F", "c e"),
        (
            "a.go",
            "package a\n\nfunc A() {}\nconst B = 1\ntype C struct{ D int }\nfunc e() {}\n",
            "A B C",
            "e",
        ),
    ];
    for (path, text, there, missing) in cases {
        for name in there.split(' ') {
            assert_eq!(check(&format!("Export `{name}`"), path, None, text), Ok(()), "{path} {name}");
        }
        for name in missing.split(' ') {
            assert!(check(&format!("Export `{name}`"), path, None, text).is_err(), "{path} {name}");
        }
    }
    assert!(check("No default export", "a.js", None, "export default 1;\n").is_err());
    assert!(check("No default export", "a.js", None, "export const a = 1;\n").is_ok());
    assert!(check("No default export", "a.js", None, "export { a as default };\n").is_err());
    // Where nothing is known about exports, nothing is said about them.
    assert_eq!(check("Export `a`", "a.c", None, "int b;\n"), Ok(()));
}

/// Covers S1-34.
#[test]
fn dependencies_are_what_is_from_outside() {
    let cases = [
        ("a.js", "import a from './a';\nimport fs from 'node:fs';\nconst p = require('path');\n", None),
        ("a.ts", "import { a } from 'lodash';\n", Some("lodash")),
        ("a.js", "const a = require('@scope/b/c');\n", Some("@scope/b/c")),
        ("a.py", "import os, json as j\nfrom . import a\nfrom collections.abc import B\n", None),
        ("a.py", "def f():\n    import numpy as np\n", Some("numpy")),
        ("a.rs", "use std::fmt;\nuse crate::a;\nmod b;\nuse b::c;\n", None),
        ("a.rs", "use serde::Serialize;\n", Some("serde")),
        ("a.go", "package a\n\nimport (\n\t\"fmt\"\n\t\"net/http\"\n)\n", None),
        ("a.go", "package a\n\nimport \"github.com/a/b\"\n", Some("github.com/a/b")),
    ];
    for (path, text, expected) in cases {
        let problem = check("No dependencies", path, None, text).err();
        assert_eq!(problem.is_some(), expected.is_some(), "{path}: {problem:?}");
        assert!(expected.is_none_or(|name| problem.unwrap().contains(name)), "{path}");
        // What the file took before is not the draft's doing.
        assert_eq!(check("No dependencies", path, Some(text), text), Ok(()), "{path}");
    }
}

/// Covers S1-34.
#[test]
fn texts_and_lines_are_counted() {
    let old = "function a(x: any) {}\n";
    assert!(check("Do not use `any`", "a.ts", None, old).is_err());
    assert_eq!(check("Do not use `any`", "a.ts", Some(old), old), Ok(()));
    assert_eq!(check("Do not use `any`", "a.ts", None, "// any\nconst company = 'any';\n"), Ok(()));
    assert!(check("Must use `Intl.NumberFormat`", "a.ts", None, old).is_err());
    assert_eq!(check("At most 2 lines", "a.py", Some("a = 1\n"), "a = 1\nb = 2\nc = 3\n"), Ok(()));
    assert!(check("At most 2 lines", "a.py", None, "a = 1\nb = 2\nc = 3\n").is_err());
}
