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
    pub(super) category: Option<String>,
    pub(super) estimated_lines: Option<usize>,
    pub(super) imports: Option<usize>,
    pub(super) output_file: Option<String>,
    pub(super) output_files: Option<Vec<String>>,
    pub(super) context_files: Option<Vec<String>>,
    pub(super) constraints: Option<Vec<String>>,
    pub(super) shell: Option<bool>,
    /// A list or one string with commas, which is read apart, as tags are.
    #[serde(skip)]
    pub(super) depends_on: Vec<String>,
    #[serde(skip)]
    pub(super) tags: Vec<String>,
    /// Warnings about fields that are not in this list.
    #[serde(skip)]
    pub(super) unknown: Vec<String>,
}

/// A list. Both forms ask for text, so that `001` does not become a number.
#[derive(Deserialize)]
struct Ids<T> {
    depends_on: Option<T>,
}

#[derive(Deserialize)]
struct Tags<T> {
    tags: Option<T>,
}

/// A list, or else one line with commas.
fn names<L, T>(
    yaml: &str,
    list: impl Fn(L) -> Option<Vec<String>>,
    line: impl Fn(T) -> Option<String>,
) -> Result<Vec<String>, serde_saphyr::Error>
where
    L: serde::de::DeserializeOwned,
    T: serde::de::DeserializeOwned,
{
    let lines = match serde_saphyr::from_str::<L>(yaml) {
        Ok(found) => list(found).unwrap_or_default(),
        Err(_) => line(serde_saphyr::from_str::<T>(yaml)?).into_iter().collect(),
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
    let known = |field: &str| KNOWN.contains(&field) || crate::task::FIELDS.contains(&field);
    let wrong = |error: serde_saphyr::Error| {
        let line = error.location().map_or(1, |place| place.line() as usize + 1);
        let text = error.to_string();
        let first = text.lines().next().unwrap_or("not valid YAML").trim();
        // The reader counts lines of the frontmatter alone, and says so before it says what is wrong.
        let first = first.strip_prefix("error: ").unwrap_or(first);
        let placed = first.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
        let first = placed.map_or(first, |(_, problem)| problem);
        let given = lines.get(line - 1).and_then(|text| text.split_once(':')).map(|(name, _)| name.trim());
        let (field, remedy) = match given.filter(|name| known(name)) {
            Some(name) if first.contains("sequence") => {
                (format!("field `{name}`: "), format!("write `{name}: [one, two]`"))
            }
            Some(name) => (format!("field `{name}`: "), "write `field: value` lines".to_owned()),
            None => (String::new(), "write `field: value` lines".to_owned()),
        };
        bad(file, format!("line {line}"), format!("frontmatter: {field}{first}; {remedy}"))
    };
    let mut front: Front = serde_saphyr::from_str(&yaml).map_err(wrong)?;
    let (ids, id) = (|found: Ids<Vec<String>>| found.depends_on, |found: Ids<String>| found.depends_on);
    front.depends_on = names(&yaml, ids, id).map_err(wrong)?;
    let (tags, tag) = (|found: Tags<Vec<String>>| found.tags, |found: Tags<String>| found.tags);
    front.tags = names(&yaml, tags, tag).map_err(wrong)?;
    let fields: BTreeMap<String, IgnoredAny> = serde_saphyr::from_str(&yaml).map_err(wrong)?;
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
