//! One instruction while it is decoded: its opcode taken apart, its operands looked up.

use super::Action;
use super::lanes::{Custom, Lane, Map, Predicate, boxed};
use crate::decode::{Decoder, Symbol};
use crate::machine::registers::{Register, Registers, Word};
use crate::ptx::scan::offset;
use crate::ptx::types::{Space, Type};
use std::cell::RefCell;
use std::marker::PhantomData;

pub type Decoded = Result<Action, String>;

pub struct Form<'a, 'm> {
    pub name: &'a str,
    pub modifiers: Vec<&'a str>,
    /// The types among the modifiers, in order.
    pub types: Vec<Type>,
    pub operands: &'a [String],
    decoder: RefCell<&'a mut Decoder<'m>>,
    understood: RefCell<Vec<&'a str>>,
}

impl<'a, 'm> Form<'a, 'm> {
    pub fn new(opcode: &'a str, operands: &'a [String], decoder: &'a mut Decoder<'m>) -> Self {
        let (name, modifiers) = opcode.split_once('.').unwrap_or((opcode, ""));
        let modifiers: Vec<&str> = modifiers.split('.').filter(|m| !m.is_empty()).collect();
        let types = modifiers.iter().filter_map(|m| Type::parse(m)).collect();
        Form { name, modifiers, types, operands, decoder: RefCell::new(decoder), understood: RefCell::default() }
    }

    /// True if the opcode has this modifier.
    pub fn has(&self, modifier: &str) -> bool {
        let found = self.modifiers.iter().find(|m| **m == modifier);
        self.understood.borrow_mut().extend(found);
        found.is_some()
    }

    /// The first of these modifiers that the opcode has, as its place in the list.
    pub fn which(&self, modifiers: &[&str]) -> Option<usize> {
        modifiers.iter().position(|m| self.has(m))
    }

    /// Modifiers that change nothing here.
    pub fn ignore(&self, modifiers: &[&str]) {
        modifiers.iter().for_each(|m| _ = self.has(m));
    }

    /// A modifier that nobody asked for would be one whose meaning is missing.
    pub fn check_modifiers(&self) -> Result<(), String> {
        let known = |m: &str| Type::parse(m).is_some() || Space::parse(m).is_some();
        let unknown = self.modifiers.iter().find(|m| !known(m) && !self.understood.borrow().contains(m));
        unknown.map_or(Ok(()), |m| Err(format!("unsupported modifier .{m}")))
    }

    /// The first type, of most instructions the only one.
    pub fn ty(&self) -> Option<Type> {
        self.types.first().copied()
    }

