//! The grammar of an answer's calls, as text in llguidance's dialect of Lark.
//!
//! Parameters in the XML format come in any order: llguidance's rules can carry a word, whose bits say which parameters
//! were given. Those that must be there have the lowest bits.

use std::fmt::Write as _;

use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};

use super::raw::{self, Rule};
use super::shape::{Document, Parameter, Types, pointer, standalone, uses, without};
use super::{CLOSE, CallFormat, OPEN, Tool, ToolChoice, ToolSet};
use crate::grammar::{GuidedMatcher, MAX_SOURCE, schema};
use crate::{Error, Result, Tokenizer};

/// What may stand at the end of a value that is a string. A lexeme with this in it ends there, or is none.
const COMMON: &str = r#"
NOT_EARLIER: ~/(?s:.*)<\/parameter>[ \t\r\n]{0,16}(<parameter=|<\/function>)(?s:.+)/
NEXT: "\n</parameter>\n<parameter="
LAST: "\n</parameter>\n</function>"
FREE_NEXT: /(?s:.*)<\/parameter>[ \t\r\n]{0,16}<parameter=/ & NOT_EARLIER
FREE_LAST: /(?s:.*)<\/parameter>[ \t\r\n]{0,16}<\/function>/ & NOT_EARLIER
free_next[lazy]: FREE_NEXT
free_last[lazy]: FREE_LAST
OTHER: /[A-Za-z0-9_.-]{1,64}/
"#;

/// The ends of a value: the name of its literal, its text, and that text as a regular expression.
const ENDS: [(&str, &str); 2] =
    [("NEXT", r"\n<\/parameter>\n<parameter="), ("LAST", r"\n<\/parameter>\n<\/function>")];

/// The grammar of an answer that consists of calls, compiled.
///
/// # Errors
/// [`Error::Tool`] naming the tool and the path in its schema of what cannot be guaranteed.
pub(crate) fn compile(tokenizer: &Tokenizer, set: &ToolSet) -> Result<GuidedMatcher> {
    let answer = set.answer.as_ref().map(schema::prepare).transpose()?;
    for (i, tool) in set.callable() {
        if let Some(refused) = schema::refused(&set.shapes[i].document.root) {
            return Err(tool.wrong(&refused.path, refused.problem));
        }
    }
    let whole = source(tokenizer, set, answer.as_ref())?;
    match build(tokenizer, &whole) {
        Ok(matcher) => Ok(matcher),
        Err(error) => Err(blame(tokenizer, set, error)),
    }
}

fn build(tokenizer: &Tokenizer, source: &str) -> Result<GuidedMatcher> {
    if source.len() > MAX_SOURCE {
        let problem =
            format!("the tools' grammar has `{}` bytes; up to `{MAX_SOURCE}` are supported", source.len());
        return Err(Error::Request { field: "tools", problem });
    }
    GuidedMatcher::kept(tokenizer, source)
}

/// The tool, and the deepest part of its schema, that does not compile on its own.
fn blame(tokenizer: &Tokenizer, set: &ToolSet, error: Error) -> Error {
    let Error::Grammar(_) = error else { return error };
    let compiles = |set: &ToolSet| source(tokenizer, set, None).and_then(|text| build(tokenizer, &text));
    for (i, tool) in set.callable() {
        let alone = |tool: Tool| {
            let alone = ToolSet::new(vec![tool], set.format).and_then(|set| set.choice(ToolChoice::Required));
            alone.and_then(|set| compiles(&set)).err()
        };
        let Some(Error::Grammar(problem)) = alone(tool.clone()) else { continue };
        let shape = &set.shapes[i];
        let guilty = shape.parameters.iter().find_map(|parameter| {
            let only = standalone(&parameter.schema, &shape.document.root);
            let definitions = only.get("$defs").cloned().unwrap_or_else(|| json!({}));
            let name = parameter.name.as_str();
            let schema = json!({ "properties": { (name): only }, "required": [name], "$defs": definitions });
            let error = alone(Tool { parameters: schema, ..tool.clone() })?;
            let path = pointer(&["properties", &parameter.name]);
            Some((path + &deepest(tokenizer, &parameter.schema, &shape.document.root), error))
        });
        return match guilty {
            Some((path, Error::Grammar(problem))) => tool.wrong(&path, problem),
            _ => tool.wrong("", problem),
        };
    }
    error
}

