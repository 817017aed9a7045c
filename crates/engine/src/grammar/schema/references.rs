//! References: what each leads to, in whatever way it is written, and a schema in which all are written in one way.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::{MAX_SIZE, Place, Refused, each_part, is_schema, parts};

/// Where what is referred to stands in a schema that was [`gathered`].
const PLACE: &str = "#/$defs/";

/// The schema with all that it refers to in `$defs`, each once and under a name of ours, and with no definition
/// that nothing leads to. So every stage reads a reference as the same, and none has to know how it may be written.
/// `tidy` sees each schema that is kept, and its depth, before its references are rewritten.
///
/// A `loose` one loses references that lead nowhere.
///
/// # Errors
/// The path of a reference that leads nowhere, and of a schema that becomes too large.
pub(super) fn gathered(
    schema: &Value,
    loose: bool,
    tidy: &mut dyn FnMut(&mut Value, usize),
) -> Result<Value, Refused> {
    let anchors = anchors(schema);
    let mut gather = Gather { root: schema, anchors, numbers: HashMap::new(), targets: Vec::new(), loose };
    let mut root = schema.clone();
    tidy(&mut root, 0);
    gather.rewrite(&mut root, Place::root(""))?;
    let mut definitions = Map::new();
    let mut size = root.to_string().len();
    while let Some((target, path)) = gather.targets.get(definitions.len()).cloned() {
        let mut copy = target.clone();
        tidy(&mut copy, 1);
        gather.rewrite(&mut copy, Place::root(&path))?;
        // What lies within each other would be copied again and again.
        size += copy.to_string().len();
        if size > MAX_SIZE {
            let problem = "what it refers to is too large; use fewer or smaller definitions";
            return Err(Refused { path, problem });
        }
        definitions.insert(format!("d{}", definitions.len()), copy);
    }
    if let (Value::Object(map), false) = (&mut root, definitions.is_empty()) {
        map.insert("$defs".to_owned(), Value::Object(definitions));
    }
    Ok(root)
}

/// What a reference leads to in the `root` of a schema that was [`gathered`].
pub(crate) fn resolve<'v>(root: &'v Value, reference: &str) -> Option<&'v Value> {
    root.get("$defs")?.get(reference.strip_prefix(PLACE)?)
}

/// What a part of the `root` of a schema that was [`gathered`] refers to, each by its name.
pub(crate) fn reached<'v>(part: &'v Value, root: &'v Value) -> BTreeMap<&'v str, &'v Value> {
    let mut reached = BTreeMap::new();
    let mut open = vec![part];
    while let Some(part) = open.pop() {
        open.extend(parts(part).filter(|(key, _)| *key != "$defs").map(|(_, inner)| inner));
        if let Some(reference) = part.get("$ref").and_then(Value::as_str)
            && let Some(target) = resolve(root, reference)
            && reached.insert(&reference[PLACE.len()..], target).is_none()
        {
            open.push(target);
        }
    }
    reached
}

/// Such a part as a document of its own, with what it refers to.
pub(crate) fn standalone(part: &Value, root: &Value) -> Value {
    let reached: Map<String, Value> =
        reached(part, root).into_iter().map(|(name, target)| (name.to_owned(), target.clone())).collect();
    let mut part = part.clone();
    if let Value::Object(map) = &mut part {
        map.shift_remove("$defs");
        if !reached.is_empty() {
            map.insert("$defs".to_owned(), Value::Object(reached));
        }
    }
    part
}

