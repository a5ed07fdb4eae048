//! One instruction while it is decoded: its opcode taken apart, its operands looked up.

use super::lanes::{boxed, Compare, Custom, Lane, LaneOp, Map, Predicate};
use super::Action;
use crate::decode::Decoder;
use crate::machine::registers::{Register, Registers, Word};
use crate::ptx::scan::number;
use crate::ptx::types::{Space, Type};
use std::cell::RefCell;
use std::marker::PhantomData;

pub type Decoded = Result<Action, String>;

pub struct Form<'a> {
    pub name: &'a str,
    pub modifiers: Vec<&'a str>,
    /// The types among the modifiers, in order.
    pub types: Vec<Type>,
    pub operands: &'a [String],
    pub decoder: RefCell<&'a mut Decoder>,
    understood: RefCell<Vec<&'a str>>,
}

impl<'a> Form<'a> {
    pub fn new(opcode: &'a str, operands: &'a [String], decoder: &'a mut Decoder) -> Self {
        let mut words = opcode.split('.');
        let name = words.next().unwrap_or_default();
        let modifiers: Vec<&str> = words.collect();
        let types = modifiers.iter().filter_map(|m| Type::parse(m)).collect();
        Form { name, modifiers, types, operands, decoder: RefCell::new(decoder), understood: RefCell::default() }
    }

