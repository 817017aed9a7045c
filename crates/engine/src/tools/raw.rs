//! Strings that stand in a call as they are: what a schema asks of them, as regular expressions.

use serde_json::Value;

use super::shape::{Document, MOST_COPIED, TOO_MANY, Types};

/// What one alternative of a schema asks of a string.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rule {
    pub(super) min: u64,
    pub(super) max: Option<u64>,
    /// Regular expressions that match the whole string, all of them.
    pub(super) patterns: Vec<String>,
    /// The only strings that may stand there.
    pub(super) values: Option<Vec<String>>,
}

/// Why the strings of a schema cannot be guaranteed: where in it, and what is wrong.
pub(super) type Problem = (String, String);

/// Formats whose strings can be written without quotes, and less than all of them where less is simpler.
const FORMATS: &[(&str, &str)] = &[
    ("date", DATE),
    ("time", r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"),
    ("date-time", r"(D)T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"),
    ("duration", r"P(\d{1,9}D(T\d{1,9}H)?|T\d{1,9}[HMS]|\d{1,9}[WMY])"),
    (
        "email",
        r"[a-zA-Z0-9_+-]+(\.[a-zA-Z0-9_+-]+)*@[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*",
    ),
    (
        "hostname",
        r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*",
    ),
    ("ipv4", r"((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"),
    (
        "ipv6",
        r"([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|::([0-9a-fA-F]{1,4}:){0,5}[0-9a-fA-F]{1,4}|([0-9a-fA-F]{1,4}:){1,5}:[0-9a-fA-F]{1,4}",
    ),
    (
        "uri",
        r"[a-zA-Z][a-zA-Z0-9+.-]*:(//[a-zA-Z0-9.-]+(:\d{1,5})?(/([a-zA-Z0-9._~!$&'()*+,;=:@-]|%[0-9a-fA-F]{2})*)*|[a-zA-Z0-9._~-]+(/([a-zA-Z0-9._~!$&'()*+,;=:@-]|%[0-9a-fA-F]{2})*)*)(\?([a-zA-Z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-fA-F]{2})*)?(#([a-zA-Z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-fA-F]{2})*)?",
    ),
    ("uuid", r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"),
];

const DATE: &str =
    r"\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))";

/// References and unions nested deeper are refused.
const MAX_DEPTH: usize = 32;

/// What `schema`, a part of `document`, asks of a string: any of these.
pub(super) fn rules(schema: &Value, document: &Document) -> Result<Vec<Rule>, Problem> {
    let mut found = Vec::new();
    let mut walk = Walk { document, left: MOST_COPIED };
    walk.collect(schema, Rule::default(), ("", 0), &mut found)?;
    Ok(found)
}

struct Walk<'d> {
    document: &'d Document,
    /// What alternatives that may still come may weigh.
    left: usize,
}

impl Walk<'_> {
    /// Adds to `found` what `schema`, which is at `path` within `depth` others, asks beyond `rule`.
    fn collect(
        &mut self,
        schema: &Value,
        mut rule: Rule,
        (path, depth): (&str, usize),
        found: &mut Vec<Rule>,
    ) -> Result<(), Problem> {
        let problem = |problem: &str| Err((path.to_owned(), problem.to_owned()));
        if depth > MAX_DEPTH {
            return problem("the schema is nested too deeply");
        }
        let Some(left) = self.left.checked_sub(rule.weight()) else {
            return problem(TOO_MANY);
        };
        self.left = left;
        if *schema == Value::Bool(false) || !Types::of(schema, self.document).has(Types::STRING) {
            return Ok(());
        }
        let Value::Object(map) = schema else {
            found.push(rule);
            return Ok(());
        };
        for (key, value) in map {
            rule.restrict(key, value).map_err(|problem| (format!("{path}/{key}"), problem))?;
        }
        for (i, part) in map.get("allOf").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let at = format!("{path}/allOf/{i}");
            let mut one = Vec::new();
            self.collect(part, std::mem::take(&mut rule), (&at, depth + 1), &mut one)?;
            match <[Rule; 1]>::try_from(one) {
                Ok([only]) => rule = only,
                Err(_) => return Err((at, "alternatives within `allOf` are not supported here".to_owned())),
            }
        }
        if let Some(reference) = map.get("$ref") {
            let target = self.document.resolve(reference);
            let target =
                target.ok_or_else(|| (format!("{path}/$ref"), format!("{reference} is not there")))?;
            return self.collect(target, rule, (path, depth + 1), found);
        }
        let Some((key, branches)) =
            ["anyOf", "oneOf"].iter().find_map(|key| Some((*key, map.get(*key)?.as_array()?)))
        else {
            found.push(rule);
            return Ok(());
        };
        let mut alternatives = Vec::new();
        for (i, branch) in branches.iter().enumerate() {
            let at = format!("{path}/{key}/{i}");
            self.collect(branch, rule.clone(), (&at, depth + 1), &mut alternatives)?;
        }
        if key == "oneOf" && overlap(&alternatives) {
            return Err((
                format!("{path}/oneOf"),
                "its strings may belong to two branches; use `anyOf`".to_owned(),
            ));
        }
        found.append(&mut alternatives);
        Ok(())
    }
}

