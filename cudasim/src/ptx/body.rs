//! The statements of a function's body (4.3).

use super::scan::{find_outside, list, Declaration};
use super::types::{Space, Type};

/// A statement, and the line of the PTX file that it starts on.
#[derive(Debug)]
pub struct Line {
    pub number: u32,
    pub statement: Statement,
}

#[derive(Debug)]
pub enum Statement {
    Open,
    Close,
    Label(String),
    /// `.loc`: what follows comes from this line of this file, inlined perhaps into another.
    Source {
        file: u32,
        line: u32,
        inlined_at: Option<(u32, u32)>,
    },
    /// `.reg .b32 %r<10>` declares ten.
    Registers {
        ty: Type,
        names: Vec<(String, Option<u32>)>,
    },
    Variable(Space, Declaration),
    Instruction {
        /// `@%p1` or `@!%p1`: the predicate, and whether it is negated.
        guard: Option<(String, bool)>,
        opcode: String,
        operands: Vec<String>,
    },
}

pub fn lines(text: &str, first: u32) -> Result<Vec<Line>, String> {
    let (mut rest, mut lines) = (text, Vec::new());
    let mut number = first;
    loop {
        let start = rest.len() - rest.trim_start().len();
        number += newlines(&rest[..start]);
        rest = &rest[start..];
        if rest.is_empty() {
            return Ok(lines);
        }
        let (statement, length) = statement(rest).map_err(|e| format!("PTX line {number}: {e}"))?;
        lines.extend(statement.map(|statement| Line { number, statement }));
        number += newlines(&rest[..length]);
        rest = &rest[length..];
    }
}

fn newlines(text: &str) -> u32 {
    text.matches('\n').count() as u32
}

/// The statement that `text` starts with, and its length.
fn statement(text: &str) -> Result<(Option<Statement>, usize), String> {
    match text.as_bytes()[0] {
        b'{' => return Ok((Some(Statement::Open), 1)),
        b'}' => return Ok((Some(Statement::Close), 1)),
        _ => {}
    }
    if text.split_whitespace().next() == Some(".loc") {
        let end = text.find('\n').unwrap_or(text.len());
        return Ok((Some(source(&text[..end])), end));
    }
    let name = |c: char| c.is_ascii_alphanumeric() || "_$%".contains(c);
    let label = text.find(|c| !name(c)).unwrap_or(text.len());
    if label > 0 && text[label..].starts_with(':') && !text[label..].starts_with("::") {
        let label_text = text[..label].to_string();
        return Ok((Some(Statement::Label(label_text)), label + 1));
    }
    let end = find_outside(text, ';').ok_or_else(|| format!("no `;` after `{text}`"))?;
    let line = text[..end].split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.replacen(".reg.", ".reg .", 1); // as hand-written assembly has it
    let statement = match line.split_once(' ').unwrap_or((&line, "")) {
        ("", _) | (".pragma", _) => None,
        (".reg", declared) => Some(registers(declared)?),
        (".shared", d) => Some(Statement::Variable(Space::Shared, Declaration::parse(d)?)),
        (".local", d) => Some(Statement::Variable(Space::Local, Declaration::parse(d)?)),
        (".param", d) => Some(Statement::Variable(Space::Param, Declaration::parse(d)?)),
        (word, _) if word.starts_with('.') => return Err(format!("unsupported directive `{line}`")),
        _ => Some(instruction(&line)?),
    };
    Ok((statement, end + 1))
}

/// `.loc 1 107 5, function_name $L__info, inlined_at 1 209 9`
fn source(line: &str) -> Statement {
    let numbers = |text: &str| -> Vec<u32> { text.split_whitespace().filter_map(|w| w.parse().ok()).collect() };
    let here = numbers(line);
    let inlined = line.split_once("inlined_at").map(|(_, at)| numbers(at));
    let pair = |n: &[u32]| match n {
        [file, line, ..] => Some((*file, *line)),
        _ => None,
    };
    let (file, line) = pair(&here).unwrap_or((0, 0));
    Statement::Source { file, line, inlined_at: inlined.and_then(|n| pair(&n)) }
}

fn registers(declared: &str) -> Result<Statement, String> {
    let wrong = || format!("cannot read the registers `{declared}`");
    let (ty, names) = declared.split_once(' ').ok_or_else(wrong)?;
    let ty = Type::parse(ty.trim_start_matches('.')).ok_or_else(wrong)?;
    let names = list(names).into_iter().map(|name| match name.split_once('<') {
        None => Ok((name.to_string(), None)),
        Some((stem, count)) => {
            let count = count.trim_end_matches('>').parse().map_err(|_| wrong())?;
            Ok((stem.to_string(), Some(count)))
        }
    });
    Ok(Statement::Registers { ty, names: names.collect::<Result<_, String>>()? })
}

fn instruction(line: &str) -> Result<Statement, String> {
    let (mut line, mut guard) = (line, None);
    if let Some(guarded) = line.strip_prefix('@') {
        let (predicate, rest) = guarded.split_once(' ').ok_or("a guard without instruction")?;
        let name = predicate.trim_start_matches('!');
        guard = Some((name.to_string(), name.len() < predicate.len()));
        line = rest;
    }
    let (opcode, operands) = line.split_once(' ').unwrap_or((line, ""));
    Ok(Statement::Instruction {
        guard,
        opcode: opcode.to_string(),
        operands: list(operands).into_iter().map(str::to_string).collect(),
    })
}
