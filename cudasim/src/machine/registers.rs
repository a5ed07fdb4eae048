//! The registers of a warp: for each register the values of 32 lanes, side by side, so that an
//! instruction is a loop over an array.

pub const LANES: usize = 32;
pub const ALL: u32 = !0;

/// The lanes of `mask`, lowest first.
pub fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}

/// A register of up to 32 bits. One of 64 takes two that follow each other.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Unit(#[allow(dead_code)] [u32; LANES]);

#[derive(Clone, Default)]
pub struct Registers {
    units: Vec<Unit>,
    predicates: Vec<u32>,
}

/// The type of a register's value in a lane.
///
/// # Safety
///
/// `BITS` is the size, 32 or 64, and any bits are a value.
pub unsafe trait Word: Copy + Default + Send + Sync + 'static {
    const BITS: u32;

    #[inline(always)]
    fn plane(registers: &Registers, register: u32) -> &[Self; LANES] {
        let units = &registers.units[register as usize..][..Self::BITS as usize / 32];
        // SAFETY: one or two units of 128 bytes without padding, aligned to 64, borrowed as long as
        // the result: 32 values of 4 or 8 bytes, of any bits.
        unsafe { &*units.as_ptr().cast() }
    }

    #[inline(always)]
    fn plane_mut(registers: &mut Registers, register: u32) -> &mut [Self; LANES] {
        let units = &mut registers.units[register as usize..][..Self::BITS as usize / 32];
        // SAFETY: as in `plane`, borrowed exclusively.
        unsafe { &mut *units.as_mut_ptr().cast() }
    }
}

// SAFETY: integers of that size.
unsafe impl Word for u32 {
    const BITS: u32 = 32;
}

// SAFETY: integers of that size.
unsafe impl Word for u64 {
    const BITS: u32 = 64;
}

impl Registers {
    /// Registers hold a pattern that is no plausible number until they are written.
    pub fn new(units: usize, predicates: usize) -> Self {
        Self { units: vec![Unit([0xa5a5_a5a5; LANES]); units], predicates: vec![0; predicates] }
    }

    /// True for the registers of a warp that has not begun.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    #[inline(always)]
    pub fn predicate(&self, index: u32) -> u32 {
        self.predicates[index as usize]
    }

    /// Sets the lanes of `mask` to those of `value`.
    #[inline(always)]
    pub fn set_predicate(&mut self, index: u32, mask: u32, value: u32) {
        let predicate = &mut self.predicates[index as usize];
        *predicate = *predicate & !mask | value & mask;
    }

    /// Sets the lanes of `mask` to those of `values`.
    #[inline(always)]
    pub fn write<W: Word>(&mut self, register: u32, mask: u32, values: &[W; LANES]) {
        let plane = W::plane_mut(self, register);
        if mask == ALL {
            *plane = *values;
            return;
        }
        for lane in 0..LANES {
            plane[lane] = if mask >> lane & 1 != 0 { values[lane] } else { plane[lane] };
        }
    }
}

/// A register as it was declared. Predicates are numbered on their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register {
    pub index: u32,
    /// 1, 16, 32 or 64. One of 16 bits keeps zeros above.
    pub bits: u32,
}

impl Register {
    /// The value of one lane, its upper bits zero.
    pub fn get(self, registers: &Registers, lane: usize) -> u64 {
        match self.bits {
            1 => (registers.predicate(self.index) >> lane & 1) as u64,
            64 => u64::plane(registers, self.index)[lane],
            _ => u32::plane(registers, self.index)[lane] as u64,
        }
    }

    /// Sets one lane, dropping bits that do not fit.
    pub fn set(self, registers: &mut Registers, lane: usize, value: u64) {
        match self.bits {
            1 => registers.set_predicate(self.index, 1 << lane, (value as u32 & 1) << lane),
            16 => u32::plane_mut(registers, self.index)[lane] = value as u16 as u32,
            64 => u64::plane_mut(registers, self.index)[lane] = value,
            _ => u32::plane_mut(registers, self.index)[lane] = value as u32,
        }
    }

    /// Sets all lanes.
    pub fn fill(self, registers: &mut Registers, value: impl Fn(usize) -> u64) {
        (0..LANES).for_each(|lane| self.set(registers, lane, value(lane)));
    }
}
