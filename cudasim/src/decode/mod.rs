//! From the text of a kernel to instructions that a warp can execute: names become registers,
//! labels addresses, calls the called function's code.

mod symbols;

use crate::isa::{self, Action, Instruction};
use crate::machine::registers::Register;
use crate::ptx::{FunctionText, Module, Statement};
use std::collections::HashMap;
pub use symbols::{Constant, Decoder, Symbol};

/// A variable in a block's shared memory.
#[derive(Clone, Debug)]
pub struct SharedVariable {
    pub name: String,
    pub offset: usize,
    pub bytes: usize,
}

/// A kernel, ready to run.
pub struct Kernel {
    pub name: String,
    pub code: Vec<Instruction>,
    pub units: usize,
    pub predicates: usize,
    /// Registers that hold what no instruction writes.
    pub constants: Vec<(Register, Constant)>,
    /// Offset and size of each parameter, and of all.
    pub params: Vec<(usize, usize)>,
    pub param_bytes: usize,
    pub shared: Vec<SharedVariable>,
    pub shared_bytes: usize,
    /// The alignment of `extern __shared__`.
    pub dynamic_align: usize,
    pub local_bytes: usize,
    pub max_threads: Option<u32>,
    pub required_threads: Option<[u32; 3]>,
    pub required_cluster: Option<[u32; 3]>,
    pub files: HashMap<u32, String>,
}

/// Calls within calls, at most: deeper is a recursion, which has no code in place.
const MAX_DEPTH: usize = 16;

impl Kernel {
    pub fn decode(module: &Module, name: &str) -> Result<Kernel, String> {
        let text = module.functions.get(name).filter(|f| f.is_entry);
        let text = text.ok_or_else(|| format!("no kernel {name} in the module"))?;
        let (mut params, mut scope, mut param_bytes) = (Vec::new(), HashMap::new(), 0usize);
        for param in &text.params {
            let offset = param_bytes.next_multiple_of(param.align);
            params.push((offset, param.bytes));
            scope.insert(param.name.clone(), Symbol::Param(offset));
            param_bytes = offset + param.bytes;
        }
        let mut body = Body { module, decoder: Decoder::new(module), code: Vec::new(), source: (0, 0), depth: 0 };
        body.decoder.scopes.push(scope);
        body.function(text).map_err(|e| format!("{name}: {e}"))?;
        body.push(Action::Exit, &None, 0);
        let triple = |directive: &str| {
            let numbers = text.directives.get(directive)?;
            Some(std::array::from_fn(|i| numbers.get(i).copied().unwrap_or(1)))
        };
        let Body { decoder, code, .. } = body;
        Ok(Kernel {
            name: name.to_string(),
            code,
            units: decoder.units as usize,
            predicates: decoder.predicates as usize,
            params,
            param_bytes,
            shared: decoder.shared,
            shared_bytes: decoder.shared_bytes,
            dynamic_align: decoder.dynamic_align,
            local_bytes: decoder.local_bytes,
            max_threads: triple("maxntid").map(|n: [u32; 3]| n.iter().product()),
            required_threads: triple("reqntid"),
            required_cluster: triple("reqnctapercluster"),
            constants: decoder.constants,
            files: module.files.clone(),
        })
    }

    /// The file and line of the source that an instruction comes from, where the PTX names them.
    pub fn source(&self, pc: u32) -> Option<(String, u32)> {
        let (file, line) = self.code[pc as usize].source;
        Some((self.files.get(&file)?.clone(), line))
    }
}

struct Body<'m> {
    module: &'m Module,
    decoder: Decoder<'m>,
    code: Vec<Instruction>,
    source: (u32, u32),
    depth: usize,
}

/// The target of a branch: a label, or for `ret` the end of the function.
struct Jump {
    from: usize,
    label: Option<String>,
}

