//! Strings that stand in a call as they are: what a schema asks of them, as regular expressions.

use std::collections::HashSet;

use serde_json::Value;

use super::shape::{MOST_COPIED, TOO_MANY, values};
use crate::grammar::schema::types::{Document, Types};

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

/// Formats as llguidance has them within JSON (`lookup_format`), so that a string means the same in both.
const FORMATS: &[(&str, &str)] = &[
    (
        "date",
        r"(?:[0-9]{4}-(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01]))|(?:[0-9]{4}-(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30))|(?:[0-9]{4}-02-(?:0[1-9]|1[0-9]|2[0-9]))",
    ),
    (
        "time",
        r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(\.[0-9]+)?([zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])",
    ),
    (
        "date-time",
        r"([0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|(?:02)-(?:0[1-9]|1[0-9]|2[0-9])))[tT]((?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(\.[0-9]+)?([zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))",
    ),
    (
        "duration",
        r"P(?:((?:([0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?)|([0-9]+M(?:[0-9]+D)?)|([0-9]+D))(?:T(?:([0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?)|([0-9]+M(?:[0-9]+S)?)|([0-9]+S)))?)|(T(?:([0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?)|([0-9]+M(?:[0-9]+S)?)|([0-9]+S)))|([0-9]+W))",
    ),
    (
        "email",
        r"(([a-zA-Z0-9!#$%&'*+\-/=?\^_`{|}~]+(\.[a-zA-Z0-9!#$%&'*+\-/=?\^_`{|}~]+)*))@((([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)(\.([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?))*)|\[(((([0-9])|(([1-9])[0-9]|(25[0-5]|(2[0-4]|(1)[0-9])[0-9])))\.){3}(([0-9])|(([1-9])[0-9]|(25[0-5]|(2[0-4]|(1)[0-9])[0-9]))))\])",
    ),
    (
        "hostname",
        r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*",
    ),
    (
        "ipv4",
        r"((([0-9])|(([1-9])[0-9]|(25[0-5]|(2[0-4]|(1)[0-9])[0-9])))\.){3}(([0-9])|(([1-9])[0-9]|(25[0-5]|(2[0-4]|(1)[0-9])[0-9])))",
    ),
    (
        "ipv6",
        r"(?:((?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}))|(?:::(?:[0-9a-fA-F]{1,4}:){0,5}([0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,4}))|(?:([0-9a-fA-F]{1,4})?::(?:[0-9a-fA-F]{1,4}:){0,4}([0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,4}))|(?:((?:[0-9a-fA-F]{1,4}:){0,1}[0-9a-fA-F]{1,4})?::(?:[0-9a-fA-F]{1,4}:){0,3}([0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,4}))|(?:((?:[0-9a-fA-F]{1,4}:){0,2}[0-9a-fA-F]{1,4})?::(?:[0-9a-fA-F]{1,4}:){0,2}([0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,4}))|(?:((?:[0-9a-fA-F]{1,4}:){0,3}[0-9a-fA-F]{1,4})?::[0-9a-fA-F]{1,4}:([0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,4}))|(?:((?:[0-9a-fA-F]{1,4}:){0,4}[0-9a-fA-F]{1,4})?::([0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,4}))|(?:((?:[0-9a-fA-F]{1,4}:){0,5}[0-9a-fA-F]{1,4})?::([0-9a-fA-F]{1,4}))|(?:((?:[0-9a-fA-F]{1,4}:){0,6}[0-9a-fA-F]{1,4})?::)",
    ),
    (
        "uri",
        r"([a-zA-Z][a-zA-Z0-9+\-.]*):(?://(?:((?:[a-zA-Z0-9\-._~!$&'()*+,;=:]|%[0-9a-fA-F]{2})*)@)?(\[(?:(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|(?:[0-9a-fA-F]{1,4}:){1,7}:|(?:[0-9a-fA-F]{1,4}:){1,6}:[0-9a-fA-F]{1,4}|(?:[0-9a-fA-F]{1,4}:){1,5}(?::[0-9a-fA-F]{1,4}){1,2}|(?:[0-9a-fA-F]{1,4}:){1,4}(?::[0-9a-fA-F]{1,4}){1,3}|(?:[0-9a-fA-F]{1,4}:){1,3}(?::[0-9a-fA-F]{1,4}){1,4}|(?:[0-9a-fA-F]{1,4}:){1,2}(?::[0-9a-fA-F]{1,4}){1,5}|[0-9a-fA-F]{1,4}:(?::[0-9a-fA-F]{1,4}){1,6}|:(?::[0-9a-fA-F]{1,4}){1,7}|::|v[0-9a-fA-F]+\.[a-zA-Z0-9\-._~!$&'()*+,;=:]+)\]|(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])|(?:[a-zA-Z0-9\-._~!$&'()*+,;=]|%[0-9a-fA-F]{2})*)(?::([0-9]*))?((?:/(?:[a-zA-Z0-9\-._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*)*)|(/(?:(?:[a-zA-Z0-9\-._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+(?:/(?:[a-zA-Z0-9\-._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*)*)?)|((?:[a-zA-Z0-9\-._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+(?:/(?:[a-zA-Z0-9\-._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*)*)|())(?:\?((?:[a-zA-Z0-9\-._~!$&'()*+,;=:@/?]|%[0-9a-fA-F]{2})*))?(?:#((?:[a-zA-Z0-9\-._~!$&'()*+,;=:@/?]|%[0-9a-fA-F]{2})*))?",
    ),
    (
        "uuid",
        r"([0-9a-fA-F]{8})-([0-9a-fA-F]{4})-([0-9a-fA-F]{4})-([0-9a-fA-F]{2})([0-9a-fA-F]{2})-([0-9a-fA-F]{12})",
    ),
];

