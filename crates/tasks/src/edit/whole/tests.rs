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
    let shape = ReplyShape { files: vec![], fence: "````".into(), language: "markdown".into() };
    let raw = "# Title\n\n```sh\nls\n```\n";
    assert_eq!(parse(raw, &shape).unwrap().content, raw);
    assert_eq!(parse(&shape.wrap(raw), &shape).unwrap().content, raw);
}
