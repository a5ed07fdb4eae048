//! The functions of cuBLAS and cuRAND that candle links: plain loops, with sums in f64.

use super::graphs::Capture;
use super::{Device, Handle, Pointer, Status, all, entry_points};
use crate::ptx::types::Type;
use half::{bf16, f16};
use std::ffi::c_int;

const BLAS_NOT_SUPPORTED: Status = 15;
const BLAS_EXECUTION_FAILED: Status = 13;
const RAND_LAUNCH_FAILURE: Status = 201;

/// The type of a matrix's elements, by `cudaDataType_t`.
fn element(number: c_int) -> Option<Type> {
    [(0, Type::F32), (1, Type::F64), (2, Type::F16), (14, Type::BF16)].into_iter().find(|e| e.0 == number).map(|e| e.1)
}

/// An element as a number.
fn read(element: Type, bytes: &[u8]) -> f64 {
    let mut word = [0; 8];
    word[..element.bytes()].copy_from_slice(&bytes[..element.bytes()]);
    let word = u64::from_le_bytes(word);
    match element {
        Type::F64 => f64::from_bits(word),
        Type::F32 => f32::from_bits(word as u32) as f64,
        Type::F16 => f16::from_bits(word as u16).to_f64(),
        _ => bf16::from_bits(word as u16).to_f64(),
    }
}

fn append(element: Type, value: f64, out: &mut Vec<u8>) {
    match element {
        Type::F64 => out.extend(value.to_le_bytes()),
        Type::F32 => out.extend((value as f32).to_le_bytes()),
        Type::F16 => out.extend(f16::from_f64(value).to_le_bytes()),
        _ => out.extend(bf16::from_f64(value).to_le_bytes()),
    }
}

/// A batch of column-major matrices.
struct Matrix {
    address: Pointer,
    transposed: bool,
    leading: usize,
    stride: i64,
}

impl Matrix {
    fn new(address: Pointer, transpose: c_int, leading: c_int, stride: i64) -> Self {
        Self { address, transposed: transpose != 0, leading: leading as usize, stride }
    }

    /// One matrix of the batch, `rows` x `columns` as it takes part in the product, row by row.
    fn load(
        &self, device: &Device, element: Type, batch: i64, rows: usize, columns: usize,
    ) -> Result<Vec<f64>, String> {
        let (stored_rows, stored_columns) = if self.transposed { (columns, rows) } else { (rows, columns) };
        let bytes = element.bytes();
        let mut data = vec![0; (stored_columns.saturating_sub(1) * self.leading + stored_rows) * bytes];
        let start = self.address.wrapping_add_signed(batch * self.stride * bytes as i64);
        let unwritten = device.simulator.memory.read(start, &mut data)?;
        if unwritten > 0 && self.leading == stored_rows {
            return Err(format!("Uninitialized: a matrix of which nothing wrote {unwritten} bytes"));
        }
        let (row, column) = if self.transposed { (self.leading, 1) } else { (1, self.leading) };
        let place = |i: usize| (i / columns * row + i % columns * column) * bytes;
        Ok((0..rows * columns).map(|i| read(element, &data[place(i)..])).collect())
    }
}

impl Device {
    #[allow(clippy::too_many_arguments)] // those of a matrix product
    fn multiply(
        &mut self, element: Type, size: [c_int; 3], alpha: f64, a: Matrix, b: Matrix, c: Matrix, batches: i64,
    ) -> Status {
        // To capture a product, it would have to know the stream of its handle. No test here captures one.
        if self.invalidate(Capture::is_of_this_thread) {
            return self.fail(BLAS_NOT_SUPPORTED, "cuBLAS during a capture is not emulated");
        }
        let done = self.try_multiply(element, size.map(|n| n as usize), alpha, [a, b, c], batches);
        done.map_or_else(|message| self.fail(BLAS_EXECUTION_FAILED, message), |()| 0)
    }

    fn try_multiply(
        &mut self, element: Type, [m, n, k]: [usize; 3], alpha: f64, [a, b, c]: [Matrix; 3], batches: i64,
    ) -> Result<(), String> {
        for batch in 0..batches {
            let (left, right) = (a.load(self, element, batch, m, k)?, b.load(self, element, batch, k, n)?);
            for column in 0..n {
                let mut out = Vec::new();
                for row in 0..m {
                    let products = (0..k).map(|l| left[row * k + l] * right[l * n + column]);
                    append(element, alpha * products.sum::<f64>(), &mut out);
                }
                let first = batch * c.stride + (column * c.leading) as i64;
                let address = c.address.wrapping_add_signed(first * element.bytes() as i64);
                self.simulator.memory.write(address, &out)?;
            }
        }
        Ok(())
    }