/// What is wrong with a length that is none.
const NO_LENGTH: &str = "a length is an integer that is not negative";

/// What no string of this format can be: one with the end of a value in it.
const HOLDS_TAG: &str = r"(?s:.*)</parameter>[ \t\r\n]{0,16}(<parameter=|</function>)(?s:.*)";

/// What derivre may spend on finding out whether a pattern matches only such strings: some milliseconds.
const MOST_FUEL: u64 = 100_000;

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
    /// What alternatives that may still come may weigh, with what is looked at for each of them.
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
        let weight = rule.weight();
        self.pay(weight + values(schema), path)?;
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
        self.pay(rule.weight().saturating_sub(weight), path)?;
        let mut rules = vec![rule];
        for (i, part) in map.get("allOf").and_then(Value::as_array).into_iter().flatten().enumerate() {
            rules = self.each(rules, part, (&format!("{path}/allOf/{i}"), depth + 1))?;
        }
        if let Some(reference) = map.get("$ref") {
            let target = self.document.resolve(reference);
            let target =
                target.ok_or_else(|| (format!("{path}/$ref"), format!("{reference} is not there")))?;
            rules = self.each(rules, target, (path, depth + 1))?;
        }
        for key in ["anyOf", "oneOf"] {
            let Some(branches) = map.get(key).and_then(Value::as_array) else { continue };
            let mut alternatives = Vec::new();
            for (i, branch) in branches.iter().enumerate() {
                let at = format!("{path}/{key}/{i}");
                alternatives.append(&mut self.each(rules.clone(), branch, (&at, depth + 1))?);
            }
            if key == "oneOf" && overlap(&alternatives) {
                let problem = "its strings may belong to two branches; use `anyOf`";
                return Err((format!("{path}/oneOf"), problem.to_owned()));
            }
            rules = alternatives;
        }
        found.append(&mut rules);
        Ok(())
    }

    /// Takes what is about to be looked at or kept from what is left.
    fn pay(&mut self, weight: usize, path: &str) -> Result<(), Problem> {
        let left = self.left.checked_sub(weight);
        self.left = left.ok_or_else(|| (path.to_owned(), TOO_MANY.to_owned()))?;
        Ok(())
    }

    /// What `schema` asks beyond each of `rules`.
    fn each(&mut self, rules: Vec<Rule>, schema: &Value, at: (&str, usize)) -> Result<Vec<Rule>, Problem> {
        let mut found = Vec::new();
        for rule in rules {
            self.collect(schema, rule, at, &mut found)?;
        }
        Ok(found)
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
        let set: HashSet<_> = values.iter().collect();
        set.len() == values.len()
    };
    rules.len() > 1 && !values.as_ref().is_some_and(distinct)
}

