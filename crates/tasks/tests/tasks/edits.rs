//! Replies that change a part of a file.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;

use crate::scripted::{Folder, Scripted, only, settings, task};
use coder_tasks::edit::{self, Base, Form};
use coder_tasks::{EditFormat, Outcome, ReplyShape, Settings};
use proptest::prelude::*;

fn writer(replies: &[&str]) -> Scripted {
    let replies: VecDeque<_> = replies.iter().map(|reply| Ok((*reply).to_owned())).collect();
    Scripted { replies, ..Scripted::default() }
}

/// 200 lines, of which the 100th is to become "x = 2".
fn large() -> String {
    (0..200).map(|i| if i == 99 { "x = 1\r\n".to_owned() } else { format!("y{i} = 0\r\n") }).collect()
}

const GOOD: &str = "grep -q 'x = 2' a.py";

/// Covers S0-11, S1-18.
#[test]
fn a_large_file_is_edited_and_what_did_not_fit_goes_back_with_the_nearest_lines() {
    let folder = Folder::new(&[("a.py", &large())]);
    let mut writer = writer(&[
        "<<<<<<< SEARCH\nx=1\n=======\nx = 2\n>>>>>>> REPLACE",
        "<<<<<<< SEARCH\nx = 1\n=======\nx = 2\n>>>>>>> REPLACE",
    ]);
    let result = folder.run(&task("a.py", Some(GOOD)), Some(&mut writer));
    assert_eq!((result.outcome, result.attempts), (Outcome::Complete, 2), "{}", result.error);
    assert_eq!(folder.read("a.py"), large().replace("x = 1", "x = 2"));
    let (first, _) = &writer.asked[0];
    assert_eq!(first.form, Form::Diff { marker: 7 });
    assert_eq!(first.files[0].content, large());
    let text = &first.messages[0].content;
    let example = "<<<<<<< SEARCH\nlines of the file, copied exactly\n=======\n\
                   the lines that take their place\n>>>>>>> REPLACE";
    assert!(text.contains("ONLY search/replace blocks for a.py.") && text.ends_with(example), "{text}");
    let (second, _) = &writer.asked[1];
    let retry = &second.messages[2].content;
    assert!(retry.contains("the nearest are lines `100` to `100`:\nx = 1"), "{retry}");
    assert!(retry.ends_with("Write all edits again, corrected, in the same format."), "{retry}");
}

/// Covers S0-11.
#[test]
fn the_form_can_be_chosen() {
    for (edit_format, reply, says) in [
        (EditFormat::Diff, "<<<<<<< SEARCH\nx = 1\n=======\nx = 2\n>>>>>>> REPLACE", "search/replace blocks"),
        (
            EditFormat::Patch,
            "*** Begin Patch\n*** Update File: a.py\n@@\n-x = 1\n+x = 2\n*** End Patch",
            "ONLY a patch in the envelope",
        ),
        (EditFormat::Whole, "```python\nx = 2\n```", "ONLY the content of the file"),
    ] {
        let folder = Folder::new(&[("a.py", "x = 1\n")]);
        let settings = Settings { edit_format, ..settings() };
        let mut writer = writer(&[reply]);
        let cancel = AtomicBool::new(false);
        let result = folder.run_with(&task("a.py", Some(GOOD)), Some(&mut writer), &settings, &cancel);
        assert_eq!(result.outcome, Outcome::Complete, "{}", result.error);
        assert_eq!(folder.read("a.py"), "x = 2\n");
        let text = &writer.asked[0].0.messages[0].content;
        assert!(text.contains(says), "{text}");
    }
}

