//! GBNF, the form of grammars of llama.cpp (github.com/ggml-org/llama.cpp, grammars/README.md), as Lark for llguidance.
//!
//! Every character is a lexeme of its own, so that a lexer that takes the longest one changes nothing of what a grammar
//! means. Owns the reading; what follows a grammar is llguidance's.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use crate::{Error, Result};

/// Groups within each other; deeper ones could use up the stack.
const DEPTH: usize = 64;

/// The most repetitions that a grammar may ask for, as llama.cpp has it.
const REPETITIONS: u32 = 2000;

/// A grammar in GBNF as one in Lark, from its rule `root`.
///
/// # Errors
/// [`Error::Grammar`] with the line of what cannot be read, or the name of a rule that is missing.
pub(super) fn to_lark(source: &str) -> Result<String> {
    let mut reader = Reader { rest: source.chars().peekable(), line: 1, rules: BTreeMap::new() };
    reader.grammar()?;
    let Reader { rules, .. } = reader;
    if let Some((name, rule)) = rules.iter().find(|(_, rule)| rule.lark.is_none()) {
        return Err(Error::Grammar(format!("line {}: there is no rule `{name}`", rule.line)));
    }
    let root = rules.get("root").ok_or_else(|| Error::Grammar("there is no rule `root`".to_owned()))?;
    let mut lark = format!("start: r{}\n", root.number);
    for Rule { number, lark: text, .. } in rules.values() {
        let _ = writeln!(lark, "r{number}: {}", text.as_deref().unwrap_or_default());
    }
    Ok(lark)
}

/// A rule by its name in the source.
struct Rule {
    /// Its name in Lark is `r` and this.
    number: usize,
    /// Where it was named first.
    line: usize,
    /// What it is, once that was read.
    lark: Option<String>,
}

struct Reader<'s> {
    rest: Peekable<Chars<'s>>,
    line: usize,
    rules: BTreeMap<String, Rule>,
}

