//! Moving bytes between memory and registers.

use super::access::MemoryOp;
use super::race::Kind;
use super::registers::{LANES, Register, Registers, Word, lanes};

#[inline(always)]
fn get(data: &[u8], offset: usize, bytes: usize) -> u64 {
    let mut word = [0; 8];
    word[..bytes].copy_from_slice(&data[offset..offset + bytes]);
    u64::from_le_bytes(word)
}

fn put(data: &mut [u8], offset: usize, bytes: usize, value: u64) {
    data[offset..offset + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
}

/// Loads the bytes of all lanes of a mask. Whole registers are the most common by far.
pub fn transfer_all(op: &MemoryOp, data: &mut [u8], registers: &mut Registers, mask: u32, offsets: &[usize; LANES]) {
    match (op.ty.bytes(), op.values[0].bits) {
        (4, 32) => load::<u32, 4>(op, data, registers, mask, offsets),
        (8, 64) => load::<u64, 8>(op, data, registers, mask, offsets),
        _ => lanes(mask).for_each(|l| transfer(op, data, registers, l, offsets[l])),
    }
}

fn load<W: Word + TryFrom<u64>, const N: usize>(
    op: &MemoryOp, data: &[u8], registers: &mut Registers, mask: u32, offsets: &[usize; LANES],
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
    match op.access.kind {
        Kind::Load => {
            for (k, register) in op.values.iter().enumerate() {
                register.set(registers, lane, op.ty.extend(get(data, offset + k * bytes, bytes)));
            }
        }
        Kind::Store => {
            for (k, register) in op.values.iter().enumerate() {
                put(data, offset + k * bytes, bytes, register.get(registers, lane));
            }
        }
        Kind::Atomic(reduce) => {
            let old = get(data, offset, bytes);
            put(data, offset, bytes, reduce(old, op.values[0].get(registers, lane)));
            if let Some(register) = op.destination {
                register.set(registers, lane, old);
            }
        }
    }
}

/// True if a store does not change memory.
pub fn stores_same(op: &MemoryOp, data: &[u8], registers: &Registers, lane: usize, offset: usize) -> bool {
    let (bytes, keep) = (op.ty.bytes(), !0u64 >> (64 - op.ty.bits()));
    let same = |(k, r): (usize, &Register)| get(data, offset + k * bytes, bytes) == r.get(registers, lane) & keep;
    op.values.iter().enumerate().all(same)
}
