use super::*;

fn shape() -> ReplyShape {
    ReplyShape { files: vec![], fence: "```".into(), language: "python".into() }
}

const DIFF: Form = Form::Diff { marker: 7 };

/// The new content of `a.py`, which had this one.
fn edit(old: &str, reply: &str) -> Result<String> {
    let files = [Base { path: "src/a.py", content: Some(old) }];
    let changes = read(reply, &DIFF, &shape(), &files)?;
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(changes[0].path, "src/a.py");
    Ok(changes[0].content.clone().unwrap())
}

fn block(search: &str, replace: &str) -> String {
    format!("<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n")
}

fn patch(body: &str) -> String {
    format!("*** Begin Patch\n{body}*** End Patch")
}

/// Where no grammar looks at the file and no command runs, nothing else would refuse them.
#[test]
fn a_patch_or_a_refusal_does_not_become_the_file() {
    let shape = |language: &str| ReplyShape { files: vec![], fence: "```".into(), language: language.into() };
    let old = "int a;\nint c;\n";
    let whole = |reply: &str, path: &str, language: &str| {
        let base = Base { path, content: Some(old) };
        super::read(reply, &Form::Whole, &shape(language), &[base])
    };
    let patch = "```diff\n-int a;\n+int b;\n```";
    assert!(matches!(whole(patch, "a.c", "c"), Err(Error::BadEdit { line: 1, .. })));
    assert!(matches!(
        whole("Here:\n```patch\n-int a;\n```", "a.c", "c"),
        Err(Error::BadEdit { line: 2, .. })
    ));
    for unified in
        ["--- a/a.c\n+++ b/a.c\n@@ -1,2 +1,2 @@\n", "diff --git a/a.c b/a.c\n", "@@ -1,2 +1,2 @@\n"]
    {
        let raw = format!("{unified}-int a;\n+int b;\n int c;\n");
        let fenced = format!("```c\n{raw}```");
        for reply in [&raw, &fenced] {
            assert_eq!(whole(reply, "a.c", "c").unwrap()[0].content.as_deref(), Some("int b;\nint c;\n"));
        }
        assert_eq!(whole(&fenced, "a.patch", "").unwrap().len(), 1);
    }
    let sorry = "I am sorry, but I cannot help with that request.";
    assert!(matches!(whole(sorry, "a.c", "c"), Err(Error::NoEdit)));
    let markdown = |reply: &str| whole(reply, "a.md", "markdown");
    assert!(matches!(
        markdown("Here:\n\n```diff\n-int a;\n int c;\n```"),
        Err(Error::BadEdit { line: 3, .. })
    ));
    assert!(matches!(markdown("I cannot, but try:\n```sh\nls\n```\n"), Err(Error::NoEdit)));
    for (reply, path, language) in [
        (patch, "a.diff", ""),
        ("```c\nint b;\n```", "a.c", "c"),
        ("int b;\nint c;\n", "a.c", "c"),
        ("x = 1\n", "a.py", "python"),
    ] {
        assert_eq!(whole(reply, path, language).unwrap().len(), 1, "{reply}");
    }
    // A file of one line may change as a whole.
    let base = Base { path: "VERSION", content: Some("1.2.3\n") };
    let changes = super::read("1.2.4\n", &Form::Whole, &shape(""), &[base]).unwrap();
    assert_eq!(changes[0].content.as_deref(), Some("1.2.4\n"));
}

/// However long the reply is, to read it takes no more than the square of this.
#[test]
fn more_fences_than_a_reply_has_are_refused() {
    let file = [Base { path: "README.md", content: Some("# T\n") }];
    for fences in ["```\n", "```python\na\n```\n", "  ```\n"] {
        let reply = "x\n\n".to_owned() + &fences.repeat(super::MOST_FENCES + 1);
        assert!(matches!(edit_whole(&file, &reply), Err(Error::BadEdit { line: 1000.., .. })), "{fences}");
    }
}

