//! Rungs: what one could not do goes to the next, reviews, and what is told on the way.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicBool;

use coder_tasks::policy::{Ladders, Policy};
use coder_tasks::run::{ReviewRule, Showing};
use coder_tasks::{
    DraftOptions, FailureClass, Outcome, Progress, Prompt, Question, Reply, Settings, TaskResult, Templates,
    Usage, Writer, WriterError, run_task,
};

use crate::scripted::{Folder, settings, task};

const GOOD: &str = "grep -q good a.py";

type Said = Result<String, WriterError>;

/// What each rung says, in turn, and what it was asked.
#[derive(Default)]
struct Rungs {
    says: RefCell<BTreeMap<&'static str, VecDeque<Said>>>,
    asked: RefCell<Vec<(String, Prompt, DraftOptions)>>,
    questions: RefCell<Vec<(String, Question)>>,
}

struct Rung<'a> {
    name: String,
    all: &'a Rungs,
}

impl Rungs {
    fn new<const N: usize>(says: [(&'static str, Vec<Said>); N]) -> Rungs {
        let says = says.into_iter().map(|(rung, said)| (rung, said.into())).collect();
        Rungs { says: RefCell::new(says), ..Rungs::default() }
    }

    fn run(&self, folder: &Folder, settings: &Settings, told: &mut Vec<String>) -> TaskResult {
        let mut writers = |rung: &str| {
            let known = self.says.borrow().contains_key(rung);
            let rung = Rung { name: rung.to_owned(), all: self };
            known.then(|| Box::new(rung) as Box<dyn Writer + '_>)
        };
        let mut tell = |progress: &Progress<'_>| match progress {
            Progress::Escalated { from, to, class, gate } => {
                told.push(format!("{from} to {to}: {} at {gate}", class.as_str()));
            }
            Progress::Reviewed(review) => told.push(format!("{}: {:?}", review.rung, review.approved)),
            _ => {}
        };
        let task = task("a.py", Some(GOOD));
        let cancel = AtomicBool::new(false);
        run_task(&task, &folder.workspace(), &mut writers, settings, &mut tell, &cancel)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.borrow().iter().map(|(rung, ..)| rung.clone()).collect()
    }
}

impl Rung<'_> {
    fn say(&self, usage: u64, cost_usd: f64) -> Result<Reply, WriterError> {
        let said = self.all.says.borrow_mut().get_mut(self.name.as_str()).unwrap().pop_front();
        let text = said.unwrap_or_else(|| panic!("`{}` was asked once more than expected", self.name))?;
        let usage = Usage { prompt_tokens: usage, cached_tokens: 0, completion_tokens: 5 };
        Ok(Reply { text, usage, seconds: 0.5, cost_usd, model: format!("model of {}", self.name) })
    }
}

impl Writer for Rung<'_> {
    fn draft(&mut self, prompt: &Prompt, options: DraftOptions) -> Result<Reply, WriterError> {
        self.all.asked.borrow_mut().push((self.name.clone(), prompt.clone(), options));
        self.say(10, if self.name == "local" { 0.0 } else { 0.01 })
    }

    fn answer(&mut self, question: &Question) -> Result<Reply, WriterError> {
        self.all.questions.borrow_mut().push((self.name.clone(), question.clone()));
        self.say(20, 0.001)
    }
}

fn file(content: &str) -> Said {
    Ok(format!("```python\n{content}\n```"))
}

fn gone(message: &str) -> Said {
    Err(WriterError::new(FailureClass::Availability, message))
}

fn verdict(approved: bool, findings: &[(&str, bool)]) -> Said {
    let findings: Vec<_> = findings
        .iter()
        .map(|(problem, must)| serde_json::json!({"file": "a.py", "line": 2, "problem": problem, "must": must}))
        .collect();
    Ok(serde_json::json!({ "approved": approved, "findings": findings }).to_string())
}

fn ladders() -> Ladders {
    let names = |rungs: &[&str]| rungs.iter().map(|rung| (*rung).to_owned()).collect::<Vec<_>>();
    Ladders {
        first: "local".into(),
        order: names(&["local", "haiku", "sonnet", "opus"]),
        availability: names(&["local", "haiku", "sonnet"]),
        quality: names(&["local", "sonnet", "opus"]),
    }
}

