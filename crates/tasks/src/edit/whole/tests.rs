use super::*;

fn read(reply: &str) -> Result<Draft> {
    parse(reply, &ReplyShape { files: vec![], fence: "```".into(), language: "python".into() }, "src/a.py")
}

fn content(reply: &str) -> String {
    read(reply).unwrap().content
}

#[test]
fn every_form_of_a_whole_file() {
    assert_eq!(content("```python\nx = 1\n```"), "x = 1\n");
    assert_eq!(content("x = 1\ny = 2"), "x = 1\ny = 2\n");
    assert_eq!(content("x = 1\r\n\n"), "x = 1\n");
    assert_eq!(content("Here it is:\n\n```\nx = 1\n```\nDone.\n"), "x = 1\n");
    assert_eq!(content("````python\na = '''\n```\n'''\n````\n"), "a = '''\n```\n'''\n");
    assert_eq!(content("```python\n    ```\n```"), "    ```\n");
}

#[test]
fn a_path_may_stand_with_the_fence_and_must_be_the_files() {
    for reply in [
        "```python PATH\nx\n```",
        "```PATH\nx\n```",
        "```python:PATH\nx\n```",
        "```python title=\"PATH\"\nx\n```",
        "**PATH**\n```python\nx\n```",
        "### File: `PATH`:\n```python\nx\n```",
    ] {
        for path in ["src/a.py", "./src/a.py", "a.py"] {
            assert_eq!(content(&reply.replace("PATH", path)), "x\n", "{reply}");
        }
        for path in ["src/b.py", "../src/a.py"] {
            let read = read(&reply.replace("PATH", path));
            assert!(matches!(&read, Err(Error::WrongFile { got, .. }) if got == path), "{reply} {read:?}");
        }
    }
    for reply in ["The new b.py:\n```python\nx\n```", "e.g.\n```python\nx\n```"] {
        assert_eq!(content(reply), "x\n");
    }
}

fn read_several(reply: &str) -> Result<Vec<Draft>> {
    parse_files(reply, &["src/a.py".to_owned(), "b.rs".to_owned()])
}

/// Covers S1-08, S1-17, S1-39.
#[test]
fn every_block_is_a_file() {
    let reply = "Both:\n```python src/a.py\nx = 1\n```\n\n**./b.rs**\n```rust\nlet x;\n```\n";
    let draft = |path: &str, content: &str| Draft { path: path.into(), content: content.into() };
    assert_eq!(read_several(reply).unwrap(), [draft("src/a.py", "x = 1\n"), draft("b.rs", "let x;\n")]);
    assert_eq!(read_several("```rust b.rs\n```").unwrap(), [draft("b.rs", "")]);
}

#[test]
fn a_patch_is_no_file() {
    let reply = "```diff b.rs\n-let x;\n+let y;\n```\n";
    assert!(matches!(read_several(reply), Err(Error::BadEdit { line: 1, .. })));
    let patches = ["x/a.patch".to_owned()];
    assert_eq!(parse_files("```diff x/a.patch\n-x\n+y\n```\n", &patches).unwrap()[0].content, "-x\n+y\n");
}

#[test]
fn every_block_says_which_file_and_none_says_it_twice() {
    assert!(matches!(read_several("x\n```python\nx\n```\n"), Err(Error::NoPath { line: 2 })));
    let twice = "```rust b.rs\nx\n```\n```rust b.rs\ny\n```\n";
    assert!(matches!(read_several(twice), Err(Error::SameFile { path }) if path == "b.rs"));
    for other in ["c.rs", "/etc/b.rs", "../b.rs", ".git/b.rs"] {
        let reply = format!("```rust {other}\nx\n```\n");
        assert!(matches!(read_several(&reply), Err(Error::WrongFile { got, .. }) if got == other), "{other}");
    }
    assert!(matches!(read_several("x = 1\n"), Err(Error::EmptyReply)));
    let edit = "```rust b.rs\nx\n```\nsrc/a.py\n<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n";
    assert!(matches!(read_several(edit), Err(Error::BadEdit { line: 5, .. })));
    assert!(matches!(read_several("```rust b.rs\nx\n"), Err(Error::OpenBlock { line: 1 })));
}

#[test]
fn what_is_no_file_is_refused() {
    assert!(matches!(read(""), Err(Error::EmptyReply)));
    assert!(matches!(read(" \n\t\r\n"), Err(Error::EmptyReply)));
    assert!(matches!(read("```python\n\n```"), Err(Error::EmptyReply)));
    assert!(matches!(read("```\na\n```\n```\nb\n```"), Err(Error::SeveralBlocks { count: 2 })));
    assert!(matches!(read("Well:\n```python\nx = 1\n"), Err(Error::OpenBlock { line: 2 })));
}

#[test]
fn a_markdown_file_keeps_its_own_blocks() {
    let raw = "# Title\n\n```sh\nls\n```\n";
    let shape = markdown();
    for reply in [raw, &shape.wrap(raw)] {
        assert_eq!(parse(reply, &shape, "README.md").unwrap().content, raw);
    }
    for raw in [
        "# Title\n\n```markdown\n# An example\n```\n",
        "Run:\n```\nls\n```\n",
        "```\nlogo\n```\n\n# Title\n",
        "```\nlogo\n```\n\n# Title\n```sh\nls\n```\n",
        "```sh\nls\n```\n",
    ] {
        assert_eq!(parse(raw, &shape, "README.md").unwrap().content, raw);
    }
}

fn markdown() -> ReplyShape {
    ReplyShape { files: vec![], fence: "````".into(), language: "markdown".into() }
}

#[test]
fn what_is_around_a_markdown_file_is_not_in_it() {
    let file = "# Title\n\n```sh\nls\n```\n\n~~~\nx\n~~~\n";
    for reply in [
        format!("Here is the README:\n\n````markdown\n{file}````"),
        format!("# The new file\n\n````markdown README.md\r\n{file}````\nTry it:\n```sh\nls\n```\n"),
        format!("```markdown\n{file}```"),
        format!("```md\n{file}```\n\nThat is all.\n"),
        format!("Sure.\n\nThe README:\n\n```markdown\n{file}```\n"),
        format!("### README.md\n\n```Markdown\n{file}```\n"),
        format!("```\n{file}```\n"),
        format!("Here:\n`````\n{file}`````\n"),
    ] {
        assert_eq!(parse(&reply, &markdown(), "README.md").unwrap().content, file, "{reply}");
    }
    let problem = |reply: &str| parse(reply, &markdown(), "README.md").unwrap_err();
    let behind = "```markdown\n# Title\n```\nThen:\n```sh\nls\n```\n";
    assert_eq!(parse(behind, &markdown(), "README.md").unwrap().content, "# Title\n");
    for cut in
        ["```markdown\n# Title\n", "Well:\n````markdown\n```sh\nls\n```\n", "```md\n# T\n```sh\nls\n```"]
    {
        assert!(matches!(problem(cut), Error::OpenBlock { .. }), "{cut}");
    }
    // The file may end before the words, or behind them.
    let either = "```markdown\n# Title\n```\nand\n```\nls\n```\n";
    assert!(matches!(problem(either), Error::BadEdit { line: 1, .. }));
}
