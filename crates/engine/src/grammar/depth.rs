//! How deep the rules of a grammar and the references of a schema lead: llguidance follows both by recursion.

use std::collections::HashMap;

use serde_json::Value;

use super::schema::{self, Refused};
use crate::{Error, Result};

/// The most levels that a chain of rules, with the groups in them, or of references, with what they lie in, may have.
pub(super) const MOST_LEVELS: usize = 4096;

/// Groups, or conditions, within each other; conditions are followed by recursion at every step.
const MOST_GROUPS: usize = 64;

/// Refuses a grammar in Lark whose rules, or the schemas in it, lead too deep. What is wrong with it otherwise is for
/// its compiler to say.
///
/// # Errors
/// [`Error::Grammar`].
pub(super) fn check_lark(text: &str) -> Result<()> {
    let mut graph = Graph::default();
    let top = graph.node("");
    // The rule that is read, those around it, whether a rule may begin here, and the groups that are open. A word too many
    // only makes a chain look longer; none is missed.
    let (mut rule, mut around, mut begins, mut groups) = (top, Vec::new(), true, 0usize);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let long = match c {
            '"' => quoted(rest),
            '#' => line(rest),
            '/' if rest.starts_with("//") => line(rest),
            '/' => quoted(rest),
            '<' => rest.find('>').map_or(rest.len(), |at| at + 1),
            '%' => {
                if std::mem::take(&mut begins) {
                    rule = top;
                }
                let Some(long) = document(rest)? else { return Ok(()) };
                long
            }
            'a'..='z' | 'A'..='Z' => {
                let name = name(rest);
                let node = graph.node(name);
                if std::mem::take(&mut begins) {
                    (rule, groups) = (node, 0);
                } else {
                    graph.nodes[rule].to.push(node);
                }
                name.len()
            }
            _ => {
                match c {
                    '(' | '[' => groups += 1,
                    ')' | ']' => groups = groups.saturating_sub(1),
                    // A grammar within the grammar, or a number of times.
                    '{' => around.push((rule, groups)),
                    '}' => (rule, groups) = around.pop().unwrap_or((top, 0)),
                    _ => {}
                }
                if groups > MOST_GROUPS {
                    return Err(Error::Grammar(format!(
                        "more than `{MOST_GROUPS}` groups within each other"
                    )));
                }
                let levels = &mut graph.nodes[rule].levels;
                *levels = (*levels).max(1 + groups);
                begins = matches!(c, '\n' | '{') || begins && !matches!(c, '|' | '}');
                c.len_utf8()
            }
        };
        rest = &rest[long..];
    }
    if graph.most_levels() > MOST_LEVELS {
        let problem = format!("its rules lead more than `{MOST_LEVELS}` levels deep; use fewer of them");
        return Err(Error::Grammar(problem));
    }
    Ok(())
}

/// The name that `text` begins with, in capital letters or small ones.
fn name(text: &str) -> &str {
    let capital = text.starts_with(|c: char| c.is_ascii_uppercase());
    let is_of_name = |c: char| match capital {
        true => c.is_ascii_uppercase(),
        false => c.is_ascii_lowercase(),
    };
    let end = text.find(|c: char| !(is_of_name(c) || c.is_ascii_digit() || c == '_' || c == '-'));
    &text[..end.unwrap_or(text.len())]
}

