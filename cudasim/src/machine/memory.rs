//! Global memory: allocations with gaps between them, the bytes that were ever written, the races.

use super::race::Shadow;

/// The generic address space (5.1): a window for shared memory, the rest is global. No address is
/// one of the host's.
pub mod address {
    pub const GLOBAL: u64 = 0x10_0000_0000;
    pub const SHARED: u64 = 0x200_0000_0000;
    /// Within shared memory a block's rank in its cluster stands above the offset.
    pub const RANK_SHIFT: u32 = 24;
    pub const OFFSET: u32 = (1 << RANK_SHIFT) - 1;
}

/// Bytes, which of them hold a value, and who accessed them.
#[derive(Default)]
pub struct Region {
    pub data: Vec<u8>,
    valid: Vec<bool>,
    all_valid: bool,
    pub shadow: Shadow,
}

impl Region {
    /// Filled with a pattern that is a NaN in each floating-point type.
    pub fn new(bytes: usize) -> Self {
        Self { data: vec![0xff; bytes], valid: vec![false; bytes], all_valid: bytes == 0, shadow: Shadow::default() }
    }

    /// Forgets the values, not the history: times go on, and the next block starts after a barrier.
    pub fn invalidate(&mut self) {
        self.data.fill(0xff);
        self.valid.fill(false);
        self.all_valid = self.data.is_empty();
    }

    #[inline]
    pub fn is_valid(&self, offset: usize, bytes: usize) -> bool {
        self.all_valid || !self.valid[offset..offset + bytes].contains(&false)
    }

    #[inline]
    pub fn set_valid(&mut self, offset: usize, bytes: usize) {
        if !self.all_valid {
            self.valid[offset..offset + bytes].fill(true);
            self.all_valid = bytes == self.data.len();
        }
    }
}

pub struct Allocation {
    pub start: u64,
    pub bytes: usize,
    pub live: bool,
    pub region: Region,
}

/// Between allocations, so that an access beyond one hits none.
const GAP: u64 = 256;

/// The memory of the device, and the time that orders what happens in it.
#[derive(Default)]
pub struct Memory {
    pub allocations: Vec<Allocation>,
    end: u64,
    pub now: u64,
}

impl Memory {
    /// Aligned to 256 bytes, as `cuMemAlloc` does.
    pub fn allocate(&mut self, bytes: usize) -> u64 {
        let start = self.end.max(address::GLOBAL);
        self.end = start + (bytes as u64).next_multiple_of(256) + GAP;
        self.allocations.push(Allocation { start, bytes, live: true, region: Region::new(bytes) });
        start
    }

    pub fn free(&mut self, start: u64) -> Result<(), String> {
        match self.find(start) {
            Some(i) if self.allocations[i].start == start && self.allocations[i].live => {
                self.allocations[i].live = false;
                self.allocations[i].region = Region::default();
                Ok(())
            }
            _ => Err(format!("free of {start:#x}, which is no live allocation")),
        }
    }

    pub fn is_live(&self, start: u64) -> bool {
        self.locate(start, 0).is_ok()
    }

    /// Allocates again what was freed: nothing wrote its bytes.
    pub fn renew(&mut self, start: u64) -> Result<(), String> {
        match self.find(start) {
            Some(i) if self.allocations[i].start == start && !self.allocations[i].live => {
                self.allocations[i].live = true;
                self.allocations[i].region = Region::new(self.allocations[i].bytes);
                Ok(())
            }
            _ => Err(format!("{start:#x} is allocated already")),
        }
    }

    /// The allocation that starts at or last before an address.
    pub fn find(&self, address: u64) -> Option<usize> {
        self.allocations.partition_point(|a| a.start <= address).checked_sub(1)
    }

    /// The allocation that `bytes` at `address` lie in, and their offset.
    pub fn locate(&self, address: u64, bytes: usize) -> Result<(usize, usize), String> {
        let outside = || format!("address {address:#x} is in no allocation");
        let i = self.find(address).ok_or_else(outside)?;
        let allocation = &self.allocations[i];
        let offset = (address - allocation.start) as usize;
        if !allocation.live {
            return Err(format!("address {address:#x} was freed"));
        }
        if offset + bytes > allocation.bytes {
            let size = allocation.bytes;
            return Err(format!("{bytes} bytes at offset {offset} of an allocation of {size} bytes"));
        }
        Ok((i, offset))
    }

    /// A copy from the host.
    pub fn write(&mut self, address: u64, data: &[u8]) -> Result<(), String> {
        self.set(address, data, None)
    }

    /// Without `valid`, all of it is.
    fn set(&mut self, address: u64, data: &[u8], valid: Option<&[bool]>) -> Result<(), String> {
        if data.is_empty() {
            return Ok(());
        }
        let (i, offset) = self.locate(address, data.len())?;
        let region = &mut self.allocations[i].region;
        region.data[offset..offset + data.len()].copy_from_slice(data);
        let of_data = &mut region.valid[offset..offset + data.len()];
        match valid {
            Some(valid) => of_data.copy_from_slice(valid),
            None => of_data.fill(true),
        }
        region.all_valid = region.valid.iter().all(|v| *v);
        Ok(())
    }

    /// A copy to the host, and how many of the bytes nothing ever wrote.
    pub fn read(&self, address: u64, data: &mut [u8]) -> Result<usize, String> {
        let valid = self.get(address, data)?;
        Ok(valid.into_iter().filter(|v| !v).count())
    }

    fn get(&self, address: u64, data: &mut [u8]) -> Result<Vec<bool>, String> {
        if data.is_empty() {
            return Ok(Vec::new());
        }
        let (i, offset) = self.locate(address, data.len())?;
        let region = &self.allocations[i].region;
        data.copy_from_slice(&region.data[offset..offset + data.len()]);
        Ok((offset..offset + data.len()).map(|o| region.is_valid(o, 1)).collect())
    }

    /// A copy within the device, of values and of whether they are any.
    pub fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<(), String> {
        let mut data = vec![0; bytes];
        let valid = self.get(from, &mut data)?;
        self.set(to, &data, Some(&valid))
    }
}
