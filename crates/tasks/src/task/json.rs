//! The JSON specification of a task.

use serde_json::{Map, Value};

use super::{
    EGRESS, Eligibility, Format, PHASES, POLICIES, Task, bad, checked_category, checked_command,
    checked_count, checked_files, checked_id, checked_path, finished_status, guarded_files, no_check,
};
use crate::Result;
use crate::command::Command;
use crate::task::one_of;

pub(super) fn parse(file: &str, text: &str) -> Result<Task> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        bad(file, format!("line {}", error.line()), format!("not valid JSON: {error}; correct the syntax"))
    })?;
    let Value::Object(map) = value else {
        return Err(bad(file, "line 1", "a task is a JSON object; write `{\"task_id\": …}`"));
    };
    let fields = Fields { file, map };
    let id = checked_id(file, &fields.required("task_id")?)?;
    let description = fields.required("description")?;
    let files = fields.files()?;
    let mut context = Vec::new();
    for path in fields.list("context_files")? {
        let path = checked_path(file, "field `context_files`", &path)?;
        if !context.contains(&path) {
            context.push(path);
        }
    }
    checked_count(file, "field `context_files`", context.len())?;
    let command = fields.command("test_command")?;
    if let Some(problem) = no_check(command.as_ref(), None).filter(|_| files.is_empty()) {
        return Err(fields.wrong("test_command", problem));
    }
    let phase = match fields.text("tdd_phase")? {
        Some(phase) => Some(one_of(file, "tdd_phase", &phase, PHASES)?),
        None => None,
    };
    let policy = match fields.text("policy")? {
        Some(policy) => one_of(file, "policy", &policy, POLICIES)?,
        None => Eligibility::Atomic,
    };
    let egress = match fields.text("egress")? {
        Some(egress) => Some(one_of(file, "egress", &egress, EGRESS)?),
        None => None,
    };
    let mut warnings = fields.unknown();
    let status = fields.text("status")?;
    warnings.extend(finished_status(status.as_deref()));
    warnings.extend(guarded_files(&files));
    Ok(Task {
        source: file.to_owned(),
        format: Format::Json,
        id,
        title: None,
        description,
        file: files.first().cloned().unwrap_or_default(),
        files,
        context,
        constraints: fields.list("constraints")?,
        command,
        lint: fields.command("lint_command")?,
        code: None,
        done_when: Vec::new(),
        status,
        model: fields.text("model")?,
        local_model: fields.text("local_model")?,
        reason: fields.text("reason")?,
        complexity: fields.text("complexity")?,
        phase,
        depends_on: fields.names("depends_on")?,
        policy,
        egress,
        tags: fields.names("tags")?,
        category: checked_category(file, fields.text("category")?)?,
        estimated_lines: fields.number("estimated_lines")?,
        imports: fields.number("imports")?,
        warnings,
    })
}

/// Fields that a Markdown task has as sections.
const KNOWN: [&str; 3] = ["description", "test_command", "lint_command"];

struct Fields<'a> {
    file: &'a str,
    map: Map<String, Value>,
}