    pub fn operand(&self, i: usize) -> Result<&'a str, String> {
        let missing = || format!("expected more than {} operands", self.operands.len());
        self.operands.get(i).map(String::as_str).ok_or_else(missing)
    }

    /// A destination of whatever width it was declared with. `_` is a register of `bits` that nobody reads.
    pub fn any_dst(&self, i: usize, bits: u32) -> Result<Register, String> {
        self.named(self.operand(i)?, bits, false)
    }

    /// A source of whatever width it was declared with; a constant gets `bits`.
    pub fn any_src(&self, i: usize, bits: u32) -> Result<Register, String> {
        self.named(self.operand(i)?, bits, true)
    }

    fn named(&self, name: &str, bits: u32, is_source: bool) -> Result<Register, String> {
        let mut decoder = self.decoder.borrow_mut();
        if is_source { decoder.source(name.trim(), bits) } else { decoder.register(name.trim(), bits) }
    }

    /// A destination of the width of `R`.
    pub fn dst<R: Lane>(&self, i: usize) -> Result<u32, String> {
        Self::index::<R>(self.operand(i)?, self.any_dst(i, R::Word::BITS)?)
    }

    /// A source of the width of `A`, or a constant.
    pub fn src<A: Lane>(&self, i: usize) -> Result<u32, String> {
        Self::index::<A>(self.operand(i)?, self.any_src(i, A::Word::BITS)?)
    }

    fn index<A: Lane>(name: &str, register: Register) -> Result<u32, String> {
        if register.bits == 1 || register.bits.max(32) != A::Word::BITS {
            return Err(format!("expected {name} to have {} bits, it has {}", A::Word::BITS, register.bits));
        }
        Ok(register.index)
    }

    /// The registers of `{a, b}`, or of the one operand there is.
    pub fn vector(&self, i: usize, bits: u32, is_source: bool) -> Result<Vec<Register>, String> {
        let text = self.operand(i)?.trim_matches(['{', '}']);
        text.split(',').map(|name| self.named(name, bits, is_source)).collect()
    }

    pub fn predicate(&self, i: usize) -> Result<Predicate, String> {
        self.decoder.borrow_mut().predicate(self.operand(i)?)
    }

    /// The destinations of operand 0 in `d|p`, as the indices of their registers.
    pub fn pair(&self) -> Result<(u32, Option<u32>), String> {
        let text = self.operand(0)?;
        let (d, p) = text.split_once('|').map_or((text, None), |(d, p)| (d, Some(p)));
        Ok((self.named(d, 32, false)?.index, p.map(|p| self.named(p, 1, false)).transpose()?.map(|p| p.index)))
    }

    /// `[base+offset]`: the base's register, the offset, and whether the base is a variable of the function.
    pub fn address(&self, i: usize) -> Result<(Register, u64, bool), String> {
        let (base, offset) = offset(self.operand(i)?.trim_matches(['[', ']']))?;
        let mut decoder = self.decoder.borrow_mut();
        let is_local = matches!(decoder.symbol(base), Some(Symbol::Local(_)));
        Ok((decoder.source(base, 64)?, offset, is_local))
    }

    pub fn carry(&self) -> u32 {
        self.decoder.borrow_mut().carry().index
    }

    pub fn map1<A: Lane, R: Lane>(&self, f: impl Fn(A) -> R + Send + Sync + 'static) -> Decoded {
        map(self.dst::<R>(0)?, [self.src::<A>(1)?; 3], move |a: A, _: A, _: A| f(a))
    }

    pub fn map2<A: Lane, B: Lane, R: Lane>(&self, f: impl Fn(A, B) -> R + Send + Sync + 'static) -> Decoded {
        let (a, b) = (self.src::<A>(1)?, self.src::<B>(2)?);
        map(self.dst::<R>(0)?, [a, b, b], move |a: A, b: B, _: B| f(a, b))
    }

    pub fn map3<A: Lane, B: Lane, C: Lane, R: Lane>(
        &self, f: impl Fn(A, B, C) -> R + Send + Sync + 'static,
    ) -> Decoded {
        map(self.dst::<R>(0)?, [self.src::<A>(1)?, self.src::<B>(2)?, self.src::<C>(3)?], f)
    }

    /// A function of the low bits of one register of any width, into another.
    pub fn words(&self, f: impl Fn(u64) -> u64 + Send + Sync + 'static) -> Decoded {
        let bits = |place: usize| self.types.get(place).map_or(32, |ty| ty.bits());
        let (a, d) = (self.any_src(1, bits(1))?, self.any_dst(0, bits(0))?);
        let keep = if d.bits == 16 { 0xffff } else { !0u32 };
        let sources = [a.index; 3];
        match (a.bits == 64, d.bits == 64) {
            (false, false) => map(d.index, sources, move |v: u32, _: u32, _: u32| f(v as u64) as u32 & keep),
            (false, true) => map(d.index, sources, move |v: u32, _: u32, _: u32| f(v as u64)),
            (true, false) => map(d.index, sources, move |v: u64, _: u64, _: u64| f(v) as u32 & keep),
            (true, true) => map(d.index, sources, move |v: u64, _: u64, _: u64| f(v)),
        }
    }

    pub fn custom(&self, f: impl Fn(&mut Registers, u32) + Send + Sync + 'static) -> Decoded {
        Ok(Action::Lanes(boxed(Custom(f))))
    }
}

/// `d = f(sources)`
pub fn map<A: Lane, B: Lane, C: Lane, R: Lane>(
    d: u32, sources: [u32; 3], f: impl Fn(A, B, C) -> R + Send + Sync + 'static,
) -> Decoded {
    Ok(Action::Lanes(boxed(Map { f, d, sources, types: PhantomData::<fn(A, B, C)> })))
}