impl Reader<'_> {
    fn grammar(&mut self) -> Result<()> {
        self.space(true);
        while self.rest.peek().is_some() {
            let name = self.name()?;
            self.space(false);
            for c in "::=".chars() {
                self.expect(c)?;
            }
            self.space(true);
            let lark = self.alternatives(0)?;
            let line = self.line;
            let rule = self.rule(&name);
            if rule.lark.replace(lark).is_some() {
                return Err(Error::Grammar(format!("line {line}: there are two rules `{name}`")));
            }
            self.space(true);
        }
        Ok(())
    }

    fn rule(&mut self, name: &str) -> &mut Rule {
        let (number, line) = (self.rules.len(), self.line);
        self.rules.entry(name.to_owned()).or_insert(Rule { number, line, lark: None })
    }

    /// Sequences with `|` between them. On the top level, a line's end ends a rule; within a group it is space.
    fn alternatives(&mut self, depth: usize) -> Result<String> {
        if depth > DEPTH {
            return self.bad(&format!("more than {DEPTH} groups within each other"));
        }
        let mut lark = self.sequence(depth)?;
        while self.rest.next_if_eq(&'|').is_some() {
            self.space(true);
            lark = lark + " | " + &self.sequence(depth)?;
        }
        Ok(lark)
    }

    fn sequence(&mut self, depth: usize) -> Result<String> {
        let mut lark = String::new();
        while let Some(item) = self.item(depth)? {
            self.space(depth > 0);
            let times = self.times(depth)?;
            lark += if lark.is_empty() { "" } else { " " };
            // Lark has no item that stands there no times.
            lark += &if times == "{0,0}" { "\"\"".to_owned() } else { format!("({item}){times}") };
        }
        Ok(if lark.is_empty() { "\"\"".to_owned() } else { lark })
    }

    /// One item, if there is one: a text, a set of characters, any character, a rule, or a group.
    fn item(&mut self, depth: usize) -> Result<Option<String>> {
        let Some(&c) = self.rest.peek() else { return Ok(None) };
        let item = match c {
            '"' => self.text()?,
            '[' => self.set()?,
            '.' => {
                self.rest.next();
                "/(?s:.)/".to_owned()
            }
            '(' => {
                self.rest.next();
                self.space(true);
                let inner = self.alternatives(depth + 1)?;
                self.expect(')')?;
                inner
            }
            '<' | '!' => return self.bad("tokens (`<…>`) are not supported; write their text"),
            c if is_of_name(c) => {
                let name = self.name()?;
                format!("r{}", self.rule(&name).number)
            }
            _ => return Ok(None),
        };
        Ok(Some(item))
    }

    /// How often the item before may stand there.
    fn times(&mut self, depth: usize) -> Result<String> {
        let Some(op) = self.rest.next_if(|c| "*+?{".contains(*c)) else { return Ok(String::new()) };
        let times = match op {
            '{' => self.range()?,
            op => op.to_string(),
        };
        self.space(depth > 0);
        // Of two operators on one item, the second would be Lark's own affair.
        match self.rest.peek() {
            Some('*' | '+' | '?' | '{') => self.bad("an item has two operators; put it in parentheses"),
            _ => Ok(times),
        }
    }

    /// `m}`, `m,}`, `,n}` or `m,n}`.
    fn range(&mut self) -> Result<String> {
        self.space(true);
        let least = self.number()?;
        self.space(true);
        let mut most = least;
        if self.rest.next_if_eq(&',').is_some() {
            self.space(true);
            most = self.number()?;
            self.space(true);
        } else if least.is_none() {
            return self.bad("`{` wants a number");
        }
        self.expect('}')?;
        match (least.unwrap_or(0), most) {
            (least, Some(most)) if least > most => self.bad("the first number is the larger one"),
            (least, most) if least.max(most.unwrap_or(0)) > REPETITIONS => {
                self.bad(&format!("more than {REPETITIONS} repetitions"))
            }
            (least, Some(most)) => Ok(format!("{{{least},{most}}}")),
            (least, None) => Ok(format!("{{{least},}}")),
        }
    }

    fn number(&mut self) -> Result<Option<u32>> {
        let mut number = None;
        while let Some(digit) = self.rest.peek().and_then(|c| c.to_digit(10)) {
            self.rest.next();
            let next = number.unwrap_or(0u32).checked_mul(10).and_then(|number| number.checked_add(digit));
            number = Some(next.map_or_else(|| self.bad("a number is too large"), Ok)?);
        }
        Ok(number)
    }

    /// A text in quotes: its characters one after the other.
    fn text(&mut self) -> Result<String> {
        self.expect('"')?;
        let mut lark = Vec::new();
        while self.rest.next_if_eq(&'"').is_none() {
            let c = self.character()?;
            lark.push(serde_json::Value::from(c.to_string()).to_string());
        }
        Ok(if lark.is_empty() { "\"\"".to_owned() } else { lark.join(" ") })
    }

    /// `[a-z_]`, or `[^…]` for all others.
    fn set(&mut self) -> Result<String> {
        self.expect('[')?;
        let mut lark = String::from("/[");
        if self.rest.next_if_eq(&'^').is_some() {
            lark.push('^');
        }
        let begun = lark.len();
        while self.rest.next_if_eq(&']').is_none() {
            let first = self.character()?;
            let mut last = first;
            if self.rest.peek() == Some(&'-') && self.rest.clone().nth(1) != Some(']') {
                self.rest.next();
                last = self.character()?;
            }
            if first > last {
                return self.bad("a range ends before it begins");
            }
            let _ = write!(lark, "\\x{{{:x}}}-\\x{{{:x}}}", u32::from(first), u32::from(last));
        }
        if lark.len() == begun {
            return self.bad("a set of characters is empty");
        }
        Ok(lark + "]/")
    }

    /// A character of a text or a set, or what an escape means.
    fn character(&mut self) -> Result<char> {
        let digits = match self.next()? {
            '\\' => match self.next()? {
                'n' => return Ok('\n'),
                'r' => return Ok('\r'),
                't' => return Ok('\t'),
                'x' => 2,
                'u' => 4,
                'U' => 8,
                c if "\"[]\\^-".contains(c) => return Ok(c),
                c => return self.bad(&format!("`\\{}` is no escape", c.escape_debug())),
            },
            c => return Ok(c),
        };
        let mut code = 0;
        for _ in 0..digits {
            let digit = self.next()?.to_digit(16);
            code = code * 16 + digit.map_or_else(|| self.bad("an escape wants more digits"), Ok)?;
        }
        char::from_u32(code).map_or_else(|| self.bad(&format!("`{code:#x}` is no character")), Ok)
    }

    fn name(&mut self) -> Result<String> {
        let mut name = String::new();
        while let Some(c) = self.rest.next_if(|c| is_of_name(*c)) {
            name.push(c);
        }
        match self.rest.peek().copied() {
            _ if !name.is_empty() => Ok(name),
            Some(c) => self.bad(&format!("`{}` stands where a rule's name should", c.escape_debug())),
            None => self.bad("it ends where a rule's name should stand"),
        }
    }

    /// Passes over blanks and comments; over ends of lines too if they mean nothing here.
    fn space(&mut self, lines: bool) {
        while let Some(&c) = self.rest.peek() {
            match c {
                ' ' | '\t' => {}
                '\r' | '\n' if lines => {}
                '#' => {
                    while self.rest.next_if(|c| !matches!(c, '\r' | '\n')).is_some() {}
                    continue;
                }
                _ => return,
            }
            self.rest.next();
            self.line += usize::from(c == '\n');
        }
    }

    fn next(&mut self) -> Result<char> {
        let c = self.rest.next();
        self.line += usize::from(c == Some('\n'));
        c.map_or_else(|| self.bad("it ends in the middle of a rule"), Ok)
    }

    fn expect(&mut self, wanted: char) -> Result<()> {
        match self.rest.next_if_eq(&wanted) {
            Some(_) => Ok(()),
            None => self.bad(&format!("`{wanted}` is missing")),
        }
    }

    fn bad<T>(&self, problem: &str) -> Result<T> {
        Err(Error::Grammar(format!("line {}: {problem}", self.line)))
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

#[cfg(test)]
mod tests;