impl Body<'_> {
    fn push(&mut self, action: Action, guard: &Option<String>, ptx_line: u32) {
        let guard = guard.as_ref().and_then(|guard| self.decoder.predicate(guard).ok());
        self.code.push(Instruction { action, guard, ptx_line, source: self.source });
    }

    fn function(&mut self, text: &FunctionText) -> Result<(), String> {
        if self.depth > MAX_DEPTH {
            return Err(format!("calls nest too deep at {}", text.name));
        }
        let (mut labels, mut jumps) = (HashMap::new(), Vec::new());
        self.decoder.scopes.push(HashMap::new());
        for line in &text.lines()? {
            match &line.statement {
                Statement::Open => self.decoder.scopes.push(HashMap::new()),
                Statement::Close => drop(self.decoder.scopes.pop()),
                Statement::Label(name) => drop(labels.insert(name.clone(), self.code.len())),
                Statement::Source { at, inlined_at } => {
                    // A line of one of CUDA's headers says less than the line that includes it.
                    let ours = |file: &String| file.contains(".cu") || file.contains("shared/");
                    let of_kernel = self.module.files.get(&at.0).is_some_and(ours);
                    self.source = inlined_at.filter(|_| !of_kernel).unwrap_or(*at);
                }
                Statement::Registers { ty, names } => self.decoder.declare(*ty, names),
                Statement::Variable(space, declaration) => self.decoder.variable(*space, declaration),
                Statement::Instruction { guard, opcode, operands } => {
                    let jump = self.instruction(guard, opcode, operands, line.number);
                    let text = format!("{opcode} {}", operands.join(", "));
                    let context = |e| format!("PTX line {}: `{}`: {e}", line.number, text.trim_end());
                    jumps.extend(jump.map_err(context)?);
                }
            }
        }
        self.decoder.scopes.pop();
        let end = self.code.len();
        for Jump { from, label } in jumps {
            let target = match &label {
                Some(name) => *labels.get(name).ok_or_else(|| format!("no label {name}"))?,
                None => end,
            };
            self.code[from].action = Action::Branch(target as u32);
        }
        Ok(())
    }

    /// Appends an instruction. Where it jumps to is known at the end of the function.
    fn instruction(
        &mut self, guard: &Option<String>, opcode: &str, operands: &[String], line: u32,
    ) -> Result<Option<Jump>, String> {
        guard.as_ref().map(|guard| self.decoder.predicate(guard)).transpose()?;
        let from = self.code.len();
        let (action, jump) = match opcode {
            "bra" | "bra.uni" => (Action::Nothing, Some(Jump { from, label: operands.first().cloned() })),
            "ret" if self.depth > 0 => (Action::Nothing, Some(Jump { from, label: None })),
            "ret" => (Action::Exit, None),
            "call" | "call.uni" => return self.call(guard, operands, line).map(|()| None),
            _ => (isa::decode(opcode, operands, &mut self.decoder)?, None),
        };
        self.push(action, guard, line);
        Ok(jump)
    }

    /// `call (result), name, (arguments)`: the code of `name`, its parameters being the arguments.
    fn call(&mut self, guard: &Option<String>, operands: &[String], line: u32) -> Result<(), String> {
        let names = |text: &str| -> Vec<String> {
            let inner = text.trim_matches(['(', ')']).split(',').map(|n| n.trim().to_string());
            inner.filter(|n| !n.is_empty()).collect()
        };
        let (results, rest) = match operands {
            [first, rest @ ..] if first.starts_with('(') => (names(first), rest),
            rest => (Vec::new(), rest),
        };
        let (callee, rest) = rest.split_first().ok_or("expected a function")?;
        if callee == "__assertfail" {
            self.push(Action::Trap("an assertion failed"), guard, line);
            return Ok(());
        }
        let callee = self.module.functions.get(callee).filter(|_| guard.is_none());
        let callee = callee.ok_or("unsupported: a call with a guard, or of what the module lacks")?;
        let arguments = rest.first().map(|text| names(text)).unwrap_or_default();
        let mut scope = HashMap::new();
        for (param, name) in callee.params.iter().zip(&arguments).chain(callee.results.iter().zip(&results)) {
            let symbol = self.decoder.symbol(name).ok_or_else(|| format!("no variable {name}"))?;
            scope.insert(param.name.clone(), symbol);
        }
        let outer = (std::mem::replace(&mut self.decoder.scopes, vec![scope]), self.source);
        self.depth += 1;
        let decoded = self.function(callee);
        self.depth -= 1;
        (self.decoder.scopes, self.source) = outer;
        decoded
    }
}
