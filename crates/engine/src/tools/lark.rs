//! The grammar of an answer's calls, as text in llguidance's dialect of Lark.
//!
//! Parameters in the XML format come in any order: llguidance's rules can carry a word, whose bits say which parameters
//! were given. Those that must be there have the lowest bits.

use std::collections::HashMap;
use std::fmt::Write as _;

use llguidance::api::TopLevelGrammar;
use serde_json::Value;

use super::raw::Problem;
use super::shape::{MOST_PARAMETERS, Parameter, Shape, pointer};
use super::values::values;
use super::{CLOSE, CallFormat, OPEN, Tool, ToolChoice, ToolSet, lighter};
use crate::grammar::schema::types::Types;
use crate::grammar::{GuidedMatcher, MAX_SOURCE, schema};
use crate::{Error, Grammar, Result, Tokenizer};

/// What may stand at the end of a value that is a string, and what may not within it. A lexeme with `NOT_EARLIER` in it ends
/// there, or is none. `ANYTHING` is what is not nothing: bytes, which llguidance knows at sight, unlike all of Unicode.
const COMMON: &str = r#"
NOT_EARLIER: ~/(?s:.*)<\/parameter>[ \t\r\n]{0,16}(<parameter=|<\/function>)(?s:.+)/
ANYTHING: ~/[^\s\S]/
NO_TAG: ~(/(?s:.*)<\/parameter>[ \t\r\n]{0,16}(<parameter=|<\/function>)/ ANYTHING)
NO_INTEGER: ~/[ \t\r\n]*-?(0|[1-9][0-9]*)[ \t\r\n]*/
NEXT: "\n</parameter>\n<parameter="
LAST: "\n</parameter>\n</function>"
NOT_WHOLE: ~/[ \t\r\n]*-?(0|[1-9][0-9]*)[ \t\r\n]*<\/parameter>(?s:.*)/
FREE_NEXT: /(?s:.*)<\/parameter>[ \t\r\n]{0,16}<parameter=/ & NOT_EARLIER
FREE_LAST: /(?s:.*)<\/parameter>[ \t\r\n]{0,16}<\/function>/ & NOT_EARLIER
free_next[lazy]: FREE_NEXT
free_last[lazy]: FREE_LAST
OTHER: /[A-Za-z0-9_.-]{1,64}/
"#;

/// The ends of a value: the name of its literal, its text, and that text as a regular expression.
pub(super) const ENDS: [(&str, &str); 2] =
    [("NEXT", r"\n<\/parameter>\n<parameter="), ("LAST", r"\n<\/parameter>\n<\/function>")];

/// The grammar of an answer that consists of calls, compiled. Tools that are not strict are followed as far as a grammar can:
/// where it cannot follow a parameter, it holds to the parameter's types.
///
/// # Errors
/// [`Error::Tool`] naming the tool and the path in its schema of what cannot be guaranteed.
pub(crate) fn compile(tokenizer: &Tokenizer, set: &ToolSet) -> Result<GuidedMatcher> {
    for (_, tool) in set.callable().filter(|(_, tool)| tool.strict) {
        schema::checked(&tool.parameters).map_err(|refused| tool.wrong(&refused.path, refused.problem))?;
    }
    let [answer, coarse] = match &set.answer {
        Some(Grammar::LooseSchema(schema)) => schema::loose_forms(schema)?.map(Some),
        Some(Grammar::JsonSchema(schema)) => [Some(schema::prepare(schema)?), Some(schema::prepare(schema)?)],
        _ => [None, None],
    };
    let mut shapes = set.shapes.clone();
    lighter::for_effort(set, &mut shapes)?;
    let mut whole = source(tokenizer, set, &shapes, answer.as_ref())?;
    if whole.len() > MAX_SOURCE {
        lighter::for_size(tokenizer, set, &mut shapes)?;
        whole = source(tokenizer, set, &shapes, answer.as_ref())?;
    }
    let error = match fits(&whole).and_then(|()| GuidedMatcher::kept(tokenizer, &whole)) {
        Ok(matcher) => return Ok(matcher),
        Err(error) => error,
    };
    lighter::for_compiler(tokenizer, set, &mut shapes);
    for answer in [&answer, &coarse] {
        let text = source(tokenizer, set, &shapes, answer.as_ref())?;
        if let Ok(matcher) = build(tokenizer, &text) {
            // The next request need not find out again.
            return GuidedMatcher::keep(tokenizer, &whole, matcher);
        }
    }
    Err(blame(tokenizer, set, error))
}