/// The length of a string or a regular expression, which ends as it begins.
fn quoted(text: &str) -> usize {
    let (bytes, mut at) = (text.as_bytes(), 1);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            _ if byte == bytes[0] => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn line(text: &str) -> usize {
    text.find('\n').unwrap_or(text.len())
}

/// The length of a directive with the JSON behind it, if it has some; `None` if that cannot be read.
fn document(text: &str) -> Result<Option<usize>> {
    let Some(word) = ["%json", "%regex", "%llguidance"].into_iter().find(|word| text.starts_with(word))
    else {
        return Ok(Some(1));
    };
    let mut values = serde_json::Deserializer::from_str(&text[word.len()..]).into_iter::<Value>();
    let Some(Ok(value)) = values.next() else { return Ok(None) };
    // There are many ways to write a reference, and one to follow.
    let gathered = schema::gathered(&value);
    let gathered = gathered
        .map_err(|Refused { path, problem }| Error::Grammar(format!("`{word}`, `{path}`: {problem}")))?;
    if leads_too_deep(&gathered) {
        return Err(Error::Grammar(TOO_DEEP.to_owned()));
    }
    Ok(Some(word.len() + values.byte_offset()))
}

/// What is wrong with a schema that [`leads_too_deep`].
pub(super) const TOO_DEEP: &str = "its references lead too deep; use fewer definitions";

/// Whether the references of `schema` lead deeper than [`MOST_LEVELS`], or are written so that this cannot be told.
pub(super) fn leads_too_deep(schema: &Value) -> bool {
    let mut graph = Graph::default();
    let mut targets = vec![("", schema)];
    graph.node("");
    while let Some((name, found)) = targets.pop() {
        let node = graph.node(name);
        let mut parts = vec![(found, 1)];
        while let Some((part, depth)) = parts.pop() {
            graph.nodes[node].levels = depth.max(graph.nodes[node].levels);
            match part {
                Value::Array(list) => parts.extend(list.iter().map(|inner| (inner, depth + 1))),
                Value::Object(map) => parts.extend(map.values().map(|inner| (inner, depth + 1))),
                _ => {}
            }
            let Some(reference) = part.get("$ref").and_then(Value::as_str) else { continue };
            let (known, to) = (graph.nodes.len(), graph.node(reference));
            graph.nodes[node].to.push(to);
            if to < known {
                continue;
            }
            match target(schema, reference) {
                Ok(found) => targets.extend(found.map(|found| (reference, found))),
                Err(Ambiguous) => return true,
            }
        }
    }
    graph.most_levels() > MOST_LEVELS
}

/// A reference in one of several ways to write it, of which each would be looked through.
struct Ambiguous;

/// What a reference leads to, as llguidance takes it.
fn target<'v>(schema: &'v Value, reference: &str) -> Result<Option<&'v Value>, Ambiguous> {
    if matches!(reference, "#" | "#/") {
        return Ok(Some(schema));
    }
    let Some(place) = reference.strip_prefix("#/") else { return Ok(None) };
    let mut found = schema;
    for step in place.split('/') {
        let inner = match found {
            Value::Array(_) if step.len() > 1 && step.starts_with(['0', '+']) => return Err(Ambiguous),
            Value::Array(list) => step.parse().ok().and_then(|i: usize| list.get(i)),
            value => value.get(step),
        };
        let Some(inner) = inner else { return Ok(None) };
        found = inner;
    }
    Ok(Some(found))
}

/// Things that lead to each other by their names.
#[derive(Default)]
struct Graph<'g> {
    numbers: HashMap<&'g str, usize>,
    nodes: Vec<Node>,
}

struct Node {
    /// How deep it is itself.
    levels: usize,
    to: Vec<usize>,
}

impl<'g> Graph<'g> {
    /// The number of what has this name.
    fn node(&mut self, name: &'g str) -> usize {
        let Self { numbers, nodes } = self;
        *numbers.entry(name).or_insert_with(|| {
            nodes.push(Node { levels: 1, to: Vec::new() });
            nodes.len() - 1
        })
    }

    /// The levels that no chain exceeds, in whatever order it is followed: each of a cycle can be part of it, once.
    ///
    /// Cycles are found as in Tarjan, "Depth-first search and linear graph algorithms", 1972, without recursion.
    fn most_levels(&self) -> usize {
        let count = self.nodes.len();
        // When each was reached, from 1; the first that leads back from it; the most levels from it on, once known.
        let (mut reached, mut back, mut most) = (vec![0; count], vec![0; count], vec![None; count]);
        let (mut open, mut path, mut time) = (Vec::new(), Vec::new(), 0);
        for start in 0..count {
            if reached[start] == 0 {
                path.push((start, 0));
            }
            while let Some((node, next)) = path.last_mut() {
                let at = *node;
                if *next == 0 {
                    time += 1;
                    (reached[at], back[at]) = (time, time);
                    open.push(at);
                }
                let to = self.nodes[at].to.get(*next);
                *next += 1;
                match to {
                    Some(&to) if reached[to] == 0 => path.push((to, 0)),
                    Some(&to) if most[to].is_none() => back[at] = back[at].min(reached[to]),
                    Some(_) => {}
                    None => {
                        path.pop();
                        if let Some(&(before, _)) = path.last() {
                            back[before] = back[before].min(back[at]);
                        }
                        if back[at] < reached[at] {
                            continue;
                        }
                        let first = open.iter().rposition(|&each| each == at).unwrap_or(0);
                        let cycle = open.split_off(first);
                        let behind = cycle.iter().flat_map(|&each| &self.nodes[each].to);
                        let below = behind.filter_map(|&to| most[to]).max().unwrap_or(0);
                        let levels = cycle.iter().map(|&each| self.nodes[each].levels).sum::<usize>();
                        cycle.into_iter().for_each(|each| most[each] = Some(below + levels));
                    }
                }
            }
        }
        most.into_iter().flatten().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn levels(names: &[(&'static str, &[&'static str])]) -> usize {
        let mut graph = Graph::default();
        for (name, to) in names {
            let node = graph.node(name);
            let to: Vec<usize> = to.iter().map(|to| graph.node(to)).collect();
            graph.nodes[node].to.extend(to);
        }
        graph.most_levels()
    }