impl Rule {
    /// Adds what one keyword asks.
    fn restrict(&mut self, key: &str, value: &Value) -> Result<(), String> {
        match key {
            "minLength" => self.min = self.min.max(value.as_u64().ok_or(NO_LENGTH)?),
            "maxLength" => {
                let max = value.as_u64().ok_or(NO_LENGTH)?;
                self.max = Some(self.max.unwrap_or(max).min(max));
            }
            "pattern" => {
                let pattern = value.as_str().ok_or("a pattern is a string")?;
                self.patterns.push(llguidance::regex_to_lark(&whole(pattern), "dw"));
            }
            "format" => {
                if let Some((_, regex)) = FORMATS.iter().find(|(name, _)| value == name) {
                    self.patterns.push(llguidance::regex_to_lark(&format!("({regex})"), "dw"));
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
            let before: HashSet<&String> = before.iter().collect();
            values.retain(|value| before.contains(value));
        }
        values.dedup();
        self.values = Some(values);
    }

    /// Regular expressions that the whole string matches, all of them, and begins with none of `excluded` (in a class of a
    /// regular expression).
    pub(super) fn conditions(&self, excluded: &str) -> Vec<String> {
        let mut conditions: Vec<String> = self.patterns.iter().map(|body| format!("/{body}/")).collect();
        let first = format!(r"[^ \t\r\n{excluded}]");
        let bounds = |less: u64| {
            let max = self.max.map_or(String::new(), |max| max.saturating_sub(less).to_string());
            format!("(?s:.{{{},{max}}})", self.min.saturating_sub(less))
        };
        if conditions.is_empty() {
            conditions.push(match excluded {
                "" => format!("/{}/", bounds(0)),
                _ if self.max == Some(0) => "/()/".to_owned(),
                _ if self.min == 0 => format!("/({first}{})?/", bounds(1)),
                _ => format!("/{first}{}/", bounds(1)),
            });
            return conditions;
        }
        if !excluded.is_empty() {
            conditions.push(format!("/{first}(?s:.*)/"));
        }
        if self.min > 0 || self.max.is_some() {
            conditions.push(format!("/{}/", bounds(0)));
        }
        conditions
    }

    /// Whether each string that there may be holds what would end a value.
    pub(super) fn is_unwritable(&self) -> bool {
        // Few patterns are worth the look.
        let mut suspects = self.patterns.iter().filter(|pattern| pattern.contains("parameter"));
        suspects.any(|pattern| {
            let mut builder = llguidance::derivre::RegexBuilder::new();
            builder.is_contained_in(pattern, HOLDS_TAG, MOST_FUEL).unwrap_or(false)
        })
    }

    /// Whether strings are listed, with no other condition.
    pub(super) fn is_listed(&self) -> bool {
        Self { values: None, ..self.clone() }.is_free()
    }

    /// Whether strings are listed, perhaps with other conditions.
    pub(super) fn has_values(&self) -> bool {
        self.values.is_some()
    }

    /// Whether any string will do.
    pub(super) fn is_free(&self) -> bool {
        *self == Self::default()
    }
}

/// A regular expression for the whole of a text that `pattern`, a search, finds itself in. Anchors are understood at the ends
/// of alternatives, also of those in a group that is all of one.
fn whole(pattern: &str) -> String {
    if let Some((flags, rest)) = flags(pattern) {
        return format!("{flags}:{})", whole(rest));
    }
    let alternatives = split(pattern).into_iter().map(|alternative| {
        if let Some(inner) = group(alternative).filter(|inner| inner.contains(['^', '$'])) {
            return whole(inner);
        }
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

/// The flags that all of a regular expression has, such as `(?i`, and the rest of it.
fn flags(pattern: &str) -> Option<(&str, &str)> {
    let (flags, rest) = pattern.split_once(')')?;
    let letters = flags.strip_prefix("(?")?;
    // `m` would make lines of it, and `x` white space of no meaning.
    (!letters.is_empty() && letters.chars().all(|c| matches!(c, 'i' | 's' | 'u'))).then_some((flags, rest))
}

/// What is in the group that `pattern` is.
fn group(pattern: &str) -> Option<&str> {
    let inner = pattern.strip_prefix('(')?.strip_suffix(')')?;
    let inner = inner.strip_prefix("?:").unwrap_or(inner);
    if inner.starts_with('?') {
        return None;
    }
    let mut depth = 0i64;
    let mut walk = Walked::default();
    let is_one = inner.chars().all(|c| {
        depth += walk.step(c);
        depth >= 0
    });
    (is_one && depth == 0 && !walk.escaped).then_some(inner)
}

/// How far a regular expression was read.
#[derive(Default)]
struct Walked {
    escaped: bool,
    class: bool,
}

impl Walked {
    /// Takes the next character: whether a group opens or closes.
    fn step(&mut self, c: char) -> i64 {
        match c {
            _ if self.escaped => self.escaped = false,
            '\\' => self.escaped = true,
            ']' => self.class = false,
            '[' => self.class = true,
            _ if self.class => {}
            '(' => return 1,
            ')' => return -1,
            _ => {}
        }
        0
    }

    /// Whether the last character was none of a class, nor an escaped one.
    fn is_plain(&self) -> bool {
        !self.class && !self.escaped
    }
}

/// The alternatives of a regular expression.
fn split(pattern: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut walk) = (Vec::new(), 0, 0i64, Walked::default());
    for (i, c) in pattern.char_indices() {
        let is_plain = walk.is_plain();
        depth = (depth + walk.step(c)).max(0);
        if c == '|' && depth == 0 && is_plain {
            parts.push(&pattern[start..i]);
            start = i + 1;
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
        assert_eq!(whole("(^$)|(?:^a|b$)"), "((())|((a)(?s:.*)|(?s:.*)(b)))");
        assert_eq!(whole("(?i)^abc$"), "(?i:((abc)))");
        assert_eq!(whole("(a)[^)](b)"), "((?s:.*)((a)[^)](b))(?s:.*))");
    }

    #[test]
    fn alternatives_are_found_through_unions_and_references() {
        let root = Document::new(json!({ "$defs": { "d0": { "type": "string", "maxLength": 3 } } }));
        let union = json!({ "anyOf": [{ "$ref": "#/$defs/d0" }, { "type": "null" }, { "enum": ["x", 1] }] });
        let found = rules(&union, &root).unwrap();
        assert_eq!(found[0], Rule { max: Some(3), ..Rule::default() });
        assert_eq!(found[1].values, Some(vec!["x".to_owned()]));
        assert_eq!(found.len(), 2);
        let all = json!({ "type": "string", "allOf": [union, { "minLength": 2 }] });
        let both = rules(&all, &root).unwrap();
        assert_eq!((both.len(), both[0].min, both[0].max, both[1].min), (2, 2, Some(3), 2));
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
        let endless = Document::new(json!({ "$defs": { "d0": { "$ref": "#/$defs/d0" } } }));
        assert!(rules(&json!({ "$ref": "#/$defs/d0" }), &endless).is_err());
    }
}
