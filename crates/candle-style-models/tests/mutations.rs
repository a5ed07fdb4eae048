//! Checkpoints with random errors, the same in every run: each loads or gives an error, in bounded
//! memory. Nothing else runs in this process, whose allocations are counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Result, ensure};
use candle_core::{DType, Device};
use candle_style_models::weights::Weights;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const SEED: u64 = 20250312;
const ROUNDS: usize = 1500;

/// The most memory that a file of 10 kB may take before its error.
const MAX_BYTES: usize = 150 << 20;

/// Bytes with the most meaning to a reader: extreme sizes and opcodes.
const BYTES: [u8; 12] = [
    0, 1, 0x7f, 0x80, 0xff, b'.', b'(', b'R', b'2', b'q', b'h', b'\n',
];

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: it is the system's allocator, whose results are handed on as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn range(rng: &mut StdRng, length: usize) -> Range<usize> {
    let start = rng.random_range(0..length);
    start..(start + rng.random_range(1..=32)).min(length)
}

/// One to four errors of the kinds that disks, downloads and people make.
fn mutate(original: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..8) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => bytes[at] = BYTES[rng.random_range(0..BYTES.len())],
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(range(rng, bytes.len()))),
            5 => {
                let part = bytes[range(rng, bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
            6 => {
                let range = range(rng, bytes.len());
                bytes[range].fill(0xff);
            }
            _ => {
                let part = bytes[range(rng, bytes.len())].to_vec();
                let end = (at + part.len()).min(bytes.len());
                bytes.splice(at..end, part);
            }
        }
    }
    bytes
}

/// Opens the file and reads all that is in it; the number of tensors.
fn read(path: &Path) -> candle_core::Result<usize> {
    let weights = Weights::open(path)?;
    let vb = weights.var_builder(DType::F32, &Device::Cpu);
    for name in weights.names() {
        vb.get_unchecked_dtype(name, DType::F32)?;
    }
    Ok(weights.names().count())
}

#[test]
fn mutated_files_load_or_give_an_error() -> Result<()> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoints");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutated");
    for name in ["expected.safetensors", "zip.pth", "legacy.pth", "tar.pth"] {
        let mut rng = StdRng::seed_from_u64(SEED);
        let original = fs::read(golden.join(name))?;
        let before = NOW.load(Relaxed);
        PEAK.store(before, Relaxed);
        let (mut loaded, mut refused) = (0, 0);
        for round in 0..ROUNDS {
            fs::write(&path, mutate(&original, &mut rng))?;
            match read(&path) {
                Ok(_) => loaded += 1,
                Err(_) => refused += 1,
            }
            let peak = PEAK.load(Relaxed) - before;
            ensure!(peak < MAX_BYTES, "{name}, round {round}: {peak} bytes");
        }
        let peak = (PEAK.load(Relaxed) - before) >> 10;
        println!("{name}: {loaded} loaded, {refused} refused, at most {peak} KiB");
        // Both outcomes must occur: else the errors are not where a reader would notice them.
        ensure!(loaded > 0 && refused > ROUNDS / 10);
    }
    Ok(())
}
