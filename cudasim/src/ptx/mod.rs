//! PTX text as the statements that it consists of: directives (11) and instructions (4.3).

mod body;
pub mod scan;
pub mod types;

pub use body::{Line, Statement};
use scan::{closing, find_outside, list, number, without_comments, Declaration};
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

/// A `.global` or `.const` variable. `pointers` are the offsets where another's address stands.
#[derive(Debug)]
pub struct Variable {
    pub declaration: Declaration,
    pub init: Vec<u8>,
    pub pointers: Vec<(usize, String)>,
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
        let mut module = Module::default();
        let mut rest = text.as_str();
        loop {
            rest = rest.trim_start();
            if rest.is_empty() {
                return Ok(module);
            }
            rest = module.directive(rest, &text)?;
        }
    }

    /// Reads what `rest` starts with, and returns what follows.
    fn directive<'a>(&mut self, rest: &'a str, text: &str) -> Result<&'a str, String> {
        let (line, after_line) = rest.split_once('\n').unwrap_or((rest, ""));
        let word = rest.split_whitespace().next().unwrap_or_default();
        match word {
            ".version" | ".address_size" => return Ok(after_line),
            ".target" => {
                let digits = |c: char| !c.is_ascii_digit();
                let number = line.trim_start_matches(digits).split(digits).next();
                self.target = number.and_then(|n| n.parse().ok()).unwrap_or(0);
                return Ok(after_line);
            }
            ".file" => {
                let mut words = line.split_whitespace().skip(1);
                if let (Some(index), Some(name)) = (words.next(), words.next()) {
                    let name = name.trim_matches(['"', ',']).to_string();
                    self.files.insert(index.parse().unwrap_or(0), name);
                }
                return Ok(after_line);
            }
            ".section" => {
                let open = rest.find('{').ok_or("a .section without braces")?;
                let close = closing(&rest[open..]).ok_or("a .section that does not end")?;
                return Ok(&rest[open + close + 1..]);
            }
            _ => {}
        }
        let semicolon = rest.find(';').unwrap_or(rest.len());
        let head = &rest[..semicolon.min(rest.find('{').unwrap_or(rest.len()))];
        if head.contains(".entry") || head.contains(".func") {
            return self.function(rest, text);
        }
        let end = find_outside(rest, ';').ok_or_else(|| format!("no `;` after `{line}`"))?;
        self.variable(&rest[..end])?;
        Ok(&rest[end + 1..])
    }

    fn function<'a>(&mut self, rest: &'a str, text: &str) -> Result<&'a str, String> {
        let is_entry = rest.split_whitespace().take_while(|w| !w.contains('(')).any(|w| w == ".entry");
        let keyword = if is_entry { ".entry" } else { ".func" };
        let start = rest.find(keyword).unwrap_or(0) + keyword.len();
        let mut at = rest[start..].trim_start();
        let params = |at: &mut &str| -> Result<Vec<Declaration>, String> {
            if !at.starts_with('(') {
                return Ok(Vec::new());
            }
            let close = closing(at).ok_or("a parameter list that does not end")?;
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
        if at[open..].starts_with(';') {
            return Ok(&at[open + 1..]); // declared only
        }
        let mut directives = HashMap::new();
        for directive in at[..open].split('.').map(str::trim).filter(|d| !d.is_empty()) {
            let (name, numbers) = directive.split_once(char::is_whitespace).unwrap_or((directive, ""));
            let numbers = numbers.split(',').filter_map(|n| n.trim().parse().ok()).collect();
            directives.insert(name.to_string(), numbers);
        }
        let body = &at[open..];
        let close = closing(body).ok_or_else(|| format!("{name} does not end"))?;
        let before = text.len() - body.len();
        let line = text[..before].matches('\n').count() as u32 + 1;
        let function = FunctionText {
            name: name.clone(),
            is_entry,
            results,
            params,
            directives,
            body: body[1..close].to_string(),
            line,
        };
        self.functions.insert(name, function);
        Ok(&body[close + 1..])
    }

    fn variable(&mut self, text: &str) -> Result<(), String> {
        if text.trim().is_empty() || text.contains(".alias") {
            return Ok(());
        }
        let (left, right) = match text.split_once('=') {
            Some((left, right)) => (left, Some(right)),
            None => (text, None),
        };
        let declaration = Declaration::parse(left)?;
        if left.contains(".shared") {
            self.shared.insert(declaration.name.clone(), declaration);
            return Ok(());
        }
        if !left.contains(".global") && !left.contains(".const") {
            return Err(format!("unsupported directive `{}`", text.trim()));
        }
        let (mut init, mut pointers) = (Vec::new(), Vec::new());
        for item in list(&right.unwrap_or("").replace(['{', '}'], "")) {
            let value = number(item).unwrap_or_else(|| {
                pointers.push((init.len(), item.to_string()));
                0
            });
            init.extend_from_slice(&value.to_le_bytes()[..declaration.element]);
        }
        init.resize(declaration.bytes.max(init.len()), 0);
        self.variables.push(Variable { declaration, init, pointers });
        Ok(())
    }
}