    /// splitmix64, as a number in [0, 1).
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (a, b) = (self.uniform().max(1e-300), self.uniform());
        (-2. * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    fn generate(&mut self, to: Pointer, count: usize, element: Type, next: impl Fn(&mut Self) -> f64) -> Status {
        if self.invalidate(Capture::is_of_this_thread) {
            return self.fail(RAND_LAUNCH_FAILURE, "cuRAND during a capture is not emulated");
        }
        let mut data = Vec::new();
        (0..count).for_each(|_| append(element, next(self), &mut data));
        let written = self.simulator.memory.write(to, &data);
        self.check(written)
    }
}

entry_points! {
    cublasCreate_v2 |device| (handle: *mut Handle) {
        *handle = 0x4000 as Handle;
        0
    }
    cublasGemmStridedBatchedEx |device| (
        handle: Handle, transpose_a: c_int, transpose_b: c_int, m: c_int, n: c_int, k: c_int, alpha: *const f32,
        a: Pointer, a_type: c_int, a_leading: c_int, a_stride: i64, b: Pointer, b_type: c_int, b_leading: c_int, b_stride: i64,
        beta: *const f32, c: Pointer, c_type: c_int, c_leading: c_int, c_stride: i64, batches: c_int, compute: c_int, algorithm: c_int
    ) {
        let element = element(a_type).filter(|e| *e != Type::F64 && a_type == b_type && a_type == c_type);
        let (Some(element), 0., 68) = (element, *beta, compute) else {
            return device.fail(BLAS_NOT_SUPPORTED, "this kind of matrix product is not emulated");
        };
        let (a, b) = (Matrix::new(a, transpose_a, a_leading, a_stride), Matrix::new(b, transpose_b, b_leading, b_stride));
        device.multiply(element, [m, n, k], *alpha as f64, a, b, Matrix::new(c, 0, c_leading, c_stride), batches as i64)
    }
    cublasDgemmStridedBatched |device| (
        handle: Handle, transpose_a: c_int, transpose_b: c_int, m: c_int, n: c_int, k: c_int, alpha: *const f64,
        a: Pointer, a_leading: c_int, a_stride: i64, b: Pointer, b_leading: c_int, b_stride: i64,
        beta: *const f64, c: Pointer, c_leading: c_int, c_stride: i64, batches: c_int
    ) {
        if *beta != 0. {
            return device.fail(BLAS_NOT_SUPPORTED, "a matrix product that adds is not emulated");
        }
        let (a, b) = (Matrix::new(a, transpose_a, a_leading, a_stride), Matrix::new(b, transpose_b, b_leading, b_stride));
        device.multiply(Type::F64, [m, n, k], *alpha, a, b, Matrix::new(c, 0, c_leading, c_stride), batches as i64)
    }
    curandCreateGenerator |device| (generator: *mut Handle, kind: c_int) {
        *generator = 0x5000 as Handle;
        0
    }
    curandSetPseudoRandomGeneratorSeed |device| (generator: Handle, seed: u64) {
        device.random = seed;
        0
    }
    curandGenerateUniform |device| (generator: Handle, to: Pointer, count: usize) {
        device.generate(to, count, Type::F32, Device::uniform)
    }
    curandGenerateUniformDouble |device| (generator: Handle, to: Pointer, count: usize) {
        device.generate(to, count, Type::F64, Device::uniform)
    }
    curandGenerateNormal |device| (generator: Handle, to: Pointer, count: usize, mean: f32, deviation: f32) {
        device.generate(to, count, Type::F32, |d| mean as f64 + deviation as f64 * d.normal())
    }
    curandGenerateNormalDouble |device| (generator: Handle, to: Pointer, count: usize, mean: f64, deviation: f64) {
        device.generate(to, count, Type::F64, |d| mean + deviation * d.normal())
    }
}

all! { 0; cublasDestroy_v2 cublasSetStream_v2 cublasSetWorkspace_v2 curandDestroyGenerator curandSetStream }