/// The path of the deepest part of `part` that does not compile.
fn deepest(tokenizer: &Tokenizer, part: &Value, root: &Value) -> String {
    let mut inner = part.clone();
    let mut found = None;
    schema::each_part(&mut inner, &mut |each| {
        let fails = || {
            let schema = schema::prepare(&standalone(each, root))?;
            GuidedMatcher::new(tokenizer, TopLevelGrammar::from_json_schema(schema)).map(drop)
        };
        if found.is_none() && fails().is_err() {
            found = Some(each.clone());
        }
    });
    let Some(guilty) = found else { return String::new() };
    let path = paths(part).into_iter().find(|path| part.pointer(path) == Some(&guilty)).unwrap_or_default();
    path + &deepest(tokenizer, &guilty, root)
}

/// The paths of what lies one or two steps within a schema.
fn paths(part: &Value) -> Vec<String> {
    let steps = |value: &Value| -> Vec<String> {
        match value {
            Value::Object(map) => map.keys().map(|key| pointer(&[key])).collect(),
            Value::Array(list) => (0..list.len()).map(|i| format!("/{i}")).collect(),
            _ => Vec::new(),
        }
    };
    let mut found = steps(part);
    for path in found.clone() {
        found.extend(
            part.pointer(&path)
                .map(steps)
                .unwrap_or_default()
                .into_iter()
                .map(|step| format!("{path}{step}")),
        );
    }
    found
}

/// The text of the grammar.
fn source(tokenizer: &Tokenizer, set: &ToolSet, answer: Option<&Value>) -> Result<String> {
    let mut out = String::new();
    let many = set.parallel && !matches!(set.choice, ToolChoice::Named(_));
    let mut start = if many { "start: call (\"\\n\" call)*".to_owned() } else { "start: call".to_owned() };
    if let Some(schema) = answer
        && set.choice == ToolChoice::Auto
    {
        start += " | answer";
        rule(&mut out, "answer", &format!("%json {schema}"));
    }
    let (open, close) = (tag(tokenizer, OPEN), tag(tokenizer, CLOSE));
    let tools: Vec<String> = set.callable().map(|(i, _)| format!("t{i}")).collect();
    let (before, after) = match set.format {
        CallFormat::Json => ("\n{\"name\": \"", "}\n"),
        CallFormat::Xml => ("\n<function=", "\n"),
    };
    let call = format!("{open} {} ({}) {} {close}", literal(before), tools.join(" | "), literal(after));
    rule(&mut out, "call", &call);
    match set.format {
        CallFormat::Json => {
            for (i, tool) in set.callable() {
                let schema = schema::prepare(&set.shapes[i].document.root)?;
                let name = literal(&format!("{}\", \"arguments\": ", tool.name));
                rule(&mut out, &format!("t{i}"), &format!("{name} a{i}"));
                rule(&mut out, &format!("a{i}"), &format!("%json {schema}"));
            }
        }
        CallFormat::Xml => {
            out.push_str(COMMON);
            for (i, tool) in set.callable() {
                function(&mut out, i, tool, set)?;
            }
        }
    }
    Ok(format!("{start}\n{out}"))
}

/// A tag: the token where the vocabulary has it as a special one, which no text is, else its text.
fn tag(tokenizer: &Tokenizer, text: &str) -> String {
    match tokenizer.token_id(text).filter(|&id| tokenizer.is_special(id)) {
        Some(id) => format!("<[{id}]>"),
        None => literal(text),
    }
}

fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

fn rule(out: &mut String, name: &str, body: &str) {
    // Writing into a string does not fail.
    let _ = writeln!(out, "{name}: {body}");
}