#[test]
fn a_whole_file_that_is_as_it_was_is_no_change() {
    let made = |old: &str, reply: &str| edit_whole(&[Base { path: "a.py", content: Some(old) }], reply);
    for old in ["a\nb\n", "a\r\nb", "\u{feff}a\r\nb\n\n\n"] {
        assert!(matches!(made(old, "```python\na\nb\n```"), Err(Error::NothingChanged)), "{old:?}");
        assert_eq!(made(old, "```python\nb\nb\n```").unwrap().len(), 1, "{old:?}");
    }
    let files = [Base { path: "a.py", content: Some("a\n") }, Base { path: "b.py", content: None }];
    let both = "```python a.py\na\n```\n```python b.py\nb\n```";
    let changes = edit_whole(&files, both).unwrap();
    assert_eq!(changes.iter().map(|change| change.path.as_str()).collect::<Vec<_>>(), ["b.py"]);
}

fn edit_whole(files: &[Base<'_>], reply: &str) -> Result<Vec<Change>> {
    let several = files.iter().filter(|_| files.len() > 1);
    let named = several.map(|file| file.path.to_owned()).collect();
    read(reply, &Form::Whole, &ReplyShape { files: named, ..shape() }, files)
}

/// Covers S0-11.
#[test]
fn blocks_replace_the_lines_they_name() {
    let old = "import os\n\ndef f():\n    return 1\n\ndef g():\n    return 1\n";
    let two =
        block("import os\n", "import sys\n") + &block("def g():\n    return 1\n", "def g():\n    return 2\n");
    let new = "import sys\n\ndef f():\n    return 1\n\ndef g():\n    return 2\n";
    assert_eq!(edit(old, &two).unwrap(), new);
    assert_eq!(edit("a\nb\nc\n", &block("b\n", "")).unwrap(), "a\nc\n");
    assert_eq!(edit("a\n", &block("a\n", "")).unwrap(), "");
    assert_eq!(edit("a\n\nb\n", &block("\n", "x\n\ny\n")).unwrap(), "a\nx\n\ny\nb\n");
}

#[test]
fn what_stands_around_blocks_does_not_matter() {
    let old = "a\nb\n";
    let bare = "<<<<<<< SEARCH\na\n=======\nx\n>>>>>>> REPLACE";
    for reply in [
        bare.to_owned(),
        format!("\u{feff}Sure:\n\nsrc/a.py\n```python\n{bare}\n```\nDone."),
        format!("**src/a.py**\n{bare}\n"),
        format!("```python src/a.py\n{bare}\n```"),
        format!("### `./src/a.py`:\n\n{bare}"),
        format!("a.py\n{bare}"),
        format!("a/src/a.py\n{bare}"),
        bare.replace('\n', "\r\n"),
        bare.replace("SEARCH", "SEARCH  ").replace("=======", "======= ").replace("REPLACE", "REPLACE\t"),
        bare.replace("SEARCH", "SEARCH src/a.py"),
        bare.replace("<<<<<<<", "<<<<<").replace("=======", "=====").replace(">>>>>>>", ">>>>>"),
        bare.replace("<<<<<<<", "<<<<<<<<<"),
    ] {
        assert_eq!(edit(old, &reply).unwrap(), "x\nb\n", "{reply:?}");
    }
    // Asked for whole files, answered with blocks.
    let files = [Base { path: "src/a.py", content: Some(old) }];
    let changes = read(bare, &Form::Whole, &shape(), &files).unwrap();
    assert_eq!(changes[0].content.as_deref(), Some("x\nb\n"));
}

#[test]
fn what_a_model_thinks_is_no_part_of_its_reply() {
    let (first, second) = (block("a\n", "x\n"), block("b\n", "y\n"));
    let reply = format!("<think>\nPerhaps\n{first}</think>\n\n{second}");
    assert_eq!(edit("a\nb\n", &reply).unwrap(), "a\ny\n");
    assert!(matches!(edit("a\nb\n", &format!("<think>\n{first}")), Err(Error::EmptyReply)), "cut off");
    let file = [Base { path: "notes", content: None }];
    let changes = edit_whole(&file, "<think>\nHm.\n</think>\n\nnotes\n").unwrap();
    assert_eq!(changes[0].content.as_deref(), Some("notes\n"));
}

/// Covers S0-11.
#[test]
fn an_edit_that_fits_no_or_several_places_is_refused_with_the_lines_that_are_near() {
    let old = "def add(a, b):\n    return a + b\n\ndef sub(a, b):\n    return a - b\n\nx = 1\ny = 2\nx = 1\n";
    let error = edit(old, &block("def sub(a,b):\n    return a-b\n", "pass\n")).unwrap_err();
    let Error::NoMatch { line: 1, near, .. } = &error else { panic!("{error}") };
    assert!(near.contains("lines `4` to `5`:\ndef sub(a, b):\n    return a - b"), "{near}");
    let error = edit(old, &("Well.\n".to_owned() + &block("x = 1\n", "x = 3\n"))).unwrap_err();
    assert!(
        matches!(&error, Error::Ambiguous { line: 2, count: 2, places, .. } if places == "7, 9"),
        "{error}"
    );
    // A part of a line is no line, and blanks before it count.
    assert!(matches!(edit(old, &block("return a + b\n", "x\n")), Err(Error::NoMatch { .. })));
    assert!(matches!(edit(old, &block("y = \n", "x\n")), Err(Error::NoMatch { .. })));
    // Overlapping edits have no order.
    let both = block("y = 2\n", "y = 3\n") + &block("x = 1\ny = 2\n", "z\n");
    assert!(matches!(edit(old, &both), Err(Error::Overlap { first: 1, second: 6, .. })));
    let twice = block("y = 2\n", "y = 3\n").repeat(2);
    assert!(matches!(edit(old, &twice), Err(Error::Overlap { .. })));
}

#[test]
fn blanks_at_line_ends_are_ignored_only_if_that_is_unique() {
    assert_eq!(edit("a  \nb\n", &block("a\n", "x\n")).unwrap(), "x\nb\n");
    assert_eq!(edit("a  \na\n", &block("a\n", "x\n")).unwrap(), "a  \nx\n");
    assert!(matches!(edit("a  \na \n", &block("a\n", "x\n")), Err(Error::Ambiguous { .. })));
}

#[test]
fn broken_blocks_are_refused() {
    for reply in [
        "<<<<<<< SEARCH\na\n=======\nx\n",
        "<<<<<<< SEARCH\na\nx\n>>>>>>> REPLACE\n",
        "<<<<<<< SEARCH\na\n=======\nx\n=======\ny\n>>>>>>> REPLACE\n",
        "<<<<<<< SEARCH\na\n=======\nx\n<<<<<<< SEARCH\nb\n=======\ny\n>>>>>>> REPLACE\n",
        "<<<<<<< SEARCH\n=======\nx\n>>>>>>> REPLACE\n",
    ] {
        assert!(matches!(edit("a\nb\n", reply), Err(Error::BadEdit { .. })), "{reply}");
    }
    // A block that is nearly one is not passed over while others are applied.
    let second = "<<<<<<< SEARCH\nb\n=======\ny\n>>>>>>> REPLACE\n";
    for (from, to) in [
        ("<<<<<<< S", "<<<<<< S"),
        ("<<<<<<< S", "<<<<<<<< S"),
        ("SEARCH", "SEARCH (second change)"),
        ("SEARCH", "ORIGINAL"),
        ("<<<<<<< SEARCH\n", ""),
        ("<<<<<<<", "-------"),
        (second, "  <<<<<<< SEARCH\n  b\n  =======\n  y\n  >>>>>>> REPLACE\n"),
    ] {
        let malformed = second.replace(from, to);
        let both = block("a\n", "x\n") + &malformed;
        assert!(matches!(edit("a\nb\n", &both), Err(Error::BadEdit { line: 6.., .. })), "{malformed}");
        // Alone, one that is only shorter or longer counts.
        let alone = edit("a\nb\n", &malformed);
        match ["<<<<<< S", "<<<<<<<< S"].iter().any(|open| malformed.starts_with(open)) {
            true => assert_eq!(alone.unwrap(), "a\ny\n", "{malformed}"),
            false => assert!(matches!(alone, Err(Error::BadEdit { .. })), "{malformed}"),
        }
    }
    assert!(matches!(edit("a\n", "I cannot do that."), Err(Error::NoEdit)));
    assert!(matches!(edit("a\n", "Do this:\n```python\nb\n```"), Err(Error::NoEdit)), "a snippet is no file");
    assert!(matches!(edit("a\n", " \n"), Err(Error::EmptyReply)));
    assert!(matches!(edit("a\n", &block("a\n", "a\n")), Err(Error::NothingChanged)));
    let other = "src/b.py\n".to_owned() + &block("a\n", "x\n");
    assert!(matches!(edit("a\n", &other), Err(Error::WrongFile { .. })));
}

#[test]
fn a_file_in_a_fence_is_not_passed_over_beside_blocks() {
    let files = [Base { path: "a.py", content: Some("a\n") }, Base { path: "src/b.py", content: None }];
    let made = |words: &str| {
        let reply = format!("a.py\n```python\n{}```\n\n{words}\n```python\nb\n```\n", block("a\n", "x\n"));
        read(&reply, &DIFF, &shape(), &files)
    };
    for words in ["src/b.py", "And the new file `src/b.py`:\n"] {
        assert!(matches!(made(words), Err(Error::BadEdit { .. })), "{words}");
    }
    for words in ["It is used like this:", "Now a.py is:", "For b.py:\n```sh\nls b.py\n```\nNow a.py is:"] {
        assert_eq!(made(words).unwrap().len(), 1, "{words}");
    }
}

/// Covers S0-11.
#[test]
fn bytes_that_are_not_edited_stay() {
    for (old, new) in [
        ("a\r\nb\r\nc\r\n", "a\r\nx\r\ny\r\nc\r\n"),
        ("a\r\nb\nc\n", "a\r\nx\ny\nc\n"),
        ("a\nb\r\nc", "a\nx\r\ny\r\nc"),
        ("\u{feff}\ta\nb\n\tc", "\u{feff}\ta\nx\ny\n\tc"),
        ("b", "x\ny"),
        ("a\r\nb", "a\r\nx\r\ny"),
        ("b\n\n\n", "x\ny\n\n\n"),
        ("é\u{2028}\nb\n日本\u{1f600}\n", "é\u{2028}\nx\ny\n日本\u{1f600}\n"),
    ] {
        assert_eq!(edit(old, &block("b\n", "x\ny\n")).unwrap(), new, "{old:?}");
    }
    assert_eq!(edit("a\r\nb", &block("b\n", "")).unwrap(), "a");
    assert_eq!(edit("\u{feff}a\nb\n", &block("a\n", "x\n")).unwrap(), "\u{feff}x\nb\n");
    assert_eq!(edit("a\rb\r\r\nc\r\n", &block("a\rb\n", "x\n")).unwrap(), "x\r\nc\r\n");
}

#[test]
fn longer_delimiters_hold_what_looks_like_shorter_ones() {
    let old = "<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n";
    let marker = marker([old]);
    assert_eq!(marker, 8);
    let reply = "<<<<<<<< SEARCH\n=======\n========\n======\n>>>>>>> REPLACE x\n>>>>>>>> REPLACE";
    let files = [Base { path: "a.md", content: Some(old) }];
    let changes = read(reply, &Form::Diff { marker }, &shape(), &files).unwrap();
    let new = "<<<<<<< SEARCH\na\n======\n>>>>>>> REPLACE x\nb\n>>>>>>> REPLACE\n";
    assert_eq!(changes[0].content.as_deref(), Some(new));
}

#[test]
fn several_files_are_told_apart() {
    let files = [
        Base { path: "src/a.py", content: Some("a\nsame\n") },
        Base { path: "src/b.py", content: Some("b\nsame\n") },
        Base { path: "src/new.py", content: None },
    ];
    let made = |reply: &str| read(reply, &DIFF, &shape(), &files);
    let reply = format!(
        "src/b.py\n{}src/new.py\n{}src/a.py\n{}{}",
        block("same\n", "x\n"),
        block("", "n = 1\n"),
        block("same\n", "y\n"),
        block("a\n", "z\n")
    );
    let contents: Vec<_> =
        made(&reply).unwrap().into_iter().map(|change| (change.path, change.content.unwrap())).collect();
    let expected = [("src/a.py", "z\ny\n"), ("src/b.py", "b\nx\n"), ("src/new.py", "n = 1\n")];
    assert_eq!(contents, expected.map(|(path, content)| (path.to_owned(), content.to_owned())));
    assert_eq!(made(&block("b\n", "x\n")).unwrap()[0].path, "src/b.py");
    assert!(matches!(made(&block("same\n", "x\n")), Err(Error::BadEdit { .. })));
    assert!(matches!(made(&("src/new.py\n".to_owned() + &block("a\n", "x\n"))), Err(Error::NoMatch { .. })));
    // Whole files, each with its path.
    let whole = "src/a.py\n```python\nA\n```\nand\n```python src/new.py\nN\n```\n";
    let named = ReplyShape { files: files.iter().map(|file| file.path.to_owned()).collect(), ..shape() };
    let changes = read(whole, &Form::Whole, &named, &files).unwrap();
    assert_eq!(changes[0], Change { path: "src/a.py".into(), content: Some("A\n".into()), moved_from: None });
    assert_eq!(
        changes[1],
        Change { path: "src/new.py".into(), content: Some("N\n".into()), moved_from: None }
    );
}

#[test]
fn a_block_is_for_the_file_that_the_words_before_it_name() {
    let files = [
        Base { path: "src/a.py", content: Some("import os\na\nboth\n") },
        Base { path: "src/b.py", content: Some("import os\nb\nboth\n") },
        Base { path: "Makefile", content: Some("import os\n") },
    ];
    let first = "src/a.py\n".to_owned() + &block("a\n", "x\n");
    let second = |words: &str, search: &str| -> Result<String> {
        let reply = format!("{first}{words}\n{}", block(search, "import sys\n"));
        let changes = read(&reply, &DIFF, &shape(), &files)?;
        Ok(changes.into_iter().map(|change| change.path).collect::<Vec<_>>().join(" "))
    };
    for (words, expected) in [
        ("", "src/a.py"),
        ("```\n", "src/a.py"),
        ("And in `src/b.py`:", "src/a.py src/b.py"),
        ("2. **src/b.py**", "src/a.py src/b.py"),
        ("**Makefile**", "src/a.py Makefile"),
        ("Also in ./src/a.py:", "src/a.py"),
    ] {
        assert_eq!(second(words, "import os\n").unwrap(), expected, "{words}");
    }
    for words in [
        "And in the other file:",
        "In src/b.py as in src/a.py:",
        "That is all for src/a.py.\n\nThe same in src/a.py and b.py (the tests).\n\nIt is not used there:\n```python",
    ] {
        assert!(matches!(second(words, "import os\n"), Err(Error::BadEdit { .. })), "{words}");
        assert_eq!(second(words, "b\n").unwrap(), "src/a.py src/b.py");
        assert!(matches!(second(words, "c\n"), Err(Error::NoMatch { path, .. }) if path == "src/a.py"));
    }
}

#[test]
fn a_patch_does_the_same() {
    let old = "import os\n\ndef f():\n    return 1\n\ndef g():\n    return 1\n";
    let new = "import os\n\ndef f():\n    return 1\n\ndef g():\n    return 2\n";
    for body in [
        "*** Update File: src/a.py\n@@ def g():\n-    return 1\n+    return 2\n",
        "*** Update File: ./src/a.py \n@@\n \n def g():\n-    return 1\n+    return 2\n",
        "*** Update File: a.py\n\n def g():\n-    return 1\n+    return 2\n*** End of File\n",
        "*** Update File: src/a.py\n@@\n-    return 1\n+    return 2\n*** End of File\n",
        "*** Update File: src/a.py\n@@ -6,2 +6,2 @@ def g():\n-    return 1\n+    return 2\n\\ No newline at end of file\n",
    ] {
        assert_eq!(edit(old, &patch(body)).unwrap(), new, "{body}");
        let fenced = format!("Here:\n```\n{}\n```\n", patch(body)).replace('\n', "\r\n");
        assert_eq!(edit(old, &fenced).unwrap(), new, "{body}");
    }
    let insert = patch("*** Update File: src/a.py\n@@ def f():\n+    x = 1\n@@ import os\n+import sys\n");
    let made = edit(old, &insert).unwrap();
    assert!(made.starts_with("import os\nimport sys\n\ndef f():\n    x = 1\n    return 1\n"), "{made}");
}

#[test]
fn a_patch_keeps_context_and_line_ends() {
    let body = "*** Update File: src/a.py\n@@\n a\n-b\n+x\n+y\n c\n";
    assert_eq!(edit("a  \r\nb\r\nc\t", &patch(body)).unwrap(), "a  \r\nx\r\ny\r\nc\t");
    let end = "*** Update File: src/a.py\n@@\n+x\n*** End of File\n";
    assert_eq!(edit("a\nb", &patch(end)).unwrap(), "a\nb\nx");
}

#[test]
fn a_patch_adds_deletes_and_moves() {
    let files = [
        Base { path: "a.py", content: Some("a\n") },
        Base { path: "b.py", content: Some("b\n") },
        Base { path: "c.py", content: None },
        Base { path: "d.py", content: None },
    ];
    let made = |body: &str| read(&patch(body), &Form::Patch, &shape(), &files);
    let body = "*** Delete File: a.py\n*** Update File: b.py\n*** Move to: d.py\n@@\n-b\n+B\n*** Add File: c.py\n+c\n+\n+e\n\n";
    let expected = [("a.py", None), ("b.py", None), ("c.py", Some("c\n\ne\n")), ("d.py", Some("B\n"))];
    let changes: Vec<_> =
        made(body).unwrap().into_iter().map(|change| (change.path, change.content)).collect();
    assert_eq!(changes, expected.map(|(path, content)| (path.to_owned(), content.map(str::to_owned))));
    for body in [
        "*** Add File: a.py\n+x\n",
        "*** Add File: c.py\nx\n",
        "*** Add File: c.py\n",
        "*** Delete File: c.py\n",
        "*** Update File: c.py\n@@\n-x\n+y\n",
        "*** Update File: a.py\n*** Move to: b.py\n@@\n-a\n+x\n",
        "*** Update File: a.py\n@@\n-a\n+x\n*** Delete File: a.py\n",
        "*** Update File: a.py\n@@\n+x\n",
        "*** Update File: a.py\n@@\nx\n",
        "x\n",
    ] {
        assert!(matches!(made(body), Err(Error::BadEdit { .. })), "{body}");
    }
    assert!(matches!(made("*** Update File: a.py\n@@\n-x\n+y\n"), Err(Error::NoMatch { .. })));
    assert!(matches!(made("*** Update File: e.py\n@@\n-x\n+y\n"), Err(Error::WrongFile { .. })));
    assert!(matches!(made("*** Update File: a.py\n@@\n a\n"), Err(Error::NothingChanged)));
    let cut = "*** Begin Patch\n*** Update File: a.py\n@@\n-a\n+x\n";
    assert!(matches!(read(cut, &Form::Patch, &shape(), &files), Err(Error::BadEdit { .. })));
}

#[test]
fn every_envelope_of_a_reply_counts() {
    let files = [
        Base { path: "a.py", content: Some("a\n") },
        Base { path: "b.py", content: Some("b\n") },
        Base { path: "c.py", content: Some("") },
    ];
    let made = |reply: &str| read(reply, &Form::Patch, &shape(), &files);
    let (a, b) = ("*** Update File: a.py\n@@\n-a\n+A\n", "*** Update File: b.py\n@@\n-b\n+B\n");
    // An empty file has nothing that could be updated.
    let all =
        format!("First:\n{}\n```\nThen:\n{}\n{}", patch(a), patch(b), patch("*** Add File: c.py\n+C\n"));
    let contents: Vec<_> = made(&all).unwrap().into_iter().filter_map(|change| change.content).collect();
    assert_eq!(contents, ["A\n", "B\n", "C\n"]);
    for reply in [
        format!("{}\n{b}", patch(a)),
        format!("{b}{}", patch(a)),
        format!("{}\n  *** Begin Patch\n{b}*** End Patch", patch(a)),
        format!("{}\n*** Begin Patch\n@@\n-b\n+B\n*** End Patch", patch(a)),
        format!("{}\n*** Begin Patch\n{b}", patch(a)),
    ] {
        assert!(matches!(made(&reply), Err(Error::BadEdit { .. })), "{reply}");
    }
}

#[test]
fn a_patch_with_several_places_is_refused() {
    let old = "def f():\n    return 1\ndef g():\n    return 1\n    return 1\n";
    let body = |header: &str| {
        patch(&format!("*** Update File: src/a.py\n@@{header}\n-    return 1\n+    return 2\n"))
    };
    assert!(matches!(edit(old, &body("")), Err(Error::Ambiguous { count: 3, .. })));
    assert!(matches!(edit(old, &body(" def g():")), Err(Error::Ambiguous { count: 2, .. })));
    assert!(matches!(edit(old, &body(" def h():")), Err(Error::Ambiguous { count: 3, .. })));
}

#[test]
fn a_hunk_stands_below_its_header() {
    let old =
        "class A:\n    def run(self):\n        return 1\nclass B:\n    def run(self):\n        return 2\n";
    let made =
        |head: &str, lines: &str| edit(old, &patch(&format!("*** Update File: src/a.py\n{head}\n{lines}")));
    let (one, two) = ("-        return 1\n+        return 3\n", "-        return 2\n+        return 3\n");
    for head in ["@@ class B:", "@@ class B", "@@ class B:\n@@     def run(self):"] {
        assert!(matches!(made(head, one), Err(Error::BadEdit { line: 3, .. })), "{head}");
        assert_eq!(made(head, two).unwrap(), old.replace("return 2", "return 3"), "{head}");
    }
    // The second of two headers is the next line of this kind below the first.
    let both = "     def run(self):\n+        pass\n";
    assert!(matches!(made("@@", both), Err(Error::Ambiguous { count: 2, .. })));
    for (head, lines) in [("@@ class B:", both), ("@@ class B:\n@@ def run(self):", "+        pass\n")] {
        let new = old.replace("        return 2", "        pass\n        return 2");
        assert_eq!(made(head, lines).unwrap(), new, "{head}");
    }
    let in_a = old.replace("        return 1", "        pass\n        return 1");
    assert_eq!(made("@@ class A:\n@@ def run(self):", "+        pass\n").unwrap(), in_a);
    // The header may be a line of the hunk.
    let context = "         return 1\n-class B:\n+class C:\n";
    assert_eq!(made("@@ class B:", context).unwrap(), old.replace("class B", "class C"));
}
