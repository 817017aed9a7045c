//! The grammar of one parameter's values in the XML format: strings as they are, all else as JSON.

use serde_json::{Map, Value};

use super::lark::{ENDS, Text, literal};
use super::raw::{self, Problem, Rule};
use super::shape::{Parameter, Shape, uses, without};
use crate::grammar::schema;
use crate::grammar::schema::types::{Document, Types};

/// The rules `NAME_next` and `NAME_last` of a value with what ends it. Where what its schema asks cannot be followed and need
/// not be, it is any value of its types.
pub(super) fn values(
    out: &mut Text,
    name: &str,
    parameter: &Parameter,
    shape: &Shape,
    strict: bool,
) -> Result<(), Problem> {
    let written = match Written::of(name, parameter, &shape.document, strict) {
        Err(_) if !strict => {
            let coarse = Parameter { schema: parameter.types.schema(), ..parameter.clone() };
            Written::of(name, &coarse, &shape.document, strict)
        }
        written => written,
    };
    let Written { rules, mut options, rest } = written?;
    rules.iter().for_each(|(name, body)| out.rule(name, body));
    if let Some(rest) = rest {
        let json = out.json(&rest);
        options.iter_mut().zip(ENDS).for_each(|(list, (end, _))| list.push(format!("{json} {end}")));
    }
    for (list, (end, _)) in options.iter().zip(ENDS) {
        out.rule(&format!("{name}_{}", end.to_lowercase()), &list.join(" | "));
    }
    Ok(())
}

/// The ways to write a value.
struct Written {
    /// Rules, each with its name.
    rules: Vec<(String, String)>,
    /// The names of those that are a value with its end, for each end.
    options: [Vec<String>; 2],
    /// The schema of what is JSON.
    rest: Option<Value>,
}

impl Written {
    fn of(name: &str, parameter: &Parameter, document: &Document, strict: bool) -> Result<Self, Problem> {
        let strings = raw::rules(&parameter.schema, document)?;
        let mut written = Self { rules: Vec::new(), options: [Vec::new(), Vec::new()], rest: None };
        let others = Others::of(parameter, document, strict || strings.iter().all(Rule::has_values));
        let others = others.map_err(|problem| (String::new(), problem.to_owned()))?;
        for (n, rule) in strings.iter().enumerate() {
            written.strings(&format!("{name}_{n}"), rule, &others, parameter.types)?;
        }
        if let Some(words) = &others.words {
            for (list, (end, text)) in written.options.iter_mut().zip(ENDS) {
                let terminal = format!("{}_WORD_{end}", name.to_uppercase());
                written.rules.push((terminal.clone(), format!("/({words}){text}/")));
                list.push(terminal);
            }
        }
        if let Some(rest) = others.rest {
            let rest = schema::standalone(&rest, &document.root);
            written.rest = Some(schema::prepare(&rest).map_err(|error| (String::new(), error.to_string()))?);
        }
        if written.rest.is_none() && written.options.iter().any(Vec::is_empty) {
            return Err((String::new(), "no value can be written for it".to_owned()));
        }
        Ok(written)
    }

    /// The strings of one alternative.
    fn strings(&mut self, name: &str, rule: &Rule, others: &Others, types: Types) -> Result<(), Problem> {
        let Others { excluded, whole, .. } = others;
        let kept = rule.values.as_ref().map(|values| listed(values, types)).transpose()?;
        if kept.is_none() && rule.is_unwritable() {
            let problem =
                "the model's call format cannot express what its pattern matches; use another pattern";
            return Err((String::new(), problem.to_owned()));
        }
        for (list, (end, text)) in self.options.iter_mut().zip(ENDS) {
            let body = match &kept {
                Some(kept) if kept.is_empty() => continue,
                Some(kept) => {
                    let mut parts = vec![format!("({})", kept.join(" | "))];
                    parts.extend(rule.conditions("").into_iter().filter(|_| !rule.is_listed()));
                    format!("({}) {end}", parts.join(" & "))
                }
                None if rule.is_free() && excluded.is_empty() && !whole => {
                    list.push(format!("free_{}", end.to_lowercase()));
                    continue;
                }
                None if rule.is_free() => {
                    let tag = text.rsplit(r"\n").next().unwrap_or_default();
                    let body = match excluded.as_str() {
                        "" => "(?s:.*)".to_owned(),
                        _ => format!(r"[ \t\r\n]*([^ \t\r\n{excluded}](?s:.*))?"),
                    };
                    let whole = if *whole { " & NOT_WHOLE" } else { "" };
                    format!(r"/{body}<\/parameter>[ \t\r\n]{{0,16}}{tag}/ & NOT_EARLIER{whole}")
                }
                // llguidance needs far less where the conditions say nothing of the end.
                None => {
                    let mut parts = rule.conditions(excluded);
                    parts.push("NO_TAG".to_owned());
                    parts.extend(whole.then(|| "NO_INTEGER".to_owned()));
                    format!("({}) {end}", parts.join(" & "))
                }
            };
            let (terminal, lazy) =
                (format!("{name}_{end}").to_uppercase(), format!("{name}_{end}").to_lowercase());
            self.rules.push((terminal.clone(), body));
            self.rules.push((format!("{lazy}[lazy]"), terminal));
            list.push(lazy);
        }
        Ok(())
    }
}