/// The rules of one function in the XML format, from its name to `</function>`.
fn function(out: &mut String, i: usize, tool: &Tool, set: &ToolSet) -> Result<()> {
    let shape = &set.shapes[i];
    let (count, others) = (shape.parameters.len(), shape.others.as_ref());
    let required = shape.parameters.iter().filter(|parameter| parameter.required).count();
    let mut begin = Vec::new();
    if required == 0 {
        begin.push("\"</function>\"".to_owned());
    }
    if count > 0 || others.is_some() {
        begin.push(format!("\"<parameter=\" q{i}::0x0"));
    }
    let name = literal(&format!("{}>\n", tool.name));
    rule(out, &format!("t{i}"), &format!("{name} ({})", begin.join(" | ")));
    let mut options = Vec::new();
    for (k, parameter) in shape.parameters.iter().enumerate() {
        let problem = |(path, problem): raw::Problem| {
            tool.wrong(&(pointer(&["properties", &parameter.name]) + &path), problem)
        };
        let rules = raw::rules(&parameter.schema, &shape.document).map_err(problem)?;
        let value = format!("v{i}_{k}");
        values(out, &value, parameter, &shape.document, &rules).map_err(problem)?;
        let key = literal(&format!("{}>\n", parameter.name));
        if others.is_some() {
            options.push(format!("{key} {value}_next q{i}::set_bit({k}) %if bit_clear({k})"));
        } else if count > 1 {
            let left = count - 1;
            let more = format!("and(bit_clear({k}), bit_count_lt(_, {left}))");
            options.push(format!("{key} {value}_next q{i}::set_bit({k}) %if {more}"));
        }
        options.push(format!("{key} {value}_last %if {}", given(k, required)));
    }
    if let Some(schema) = others {
        let value = format!("v{i}_other");
        let types = Types::of(schema, &shape.document);
        let other = Parameter { name: String::new(), schema: schema.clone(), required: false, types };
        let problem =
            |(path, problem): raw::Problem| tool.wrong(&format!("/additionalProperties{path}"), problem);
        let rules = raw::rules(schema, &shape.document).map_err(problem)?;
        values(out, &value, &other, &shape.document, &rules).map_err(problem)?;
        let key = match count {
            0 => "OTHER".to_owned(),
            _ => {
                let names = shape.parameters.iter().map(|parameter| literal(&parameter.name));
                rule(out, &format!("DECLARED{i}"), &names.collect::<Vec<_>>().join(" | "));
                rule(out, &format!("OTHER{i}"), &format!("OTHER & ~DECLARED{i}"));
                format!("OTHER{i}")
            }
        };
        options.push(format!("{key} \">\\n\" {value}_next q{i}::_"));
        let all = if required > 0 { format!(" %if is_ones([0:{required}])") } else { String::new() };
        options.push(format!("{key} \">\\n\" {value}_last{all}"));
    }
    if !options.is_empty() {
        rule(out, &format!("q{i}::_"), &options.join("\n  | "));
    }
    Ok(())
}

/// The condition that parameter `k` is new and all that must be there are, with it.
fn given(k: usize, required: usize) -> String {
    let mut condition = format!("bit_clear({k})");
    let mut ones = |from: usize, to: usize| {
        if from < to {
            condition = format!("and({condition}, is_ones([{from}:{to}]))");
        }
    };
    if k < required {
        ones(0, k);
        ones(k + 1, required);
    } else {
        ones(0, required);
    }
    condition
}

/// What may stand where a string may stand as well.
struct Others {
    /// Words that are read as another type, whatever strings may be there, as a regular expression.
    words: Option<String>,
    /// The schema of the rest.
    rest: Option<Value>,
    /// First characters that strings do not have there, in a class of a regular expression: they begin the rest.
    excluded: String,
}

