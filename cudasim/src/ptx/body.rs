//! The statements of a function's body (4.3).

use super::scan::{Declaration, find_outside, list};
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
    /// `.loc`: what follows comes from this file and line, inlined perhaps at another.
    Source {
        at: (u32, u32),
        inlined_at: Option<(u32, u32)>,
    },
    /// `.reg .b32 %r<10>` declares ten.
    Registers {
        ty: Type,
        names: Vec<(String, Option<u32>)>,
    },
    Variable(Space, Declaration),
    /// With `@%p1` or `@!%p1` as the guard.
    Instruction {
        guard: Option<String>,
        opcode: String,
        operands: Vec<String>,
    },
}

pub fn lines(text: &str, first: u32) -> Result<Vec<Line>, String> {
    let newlines = |text: &str| text.matches('\n').count() as u32;
    let (mut rest, mut lines, mut number) = (text, Vec::new(), first);
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

/// The statement that `text` starts with, and its length.
fn statement(text: &str) -> Result<(Option<Statement>, usize), String> {
    if text.starts_with(['{', '}']) {
        return Ok((Some(if text.starts_with('{') { Statement::Open } else { Statement::Close }), 1));
    }
    if text.split_whitespace().next() == Some(".loc") {
        let end = text.find('\n').unwrap_or(text.len());
        return Ok((Some(source(&text[..end])), end));
    }
    let label = text.find(|c: char| !c.is_ascii_alphanumeric() && !"_$%".contains(c)).unwrap_or(text.len());
    if label > 0 && text[label..].starts_with(':') {
        return Ok((Some(Statement::Label(text[..label].to_string())), label + 1));
    }
    let end = find_outside(text, ';').ok_or_else(|| format!("no `;` after `{text}`"))?;
    let line = text[..end].split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.replacen(".reg.", ".reg .", 1); // as hand-written assembly has it
    let (word, declared) = line.split_once(' ').unwrap_or((&line, ""));
    let statement = match word {
        "" | ".pragma" => None,
        ".reg" => Some(registers(declared).ok_or_else(|| format!("cannot read the registers `{declared}`"))?),
        ".shared" | ".local" | ".param" => {
            let space = Space::parse(&word[1..]).unwrap_or(Space::Local);
            Some(Statement::Variable(space, Declaration::parse(declared)?))
        }
        _ if word.starts_with('.') => return Err(format!("unsupported directive `{line}`")),
        _ => Some(instruction(&line)),
    };
    Ok((statement, end + 1))
}

/// `.loc 1 107 5, function_name $L__info, inlined_at 1 209 9`
fn source(line: &str) -> Statement {
    let place = |text: &str| {
        let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    };
    let inlined_at = line.split_once("inlined_at").and_then(|(_, at)| place(at));
    Statement::Source { at: place(line).unwrap_or_default(), inlined_at }
}

fn registers(declared: &str) -> Option<Statement> {
    let (ty, names) = declared.split_once(' ')?;
    let ty = Type::parse(ty.trim_start_matches('.'))?;
    let names = list(names).into_iter().map(|name| match name.split_once('<') {
        None => Some((name.to_string(), None)),
        Some((stem, count)) => Some((stem.to_string(), Some(count.trim_end_matches('>').parse().ok()?))),
    });
    Some(Statement::Registers { ty, names: names.collect::<Option<_>>()? })
}

fn instruction(line: &str) -> Statement {
    let split =
        |text: &'_ str| text.split_once(' ').map_or((text.to_string(), String::new()), |(a, b)| (a.into(), b.into()));
    let (guard, line) = match line.strip_prefix('@').map(split) {
        Some((guard, rest)) => (Some(guard), rest),
        None => (None, line.to_string()),
    };
    let (opcode, operands) = split(&line);
    Statement::Instruction { guard, opcode, operands: list(&operands).into_iter().map(str::to_string).collect() }
}