/// Strings that are listed one by one, without those that would be read as another type.
fn listed(values: &[String], types: Types) -> Result<Vec<String>, Problem> {
    if values.iter().any(|value| value.contains("</parameter>")) {
        return Err((String::new(), "the model's call format cannot express one of its values".to_owned()));
    }
    let strings = values.iter().filter(|value| super::value::other_than_string(value, types).is_none());
    Ok(strings.map(|value| literal(value)).collect())
}

/// What may stand where a string may stand as well.
#[derive(Default)]
struct Others {
    /// Words that are read as another type, whatever strings may be there, as a regular expression.
    words: Option<String>,
    /// The schema of the rest.
    rest: Option<Value>,
    /// First characters that strings do not have there, in a class of a regular expression: they begin the rest.
    excluded: String,
    /// Whether an integer is no string, for not each of them is among the words.
    whole: bool,
}

impl Others {
    /// `exact` where a word of a type of which not every value will do cannot be left to strings.
    fn of(parameter: &Parameter, document: &Document, exact: bool) -> Result<Self, &'static str> {
        let all = match without(&parameter.schema, document, Types::STRING)? {
            Some(all) if parameter.types.has(Types::STRING) => all,
            rest => return Ok(Self { rest, ..Self::default() }),
        };
        const BOUNDS: [&str; 5] =
            ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
        let bounded = uses(&all, &BOUNDS);
        let listed = exact && uses(&all, &["enum", "const", "$ref", "allOf"]);
        let mut free = Types::of(&all, document).and(Types::SCALAR);
        let mut ranges = Vec::new();
        let whole =
            bounded && !listed && !free.has(Types::FRACTION) && find_ranges(&all, document, &mut ranges);
        if listed {
            free = free.and(Types::OBJECT);
        } else if bounded && !whole {
            free = free.without(Types::NUMBER);
        }
        let words = [
            (Types::NULL, "null"),
            (Types::BOOLEAN, "true|false"),
            (Types::INTEGER, "-?(0|[1-9][0-9]*)"),
            (Types::FRACTION, r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?"),
        ];
        let kept = if whole { free.without(Types::NUMBER) } else { free };
        let words = words.iter().filter(|(kind, _)| kept.has(*kind)).map(|(_, word)| (*word).to_owned());
        let words: Vec<String> = words.chain(ranges).collect();
        let rest = without(&all, document, free)?;
        let begin = [
            (Types::OBJECT, r"\{"),
            (Types::ARRAY, r"\["),
            (Types::NUMBER, r"\-0-9"),
            (Types::BOOLEAN, "tf"),
            (Types::NULL, "n"),
        ];
        let types = rest.as_ref().map(|rest| Types::of(rest, document));
        let excluded = begin.iter().filter(|(kind, _)| types.is_some_and(|types| types.has(*kind)));
        Ok(Self {
            words: (!words.is_empty()).then(|| words.join("|")),
            excluded: excluded.map(|(_, first)| *first).collect(),
            rest,
            whole,
        })
    }
}

/// Adds regular expressions for the integers of `schema`; whether they are all.
fn find_ranges(schema: &Value, document: &Document, found: &mut Vec<String>) -> bool {
    if !Types::of(schema, document).has(Types::INTEGER) {
        return true;
    }
    let Value::Object(map) = schema else { return false };
    const OTHERS: [&str; 5] = ["multipleOf", "enum", "const", "$ref", "allOf"];
    if OTHERS.iter().any(|key| map.contains_key(*key)) {
        return false;
    }
    let branches = ["anyOf", "oneOf"].iter().filter_map(|key| map.get(*key)?.as_array());
    let mut branches = branches.flatten().peekable();
    let Some((least, most)) = range(map) else { return false };
    if branches.peek().is_some() {
        return (least, most) == (None, None) && branches.all(|each| find_ranges(each, document, found));
    }
    found.extend(integers(least, most));
    true
}

