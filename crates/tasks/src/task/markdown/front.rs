//! The YAML frontmatter of a Markdown task.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::Result;
use crate::task::bad;

/// What the frontmatter may say. Every field is optional.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Front {
    pub(super) name: Option<String>,
    pub(super) task_id: Option<String>,
    pub(super) id: Option<String>,
    pub(super) status: Option<String>,
    pub(super) model: Option<String>,
    pub(super) local_model: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) complexity: Option<String>,
    pub(super) tdd_phase: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) egress: Option<String>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) category: Option<String>,
    pub(super) estimated_lines: Option<usize>,
    pub(super) imports: Option<usize>,
    pub(super) output_file: Option<String>,
    pub(super) output_files: Option<Vec<String>>,
    pub(super) context_files: Option<Vec<String>>,
    pub(super) constraints: Option<Vec<String>>,
    pub(super) shell: Option<bool>,
    /// A list or one string with commas, which is read apart.
    #[serde(skip)]
    pub(super) depends_on: Vec<String>,
    /// Warnings about fields that are not in this list.
    #[serde(skip)]
    pub(super) unknown: Vec<String>,
}

/// Ids as a list. Both forms ask for text, so that `001` does not become a number.
#[derive(Deserialize)]
struct List {
    depends_on: Option<Vec<String>>,
}

/// Ids as one string.
#[derive(Deserialize)]
struct Line {
    depends_on: Option<String>,
}

fn depends_on(yaml: &str) -> Result<Vec<String>, serde_saphyr::Error> {
    let lines = match serde_saphyr::from_str::<List>(yaml) {
        Ok(list) => list.depends_on.unwrap_or_default(),
        Err(_) => serde_saphyr::from_str::<Line>(yaml)?.depends_on.into_iter().collect(),
    };
    Ok(crate::task::names(lines.iter().map(String::as_str)))
}

/// Other names of the task's id.
const KNOWN: [&str; 2] = ["name", "id"];

/// Fields that frontmatter of other programs has as well.
const COMMON: [&str; 5] = ["status", "model", "reason", "tags", "category"];

/// Whether a frontmatter is that of a task, also where it is no valid YAML.
pub(super) fn is_meant(lines: &[&str]) -> bool {
    let fields = lines.iter().skip(1).take_while(|line| !matches!(line.trim_end(), "---" | "..."));
    let mut names = fields.filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim_end());
    let is_a_tasks = |name: &str| crate::task::FIELDS.contains(&name) && !COMMON.contains(&name);
    lines.first().is_some_and(|line| line.trim_end() == "---") && names.any(is_a_tasks)
}

/// The frontmatter, and how many lines it takes.
pub(super) fn split(file: &str, lines: &[&str]) -> Result<(Front, usize)> {
    if lines.first().is_none_or(|line| line.trim_end() != "---") {
        return Ok((Front::default(), 0));
    }
    let end = lines.iter().skip(1).position(|line| matches!(line.trim_end(), "---" | "..."));
    let Some(end) = end else {
        return Err(bad(file, "line 1", "the frontmatter has no end; close it with a line `---`"));
    };
    let yaml = lines[1..=end].join("\n");
    if yaml.trim().is_empty() {
        return Ok((Front::default(), end + 2));
    }
    let wrong = |error: serde_saphyr::Error| {
        let line = error.location().map_or(1, |place| place.line() as usize + 1);
        let text = error.to_string();
        let first = text.lines().next().unwrap_or("not valid YAML").trim();
        bad(file, format!("line {line}"), format!("frontmatter: {first}; write `field: value` lines"))
    };
    let mut front: Front = serde_saphyr::from_str(&yaml).map_err(wrong)?;
    front.depends_on = depends_on(&yaml).map_err(wrong)?;
    let fields: BTreeMap<String, IgnoredAny> = serde_saphyr::from_str(&yaml).map_err(wrong)?;
    let known = |field: &str| KNOWN.contains(&field) || crate::task::FIELDS.contains(&field);
    let unknown = fields.into_keys().filter(|field| !known(field));
    front.unknown = unknown
        .map(|field| format!("field `{}` is not known and was not used", field.escape_debug()))
        .collect();
    let Front { model, local_model, reason, tdd_phase, policy, .. } = &mut front;
    for text in [model, local_model, reason, tdd_phase, policy] {
        // `field:` with nothing after it means "not given".
        *text = text.take().filter(|text| !text.trim().is_empty());
    }
    Ok((front, end + 2))
}
