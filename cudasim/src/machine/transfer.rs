//! Moving bytes between memory and registers.

use super::access::{MemoryOp, Operation};
use super::registers::{lanes, Registers, Word, LANES};

#[inline(always)]
fn fixed<const N: usize>(data: &[u8], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&data[offset..offset + N]);
    bytes
}

#[inline(always)]
fn get(data: &[u8], offset: usize, bytes: usize) -> u64 {
    match bytes {
        1 => data[offset] as u64,
        2 => u16::from_le_bytes(fixed(data, offset)) as u64,
        4 => u32::from_le_bytes(fixed(data, offset)) as u64,
        _ => u64::from_le_bytes(fixed(data, offset)),
    }
}

#[inline(always)]
fn put(data: &mut [u8], offset: usize, bytes: usize, value: u64) {
    match bytes {
        1 => data[offset] = value as u8,
        2 => data[offset..offset + 2].copy_from_slice(&(value as u16).to_le_bytes()),
        4 => data[offset..offset + 4].copy_from_slice(&(value as u32).to_le_bytes()),
        _ => data[offset..offset + 8].copy_from_slice(&value.to_le_bytes()),
    }
}

/// Moves the bytes of all lanes of a mask. Loads of whole registers are the most common by far.
pub fn transfer_all(op: &MemoryOp, data: &mut [u8], registers: &mut Registers, mask: u32, offsets: &[usize; LANES]) {
    match (op.operation, op.ty.bytes(), op.values[0].bits) {
        (Operation::Load, 4, 32) => load::<u32, 4>(op, data, registers, mask, offsets),
        (Operation::Load, 8, 64) => load::<u64, 8>(op, data, registers, mask, offsets),
        _ => lanes(mask).for_each(|l| transfer(op, data, registers, l, offsets[l])),
    }
}

fn load<W: Word + TryFrom<u64>, const N: usize>(
    op: &MemoryOp,
    data: &[u8],
    registers: &mut Registers,
    mask: u32,
    offsets: &[usize; LANES],
) {
    for (k, register) in op.values.iter().enumerate() {
        let plane = W::plane_mut(registers, register.index);
        for lane in lanes(mask) {
            plane[lane] = W::try_from(get(data, offsets[lane] + k * N, N)).unwrap_or_default();
        }
    }
}

/// Moves the elements of one lane, or applies an atomic.
pub fn transfer(op: &MemoryOp, data: &mut [u8], registers: &mut Registers, lane: usize, offset: usize) {
    let bytes = op.ty.bytes();
    match op.operation {
        Operation::Load => {
            for (k, register) in op.values.iter().enumerate() {
                let value = get(data, offset + k * bytes, bytes);
                let above = 64 - op.ty.bits();
                let signed = ((value << above) as i64 >> above) as u64;
                register.set(registers, lane, if op.ty.is_signed() { signed } else { value });
            }
        }
        Operation::Store => {
            for (k, register) in op.values.iter().enumerate() {
                put(data, offset + k * bytes, bytes, register.get(registers, lane));
            }
        }
        Operation::Atomic(reduce) => {
            let old = get(data, offset, bytes);
            let operand = |i: usize| op.values.get(i).map_or(0, |r| r.get(registers, lane));
            put(data, offset, bytes, reduce(old, operand(0), operand(1)));
            if let Some(register) = op.destination {
                register.set(registers, lane, old);
            }
        }
    }
}

pub fn stores_same(op: &MemoryOp, data: &[u8], registers: &Registers, lane: usize, offset: usize) -> bool {
    let bytes = op.ty.bytes();
    let keep = !0u64 >> (64 - op.ty.bits());
    op.values
        .iter()
        .enumerate()
        .all(|(k, register)| get(data, offset + k * bytes, bytes) == register.get(registers, lane) & keep)
}