fn climbing() -> Settings {
    let cloud = Showing { templates: Templates::by_category(), ..Showing::default() };
    let showings = ["haiku", "sonnet", "opus"].map(|rung| (rung.to_owned(), cloud.clone()));
    let policy = Policy { ladders: ladders(), ..Policy::default() };
    Settings { policy, showings: showings.into(), ..settings() }
}

fn reviewing() -> Settings {
    let review = Some(ReviewRule { rung: "haiku".into(), of: Some(vec!["local".into()]) });
    Settings { review, ..climbing() }
}

/// Covers S0-23, S0-31, S2-38: after two failures the next rung gets the task, with all that is known.
#[test]
fn what_the_local_model_cannot_do_goes_to_the_next_rung() {
    let folder = Folder::new(&[("a.py", "old\n")]);
    let rungs = Rungs::new([
        ("local", vec![file("bad"), file("worse")]),
        ("sonnet", vec![file("good")]),
        ("opus", vec![]),
    ]);
    let mut told = Vec::new();
    let result = rungs.run(&folder, &climbing(), &mut told);
    assert_eq!((result.outcome, result.attempts), (Outcome::Complete, 3), "{result:#?}");
    assert_eq!(result.tier.as_deref(), Some("sonnet"));
    assert_eq!((result.cost_usd, result.usage.prompt_tokens), (0.01, 30));
    assert_eq!(folder.read("a.py"), "good\n");
    assert_eq!(told, ["local to sonnet: quality at test"]);
    assert_eq!(rungs.asked(), ["local", "local", "sonnet"]);
    let asked = rungs.asked.borrow();
    let (_, prompt, options) = &asked[2];
    // Its own first attempt, after the local model's last work and what was wrong with it.
    assert_eq!(options.attempt, 1);
    let said: Vec<&str> = prompt.messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(said.len(), 3);
    assert!(said[0].contains("Set x.") && said[1].contains("worse") && said[2].contains(GOOD), "{said:#?}");
    assert_ne!(prompt.template, asked[0].1.template);
    // Work that only a cloud model did is not called unreviewed.
    assert_eq!(result.review, None);
}

/// Covers S0-32, S0-33: in the end a person is needed, and the history says what every rung came to.
#[test]
fn when_all_models_failed_a_person_is_needed() {
    let folder = Folder::new(&[("a.py", "old\n")]);
    let rungs = Rungs::new([
        ("local", vec![file("bad"), file("worse")]),
        ("sonnet", vec![gone("no route to host")]),
        ("opus", vec![file("bad 3"), file("bad 4")]),
    ]);
    let mut told = Vec::new();
    let result = rungs.run(&folder, &climbing(), &mut told);
    assert_eq!((result.outcome, result.error.as_str()), (Outcome::Blocked, "All models failed"));
    assert_eq!(folder.read("a.py"), "old\n");
    assert_eq!(told, ["local to sonnet: quality at test", "sonnet to opus: availability at parse"]);
    let tiers: Vec<_> = result.history.iter().filter_map(|record| record.rung()).collect();
    assert_eq!(tiers, ["local", "local", "sonnet", "opus", "opus"]);
}

/// Covers S1-58, S2-07: a model that is not there is passed over, which says nothing about the task.
#[test]
fn a_model_that_is_not_there_is_passed_over() {
    let folder = Folder::new(&[]);
    let rungs = Rungs::new([("local", vec![gone("no device")]), ("haiku", vec![file("good")])]);
    let mut told = Vec::new();
    let result = rungs.run(&folder, &climbing(), &mut told);
    assert_eq!((result.outcome, result.tier.as_deref()), (Outcome::Complete, Some("haiku")));
    assert_eq!(told, ["local to haiku: availability at parse"]);
}

/// A draft that costs money is not asked for again only because it was had before.
#[test]
fn the_same_paid_draft_is_not_asked_for_again_and_again() {
    let folder = Folder::new(&[]);
    let rungs = Rungs::new([
        ("local", vec![gone("no device")]),
        ("haiku", vec![file("bad"), file("bad")]),
        ("sonnet", vec![file("good")]),
    ]);
    let result = rungs.run(&folder, &climbing(), &mut Vec::new());
    assert_eq!((result.outcome, rungs.asked().len()), (Outcome::Complete, 4));
}