    #[test]
    fn a_chain_has_each_of_its_cycles_once() {
        assert_eq!(levels(&[]), 0);
        assert_eq!(levels(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])]), 3);
        assert_eq!(levels(&[("a", &["a", "b"]), ("c", &["b", "d"]), ("b", &["c"]), ("d", &["e"])]), 5);
        assert_eq!(levels(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"]), ("d", &["c"]), ("e", &[])]), 4);
    }

    #[test]
    fn rules_are_told_from_what_looks_like_them() {
        let chain = |rule: &dyn Fn(usize) -> String| (0..5000).map(rule).collect::<String>();
        let rules = chain(&|i| format!("r{i}: r{}\n", i + 1));
        let with = |text: &str| check_lark(&format!("{text}\n{rules}"));
        assert!(with("start: r0").is_err());
        for hidden in ["start: /\\/\n/ (r0){1,2} \"\\\"\"", "start: <\">", "start: %json {\"x\": \"}\"} r0"] {
            assert!(with(hidden).is_err(), "{hidden}");
        }
        assert!(check_lark(&chain(&|i| format!("T{i}: T{}\n", i + 1))).is_err());
        assert!(
            check_lark(&chain(&|i| format!("r{i}[stop=/\n/]: \n  | %lark {{ start: a }} r{}\n", i + 1)))
                .is_err()
        );
        // None of these leads to the next.
        for flat in ["r{}: \"r{+}\"\n", "r{}: /r{+}: r{+}/ // r{+}\n", "r{}: <r{+}> # r{+}\n"] {
            let rule = |i: usize| flat.replace("{}", &i.to_string()).replace("{+}", &(i + 1).to_string());
            assert!(check_lark(&chain(&rule)).is_ok(), "{flat}");
        }
        let all = (0..5000).map(|i| format!(" | r{i}")).collect::<String>();
        assert!(
            check_lark(&format!("start: \"x\"{all}\n{}", chain(&|i| format!("r{i}: \"a\"{{2}}\n")))).is_ok()
        );
        assert!(check_lark(&format!("start: {}", "(".repeat(65))).is_err());
    }

    #[test]
    fn references_are_followed_where_they_lead() {
        let chain = |to: &dyn Fn(usize) -> Value| {
            let definitions: serde_json::Map<_, _> =
                (0..2000).map(|i| (format!("a{i}"), to(i + 1))).collect();
            json!({ "$ref": "#/$defs/a0", "$defs": definitions })
        };
        assert!(leads_too_deep(&chain(
            &|i| json!({ "items": { "anyOf": [{ "$ref": format!("#/$defs/a{i}") }] } })
        )));
        assert!(!leads_too_deep(&chain(&|_| json!({ "items": { "$ref": "#/$defs/a7" } }))));
        let encoded = |i: usize| json!({ "items": { "$ref": format!("#/%24defs/a{i}") } });
        let definitions: serde_json::Map<_, _> =
            (0..1990).map(|i| (format!("a{i}"), encoded((i + 1) % 1990))).collect();
        let encoded = json!({ "$ref": "#/$defs/a0", "$defs": definitions });
        assert!(check_lark(&format!("start: %json {encoded}")).is_err());
        assert!(!leads_too_deep(&json!({ "$ref": "#", "items": { "$ref": "https://example.com" } })));
        assert!(leads_too_deep(&json!({ "$ref": "#/anyOf/00", "anyOf": [{}] })));
    }
}