/// Covers S0-11.
#[test]
fn whole_files_take_the_place_of_edits_that_cannot_be_held_to_unless_edits_are_wanted() {
    let edit = "<<<<<<< SEARCH\nx = 1\n=======\nx = 2\n>>>>>>> REPLACE";
    let whole = format!("```python\n{}```", large().replace("x = 1", "x = 2").replace('\r', ""));
    for (edit_format, form, reply) in
        [(EditFormat::Auto, Form::Whole, whole.as_str()), (EditFormat::Diff, Form::Diff { marker: 7 }, edit)]
    {
        let folder = Folder::new(&[("a.py", &large())]);
        let mut writer = Scripted { unfit: Some("too few tokens".into()), ..writer(&[reply]) };
        let mut notes = Vec::new();
        let result = coder_tasks::run_task(
            &task("a.py", Some(GOOD)),
            &folder.workspace(),
            &mut only(&mut writer),
            &Settings { edit_format, ..settings() },
            &mut |step| {
                if let coder_tasks::Progress::WholeFiles(reason) = step {
                    notes.push((*reason).to_owned());
                }
            },
            &AtomicBool::new(false),
        );
        assert_eq!(result.outcome, Outcome::Complete, "{}", result.error);
        assert_eq!(writer.asked[0].0.form, form);
        assert_eq!(notes.len(), usize::from(form == Form::Whole));
        assert_eq!(folder.read("a.py"), large().replace("x = 1", "x = 2"));
    }
}

/// Covers S0-11, S1-55.
#[test]
fn an_edit_may_take_away_most_of_a_file_because_it_says_so() {
    let lines = large().lines().map(|line| format!("{line}\n")).collect::<String>();
    let folder = Folder::new(&[("a.py", &large())]);
    let mut edit = writer(&[&format!("<<<<<<< SEARCH\n{lines}=======\nx = 2\n>>>>>>> REPLACE")]);
    let result = folder.run(&task("a.py", Some(GOOD)), Some(&mut edit));
    assert_eq!(result.outcome, Outcome::Complete, "{}", result.error);
    assert_eq!(folder.read("a.py"), "x = 2\r\n");
    let folder = Folder::new(&[("a.py", &large())]);
    let settings = Settings { edit_format: EditFormat::Whole, ..settings() };
    let mut whole = writer(&["```python\nx = 2\n```"; 2]);
    let result =
        folder.run_with(&task("a.py", Some(GOOD)), Some(&mut whole), &settings, &AtomicBool::new(false));
    assert_eq!(result.outcome, Outcome::Blocked);
    assert!(result.error.contains("has `1` lines where the file had `200`"), "{}", result.error);
}

/// Text that is likely to be an edit, or nearly one.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "<<<<<<< SEARCH\n",
        "=======\n",
        ">>>>>>> REPLACE\n",
        "<<<<< SEARCH\n",
        "a\n",
        "b\n",
        "b \n",
        "\n",
        "x\r\n",
        "a.py\n",
        "c.py\n",
        "```\n",
        "```python a.py\n",
        "*** Begin Patch\n",
        "*** End Patch\n",
        "*** Update File: a.py\n",
        "*** Add File: b.py\n",
        "*** Delete File: a.py\n",
        "*** Move to: b.py\n",
        "@@\n",
        "@@ a\n",
        " a\n",
        "-b\n",
        "+x\n",
        "+é\n",
        "*** End of File\n",
        "--- a/a.py\n",
        "+++ b/a.py\n",
        "+++ /dev/null\n",
        "@@ -1,2 +1,2 @@\n",
        "diff --git a/a.py b/b.py\n",
        "rename from a.py\n",
        "In `b.py`:\n",
        "   ```\n",
        "</think>\n",
        "Sure.\n",
        ">>>>>>> \n",
        "=====\n",
        "-",
        "é",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(3), ..ProptestConfig::default() })]

    /// Covers S0-11.
    #[test]
    fn any_text_is_changes_of_these_files_or_an_error(
        pieces in prop::collection::vec(piece(), 0..16), form in 0..3usize, several in any::<bool>(),
    ) {
        let form = [Form::Whole, Form::Diff { marker: 7 }, Form::Patch][form];
        let files = [
            Base { path: "a.py", content: Some("a\nb\na\nc\r\n") },
            Base { path: "b.py", content: None },
        ];
        let files = if several { &files[..] } else { &files[..1] };
        let named = if several { vec!["a.py".to_owned(), "b.py".to_owned()] } else { vec![] };
        let shape = ReplyShape { files: named, fence: "```".into(), language: "python".into() };
        if let Ok(changes) = edit::read(&pieces.concat(), &form, &shape, files) {
            prop_assert!(!changes.is_empty());
            for change in &changes {
                let file = files.iter().find(|file| file.path == change.path);
                prop_assert!(file.is_some_and(|file| file.content != change.content.as_deref()));
                prop_assert!(changes.iter().filter(|other| other.path == change.path).count() == 1);
            }
        }
    }
}