/// Covers S0-25, S2-31, S2-36: another model looks at what the local one made.
#[test]
fn work_is_reviewed_elsewhere() {
    let folder = Folder::new(&[("a.py", "old\n")]);
    let rungs = Rungs::new([
        ("local", vec![file("good")]),
        ("haiku", vec![verdict(true, &[("a shorter name would do", false)])]),
    ]);
    let mut told = Vec::new();
    let result = rungs.run(&folder, &reviewing(), &mut told);
    assert_eq!((result.outcome, result.attempts, result.review), (Outcome::Complete, 1, Some("approved")));
    assert_eq!((result.cost_usd, told.as_slice()), (0.001, &["haiku: Some(true)".to_owned()][..]));
    let review = result.history[0].review.as_ref().unwrap();
    assert_eq!((review.model.as_str(), review.findings.len()), ("model of haiku", 1));
    let (rung, question) = &rungs.questions.borrow()[0];
    let shown = &question.messages[0].content;
    assert_eq!((rung.as_str(), question.files.as_slice()), ("haiku", &["a.py".to_owned()][..]));
    for part in ["Set x.", "-old\n+good", "(new content)", GOOD] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

/// Covers S1-34, S2-31: that nothing is left to do is looked at like any other work.
#[test]
fn a_change_of_nothing_is_reviewed() {
    for (approved, attempts, content) in [(true, 1, "good\n"), (false, 2, "good, better\n")] {
        let folder = Folder::new(&[("a.py", "good\n")]);
        let rungs = Rungs::new([
            ("local", vec![file("good"), file("good, better")]),
            ("haiku", vec![verdict(approved, &[]), verdict(true, &[])]),
        ]);
        let result = rungs.run(&folder, &reviewing(), &mut Vec::new());
        assert_eq!((result.outcome, result.attempts), (Outcome::Complete, attempts), "{}", result.error);
        assert_eq!((result.review, folder.read("a.py").as_str()), (Some("approved"), content));
        let question = &rungs.questions.borrow()[0].1;
        let shown = &question.messages[0].content;
        assert_eq!(question.files, ["a.py"]);
        for part in ["Set x.", "None: whoever", "## a.py (as it is)\n```python\ngood\n", GOOD] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}

/// Covers S1-30, S1-34, S2-38: findings go back once; the second refusal escalates.
#[test]
fn findings_go_back_and_a_second_refusal_escalates() {
    let folder = Folder::new(&[("a.py", "old\n")]);
    let rungs = Rungs::new([
        ("local", vec![file("good = slow"), file("good = wrong")]),
        // Who names something that must change has not approved, whatever the flag says.
        ("haiku", vec![verdict(false, &[("it is slow", true)]), verdict(true, &[("it is wrong", true)])]),
        ("sonnet", vec![file("good")]),
    ]);
    let mut told = Vec::new();
    let result = rungs.run(&folder, &reviewing(), &mut told);
    assert_eq!((result.outcome, result.tier.as_deref()), (Outcome::Complete, Some("sonnet")));
    let expected = ["haiku: Some(false)", "haiku: Some(false)", "local to sonnet: quality at review"];
    assert_eq!(told, expected);
    let asked = rungs.asked.borrow();
    let retry = &asked[1].1.messages.last().unwrap().content;
    assert!(retry.contains("a.py:2 (must be corrected): it is slow"), "{retry}");
    assert!(asked[2].1.messages.last().unwrap().content.contains("it is wrong"));
    assert_eq!(folder.read("a.py"), "good\n");
}

/// Covers S2-31: without a reviewer, work says that nobody looked at it.
#[test]
fn work_that_nobody_could_review_says_so() {
    let folder = Folder::new(&[]);
    let rungs = Rungs::new([("local", vec![file("good")]), ("haiku", vec![gone("no route to host")])]);
    let mut told = Vec::new();
    let result = rungs.run(&folder, &reviewing(), &mut told);
    assert_eq!((result.outcome, result.review), (Outcome::Complete, Some("unreviewed")));
    assert_eq!(told, ["haiku: None"]);
    assert!(!result.history[0].review.as_ref().unwrap().problem.is_empty());
    let folder = Folder::new(&[]);
    let rungs = Rungs::new([("local", vec![file("good")])]);
    let result = rungs.run(&folder, &climbing(), &mut Vec::new());
    assert_eq!(result.review, Some("unreviewed"));
}

/// Covers S1-34: only a clear yes approves. A reviewer that was talked out of its form is asked again, and then refuses.
#[test]
fn what_is_no_clear_yes_refuses() {
    let odd =
        r#"{"approved": false, "findings": [{"line": -1, "must": true, "problem": "it leaks"}], "more": 1}"#;
    let fenced = "```json\n{\"approved\": true, \"findings\": []}\n```";
    let many = format!("{{\"approved\": false, \"findings\": [{}]}}", vec!["{}"; 500].join(","));
    let refused = Err(WriterError::new(FailureClass::Quality, "refused"));
    for (said, approved) in [
        (vec![Ok("LGTM".to_owned()), Ok("I approve.".to_owned())], false),
        (vec![Ok(odd.to_owned())], false),
        (vec![refused, Ok(String::new())], false),
        (vec![Ok("LGTM".to_owned()), Ok(fenced.to_owned())], true),
        (vec![Ok(many)], false),
    ] {
        let folder = Folder::new(&[("a.py", "old\n")]);
        let rungs = Rungs::new([("local", vec![file("good")]), ("haiku", said)]);
        let policy = Policy { attempts: 1, ladders: Ladders::default(), ..Policy::default() };
        let result = rungs.run(&folder, &Settings { policy, ..reviewing() }, &mut Vec::new());
        assert_eq!(result.outcome == Outcome::Complete, approved, "{result:#?}");
        assert_eq!(folder.read("a.py"), if approved { "good\n" } else { "old\n" });
        assert!(result.history[0].review.as_ref().unwrap().findings.len() <= 21);
    }
}

/// A review that the user stops leaves nothing behind.
#[test]
fn a_cancelled_review_restores() {
    let folder = Folder::new(&[("a.py", "old\n")]);
    let stopped = Err(WriterError::new(FailureClass::Cancelled, "cancelled"));
    let rungs = Rungs::new([("local", vec![file("good")]), ("haiku", vec![stopped])]);
    let result = rungs.run(&folder, &reviewing(), &mut Vec::new());
    assert_eq!((result.outcome, folder.read("a.py").as_str()), (Outcome::Cancelled, "old\n"));
}

/// A model that does not want to answer is not asked the same again, and an empty reply stops no other rung.
#[test]
fn a_refusal_and_an_empty_reply_go_up() {
    let folder = Folder::new(&[]);
    let refused = Err(WriterError::new(FailureClass::Quality, "the model refused"));
    let rungs = Rungs::new([
        ("local", vec![Ok(String::new()), Ok("  ".to_owned())]),
        ("sonnet", vec![refused]),
        ("opus", vec![file("good")]),
    ]);
    let result = rungs.run(&folder, &climbing(), &mut Vec::new());
    assert_eq!(result.outcome, Outcome::Complete);
    assert_eq!(rungs.asked(), ["local", "local", "sonnet", "opus"]);
    let asked = rungs.asked.borrow();
    let mut said = asked.iter().flat_map(|(_, prompt, _)| &prompt.messages);
    assert!(said.all(|message| !message.content.trim().is_empty()));
}

/// Covers S2-31: nobody reviews their own work.
#[test]
fn nobody_reviews_their_own_work() {
    let folder = Folder::new(&[]);
    let rungs = Rungs::new([("local", vec![gone("no device")]), ("haiku", vec![file("good")])]);
    let settings = Settings { review: Some(ReviewRule { rung: "haiku".into(), of: None }), ..climbing() };
    let result = rungs.run(&folder, &settings, &mut Vec::new());
    assert_eq!((result.outcome, result.review), (Outcome::Complete, None));
    assert!(rungs.questions.borrow().is_empty());
}
