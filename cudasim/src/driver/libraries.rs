//! What candle links of cuBLAS and cuRAND: plain loops, sums in f64.

use super::{do_nothing, entry_points, Device, Handle, Status};
use half::{bf16, f16};
use std::ffi::c_int;

type Pointer = u64;

const BLAS_NOT_SUPPORTED: Status = 15;
const BLAS_EXECUTION_FAILED: Status = 13;

/// `cudaDataType_t`: element types of a matrix.
#[derive(Clone, Copy, PartialEq)]
enum Element {
    F32,
    F64,
    F16,
    BF16,
}

impl Element {
    fn of(number: c_int) -> Option<Element> {
        Some(match number {
            0 => Element::F32,
            1 => Element::F64,
            2 => Element::F16,
            14 => Element::BF16,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Element::F64 => 8,
            Element::F32 => 4,
            _ => 2,
        }
    }

    fn read(self, b: &[u8]) -> f64 {
        match self {
            Element::F32 => f32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f64,
            Element::F64 => f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
            Element::F16 => f16::from_le_bytes([b[0], b[1]]).to_f64(),
            Element::BF16 => bf16::from_le_bytes([b[0], b[1]]).to_f64(),
        }
    }

    fn write(self, value: f64, out: &mut Vec<u8>) {
        match self {
            Element::F32 => out.extend((value as f32).to_le_bytes()),
            Element::F64 => out.extend(value.to_le_bytes()),
            Element::F16 => out.extend(f16::from_f64(value).to_le_bytes()),
            Element::BF16 => out.extend(bf16::from_f64(value).to_le_bytes()),
        }
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
    /// One matrix of the batch, `rows` x `columns` as it takes part in the product, row by row.
    fn load(
        &self,
        device: &Device,
        element: Element,
        batch: i64,
        rows: usize,
        columns: usize,
    ) -> Result<Vec<f64>, String> {
        let (stored_rows, stored_columns) = if self.transposed { (columns, rows) } else { (rows, columns) };
        let bytes = element.bytes();
        let mut data = vec![0; (stored_columns.saturating_sub(1) * self.leading + stored_rows) * bytes];
        let start = self.address.wrapping_add_signed(batch * self.stride * bytes as i64);
        let unwritten = device.simulator.memory.read(start, &mut data)?;
        if unwritten > 0 && self.leading == stored_rows {
            return Err(format!("Uninitialized: a matrix of which nothing wrote {unwritten} bytes"));
        }
        let at = |r: usize, c: usize| {
            if self.transposed {
                c + r * self.leading
            } else {
                r + c * self.leading
            }
        };
        let place = |i: usize| at(i / columns, i % columns) * bytes;
        Ok((0..rows * columns).map(|i| element.read(&data[place(i)..])).collect())
    }
}

impl Device {
    #[allow(clippy::too_many_arguments)] // those of a matrix product
    fn multiply(
        &mut self,
        element: Element,
        [m, n, k]: [usize; 3],
        alpha: f64,
        a: Matrix,
        b: Matrix,
        c: Matrix,
        batches: i64,
    ) -> Result<(), String> {
        for batch in 0..batches {
            let (left, right) = (a.load(self, element, batch, m, k)?, b.load(self, element, batch, k, n)?);
            for column in 0..n {
                let mut out = Vec::new();
                for row in 0..m {
                    let products = (0..k).map(|l| left[row * k + l] * right[l * n + column]);
                    element.write(alpha * products.sum::<f64>(), &mut out);
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

    fn generate(
        &mut self,
        to: Pointer,
        count: usize,
        element: Element,
        mut next: impl FnMut(&mut Self) -> f64,
    ) -> Status {
        let mut data = Vec::new();
        for _ in 0..count {
            let value = next(self);
            element.write(value, &mut data);
        }
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
        let element = Element::of(a_type).filter(|e| *e != Element::F64 && a_type == b_type && a_type == c_type);
        let (Some(element), 0., 68) = (element, *beta, compute) else {
            return device.fail(BLAS_NOT_SUPPORTED, "this kind of matrix product is not emulated");
        };
        let matrix = |address, transpose: c_int, leading: c_int, stride| Matrix { address, transposed: transpose != 0, leading: leading as usize, stride };
        let (a, b) = (matrix(a, transpose_a, a_leading, a_stride), matrix(b, transpose_b, b_leading, b_stride));
        let size = [m, n, k].map(|v| v as usize);
        match device.multiply(element, size, *alpha as f64, a, b, matrix(c, 0, c_leading, c_stride), batches as i64) {
            Ok(()) => 0,
            Err(message) => device.fail(BLAS_EXECUTION_FAILED, message),
        }
    }
    cublasDgemmStridedBatched |device| (
        handle: Handle, transpose_a: c_int, transpose_b: c_int, m: c_int, n: c_int, k: c_int, alpha: *const f64,
        a: Pointer, a_leading: c_int, a_stride: i64, b: Pointer, b_leading: c_int, b_stride: i64,
        beta: *const f64, c: Pointer, c_leading: c_int, c_stride: i64, batches: c_int
    ) {
        if *beta != 0. {
            return device.fail(BLAS_NOT_SUPPORTED, "a matrix product that adds is not emulated");
        }
        let matrix = |address, transpose: c_int, leading: c_int, stride| Matrix { address, transposed: transpose != 0, leading: leading as usize, stride };
        let (a, b) = (matrix(a, transpose_a, a_leading, a_stride), matrix(b, transpose_b, b_leading, b_stride));
        let size = [m, n, k].map(|v| v as usize);
        match device.multiply(Element::F64, size, *alpha, a, b, matrix(c, 0, c_leading, c_stride), batches as i64) {
            Ok(()) => 0,
            Err(message) => device.fail(BLAS_EXECUTION_FAILED, message),
        }
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
        device.generate(to, count, Element::F32, Device::uniform)
    }
    curandGenerateUniformDouble |device| (generator: Handle, to: Pointer, count: usize) {
        device.generate(to, count, Element::F64, Device::uniform)
    }
    curandGenerateNormal |device| (generator: Handle, to: Pointer, count: usize, mean: f32, deviation: f32) {
        device.generate(to, count, Element::F32, |d| mean as f64 + deviation as f64 * d.normal())
    }
    curandGenerateNormalDouble |device| (generator: Handle, to: Pointer, count: usize, mean: f64, deviation: f64) {
        device.generate(to, count, Element::F64, |d| mean + deviation * d.normal())
    }
}

do_nothing! { cublasDestroy_v2 cublasSetStream_v2 cublasSetWorkspace_v2 curandDestroyGenerator curandSetStream }