fn fits(source: &str) -> Result<()> {
    if source.len() > MAX_SOURCE {
        let problem =
            format!("the tools' grammar has `{}` bytes; up to `{MAX_SOURCE}` are supported", source.len());
        return Err(Error::Request { field: "tools", problem });
    }
    Ok(())
}

fn build(tokenizer: &Tokenizer, source: &str) -> Result<GuidedMatcher> {
    fits(source)?;
    GuidedMatcher::new(tokenizer, TopLevelGrammar::from_lark(source.to_owned()))
}

/// Compiles the grammar of calls of `tool` alone, in the shape that is given.
pub(super) fn alone(tokenizer: &Tokenizer, set: &ToolSet, tool: &Tool, shape: &Shape) -> Result<()> {
    let text = text_alone(tokenizer, set, tool, shape)?;
    build(tokenizer, &text).map(drop)
}

/// The text of that.
pub(super) fn text_alone(tokenizer: &Tokenizer, set: &ToolSet, tool: &Tool, shape: &Shape) -> Result<String> {
    let alone = ToolSet {
        tools: vec![tool.clone()],
        shapes: Vec::new(),
        format: set.format,
        choice: ToolChoice::Required,
        parallel: false,
        thinking: false,
        answer: None,
    };
    source(tokenizer, &alone, std::slice::from_ref(shape), None)
}

