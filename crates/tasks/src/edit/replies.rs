//! Replies as models write them, and what must come out of each: the table is `tests/data/replies.txt`.

use super::*;

const TABLE: &str = include_str!("../../tests/data/replies.txt");

/// A line of the table that begins a part, without its sign, and the text below it.
fn parts() -> Vec<(&'static str, &'static str)> {
    let table = TABLE.split_once("\n§ ").expect("a first part").1;
    table.split("\n§ ").map(|part| part.split_once('\n').unwrap_or((part, ""))).collect()
}

/// The text below a line, with the end of its last line.
fn text(below: &str) -> String {
    if below.is_empty() { String::new() } else { below.trim_end_matches('\r').to_owned() + "\n" }
}

/// A file as it is; None for one that is to be made.
type File = (&'static str, Option<String>);

#[derive(Default)]
struct Case {
    what: String,
    forms: Vec<Form>,
    files: Vec<File>,
    reply: String,
    /// The files that change; None for those that are deleted.
    changes: Vec<(String, Option<String>)>,
    refused: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let mut sets: Vec<(&str, Vec<File>)> = Vec::new();
    let mut cases: Vec<Case> = Vec::new();
    for (head, below) in parts() {
        if head.starts_with('#') {
            continue;
        } else if let Some(name) = head.strip_prefix("files ") {
            sets.push((name, Vec::new()));
        } else if let Some((how, what)) = head.split_once(": ").filter(|(how, _)| how.contains(", ")) {
            let (forms, set) = how.split_once(", ").expect("forms and files");
            let form = |name: &str| match name {
                "whole" => Form::Whole,
                "diff" => Form::Diff { marker: 7 },
                _ => Form::Patch,
            };
            let files = sets.iter().find(|(name, _)| *name == set).expect(set).1.clone();
            let forms = forms.split(' ').map(form).collect();
            cases.push(Case { what: what.to_owned(), forms, files, reply: text(below), ..Case::default() });
        } else if let Some(case) = cases.last_mut() {
            match (head.strip_prefix("refused: "), head.strip_prefix("deleted ")) {
                (Some(reason), _) => case.refused = Some(reason),
                (_, Some(path)) => case.changes.push((path.to_owned(), None)),
                _ => case.changes.push((head.to_owned(), Some(text(below)))),
            }
        } else if let Some((_, files)) = sets.last_mut() {
            files.push((head, Some(text(below)).filter(|text| !text.is_empty())));
        }
    }
    cases
}

#[test]
fn replies_are_read_as_they_are_meant() {
    let cases = cases();
    assert!(cases.len() > 100, "{}", cases.len());
    for Case { what, forms, files, reply, changes, refused } in cases {
        let bases: Vec<Base<'_>> =
            files.iter().map(|(path, content)| Base { path, content: content.as_deref() }).collect();
        let several = files.iter().filter(|_| files.len() > 1).map(|(path, _)| (*path).to_owned());
        let language = crate::language::of(files[0].0);
        let fence = if language == "markdown" { "````" } else { "```" };
        let shape =
            ReplyShape { files: several.collect(), fence: fence.to_owned(), language: language.to_owned() };
        for form in forms {
            let case = format!("{what}, asked for {}:\n{reply}", form.name());
            match (read(&reply, &form, &shape, &bases), refused) {
                (Ok(got), None) => {
                    let got: Vec<_> = got.into_iter().map(|change| (change.path, change.content)).collect();
                    assert_eq!(got, changes, "{case}");
                }
                (Err(error), Some(reason)) => assert!(error.to_string().contains(reason), "{error}\n{case}"),
                (got, _) => panic!("{got:?}\n{case}"),
            }
        }
    }
}

/// How a piece of a reply says whose it is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Name {
    Above,
    Heading,
    Sentence,
    Listed,
    Mention,
    Inside,
    Nowhere,
}

/// An edit of a file in one of four forms, after words of one of seven kinds. It makes its last line `path = 9`.
fn piece(path: &str, kind: usize, name: Name, fenced: bool) -> String {
    let inside = if name == Name::Inside { format!(" {path}") } else { String::new() };
    let old = format!("{path} = 0");
    let body = match kind {
        0 => format!("<<<<<<< SEARCH{inside}\n{old}\n=======\n{path} = 9\n>>>>>>> REPLACE\n"),
        1 => format!("*** Begin Patch\n*** Update File: {path}\n@@\n-{old}\n+{path} = 9\n*** End Patch\n"),
        2 if name == Name::Inside => {
            format!("--- a/{path}\n+++ b/{path}\n@@ -6 +6 @@\n-{old}\n+{path} = 9\n")
        }
        2 => format!("@@ -6 +6 @@\n-{old}\n+{path} = 9\n"),
        _ => content(path).replace(&old, &format!("{path} = 9")),
    };
    let words = match name {
        Name::Above => format!("{path}\n"),
        Name::Heading => format!("### `{path}`\n\nIt needs this.\n\n"),
        Name::Sentence => format!("And in `{path}`:\n\n"),
        Name::Listed => format!("Files:\n\n`src/a.py`\n`b.py`\n\nHere is `{path}`:\n\n"),
        Name::Mention => format!("Then {path} needs this, too.\n\n"),
        Name::Inside | Name::Nowhere => "This is next.\n\n".to_owned(),
    };
    match (kind, fenced) {
        (3, _) => format!("{words}```python{inside}\n{body}```\n"),
        (_, true) => format!("{words}```\n{body}```\n"),
        (_, false) => words + &body,
    }
}

/// The old content of a file, a line of which every file has.
fn content(path: &str) -> String {
    format!("import os\n\n{path} = 1\n{path} = 2\n{path} = 3\n{path} = 0\n")
}

/// Whatever the forms are, a reply is refused, or all of it is done, and to no other file.
#[test]
fn no_edit_is_lost_or_done_elsewhere() {
    use Name::*;
    let names = [Above, Heading, Sentence, Listed, Mention, Inside, Nowhere];
    let ways = || (0..4).flat_map(|kind| names.map(|name| (kind, name)));
    let (a, b) = (content("src/a.py"), content("b.py"));
    let files = [Base { path: "src/a.py", content: Some(&a) }, Base { path: "b.py", content: Some(&b) }];
    let named = files.iter().map(|file| file.path.to_owned()).collect();
    let shape = ReplyShape { files: named, fence: "```".into(), language: "python".into() };
    let mut done = 0;
    for ((first, second), fenced) in ways()
        .flat_map(|first| ways().map(move |second| (first, second)))
        .flat_map(|ways| [(ways, false), (ways, true)])
    {
        for between in ["", "```bash\npython b.py\n```\n\n", "\nThat was src/a.py.\n\n"] {
            for (one, other) in [("src/a.py", "b.py"), ("b.py", "src/a.py")] {
                let pieces = piece(one, first.0, first.1, fenced) + between;
                let reply = pieces + &piece(other, second.0, second.1, fenced) + "\nThat is all.\n";
                for form in [Form::Whole, Form::Diff { marker: 7 }] {
                    let Ok(changes) = read(&reply, &form, &shape, &files) else { continue };
                    done += 1;
                    assert_eq!(changes.len(), 2, "{}:\n{reply}{changes:?}", form.name());
                    for Change { path, content: new, .. } in changes {
                        let wanted = content(&path).replace(&format!("{path} = 0"), &format!("{path} = 9"));
                        assert_eq!(new.as_deref(), Some(wanted.as_str()), "{}:\n{reply}", form.name());
                    }
                }
            }
        }
    }
    assert!(done > 1000, "{done}");
}