/// Whether a string may belong to two of `rules`, as far as that can be told.
fn overlap(rules: &[Rule]) -> bool {
    let values: Option<Vec<&String>> = rules
        .iter()
        .map(|rule| rule.values.as_ref())
        .collect::<Option<Vec<_>>>()
        .map(|all| all.into_iter().flatten().collect());
    let distinct = |values: &Vec<&String>| {
        let set: std::collections::HashSet<_> = values.iter().collect();
        set.len() == values.len()
    };
    rules.len() > 1 && !values.as_ref().is_some_and(distinct)
}

impl Rule {
    /// Adds what one keyword asks.
    fn restrict(&mut self, key: &str, value: &Value) -> Result<(), String> {
        match key {
            "minLength" => self.min = self.min.max(value.as_u64().unwrap_or(0)),
            "maxLength" => {
                let max = value.as_u64().ok_or("a length is a number that is not negative")?;
                self.max = Some(self.max.unwrap_or(max).min(max));
            }
            "pattern" => {
                let pattern = value.as_str().ok_or("a pattern is a string")?;
                self.patterns.push(llguidance::regex_to_lark(&whole(pattern), "dw"));
            }
            "format" => {
                if let Some((_, regex)) = FORMATS.iter().find(|(name, _)| value == name) {
                    let regex = regex.replace("(D)", &format!("({DATE})"));
                    self.patterns.push(llguidance::regex_to_lark(&regex, "dw"));
                }
            }
            "const" => self.only(value.as_str().map(str::to_owned).into_iter().collect()),
            "enum" => {
                let values = value.as_array().ok_or("an `enum` is a list")?;
                self.only(values.iter().filter_map(Value::as_str).map(str::to_owned).collect());
            }
            _ => {}
        }
        if self.max.is_some_and(|max| max < self.min) {
            return Err(format!(
                "no string has at least `{}` and at most `{}` characters",
                self.min,
                self.max.unwrap_or(0)
            ));
        }
        Ok(())
    }

    /// What a copy costs: one, and as much for each text in it and each 16 bytes of that.
    fn weight(&self) -> usize {
        let texts = self.patterns.iter().chain(self.values.iter().flatten());
        1 + texts.map(|text| 1 + text.len() / 16).sum::<usize>()
    }

    fn only(&mut self, mut values: Vec<String>) {
        if let Some(before) = &self.values {
            values.retain(|value| before.contains(value));
        }
        values.dedup();
        self.values = Some(values);
    }