/// The least and the most integer that bounds allow; nothing if they are not integers themselves.
fn range(map: &Map<String, Value>) -> Option<(Option<i64>, Option<i64>)> {
    let bound = |key: &str| match map.get(key) {
        None => Some(None),
        Some(value) => value.as_i64().map(Some),
    };
    let least = bound("minimum")?.max(bound("exclusiveMinimum")?.map(|bound| bound.saturating_add(1)));
    let most = [bound("maximum")?, bound("exclusiveMaximum")?.map(|bound| bound.saturating_sub(1))];
    Some((least, most.into_iter().flatten().min()))
}

/// A regular expression for the integers from `least` to `most`, if there are any.
fn integers(least: Option<i64>, most: Option<i64>) -> Option<String> {
    let mut all = Vec::new();
    if least.is_none_or(|least| least < 0) {
        let from = most.map_or(1, |most| if most < 0 { most.unsigned_abs() } else { 1 });
        all.extend(naturals(from, least.map(i64::unsigned_abs)).map(|digits| format!("-({digits})")));
    }
    if most.is_none_or(|most| most >= 0) {
        all.extend(naturals(
            least.map_or(0, |least| least.max(0).unsigned_abs()),
            most.map(i64::unsigned_abs),
        ));
    }
    (!all.is_empty()).then(|| all.join("|"))
}

fn naturals(from: u64, to: Option<u64>) -> Option<String> {
    if to.is_some_and(|to| to < from) {
        return None;
    }
    let first = from.to_string();
    let last = to.map(|to| to.to_string());
    let most = last.as_ref().map_or(first.len(), String::len);
    let mut all: Vec<String> = (first.len()..=most)
        .map(|n| {
            let low = if n == first.len() { first.clone() } else { format!("1{}", "0".repeat(n - 1)) };
            let high = last.clone().filter(|last| n == last.len()).unwrap_or_else(|| "9".repeat(n));
            digits(low.as_bytes(), high.as_bytes())
        })
        .collect();
    if last.is_none() {
        all.push(format!("[1-9][0-9]{{{},}}", first.len()));
    }
    Some(all.join("|"))
}

/// The same for numbers of as many digits.
fn digits(low: &[u8], high: &[u8]) -> String {
    let (Some((&l, low)), Some((&h, high))) = (low.split_first(), high.split_first()) else {
        return String::new();
    };
    let n = low.len();
    if l == b'0' && h == b'9' && low.iter().all(|d| *d == b'0') && high.iter().all(|d| *d == b'9') {
        return format!("[0-9]{{{}}}", n + 1);
    }
    if l == h {
        return format!("{}{}", l as char, group(digits(low, high)));
    }
    let mut all = vec![format!("{}{}", l as char, group(digits(low, &vec![b'9'; n])))];
    if l + 1 < h {
        all.push(format!("[{}-{}][0-9]{{{n}}}", (l + 1) as char, (h - 1) as char));
    }
    all.push(format!("{}{}", h as char, group(digits(&vec![b'0'; n], high))));
    all.join("|")
}

fn group(alternatives: String) -> String {
    if alternatives.contains('|') { format!("({alternatives})") } else { alternatives }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_a_range_are_exactly_those() {
        let mut builder = llguidance::derivre::RegexBuilder::new();
        let bounds = [
            None,
            Some(-120),
            Some(-100),
            Some(-7),
            Some(-1),
            Some(0),
            Some(1),
            Some(9),
            Some(10),
            Some(99),
            Some(215),
        ];
        for least in bounds {
            for most in bounds {
                let holds =
                    |n: i64| least.is_none_or(|least| least <= n) && most.is_none_or(|most| n <= most);
                let found = integers(least, most);
                let Some(found) = found else {
                    assert!((-300..300).all(|n| !holds(n)), "{least:?} {most:?}");
                    continue;
                };
                let regex = builder.mk_regex(&format!("({found})")).unwrap();
                let mut regex = builder.to_regex(regex);
                for n in -300..300 {
                    assert_eq!(
                        regex.is_match(&n.to_string()),
                        holds(n),
                        "{n} of {least:?} {most:?}: {found}"
                    );
                }
                assert!(!regex.is_match("-0") && !regex.is_match("01") && !regex.is_match("1x"));
            }
        }
        assert!(integers(Some(i64::MIN), Some(i64::MAX)).is_some());
    }
}