    /// Whether the opcode has this modifier.
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
        for modifier in modifiers {
            self.has(modifier);
        }
    }

    /// A modifier that nobody asked for would be one whose meaning is missing.
    pub fn check_modifiers(&self) -> Result<(), String> {
        let space = |m: &str| Space::of(&[m]) != Space::Generic || m == "const";
        for m in &self.modifiers {
            if Type::parse(m).is_none() && !space(m) && !self.understood.borrow().contains(m) {
                return Err(format!("unsupported modifier .{m}"));
            }
        }
        Ok(())
    }

    pub fn unsupported(&self) -> String {
        "unsupported instruction".to_string()
    }

    pub fn ty(&self) -> Result<Type, String> {
        self.types.first().copied().ok_or_else(|| "no type".to_string())
    }

    pub fn operand(&self, i: usize) -> Result<&'a str, String> {
        let missing = || format!("expected more than {} operands", self.operands.len());
        self.operands.get(i).map(String::as_str).ok_or_else(missing)
    }

    /// A destination of the width of `R`. `_` is a register that nobody reads.
    pub fn dst<R: Lane>(&self, i: usize) -> Result<u32, String> {
        let name = self.operand(i)?;
        let register = self.decoder.borrow_mut().register(name, R::Word::BITS)?;
        Self::width::<R>(name, register)
    }

    /// A source of the width of `A`, or a constant.
    pub fn src<A: Lane>(&self, i: usize) -> Result<u32, String> {
        let name = self.operand(i)?;
        let register = self.decoder.borrow_mut().source(name, A::Word::BITS)?;
        Self::width::<A>(name, register)
    }

    fn width<A: Lane>(name: &str, register: Register) -> Result<u32, String> {
        if register.bits == 1 || register.bits.max(32) != A::Word::BITS {
            let bits = A::Word::BITS;
            return Err(format!("expected {name} to have {bits} bits, it has {}", register.bits));
        }
        Ok(register.index)
    }

    /// A source of whatever width it was declared with; a constant gets `bits`.
    pub fn any_src(&self, i: usize, bits: u32) -> Result<Register, String> {
        self.decoder.borrow_mut().source(self.operand(i)?, bits)
    }

    pub fn any_dst(&self, i: usize, bits: u32) -> Result<Register, String> {
        self.decoder.borrow_mut().register(self.operand(i)?, bits)
    }

    /// The registers of `{a, b}`, or of the one operand there is.
    pub fn vector(&self, i: usize, bits: u32, is_source: bool) -> Result<Vec<Register>, String> {
        let text = self.operand(i)?.trim_matches(['{', '}']);
        let mut decoder = self.decoder.borrow_mut();
        let register = |name: &str| match is_source {
            true => decoder.source(name.trim(), bits),
            false => decoder.register(name.trim(), bits),
        };
        text.split(',').map(register).collect()
    }

    pub fn predicate(&self, i: usize) -> Result<Predicate, String> {
        self.decoder.borrow_mut().predicate(self.operand(i)?)
    }

    /// The destination of operand 0 in `d|p`: its names.
    pub fn pair(&self) -> Result<(&'a str, Option<&'a str>), String> {
        let text = self.operand(0)?;
        Ok(match text.split_once('|') {
            Some((first, second)) => (first.trim(), Some(second.trim())),
            None => (text, None),
        })
    }

    /// `[base+offset]`: the base's register and the offset.
    pub fn address(&self, i: usize) -> Result<(Register, i64), String> {
        let text = self.operand(i)?.trim_matches(['[', ']']).trim();
        let (base, offset) = match text.rsplit_once('+') {
            Some((base, offset)) => {
                let wrong = || format!("cannot read the offset of `{text}`");
                (base.trim(), number(offset).ok_or_else(wrong)? as i64)
            }
            None => (text, 0),
        };
        Ok((self.decoder.borrow_mut().source(base, 64)?, offset))
    }

    pub fn map1<A, R, F>(&self, f: F) -> Decoded
    where
        A: Lane,
        R: Lane,
        F: Fn(A) -> R + Send + Sync + 'static,
    {
        let a = self.src::<A>(1)?;
        self.lanes([a; 3], move |a: A, _: A, _: A| f(a))
    }

    pub fn map2<A, B, R, F>(&self, f: F) -> Decoded
    where
        A: Lane,
        B: Lane,
        R: Lane,
        F: Fn(A, B) -> R + Send + Sync + 'static,
    {
        let (a, b) = (self.src::<A>(1)?, self.src::<B>(2)?);
        self.lanes([a, b, b], move |a: A, b: B, _: B| f(a, b))
    }

    pub fn map3<A, B, C, R, F>(&self, f: F) -> Decoded
    where
        A: Lane,
        B: Lane,
        C: Lane,
        R: Lane,
        F: Fn(A, B, C) -> R + Send + Sync + 'static,
    {
        let sources = [self.src::<A>(1)?, self.src::<B>(2)?, self.src::<C>(3)?];
        self.lanes(sources, f)
    }

    fn lanes<A, B, C, R, F>(&self, sources: [u32; 3], f: F) -> Decoded
    where
        A: Lane,
        B: Lane,
        C: Lane,
        R: Lane,
        F: Fn(A, B, C) -> R + Send + Sync + 'static,
    {
        let (d, types) = (self.dst::<R>(0)?, PhantomData::<fn(A, B, C)>);
        Ok(Action::Lanes(boxed(Map { f, d, sources, types })))
    }

    /// `setp`: compares operands 1 and 2 into the predicates of operand 0.
    pub fn compare<A, F>(&self, compare: F) -> Decoded
    where
        A: Lane,
        F: Fn(A, A) -> bool + Send + Sync + 'static,
    {
        let combine = match self.which(&["and", "or", "xor"]) {
            Some(0) => |v, c| v & c,
            Some(1) => |v, c| v | c,
            Some(_) => |v, c| v ^ c,
            None => |v, _| v,
        };
        let (p, q) = self.pair()?;
        let write = |name| self.decoder.borrow_mut().register(name, 1).map(|r| r.index);
        let op = Compare {
            compare,
            a: self.src::<A>(1)?,
            b: self.src::<A>(2)?,
            combine,
            c: (self.operands.len() > 3).then(|| self.predicate(3)).transpose()?,
            p: write(p)?,
            q: q.map(write).transpose()?,
            types: PhantomData,
        };
        Ok(Action::Lanes(boxed(op)))
    }

    pub fn custom<F>(&self, f: F) -> Decoded
    where
        F: Fn(&mut Registers, u32) + Send + Sync + 'static,
    {
        let op: Box<dyn LaneOp> = boxed(Custom(f));
        Ok(Action::Lanes(op))
    }

    /// A function of the low bits of one register of any width, into another.
    pub fn words<F>(&self, a: Register, d: Register, f: F) -> Decoded
    where
        F: Fn(u64) -> u64 + Send + Sync + 'static,
    {
        let keep = if d.bits == 16 { 0xffff } else { !0u32 };
        let (d_index, sources) = (d.index, [a.index; 3]);
        fn op<A: Lane, R: Lane>(d: u32, sources: [u32; 3], f: impl Fn(A) -> R + Send + Sync + 'static) -> Decoded {
            let (f, types) = (move |a, _: A, _: A| f(a), PhantomData::<fn(A, A, A)>);
            Ok(Action::Lanes(boxed(Map { f, d, sources, types })))
        }
        match (a.bits == 64, d.bits == 64) {
            (false, false) => op(d_index, sources, move |v: u32| f(v as u64) as u32 & keep),
            (false, true) => op(d_index, sources, move |v: u32| f(v as u64)),
            (true, false) => op(d_index, sources, move |v: u64| f(v) as u32 & keep),
            (true, true) => op(d_index, sources, f),
        }
    }
}
