//! PTX text as the statements that it consists of: directives (11) and instructions (4.3).

mod body;
pub mod scan;
pub mod types;

pub use body::{Line, Statement};
use scan::{Declaration, find_outside, list, number, without_comments};
use std::collections::HashMap;

/// A function or kernel, not decoded yet.
#[derive(Debug)]
pub struct FunctionText {
    pub name: String,
    pub is_entry: bool,
    pub results: Vec<Declaration>,
    pub params: Vec<Declaration>,
    /// Performance-tuning and cluster directives (11.4, 11.8): `.maxntid` and the like, with their numbers.
    pub directives: HashMap<String, Vec<u32>>,
    body: String,
    line: u32,
}

impl FunctionText {
    /// The statements, read when the function is wanted: a module has hundreds.
    pub fn lines(&self) -> Result<Vec<Line>, String> {
        body::lines(&self.body, self.line)
    }
}

/// A `.global` or `.const` variable.
#[derive(Debug)]
pub struct Variable {
    pub declaration: Declaration,
    pub init: Vec<u8>,
}

/// One PTX file.
#[derive(Debug, Default)]
pub struct Module {
    /// The `.target`'s number: 90 for `sm_90`.
    pub target: u32,
    pub functions: HashMap<String, FunctionText>,
    pub variables: Vec<Variable>,
    /// Variables in shared memory; without bytes where the launch decides.
    pub shared: HashMap<String, Declaration>,
    pub files: HashMap<u32, String>,
}

impl Module {
    pub fn parse(source: &str) -> Result<Module, String> {
        let text = without_comments(source);
        let (mut module, mut rest) = (Module::default(), text.trim_start());
        while !rest.is_empty() {
            rest = module.directive(rest, &text)?.trim_start();
        }
        Ok(module)
    }

    /// Reads what `rest` starts with, and returns what follows.
    fn directive<'a>(&mut self, rest: &'a str, text: &str) -> Result<&'a str, String> {
        let (line, after_line) = rest.split_once('\n').unwrap_or((rest, ""));
        let mut words = line.split_whitespace();
        match words.next().unwrap_or_default() {
            ".version" | ".address_size" => Ok(after_line),
            ".target" => {
                let digits = words.next().unwrap_or_default().trim_matches(|c: char| !c.is_ascii_digit());
                self.target = digits.parse().map_err(|_| format!("cannot read `{line}`"))?;
                Ok(after_line)
            }
            ".file" => {
                let index = words.next().and_then(|index| index.parse().ok());
                let name = line.split('"').nth(1);
                let (index, name) = index.zip(name).ok_or_else(|| format!("cannot read `{line}`"))?;
                self.files.insert(index, name.to_string());
                Ok(after_line)
            }
            ".section" => {
                let close = find_outside(rest, '}').ok_or("a .section that does not end")?;
                Ok(&rest[close + 1..])
            }
            _ => {
                let head = rest.split([';', '{']).next().unwrap_or(rest);
                if head.contains(".entry") || head.contains(".func") {
                    return self.function(rest, text);
                }
                let end = find_outside(rest, ';').ok_or_else(|| format!("no `;` after `{line}`"))?;
                self.variable(rest[..end].trim())?;
                Ok(&rest[end + 1..])
            }
        }
    }

    fn function<'a>(&mut self, rest: &'a str, text: &str) -> Result<&'a str, String> {
        let is_entry = rest.split('(').next().is_some_and(|head| head.contains(".entry"));
        let keyword = if is_entry { ".entry" } else { ".func" };
        let mut at = rest[rest.find(keyword).unwrap_or(0) + keyword.len()..].trim_start();
        let params = |at: &mut &str| -> Result<Vec<Declaration>, String> {
            if !at.starts_with('(') {
                return Ok(Vec::new());
            }
            let close = find_outside(at, ')').ok_or("a parameter list that does not end")?;
            let found = list(&at[1..close]).into_iter().map(Declaration::parse).collect();
            *at = at[close + 1..].trim_start();
            found
        };
        let results = params(&mut at)?;
        let name_end = at.find(|c: char| c.is_whitespace() || "({;".contains(c)).unwrap_or(at.len());
        let name = at[..name_end].to_string();
        at = at[name_end..].trim_start();
        let params = params(&mut at)?;
        let open = at.find(['{', ';']).ok_or_else(|| format!("{name} has no body"))?;
        let body = &at[open..];
        if let Some(after) = body.strip_prefix(';') {
            return Ok(after); // declared only
        }
        let mut directives = HashMap::new();
        for directive in at[..open].split('.').map(str::trim).filter(|d| !d.is_empty()) {
            let (name, numbers) = directive.split_once(char::is_whitespace).unwrap_or((directive, ""));
            let numbers = numbers.split(',').filter_map(|n| n.trim().parse().ok()).collect();
            directives.insert(name.to_string(), numbers);
        }
        let close = find_outside(body, '}').ok_or_else(|| format!("{name} does not end"))?;
        let line = text[..text.len() - body.len()].matches('\n').count() as u32 + 1;
        let body_text = body[1..close].to_string();
        let function =
            FunctionText { name: name.clone(), is_entry, results, params, directives, body: body_text, line };
        self.functions.insert(name, function);
        Ok(&body[close + 1..])
    }

    fn variable(&mut self, text: &str) -> Result<(), String> {
        let (left, right) = text.split_once('=').unwrap_or((text, ""));
        let declaration = Declaration::parse(left)?;
        if left.contains(".shared") {
            self.shared.insert(declaration.name.clone(), declaration);
            return Ok(());
        }
        if !left.contains(".global") && !left.contains(".const") {
            return Err(format!("unsupported directive `{text}`"));
        }
        let mut init = Vec::new();
        for item in list(&right.replace(['{', '}'], "")) {
            let value = number(item).ok_or_else(|| format!("unsupported initial value `{item}`"))?;
            init.extend_from_slice(&value.to_le_bytes()[..declaration.element]);
        }
        init.resize(declaration.bytes.max(init.len()), 0);
        self.variables.push(Variable { declaration, init });
        Ok(())
    }
}
