//! Local or cloud: the policies `atomic` (S1-25, S1-26, S1-35) and `ticket` (S2-32), and what holds under both.
//!
//! Pure: what lies outside the task file, such as tests that exist or how local attempts went so far, is given.

use serde::Serialize;

use super::classify::{Classification, classify};
use super::estimate::{Estimate, estimate};
use super::tables::{Category, CategoryRules, Complexity, Delegable, Tables};
use crate::ledger::{Admission, Escalation, Ratio, Routed};
use crate::task::{Eligibility, Phase, Place, Task};

/// What the task file does not say, but a policy asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// A file that tests the task's file already.
    pub existing_test: Option<String>,
    /// Tasks of the same wave that this one depends on.
    pub in_wave: Vec<String>,
    /// What became of the tasks before it, oldest first, as the ledger has them.
    pub routed: Vec<Routed>,
}

/// Where a task is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// By a local model, or by rule.
    Local,
    /// By a cloud model, or a person.
    Cloud,
}

/// One rule, and what it says about a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ruling {
    /// Its name, such as "lines".
    pub rule: &'static str,
    /// The requirement that it comes from.
    pub requirement: String,
    /// What it found, and against what.
    pub fact: String,
    /// What it says.
    pub verdict: Says,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Says {
    /// A local model may.
    Local,
    /// A local model may not.
    Cloud,
    /// A preference that is not met; it decides nothing.
    Note,
    /// It would say cloud, but the task itself says otherwise.
    Overruled,
}

/// Where a task is done, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// Where.
    pub route: Route,
    /// The alias of the model that does it: "local", or the one that is asked in its place.
    pub model: String,
    /// The policy.
    pub policy: Eligibility,
    /// What the task is.
    pub classification: Classification,
    /// Its size.
    pub estimate: Estimate,
    /// Every rule of the policy.
    pub rules: Vec<Ruling>,
}

/// Aliases of models that run here.
const LOCAL: [&str; 3] = ["local", "free", "coder-tiny"];

/// Aliases of models that do not, cheapest first (S0-26, S2-40).
const CLOUD: [&str; 6] = ["haiku", "cheap", "sonnet", "balanced", "opus", "best"];

impl Judgement {
    /// The rules that keep the task from a local model; for a local task, none.
    pub fn against(&self) -> impl Iterator<Item = &Ruling> {
        let cloud = self.route == Route::Cloud;
        self.rules.iter().filter(move |ruling| cloud && ruling.verdict == Says::Cloud)
    }
}

/// Judges a task by its policy.
pub fn judge(task: &Task, around: &Surroundings, tables: &Tables) -> Judgement {
    let files: Vec<&str> = task.files.iter().map(String::as_str).collect();
    let mut classification = classify(tables, &task.description, &files);
    if let Some(category) = task.category {
        classification = classification.with_category(tables, category, &task.description);
    }
    let estimate = estimate(task, &classification, tables);
    if task.is_check() {
        let fact = "the task writes no file: its command decides, and no model is needed".to_owned();
        let rule = Ruling { rule: "no-files", requirement: "S1-32".to_owned(), fact, verdict: Says::Local };
        let (route, model, policy) = (Route::Local, "local".to_owned(), task.policy);
        return Judgement { route, model, policy, classification, estimate, rules: vec![rule] };
    }
    let mut judge =
        Judge { task, tables, classification: &classification, estimate: &estimate, rules: Vec::new() };
    let given = judge.given_code();
    judge.model();
    judge.category();
    judge.task_type();
    judge.phase();
    match task.policy {
        Eligibility::Atomic => judge.atomic(around),
        Eligibility::Ticket => judge.ticket(around),
    }
    let rules = judge.rules;
    let local = given || rules.iter().all(|ruling| ruling.verdict != Says::Cloud);
    let route = if local { Route::Local } else { Route::Cloud };
    let model = match route {
        Route::Local => "local".to_owned(),
        Route::Cloud => instead(task, &classification, tables),
    };
    Judgement { route, model, policy: task.policy, classification, estimate, rules }
}

/// Judges a description alone, as a task of the policy `atomic` with a test.
pub fn judge_text(description: &str, file: Option<&str>, tables: &Tables) -> Judgement {
    let around =
        Surroundings { existing_test: Some("(none is asked for)".to_owned()), ..Surroundings::default() };
    judge(&Task::of_text(description, file), &around, tables)
}

/// The cloud model for a task that is not local: the one it names, else what follows `local` in the table of types.
fn instead(task: &Task, classification: &Classification, tables: &Tables) -> String {
    if let Some(named) = task.model.as_deref().filter(|named| CLOUD.contains(named)) {
        return named.to_owned();
    }
    let route = &tables.task_types[&classification.task_type];
    let other =
        if route.default == "local" { route.fallback.as_deref() } else { Some(route.default.as_str()) };
    other.unwrap_or("opus").to_owned()
}