    /// Regular expressions for a string with `end` behind it, which has `long` characters: the first for all of it, which
    /// begins with none of `excluded` (in a class of a regular expression), and more that it must match.
    ///
    /// Lengths of patterns are counted with the end: llguidance needs much more time where both conditions look for it.
    pub(super) fn conditions(&self, end: &str, long: u64, excluded: &str) -> Vec<String> {
        let mut conditions: Vec<String> = self.patterns.iter().map(|body| format!("/{body}{end}/")).collect();
        let max = |add: u64, less: u64| {
            self.max.map_or(String::new(), |max| (max.saturating_sub(less) + add).to_string())
        };
        let first = format!(r"[^ \t\r\n{excluded}]");
        if conditions.is_empty() {
            let body = match excluded {
                "" => format!("(?s:.{{{},{}}})", self.min, max(0, 0)),
                _ if self.max == Some(0) => String::new(),
                _ => {
                    let some = format!("{first}(?s:.{{{},{}}})", self.min.saturating_sub(1), max(0, 1));
                    if self.min == 0 { format!("({some})?") } else { some }
                }
            };
            conditions.push(format!("/{body}{end}/"));
            return conditions;
        }
        if !excluded.is_empty() {
            conditions.push(format!("/{first}(?s:.*)/"));
        }
        if self.min > 0 || self.max.is_some() {
            conditions.push(format!("/(?s:.{{{},{}}})/", self.min + long, max(long, 0)));
        }
        conditions
    }

    /// Whether strings are listed, with no other condition.
    pub(super) fn is_listed(&self) -> bool {
        Self { values: None, ..self.clone() }.is_free()
    }

    /// Whether any string will do.
    pub(super) fn is_free(&self) -> bool {
        *self == Self::default()
    }
}

/// A regular expression for the whole of a text that `pattern`, a search, finds itself in.
fn whole(pattern: &str) -> String {
    let alternatives = split(pattern).into_iter().map(|alternative| {
        let (start, rest) = match alternative.strip_prefix('^') {
            Some(rest) => ("", rest),
            None => ("(?s:.*)", alternative),
        };
        let (rest, end) = match rest.strip_suffix('$') {
            // An escaped `$` is a character, not the end.
            Some(inner) if inner.chars().rev().take_while(|c| *c == '\\').count() % 2 == 0 => (inner, ""),
            _ => (rest, "(?s:.*)"),
        };
        format!("{start}({rest}){end}")
    });
    format!("({})", alternatives.collect::<Vec<_>>().join("|"))
}

/// The alternatives of a regular expression.
fn split(pattern: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut class, mut escaped) = (Vec::new(), 0, 0usize, false, false);
    for (i, c) in pattern.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' => class = false,
            '[' => class = true,
            _ if class => {}
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => {
                parts.push(&pattern[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&pattern[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn searches_become_whole_matches() {
        assert_eq!(whole("^a$"), "((a))");
        assert_eq!(whole("a"), "((?s:.*)(a)(?s:.*))");
        assert_eq!(whole(r"^a\$"), r"((a\$)(?s:.*))");
        assert_eq!(whole("^(a|b)$|^[|]"), "(((a|b))|([|])(?s:.*))");
    }

    #[test]
    fn alternatives_are_found_through_unions_and_references() {
        let root = Document::new(json!({ "$defs": { "name": { "type": "string", "maxLength": 3 } } }));
        let union =
            json!({ "anyOf": [{ "$ref": "#/$defs/name" }, { "type": "null" }, { "enum": ["x", 1] }] });
        let found = rules(&union, &root).unwrap();
        assert_eq!(found[0], Rule { max: Some(3), ..Rule::default() });
        assert_eq!(found[1].values, Some(vec!["x".to_owned()]));
        assert_eq!(found.len(), 2);
        assert!(rules(&json!({ "type": "integer" }), &root).unwrap().is_empty());
        assert!(rules(&json!({}), &root).unwrap()[0].is_free());
        let twice = json!({ "oneOf": [{ "type": "string" }, { "type": "string", "maxLength": 1 }] });
        assert_eq!(rules(&twice, &root).unwrap_err().0, "/oneOf");
        let consts = json!({ "oneOf": [{ "const": "a" }, { "const": "b" }] });
        assert_eq!(rules(&consts, &root).unwrap().len(), 2);
        assert_eq!(
            rules(&json!({ "type": "string", "minLength": 4, "maxLength": 2 }), &root).unwrap_err().0,
            "/maxLength"
        );
        let endless = Document::new(json!({ "$defs": { "a": { "$ref": "#/$defs/a" } } }));
        assert!(rules(&json!({ "$ref": "#/$defs/a" }), &endless).is_err());
    }
}