/// The references, in the `root` of a schema that was [`gathered`], to what leads back to itself.
pub(super) fn endless(root: &Value) -> Vec<String> {
    let Some(Value::Object(definitions)) = root.get("$defs") else { return Vec::new() };
    fn leads_to(target: &Value) -> Vec<&str> {
        let (mut open, mut found) = (vec![target], Vec::new());
        while let Some(part) = open.pop() {
            found.extend(part.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix(PLACE)));
            open.extend(parts(part).map(|(_, inner)| inner));
        }
        found
    }
    let next: HashMap<&str, Vec<&str>> =
        definitions.iter().map(|(name, target)| (name.as_str(), leads_to(target))).collect();
    let is_endless = |name: &str| {
        let (mut open, mut seen) = (vec![name], HashSet::new());
        while let Some(at) = open.pop() {
            let new = next.get(at).into_iter().flatten().filter(|to| seen.insert(**to));
            open.extend(new);
        }
        seen.contains(name)
    };
    definitions.keys().filter(|name| is_endless(name)).map(|name| format!("{PLACE}{name}")).collect()
}

struct Gather<'v> {
    root: &'v Value,
    anchors: HashMap<&'v str, &'v Value>,
    /// The number of each schema that is referred to, by where it lies.
    numbers: HashMap<*const Value, usize>,
    /// Each of them, with its path.
    targets: Vec<(&'v Value, String)>,
    loose: bool,
}

impl<'v> Gather<'v> {
    /// Writes the references of `schema`, which is at `place`, in our way, and leaves out its definitions.
    fn rewrite(&mut self, schema: &mut Value, place: Place) -> Result<(), Refused> {
        let Value::Object(map) = schema else { return Ok(()) };
        for key in ["$defs", "definitions", "$anchor"] {
            map.shift_remove(key);
        }
        if let Some(reference) = map.get("$ref") {
            match reference.as_str().and_then(|to| self.number(to)) {
                Some(number) => _ = map.insert("$ref".to_owned(), json!(format!("{PLACE}d{number}"))),
                None if self.loose => _ = map.shift_remove("$ref"),
                None => {
                    let problem = "it leads to no schema; refer to one within this document";
                    return Err(Refused { path: place.then("/$ref").path(), problem });
                }
            }
        }
        let mut done = Ok(());
        each_part(schema, &mut |at, inner| {
            if done.is_ok() {
                done = self.rewrite(inner, place.then(at));
            }
        });
        done
    }

    fn number(&mut self, reference: &str) -> Option<usize> {
        let mut target = self.target(reference)?;
        // One that only leads on is the one that it leads to; of a circle of such, any.
        for _ in 0..64 {
            let Value::Object(map) = target else { break };
            let Some(to) = map.get("$ref").and_then(Value::as_str).filter(|_| map.len() == 1) else { break };
            match self.target(to) {
                Some(next) if !std::ptr::eq(next, target) => target = next,
                _ => break,
            }
        }
        let next = self.targets.len();
        let number = *self.numbers.entry(std::ptr::from_ref(target)).or_insert(next);
        if number == next {
            self.targets.push((target, reference.trim_start_matches('#').to_owned()));
        }
        Some(number)
    }

    /// What `reference` leads to: a JSON pointer or the name of an anchor, either percent-encoded or not.
    fn target(&self, reference: &str) -> Option<&'v Value> {
        let place = reference.strip_prefix('#')?;
        let find = |place: &str| match place {
            "" | "/" => Some(self.root),
            place if place.starts_with('/') => self.root.pointer(place),
            name => self.anchors.get(name).copied(),
        };
        find(place).or_else(|| find(&decoded(place)?)).filter(|found| is_schema(found))
    }
}

/// What has a name as an anchor, anywhere in `schema`.
fn anchors(schema: &Value) -> HashMap<&str, &Value> {
    let (mut open, mut found) = (vec![schema], HashMap::new());
    while let Some(value) = open.pop() {
        if let Some(name) = value.get("$anchor").and_then(Value::as_str) {
            found.entry(name).or_insert(value);
        }
        match value {
            Value::Object(map) => open.extend(map.values()),
            Value::Array(list) => open.extend(list),
            _ => {}
        }
    }
    found
}

/// `text` with each `%` and two digits as the byte that they stand for.
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| byte == b'%') {
            Some(meant) => {
                bytes.push(meant);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}
