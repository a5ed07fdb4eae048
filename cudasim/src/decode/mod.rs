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
    pub constants: Vec<(Register, Constant, u64)>,
    /// Offset and size of each parameter, and of all.
    pub params: Vec<(usize, usize)>,
    pub param_bytes: usize,
    pub shared: Vec<SharedVariable>,
    pub shared_bytes: usize,
    /// The alignment of `extern __shared__`, where there is one.
    pub dynamic_align: Option<usize>,
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
        let mut decoder = Decoder::new(module);
        let (mut params, mut scope, mut bytes) = (Vec::new(), HashMap::new(), 0usize);
        for param in &text.params {
            bytes = bytes.next_multiple_of(param.align);
            params.push((bytes, param.bytes));
            scope.insert(param.name.clone(), Symbol::Param(bytes as u32));
            bytes += param.bytes;
        }
        decoder.scopes.push(scope);
        let mut body = Body { module, decoder, code: Vec::new(), source: (0, 0), depth: 0 };
        body.function(text).map_err(|e| format!("{name}: {e}"))?;
        body.push(Action::Exit, None, 0);
        let triple = |directive: &str| {
            let numbers = text.directives.get(directive)?;
            let number = |i: usize| numbers.get(i).copied().unwrap_or(1);
            Some([number(0), number(1), number(2)])
        };
        let decoder = body.decoder;
        Ok(Kernel {
            name: name.to_string(),
            code: body.code,
            units: decoder.units as usize,
            predicates: decoder.predicates as usize,
            params,
            param_bytes: bytes,
            shared: decoder.shared,
            shared_bytes: decoder.shared_bytes,
            dynamic_align: decoder.dynamic_align,
            local_bytes: decoder.local_bytes,
            max_threads: triple("maxntid").map(|n| n.iter().product()),
            required_threads: triple("reqntid"),
            required_cluster: triple("reqnctapercluster"),
            constants: decoder.constants.into_iter().map(|((c, add, _), r)| (r, c, add)).collect(),
            files: module.files.clone(),
        })
    }
}

struct Body<'m> {
    module: &'m Module,
    decoder: Decoder,
    code: Vec<Instruction>,
    source: (u32, u32),
    depth: usize,
}

/// Where a branch goes: a label, or the end of the function for `ret`.
struct Jump {
    from: usize,
    label: Option<String>,
}

impl Body<'_> {
    fn push(&mut self, action: Action, guard: Option<(String, bool)>, ptx_line: u32) {
        let guard = guard.and_then(|(name, negated)| {
            let mut predicate = self.decoder.predicate(&name).ok()?;
            predicate.negated = negated;
            Some(predicate)
        });
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
                Statement::Source { file, line, inlined_at } => {
                    // A line of one of CUDA's headers says less than the line that includes it.
                    let of_kernel = self.module.files.get(file).is_some_and(|f| f.contains(".cu"));
                    self.source = match inlined_at {
                        Some(outer) if !of_kernel => *outer,
                        _ => (*file, *line),
                    };
                }
                Statement::Registers { ty, names } => self.decoder.declare(*ty, names),
                Statement::Variable(space, declaration) => {
                    self.decoder.variable(*space, declaration);
                }
                Statement::Instruction { guard, opcode, operands } => {
                    let context = |e: String| {
                        let text = operands.join(", ");
                        format!("PTX line {}: `{opcode} {text}`: {e}", line.number)
                    };
                    if let Some((name, _)) = guard {
                        self.decoder.predicate(name).map_err(context)?;
                    }
                    let jump = self.instruction(guard, opcode, operands, line.number);
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

    fn instruction(
        &mut self,
        guard: &Option<(String, bool)>,
        opcode: &str,
        operands: &[String],
        line: u32,
    ) -> Result<Option<Jump>, String> {
        let from = self.code.len();
        let name = opcode.split('.').next().unwrap_or_default();
        let action = match name {
            "bra" => {
                let label = operands.first().cloned();
                self.push(Action::Nothing, guard.clone(), line);
                return Ok(Some(Jump { from, label }));
            }
            "ret" if self.depth > 0 => {
                self.push(Action::Nothing, guard.clone(), line);
                return Ok(Some(Jump { from, label: None }));
            }
            "ret" => Action::Exit,
            "call" => return self.call(guard, operands, line).map(|()| None),
            _ => isa::decode(opcode, operands, &mut self.decoder)?,
        };
        self.push(action, guard.clone(), line);
        Ok(None)
    }

    /// `call (result), name, (arguments)`: the code of `name`, its parameters being the arguments.
    fn call(&mut self, guard: &Option<(String, bool)>, operands: &[String], line: u32) -> Result<(), String> {
        let names = |text: &str| -> Vec<String> {
            let inner = text.trim_matches(['(', ')']).split(',').map(|n| n.trim().to_string());
            inner.filter(|n| !n.is_empty()).collect()
        };
        let (results, rest) = match operands {
            [first, rest @ ..] if first.starts_with('(') => (names(first), rest),
            rest => (Vec::new(), rest),
        };
        let [callee, rest @ ..] = rest else {
            return Err("expected a function".to_string());
        };
        if callee == "__assertfail" {
            self.push(Action::Trap("an assertion failed".to_string()), guard.clone(), line);
            return Ok(());
        }
        let callee = self.module.functions.get(callee);
        let callee = callee.ok_or("unsupported call of a function that the module lacks")?;
        if guard.is_some() {
            return Err("unsupported: a call with a guard".to_string());
        }
        let arguments = rest.first().map(|text| names(text)).unwrap_or_default();
        let mut scope = HashMap::new();
        let params = callee.params.iter().zip(&arguments).chain(callee.results.iter().zip(&results));
        for (param, argument) in params {
            let symbol = self.decoder.symbol(argument);
            let symbol = symbol.ok_or_else(|| format!("no variable {argument}"))?;
            scope.insert(param.name.clone(), symbol);
        }
        let outer = std::mem::replace(&mut self.decoder.scopes, vec![scope]);
        let source = self.source;
        self.depth += 1;
        let decoded = self.function(callee);
        self.depth -= 1;
        self.decoder.scopes = outer;
        self.source = source;
        decoded
    }
}