/// Words on one line, without what a terminal would obey.
pub(super) fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

struct Judge<'a> {
    task: &'a Task,
    tables: &'a Tables,
    classification: &'a Classification,
    estimate: &'a Estimate,
    rules: Vec<Ruling>,
}

impl Judge<'_> {
    fn rule(&mut self, rule: &'static str, requirement: &str, fact: String, verdict: Says) {
        self.rules.push(Ruling { rule, requirement: requirement.to_owned(), fact, verdict });
    }

    fn when(&mut self, rule: &'static str, requirement: &str, fact: String, local: bool) {
        self.rule(rule, requirement, fact, if local { Says::Local } else { Says::Cloud });
    }

    /// Code and its place need no model at all (decision 9); then the other rules are only told.
    fn given_code(&mut self) -> bool {
        let given = self.task.code.as_ref().is_some_and(|code| code.place != Place::Unstated);
        if given {
            let fact = "the task carries its code and the place for it; no model is needed".to_owned();
            self.rule("given-code", "S0-02, S0-18", fact, Says::Local);
        }
        given
    }

    /// Who shall do it, if the task says so.
    fn model(&mut self) {
        let Some(model) = self.task.model.clone() else { return };
        let cloud = CLOUD.contains(&model.as_str());
        let reason =
            self.task.reason.as_deref().map_or(String::new(), |reason| format!(": {}", one_line(reason)));
        self.when("model", "S0-26, S1-33", format!("the task names `{model}`{reason}"), !cloud);
    }

    /// Whether whoever wrote the task has decided that a local model shall do it.
    fn is_assigned(&self) -> bool {
        self.task.model.as_deref().is_some_and(|model| LOCAL.contains(&model))
    }

    fn category(&mut self) {
        let rules = self.tables.category(self.classification.category);
        let (allowed, policy) = match self.task.policy {
            Eligibility::Atomic => (rules.atomic, "atomic"),
            Eligibility::Ticket => (rules.ticket, "ticket"),
        };
        let name = rules.name.as_str();
        let how = self.how_classified();
        let requirement = rules.requirement.clone();
        match allowed {
            Delegable::Local => self.when("category", &requirement, format!("`{name}`{how}"), true),
            Delegable::Maybe => {
                self.within(rules, &requirement, &format!("`{name}`{how}"));
            }
            Delegable::Cloud => {
                let fact = format!("`{name}`{how} is not for a local model under `{policy}`");
                // A guess about the words does not overrule who wrote them.
                let verdict = match self.is_assigned() && self.task.category.is_none() {
                    true => Says::Overruled,
                    false => Says::Cloud,
                };
                self.rule("category", &requirement, fact, verdict);
            }
        }
        if let Some(large) = self.classification.large.clone() {
            let fact = format!("the words say that it is large: {large}");
            let verdict = if self.is_assigned() { Says::Overruled } else { Says::Cloud };
            self.rule("size", "S1-25", fact, verdict);
        }
    }

    fn how_classified(&self) -> String {
        match self.task.category {
            Some(_) => ", as the task says,".to_owned(),
            None => {
                let cues =
                    self.classification.cues.iter().filter(|cue| cue.weight > 0 && !cue.pattern.is_empty());
                let words: Vec<_> = cues.map(|cue| format!("`{}`", cue.pattern)).collect();
                if words.is_empty() { String::new() } else { format!(" by {}", words.join(", ")) }
            }
        }
    }

    /// A category that is local within limits of its own: a component without hooks, files that a ticket may have.
    fn within(&mut self, rules: &CategoryRules, requirement: &str, what: &str) {
        match rules.name {
            Category::Component => {
                let hooks = self.classification.hooks;
                let said = if hooks { "with hooks" } else { "without hooks" };
                self.when("category", requirement, format!("{what}, {said}"), !hooks);
            }
            _ => self.when("category", requirement, format!("{what}; the number of files decides"), true),
        }
    }

    fn task_type(&mut self) {
        let route = &self.tables.task_types[&self.classification.task_type];
        let then = route.fallback.as_ref().map_or("nobody".to_owned(), |fallback| format!("`{fallback}`"));
        let name = serde_json::to_string(&self.classification.task_type).unwrap_or_default();
        let fact = format!("{} is for `{}`, then {then}", name.replace('"', "`"), route.default);
        let local = route.default == "local";
        // S1-35 and S2-32 say who repairs a known fault; the table means failures whose cause is not known.
        let known = self.classification.category == Category::Bugfix;
        let verdict = match (local, self.is_assigned() && self.task.category.is_none()) {
            (true, _) => Says::Local,
            (false, _) if known => Says::Note,
            (false, true) => Says::Overruled,
            (false, false) => Says::Cloud,
        };
        self.rule("task-type", "S0-40", fact, verdict);
    }

    fn phase(&mut self) {
        let Some(phase) = self.task.phase else { return };
        let name = match phase {
            Phase::Setup => "setup",
            Phase::Red => "red",
            Phase::Green => "green",
            Phase::Refactor => "refactor",
            Phase::Verify => "verify",
        };
        let local = self.tables.phases.get(name) == Some(&Delegable::Local);
        self.when("phase", "S0-08, S0-36", format!("`{name}`"), local);
    }

    /// S1-25.
    fn atomic(&mut self, around: &Surroundings) {
        let limits = self.tables.atomic;
        let rules = self.tables.category(self.classification.category);
        let most = rules.most_lines.unwrap_or(limits.lines);
        let lines = self.estimate.lines;
        let fact = format!("{} lines {}, at most {most}", lines.value, lines.source.said());
        self.when("lines", "S1-25", fact, lines.value <= most);
        let imports = self.estimate.imports;
        let fact = format!("{} imports {}, at most {}", imports.value, imports.source.said(), limits.imports);
        self.when("imports", "S1-25", fact, imports.value <= limits.imports);
        let files = self.estimate.files;
        self.when(
            "files",
            "S1-25",
            format!("{files} files, at most {}", limits.files),
            files <= limits.files,
        );
        let (fact, verdict) = match &self.classification.state {
            Some(state) => {
                (format!("it seems to keep a state ({state}); stateless is preferred"), Says::Note)
            }
            None => ("nothing says that it keeps a state".to_owned(), Says::Local),
        };
        self.rule("stateless", "S1-25", fact, verdict);
        self.test(rules, around);
    }

    fn test(&mut self, rules: &CategoryRules, around: &Surroundings) {
        let (fact, local) = if !rules.tested {
            (format!("`{}` is nothing that a test runs", rules.name.as_str()), true)
        } else if let Some(command) = &self.task.command {
            (format!("verified by `{}`", command.line), true)
        } else if rules.name == Category::Tests {
            ("it is the test".to_owned(), true)
        } else if let Some(test) = &around.existing_test {
            (format!("has a test, `{test}`"), true)
        } else {
            ("no test exists and the task brings none; add a command that verifies it".to_owned(), false)
        };
        self.when("test", "S1-25", fact, local);
    }

    /// S2-32.
    fn ticket(&mut self, around: &Surroundings) {
        let limits = &self.tables.ticket;
        let said = self.task.complexity.as_deref();
        let level = said.and_then(|word| self.tables.complexity(word));
        let (fact, local) = match (said, level) {
            (Some(word), Some(level)) => {
                (format!("`{word}` is {}", level.as_str()), !limits.complexity.contains(&level))
            }
            (Some(word), None) => {
                (format!("`{word}` is not in the tables, so it is not known to be high"), true)
            }
            (None, _) => ("the task says none, so it is not known to be high".to_owned(), true),
        };
        self.when("complexity", "S2-32", fact, local);
        let mut bad =
            self.task.tags.iter().filter(|tag| limits.tags.iter().any(|no| no.eq_ignore_ascii_case(tag)));
        let tag = bad.next();
        let fact = tag.map_or(format!("no tag {}", limits.tags.join(" or ")), |tag| format!("tag `{tag}`"));
        let local = tag.is_none();
        self.when("tags", "S2-32", fact, local);
        let files = self.estimate.files;
        self.when(
            "files",
            "S2-32",
            format!("{files} files, at most {}", limits.files),
            files <= limits.files,
        );
        let fact = match around.in_wave.as_slice() {
            [] => "depends on no task of its wave".to_owned(),
            some => format!("depends on {} in its wave", some.join(", ")),
        };
        self.when("wave", "S2-32", fact, around.in_wave.is_empty());
        self.escalations(&around.routed);
    }

    /// Decision 4: the share among the last attempts, and one task in so many while it is too high.
    fn escalations(&mut self, routed: &[Routed]) {
        let limits = &self.tables.ticket;
        let rule = Escalation {
            window: limits.window,
            attempts: limits.attempts,
            threshold: limits.escalations,
            probe: limits.probe,
        };
        let Ratio { escalated, attempts } = rule.ratio(routed);
        let fact = format!(
            "{escalated} of the last {attempts} tasks of the local model were not done by it, allowed is less than {:.2}{}",
            limits.escalations,
            if attempts < limits.attempts {
                format!(" once there are {}", limits.attempts)
            } else {
                String::new()
            }
        );
        let (fact, local) = match rule.admission(routed) {
            Admission::Open => (fact, true),
            Admission::Probe => {
                (format!("{fact}; but one task in {} is tried all the same", limits.probe), true)
            }
            Admission::Closed => (fact, false),
        };
        self.when("escalations", "S2-32", fact, local);
    }
}

impl Complexity {
    /// low, medium or high.
    pub fn as_str(self) -> &'static str {
        match self {
            Complexity::Low => "low",
            Complexity::Medium => "medium",
            Complexity::High => "high",
        }
    }
}

#[cfg(test)]
mod tests;