impl Fields<'_> {
    fn wrong(&self, field: &str, problem: &str) -> crate::Error {
        bad(self.file, format!("field `{field}`"), problem)
    }

    /// An optional string; `null` and "" count as absent.
    fn text(&self, field: &str) -> Result<Option<String>> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong(field, "expected a string; put it in quotes")),
        }
    }

    fn required(&self, field: &str) -> Result<String> {
        self.text(field)?.ok_or_else(|| self.wrong(field, "it is missing or empty; every task needs it"))
    }

    fn list(&self, field: &str) -> Result<Vec<String>> {
        let strings = |items: &[Value]| {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        };
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => strings(items)
                .ok_or_else(|| self.wrong(field, "expected a list of strings; put each item in quotes")),
            Some(_) => Err(self.wrong(field, "expected a list of strings; write `[\"…\"]`")),
        }
    }

    /// Ids, as a list or as one string with commas.
    fn names(&self, field: &str) -> Result<Vec<String>> {
        match self.map.get(field) {
            Some(Value::String(line)) => Ok(super::names([line.as_str()])),
            _ => Ok(super::names(self.list(field)?.iter().map(String::as_str))),
        }
    }

    /// An optional whole number.
    fn number(&self, field: &str) -> Result<Option<usize>> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                value.as_u64().and_then(|number| usize::try_from(number).ok()).map(Some).ok_or_else(|| {
                    self.wrong(field, "expected a whole number, 0 or more; write it without quotes")
                })
            }
        }
    }

    /// The files to write: `output_file`, then those of `output_files`. None only if that is said: by an empty list.
    fn files(&self) -> Result<Vec<String>> {
        let listed = self.list("output_files")?;
        // A list says which one is first; without it, the field for one file is needed.
        let first = match !matches!(self.map.get("output_files"), Some(Value::Array(_))) {
            true => Some(self.required("output_file")?),
            false => self.text("output_file")?,
        };
        let at = |field: &str| format!("field `{field}`");
        let first = first.iter().map(|path| (at("output_file"), path.as_str()));
        let listed = listed.iter().map(|path| (at("output_files"), path.as_str()));
        checked_files(self.file, first.chain(listed))
    }

    /// A command: a line, which `shell` leaves to a shell, or a list of words.
    fn command(&self, field: &str) -> Result<Option<Command>> {
        if let Some(Value::Array(_)) = self.map.get(field) {
            let command = Command::from_argv(self.list(field)?);
            return command.map(Some).map_err(|error| self.wrong(field, &error.to_string()));
        }
        let shell = match self.map.get("shell") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(shell)) => *shell,
            Some(_) => return Err(self.wrong("shell", "expected true or false")),
        };
        match self.text(field)? {
            Some(line) => checked_command(self.file, &format!("field `{field}`"), &line, shell).map(Some),
            None => Ok(None),
        }
    }

    fn unknown(&self) -> Vec<String> {
        let known = |key: &&str| KNOWN.contains(key) || super::FIELDS.contains(key);
        let unknown = self.map.keys().map(String::as_str).filter(|key| !known(key));
        unknown.map(|key| format!("field `{}` is not known and was not used", key.escape_debug())).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::{Error, Task};

    const SPEC: &str = r#"{
      "task_id": "T-001",
      "description": "Create utility function",
      "output_file": "src/utils/myUtil.js",
      "context_files": ["src/constants/gameConstants.js"],
      "constraints": ["Export named function", "No dependencies"],
      "test_command": "npx vitest run src/utils/__tests__/myUtil.test.js",
      "estimate": 30
    }"#;

    /// Covers S1-13, S1-15.
    #[test]
    fn a_specification_is_read() {
        let task = Task::parse("spec.json", SPEC).unwrap();
        assert_eq!(task.id, "T-001");
        assert_eq!(task.file, "src/utils/myUtil.js");
        assert_eq!(task.context, ["src/constants/gameConstants.js"]);
        assert_eq!(task.constraints.len(), 2);
        assert_eq!(task.command.unwrap().argv[..3], ["npx", "vitest", "run"]);
        assert_eq!(task.warnings, ["field `estimate` is not known and was not used"]);
    }

    #[test]
    fn optional_fields_may_be_absent() {
        let task =
            Task::parse("t", r#"{"task_id":"a","description":"b","output_file":"c","test_command":""}"#)
                .unwrap();
        assert_eq!(task.command, None);
        assert!(task.context.is_empty() && task.constraints.is_empty());
    }

    /// Covers S1-13, S1-39.
    #[test]
    fn several_files_have_a_list() {
        let with =
            |fields: &str| Task::parse("t.json", &format!(r#"{{"task_id":"a","description":"b",{fields}}}"#));
        let task = with(r#""output_files":["a.js","./b.js","a.js"]"#).unwrap();
        assert_eq!((task.file.as_str(), task.files), ("a.js", vec!["a.js".to_owned(), "b.js".to_owned()]));
        let task = with(r#""output_file":"c.js","output_files":["a.js","c.js"]"#).unwrap();
        assert_eq!((task.file.as_str(), task.files), ("c.js", vec!["c.js".to_owned(), "a.js".to_owned()]));
        let task = with(r#""output_file":"c.js""#).unwrap();
        assert_eq!(task.files, ["c.js"]);
        for (fields, expected) in [
            (r#""output_file":"""#, "field `output_file`: it is missing"),
            (r#""output_files":null"#, "field `output_file`: it is missing"),
            (
                r#""output_files":[]"#,
                "field `test_command`: a task that writes no file is done by its command",
            ),
            (r#""output_files":["../a"]"#, "field `output_files`: path `../a`"),
            (r#""output_files":"a""#, "field `output_files`: expected a list"),
        ] {
            let error = with(fields).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    /// Covers S1-32.
    #[test]
    fn an_empty_list_of_files_makes_a_check() {
        let text = r#"{"task_id":"a","description":"b","output_files":[],"test_command":"make test"}"#;
        let task = Task::parse("t.json", text).unwrap();
        assert!(task.is_check() && task.file.is_empty() && task.files.is_empty());
        let text = text.replace("[]", r#"[],"output_file":"c""#);
        assert!(!Task::parse("t.json", &text).unwrap().is_check());
    }

    #[test]
    fn what_policies_ask_may_be_said() {
        let with = |fields: &str| {
            Task::parse(
                "t.json",
                &format!(r#"{{"task_id":"a","description":"b","output_file":"c",{fields}}}"#),
            )
        };
        let task =
            with(r#""tags":["ARCH"],"category":"multi-file","estimated_lines":30,"imports":0"#).unwrap();
        assert_eq!(
            (task.tags, task.estimated_lines, task.imports),
            (vec!["ARCH".to_owned()], Some(30), Some(0))
        );
        assert_eq!(task.category, Some(crate::policy::Category::MultiFile));
        assert!(task.warnings.is_empty());
        for (fields, expected) in [
            (r#""category":"x""#, "field `category`: `x` is not known; use one of reducer, hook"),
            (r#""estimated_lines":-1"#, "field `estimated_lines`: expected a whole number"),
            (r#""imports":"two""#, "field `imports`: expected a whole number"),
            (r#""tags":7"#, "field `tags`: expected"),
        ] {
            let error = with(fields).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_command_may_be_a_list() {
        let text =
            r#"{"task_id":"a","description":"b","output_file":"c","test_command":["python3","-c","a; b"]}"#;
        assert_eq!(Task::parse("t.json", text).unwrap().command.unwrap().argv, ["python3", "-c", "a; b"]);
    }

    #[test]
    fn complaints_name_file_and_field() {
        let cases = [
            (r#"{"description":"b","output_file":"c"}"#, "`t.json`: field `task_id`"),
            (r#"{"task_id":1,"description":"b","output_file":"c"}"#, "field `task_id`: expected a string"),
            (r#"{"task_id":"a","description":"b","output_file":"../c"}"#, "field `output_file`: path `../c`"),
            (
                r#"{"task_id":"a","description":"b","output_file":"c","context_files":"d"}"#,
                "field `context_files`",
            ),
            (
                r#"{"task_id":"a","description":"b","output_file":"c","constraints":[1]}"#,
                "field `constraints`",
            ),
            (
                r#"{"task_id":"a","description":"b","output_file":"c","test_command":"a && b"}"#,
                "field `test_command`",
            ),
            (
                r#"{"task_id":"a","description":"b","output_file":"c","policy":"x"}"#,
                "use one of atomic, ticket",
            ),
            ("{\n\n,}", "line 3"),
            ("[]", "JSON object"),
        ];
        for (text, expected) in cases {
            let error = Task::parse("t.json", text).unwrap_err();
            assert!(matches!(error, Error::BadTask { .. }));
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