impl Others {
    fn of(parameter: &Parameter, document: &Document) -> Result<Self, &'static str> {
        let all = match without(&parameter.schema, document, Types::STRING)? {
            Some(all) if parameter.types.has(Types::STRING) => all,
            rest => return Ok(Self { words: None, rest, excluded: String::new() }),
        };
        const BOUNDS: [&str; 5] =
            ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
        let bounded = uses(&all, &BOUNDS);
        // A word of a type of which not every value will do cannot be left to strings.
        let listed = uses(&all, &["enum", "const", "$ref", "allOf"]);
        let mut free = Types::of(&all, document).and(Types::SCALAR);
        if listed {
            free = free.and(Types::OBJECT);
        } else if bounded {
            free = free.without(Types::NUMBER);
        }
        let words = [
            (Types::NULL, "null"),
            (Types::BOOLEAN, "true|false"),
            (Types::INTEGER, "-?(0|[1-9][0-9]*)"),
            (Types::FRACTION, r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?"),
        ];
        let words: Vec<&str> =
            words.iter().filter(|(kind, _)| free.has(*kind)).map(|(_, word)| *word).collect();
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
        })
    }
}

/// The rules `NAME_next` and `NAME_last` of a value with what ends it.
fn values(
    out: &mut String,
    name: &str,
    parameter: &Parameter,
    document: &Document,
    rules: &[Rule],
) -> Result<(), raw::Problem> {
    let mut options = [Vec::new(), Vec::new()];
    let others = Others::of(parameter, document).map_err(|problem| (String::new(), problem.to_owned()));
    let Others { words, rest, excluded } = others?;
    for (n, rule) in rules.iter().enumerate() {
        let kept = rule.values.as_ref().map(|values| listed(values, parameter.types)).transpose()?;
        for (list, (end, text)) in options.iter_mut().zip(ENDS) {
            let (terminal, lazy) =
                (format!("{}_{n}_{end}", name.to_uppercase()), format!("{name}_{n}_{end}").to_lowercase());
            let long = text.replace('\\', "").len() as u64 - 1;
            let parts = match &kept {
                Some(kept) if kept.is_empty() => continue,
                Some(kept) => {
                    let mut parts = vec![format!("({}) {end}", kept.join(" | "))];
                    parts.extend(rule.conditions(text, long, "").into_iter().filter(|_| !rule.is_listed()));
                    parts
                }
                None if rule.is_free() && excluded.is_empty() => {
                    list.push(format!("free_{}", end.to_lowercase()));
                    continue;
                }
                None if rule.is_free() => {
                    let tag = text.rsplit(r"\n").next().unwrap_or_default();
                    let body = format!(r"[ \t\r\n]*([^ \t\r\n{excluded}](?s:.*))?");
                    vec![format!(r"/{body}<\/parameter>[ \t\r\n]{{0,16}}{tag}/"), "NOT_EARLIER".to_owned()]
                }
                None => {
                    let mut parts = rule.conditions(text, long, &excluded);
                    parts.push("NOT_EARLIER".to_owned());
                    parts
                }
            };
            self::rule(out, &terminal, &parts.join(" & "));
            self::rule(out, &format!("{lazy}[lazy]"), &terminal);
            list.push(lazy);
        }
    }
    if let Some(words) = words {
        for (list, (end, text)) in options.iter_mut().zip(ENDS) {
            let terminal = format!("{}_WORD_{end}", name.to_uppercase());
            self::rule(out, &terminal, &format!("/({words}){text}/"));
            list.push(terminal);
        }
    }
    if let Some(rest) = rest {
        let schema = standalone(&rest, &document.root);
        let schema = schema::prepare(&schema).map_err(|error| (String::new(), error.to_string()))?;
        rule(out, &format!("{name}_json"), &format!("%json {schema}"));
        options.iter_mut().zip(ENDS).for_each(|(list, (end, _))| list.push(format!("{name}_json {end}")));
    }
    for (list, (end, _)) in options.iter().zip(ENDS) {
        if list.is_empty() {
            return Err((String::new(), "no value can be written for it".to_owned()));
        }
        rule(out, &format!("{name}_{}", end.to_lowercase()), &list.join(" | "));
    }
    Ok(())
}

/// Strings that are listed one by one, without those that would be read as another type.
fn listed(values: &[String], types: Types) -> Result<Vec<String>, raw::Problem> {
    if values.iter().any(|value| value.contains("</parameter>")) {
        return Err((String::new(), "the model's call format cannot express one of its values".to_owned()));
    }
    let strings = values.iter().filter(|value| super::value::other_than_string(value, types).is_none());
    Ok(strings.map(|value| literal(value)).collect())
}
