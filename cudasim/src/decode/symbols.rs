//! The meaning of names in a function, and the places of registers and variables.

use super::SharedVariable;
use crate::isa::lanes::Predicate;
use crate::machine::registers::Register;
use crate::machine::setup::{Special, special};
use crate::ptx::Module;
use crate::ptx::scan::{Declaration, number, offset};
use crate::ptx::types::{Space, Type};
use std::collections::HashMap;

#[derive(Clone, Copy, Debug)]
pub enum Symbol {
    Register(Register),
    /// Offsets within the space.
    Param(usize),
    Local(usize),
    Shared(usize),
}

/// A value that is fixed for a thread, and kept in a register like any other.
pub enum Constant {
    Number(u64),
    /// A special register along an axis.
    Special(Special, usize),
    Shared(u64),
    DynamicShared(u64),
    /// A variable of the module, by its place in the list, and an offset.
    Variable(usize, u64),
}

pub struct Decoder<'m> {
    module: &'m Module,
    pub(super) scopes: Vec<HashMap<String, Symbol>>,
    pub(super) units: u32,
    pub(super) predicates: u32,
    pub(super) constants: Vec<(Register, Constant)>,
    /// The registers of numbers and special registers, by their text and width.
    known: HashMap<(String, u32), Register>,
    pub(super) shared: Vec<SharedVariable>,
    pub(super) shared_bytes: usize,
    pub(super) dynamic_align: usize,
    pub(super) local_bytes: usize,
    carry: Option<Register>,
}

impl<'m> Decoder<'m> {
    pub fn new(module: &'m Module) -> Self {
        Self {
            module,
            scopes: Vec::new(),
            units: 0,
            predicates: 0,
            constants: Vec::new(),
            known: HashMap::new(),
            shared: Vec::new(),
            shared_bytes: 0,
            dynamic_align: 1,
            local_bytes: 0,
            carry: None,
        }
    }

    fn fresh(&mut self, bits: u32) -> Register {
        let (next, size) = match bits {
            1 => (&mut self.predicates, 1),
            64 => (&mut self.units, 2),
            _ => (&mut self.units, 1),
        };
        let register = Register { index: *next, bits };
        *next += size;
        register
    }

    pub fn declare(&mut self, ty: Type, names: &[(String, Option<u32>)]) {
        let bits = if ty == Type::Pred { 1 } else { ty.bits().max(16) };
        for (stem, count) in names {
            let numbered = (0..count.unwrap_or(0)).map(|i| format!("{stem}{i}"));
            for name in numbered.chain(count.is_none().then(|| stem.clone())) {
                let register = self.fresh(bits);
                self.define(name, Symbol::Register(register));
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
        let symbol = if space == Space::Shared {
            Symbol::Shared(self.place_shared(declaration))
        } else {
            let offset = self.local_bytes.next_multiple_of(declaration.align);
            self.local_bytes = offset + declaration.bytes;
            Symbol::Local(offset)
        };
        self.define(declaration.name.clone(), symbol);
    }

    fn place_shared(&mut self, declaration: &Declaration) -> usize {
        if let Some(placed) = self.shared.iter().find(|v| v.name == declaration.name) {
            return placed.offset;
        }
        let offset = self.shared_bytes.next_multiple_of(declaration.align);
        self.shared_bytes = offset + declaration.bytes;
        self.shared.push(SharedVariable { name: declaration.name.clone(), offset, bytes: declaration.bytes });
        offset
    }

    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name).copied())
    }

    fn constant(&mut self, constant: Constant, bits: u32) -> Register {
        let register = self.fresh(bits);
        self.constants.push((register, constant));
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
    pub fn source(&mut self, text: &str, bits: u32) -> Result<Register, String> {
        let bits = if bits == 1 { 1 } else { bits.max(16) };
        if let Some(Symbol::Register(register)) = self.symbol(text) {
            return Ok(register);
        }
        let key = (text.to_string(), bits);
        if let Some(register) = self.known.get(&key) {
            return Ok(*register);
        }
        let (vector, axis) = text.split_once('.').unwrap_or((text, "x"));
        let constant = match (number(text), special(vector), "xyz".find(axis)) {
            (Some(value), _, _) => Constant::Number(value & (!0 >> (64 - bits))),
            (_, Some(special), Some(axis)) => Constant::Special(special, axis),
            _ => {
                let constant = self.address(text)?;
                return Ok(self.constant(constant, bits));
            }
        };
        let register = self.constant(constant, bits);
        self.known.insert(key, register);
        Ok(register)
    }

    /// The address of a variable, `name+offset`, within its space.
    fn address(&mut self, text: &str) -> Result<Constant, String> {
        let (name, add) = offset(text)?;
        let plus = |offset: usize| add.wrapping_add(offset as u64);
        Ok(match self.symbol(name) {
            Some(Symbol::Param(offset) | Symbol::Local(offset)) => Constant::Number(plus(offset)),
            Some(Symbol::Shared(offset)) => Constant::Shared(plus(offset)),
            _ => match self.module.shared.get(name) {
                Some(declaration) if declaration.bytes == 0 => {
                    self.dynamic_align = self.dynamic_align.max(declaration.align).max(16);
                    Constant::DynamicShared(add)
                }
                Some(declaration) => Constant::Shared(plus(self.place_shared(declaration))),
                None => {
                    let variable = self.module.variables.iter().position(|v| v.declaration.name == name);
                    Constant::Variable(variable.ok_or_else(|| format!("unsupported operand {name}"))?, add)
                }
            },
        })
    }

    /// `%p`, `!%p`, or a number: 0 is false.
    pub fn predicate(&mut self, text: &str) -> Result<Predicate, String> {
        let name = text.trim_start_matches('!');
        let register = self.source(name, 1)?;
        if register.bits != 1 {
            return Err(format!("expected a predicate, got {name}"));
        }
        Ok(Predicate { index: register.index, negated: name.len() < text.len() })
    }

    /// The carry that `add.cc` leaves for `addc`.
    pub fn carry(&mut self) -> Register {
        let carry = self.carry.unwrap_or_else(|| self.fresh(1));
        *self.carry.insert(carry)
    }
}