/// The tool that is strict, and the deepest part of its schema, that does not compile on its own.
fn blame(tokenizer: &Tokenizer, set: &ToolSet, error: Error) -> Error {
    let Error::Grammar(_) = error else { return error };
    for (i, tool) in set.callable().filter(|(_, tool)| tool.strict) {
        let shape = &set.shapes[i];
        let Err(Error::Grammar(problem)) = alone(tokenizer, set, tool, shape) else { continue };
        let guilty = (0..shape.parameters.len()).find_map(|k| {
            let Parameter { name, schema, .. } = &shape.parameters[k];
            let error = alone(tokenizer, set, tool, &shape.only(k)).err()?;
            let path = pointer(&["properties", name]);
            Some((path + &deepest(tokenizer, schema, &shape.document.root), error))
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
    schema::each_part(&mut inner, &mut |_, each| {
        let fails = || {
            let schema = schema::prepare(&schema::standalone(each, root))?;
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

/// The text of a grammar, in which each schema stands once.
#[derive(Default)]
pub(super) struct Text {
    rules: String,
    /// The names of the rules for schemas.
    schemas: HashMap<String, String>,
}

impl Text {
    pub(super) fn rule(&mut self, name: &str, body: &str) {
        // Writing into a string does not fail.
        let _ = writeln!(self.rules, "{name}: {body}");
    }

    /// The name of the rule for JSON of a schema.
    pub(super) fn json(&mut self, schema: &Value) -> String {
        let body = format!("%json {schema}");
        if let Some(name) = self.schemas.get(&body) {
            return name.clone();
        }
        let name = format!("json_{}", self.schemas.len());
        self.rule(&name, &body);
        self.schemas.insert(body, name.clone());
        name
    }
}

/// The text of the grammar.
fn source(tokenizer: &Tokenizer, set: &ToolSet, shapes: &[Shape], answer: Option<&Value>) -> Result<String> {
    let mut out = Text::default();
    let many = set.parallel && !matches!(set.choice, ToolChoice::Named(_));
    let mut start = if many { "start: call (\"\\n\" call)*".to_owned() } else { "start: call".to_owned() };
    if let Some(schema) = answer
        && set.choice == ToolChoice::Auto
    {
        start += &format!(" | {}", out.json(schema));
    }
    let (open, close) = (tag(tokenizer, OPEN), tag(tokenizer, CLOSE));
    let tools: Vec<String> = set.callable().map(|(i, _)| format!("t{i}")).collect();
    let (before, after) = match set.format {
        CallFormat::Json => ("\n{\"name\": \"", "}\n"),
        CallFormat::Xml => ("\n<function=", "\n"),
    };
    let call = format!("{open} {} ({}) {} {close}", literal(before), tools.join(" | "), literal(after));
    out.rule("call", &call);
    match set.format {
        CallFormat::Json => {
            for (i, tool) in set.callable() {
                let schema = out.json(&schema::prepare(&shapes[i].document.root)?);
                let name = literal(&format!("{}\", \"arguments\": ", tool.name));
                out.rule(&format!("t{i}"), &format!("{name} {schema}"));
            }
        }
        CallFormat::Xml => {
            out.rules.push_str(COMMON);
            for (i, tool) in set.callable() {
                function(&mut out, i, tool, &shapes[i])?;
            }
        }
    }
    Ok(format!("{start}\n{}", out.rules))
}

/// A tag: the token where the vocabulary has it as a special one, which no text is, else its text.
fn tag(tokenizer: &Tokenizer, text: &str) -> String {
    match tokenizer.token_id(text).filter(|&id| tokenizer.is_special(id)) {
        Some(id) => format!("<[{id}]>"),
        None => literal(text),
    }
}

pub(super) fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

/// The rules of one function in the XML format, from its name to `</function>`.
fn function(out: &mut Text, i: usize, tool: &Tool, shape: &Shape) -> Result<()> {
    let (count, others) = (shape.parameters.len(), shape.others.as_ref());
    let required = shape.parameters.iter().filter(|parameter| parameter.required).count();
    let required = required.min(MOST_PARAMETERS);
    let mut begin = Vec::new();
    if required == 0 {
        begin.push("\"</function>\"".to_owned());
    }
    if count > 0 || others.is_some() {
        begin.push(format!("\"<parameter=\" q{i}::0x0"));
    }
    let name = literal(&format!("{}>\n", tool.name));
    out.rule(&format!("t{i}"), &format!("{name} ({})", begin.join(" | ")));
    let all = if required > 0 { format!(" %if is_ones([0:{required}])") } else { String::new() };
    let mut options = Vec::new();
    for (k, parameter) in shape.parameters.iter().enumerate() {
        // What is too long already is not compiled, whatever else would be in it.
        if out.rules.len() > MAX_SOURCE {
            return Ok(());
        }
        let value = format!("v{i}_{k}");
        let problem = |(path, problem): Problem| {
            tool.wrong(&(pointer(&["properties", &parameter.name]) + &path), problem)
        };
        values(out, &value, parameter, shape, tool.strict).map_err(problem)?;
        let key = literal(&format!("{}>\n", parameter.name));
        if k >= MOST_PARAMETERS {
            // Whether it was given is not known; what is given again, is not read.
            options.push(format!("{key} {value}_next q{i}::_"));
            options.push(format!("{key} {value}_last{all}"));
            continue;
        }
        if others.is_some() || count > MOST_PARAMETERS {
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
        let problem = |(path, problem): Problem| tool.wrong(&format!("/additionalProperties{path}"), problem);
        values(out, &value, &other, shape, tool.strict).map_err(problem)?;
        let key = match count {
            0 => "OTHER".to_owned(),
            _ => {
                let names = shape.parameters.iter().map(|parameter| literal(&parameter.name));
                out.rule(&format!("DECLARED{i}"), &names.collect::<Vec<_>>().join(" | "));
                out.rule(&format!("OTHER{i}"), &format!("OTHER & ~DECLARED{i}"));
                format!("OTHER{i}")
            }
        };
        options.push(format!("{key} \">\\n\" {value}_next q{i}::_"));
        options.push(format!("{key} \">\\n\" {value}_last{all}"));
    }
    if !options.is_empty() {
        out.rule(&format!("q{i}::_"), &options.join("\n  | "));
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
