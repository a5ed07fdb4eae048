//! What the names of a function mean, and where registers and variables are put.

use super::SharedVariable;
use crate::isa::lanes::Predicate;
use crate::machine::registers::Register;
use crate::ptx::scan::{number, Declaration};
use crate::ptx::types::{Space, Special, Type};
use crate::ptx::Module;
use std::collections::HashMap;

#[derive(Clone, Copy, Debug)]
pub enum Symbol {
    Register(Register),
    /// Offsets within the space.
    Param(u32),
    Local(u32),
    Shared(u32),
}

/// A value that is fixed for a thread, and kept in a register like any other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Constant {
    Number,
    Special(Special),
    Shared,
    DynamicShared,
    Local,
    Param,
    /// The address of a module's variable.
    Variable(usize),
    /// Where the thread's local memory is in the generic address space.
    LocalWindow,
}

#[derive(Default)]
pub struct Decoder {
    pub(super) scopes: Vec<HashMap<String, Symbol>>,
    pub(super) units: u32,
    pub(super) predicates: u32,
    /// By constant, what is added to it, and width.
    pub(super) constants: HashMap<(Constant, u64, u32), Register>,
    pub(super) shared: Vec<SharedVariable>,
    pub(super) shared_bytes: usize,
    pub(super) dynamic_align: Option<usize>,
    pub(super) local_bytes: usize,
    module_shared: HashMap<String, Declaration>,
    module_variables: HashMap<String, usize>,
    carry: Option<Register>,
}

impl Decoder {
    pub fn new(module: &Module) -> Self {
        let variables = module.variables.iter().enumerate();
        Self {
            module_shared: module.shared.clone(),
            module_variables: variables.map(|(i, v)| (v.declaration.name.clone(), i)).collect(),
            ..Self::default()
        }
    }

    fn fresh(&mut self, bits: u32) -> Register {
        let (next, size) = match bits {
            1 => (&mut self.predicates, 1),
            64 => (&mut self.units, 2),
            _ => (&mut self.units, 1),
        };
        let index = *next;
        *next += size;
        Register { index, bits }
    }

    pub fn declare(&mut self, ty: Type, names: &[(String, Option<u32>)]) {
        let bits = if ty == Type::Pred { 1 } else { ty.bits().max(16) };
        for (stem, count) in names {
            let all: Vec<String> = match count {
                Some(count) => (0..*count).map(|i| format!("{stem}{i}")).collect(),
                None => vec![stem.clone()],
            };
            for name in all {
                let symbol = Symbol::Register(self.fresh(bits));
                self.define(name, symbol);
            }
        }
    }

    fn define(&mut self, name: String, symbol: Symbol) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, symbol);
        }
    }

    /// A variable of the function. Arguments of calls, `.param`, are kept in local memory.
    pub fn variable(&mut self, space: Space, declaration: &Declaration) {
        let symbol = match space {
            Space::Shared => Symbol::Shared(self.place_shared(declaration)),
            _ => {
                let offset = self.local_bytes.next_multiple_of(declaration.align);
                self.local_bytes = offset + declaration.bytes;
                Symbol::Local(offset as u32)
            }
        };
        self.define(declaration.name.clone(), symbol);
    }

    fn place_shared(&mut self, declaration: &Declaration) -> u32 {
        if let Some(placed) = self.shared.iter().find(|v| v.name == declaration.name) {
            return placed.offset as u32;
        }
        let offset = self.shared_bytes.next_multiple_of(declaration.align);
        self.shared_bytes = offset + declaration.bytes;
        self.shared.push(SharedVariable { name: declaration.name.clone(), offset, bytes: declaration.bytes });
        offset as u32
    }

    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name).copied())
    }

    pub fn is_local(&self, name: &str) -> bool {
        matches!(self.symbol(name.trim()), Some(Symbol::Local(_)))
    }

    pub fn constant(&mut self, constant: Constant, bits: u32) -> Register {
        self.constant_plus(constant, 0, bits)
    }

    fn constant_plus(&mut self, constant: Constant, add: u64, bits: u32) -> Register {
        let bits = if bits == 1 { 1 } else { bits.max(16) };
        if let Some(register) = self.constants.get(&(constant, add, bits)) {
            return *register;
        }
        let register = self.fresh(bits);
        self.constants.insert((constant, add, bits), register);
        register
    }

    /// The register to write. `_` discards what is written.
    pub fn register(&mut self, name: &str, bits: u32) -> Result<Register, String> {
        match self.symbol(name) {
            Some(Symbol::Register(register)) => Ok(register),
            _ if name == "_" => Ok(self.fresh(bits)),
            _ => Err(format!("no register {name}")),
        }
    }

    /// The register to read: that of a name, or one that holds a constant of `bits` bits.
    pub fn source(&mut self, name: &str, bits: u32) -> Result<Register, String> {
        if let Some(value) = number(name) {
            let value = if bits < 64 { value & ((1 << bits) - 1) } else { value };
            return Ok(self.constant_plus(Constant::Number, value, bits));
        }
        if let Some(special) = Special::parse(name) {
            return Ok(self.constant(Constant::Special(special), bits));
        }
        let (name, add) = match name.split_once('+') {
            Some((name, add)) => {
                let wrong = || format!("cannot read the offset of {name}");
                (name.trim(), number(add).ok_or_else(wrong)?)
            }
            None => (name, 0),
        };
        let (constant, offset) = match self.symbol(name) {
            Some(Symbol::Register(register)) => return Ok(register),
            Some(Symbol::Param(offset)) => (Constant::Param, offset),
            Some(Symbol::Local(offset)) => (Constant::Local, offset),
            Some(Symbol::Shared(offset)) => (Constant::Shared, offset),
            None if name == "WARP_SZ" => (Constant::Number, 32),
            None => match (self.module_shared.get(name).cloned(), self.module_variables.get(name)) {
                (Some(declaration), _) if declaration.bytes == 0 => {
                    let align = self.dynamic_align.unwrap_or(16).max(declaration.align);
                    self.dynamic_align = Some(align);
                    (Constant::DynamicShared, 0)
                }
                (Some(declaration), _) => (Constant::Shared, self.place_shared(&declaration)),
                (None, Some(variable)) => (Constant::Variable(*variable), 0),
                _ => return Err(format!("unsupported operand {name}")),
            },
        };
        Ok(self.constant_plus(constant, add.wrapping_add(offset as u64), bits))
    }

    /// `%p`, `!%p`, or a number: 0 is false.
    pub fn predicate(&mut self, name: &str) -> Result<Predicate, String> {
        let (name, negated) = match name.strip_prefix('!') {
            Some(name) => (name.trim(), true),
            None => (name, false),
        };
        let register = match number(name) {
            Some(value) => self.constant_plus(Constant::Number, (value != 0) as u64, 1),
            None => self.source(name, 1)?,
        };
        if register.bits != 1 {
            return Err(format!("expected a predicate, got {name}"));
        }
        Ok(Predicate { index: register.index, negated })
    }

    /// The carry that `add.cc` leaves for `addc`.
    pub fn carry(&mut self) -> Register {
        let carry = match self.carry {
            Some(carry) => carry,
            None => self.fresh(1),
        };
        self.carry = Some(carry);
        carry
    }
}
