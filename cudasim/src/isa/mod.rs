//! The instruction set (9.7), a file for each group of the manual. What stands here is what nvcc
//! makes of this repository's kernels and of candle's.

mod compare;
mod control;
mod convert;
mod float;
mod form;
mod integer;
pub mod lanes;
mod memory;

use crate::decode::Decoder;
use crate::machine::access::MemoryOp;
use crate::machine::barrier::BarrierOp;
use crate::machine::collective::Collective;
use form::Form;
use lanes::{LaneOp, Predicate};

/// The action of an instruction.
pub enum Action {
    Lanes(Box<dyn LaneOp>),
    Memory(Box<MemoryOp>),
    /// An action of the lanes that a member mask names, together.
    Collective(Box<Collective>),
    Barrier(BarrierOp),
    Branch(u32),
    Exit,
    Trap(&'static str),
    Nothing,
}

pub struct Instruction {
    pub action: Action,
    pub guard: Option<Predicate>,
    pub ptx_line: u32,
    /// File and line, as `.loc` gives them.
    pub source: (u32, u32),
}

/// Decodes an instruction. The error says what about it is not supported.
pub fn decode(opcode: &str, operands: &[String], decoder: &mut Decoder) -> Result<Action, String> {
    let form = Form::new(opcode, operands, decoder);
    let groups = [float::decode, integer::decode, compare::decode, convert::decode, memory::decode, control::decode];
    let action = groups.iter().find_map(|decode| decode(&form)).ok_or("unsupported instruction")??;
    form.check_modifiers()?;
    Ok(action)
}
