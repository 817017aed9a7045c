use super::*;

fn read(reply: &str) -> Result<Draft> {
    parse(reply, &ReplyShape { files: vec![], fence: "```".into(), language: "python".into() })
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
fn a_path_may_stand_with_the_fence() {
    let path = |reply: &str| read(reply).unwrap().path;
    assert_eq!(path("```python src/a.py\nx\n```").as_deref(), Some("src/a.py"));
    assert_eq!(path("```src/a.py\nx\n```").as_deref(), Some("src/a.py"));
    assert_eq!(path("```python:src/a.py\nx\n```").as_deref(), Some("src/a.py"));
    assert_eq!(path("```python title=\"a.py\"\nx\n```").as_deref(), Some("a.py"));
    assert_eq!(path("**src/a.py**\n```python\nx\n```").as_deref(), Some("src/a.py"));
    assert_eq!(path("### File: `a.py`:\n```python\nx\n```").as_deref(), Some("a.py"));
    assert_eq!(path("The new a.py:\n```python\nx\n```"), None);
    assert_eq!(path("e.g.\n```python\nx\n```"), None);
    assert_eq!(path("```python\nx\n```"), None);
}

#[test]
fn a_path_must_be_the_tasks() {
    let draft = read("```python ./src/a.py\nx\n```").unwrap();
    assert!(draft.is_for("src/a.py").is_ok());
    assert!(matches!(draft.is_for("src/b.py"), Err(Error::WrongFile { .. })));
    assert!(matches!(
        read("```python ../src/a.py\nx\n```").unwrap().is_for("src/a.py"),
        Err(Error::WrongFile { .. })
    ));
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
        assert_eq!(parse(reply, &shape).unwrap().content, raw);
    }
    for raw in [
        "# Title\n\n```markdown\n# An example\n```\n",
        "Run:\n```\nls\n```\n",
        "```\nlogo\n```\n\n# Title\n",
        "```\nlogo\n```\n\n# Title\n```sh\nls\n```\n",
        "```sh\nls\n```\n",
    ] {
        assert_eq!(parse(raw, &shape).unwrap().content, raw);
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
        assert_eq!(parse(&reply, &markdown()).unwrap().content, file, "{reply}");
    }
    let problem = |reply: &str| parse(reply, &markdown()).unwrap_err();
    let several = "```markdown\n# Title\n```\nThen:\n```sh\nls\n```\n";
    assert!(matches!(problem(several), Error::SeveralBlocks { count: 2 }));
    for cut in
        ["```markdown\n# Title\n", "Well:\n````markdown\n```sh\nls\n```\n", "```md\n# T\n```sh\nls\n```"]
    {
        assert!(matches!(problem(cut), Error::OpenBlock { .. }), "{cut}");
    }
    // The file may end before the words, or behind them.
    let either = "```markdown\n# Title\n```\nand\n```\nls\n```\n";
    assert!(matches!(problem(either), Error::BadEdit { line: 1, .. }));
}
