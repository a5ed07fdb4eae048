//! Helpers that the tests of the workspace share.

mod goldens;
pub mod own_process;
pub mod pictures;
pub mod server;

pub use goldens::{Goldens, dtype, golden, stargan_v2_checkpoint};

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use std::io::{Cursor, Write};

/// Stamps a test body, `fn(&Device) -> Result<()>`, for the devices of the build: `$body::cpu`,
/// `$body::cuda` and, unless the body works in f64, `$body::metal`.
#[macro_export]
macro_rules! test_device {
    ($body:ident) => {
        $crate::test_device!($body on cpu cuda metal);
    };
    (f64: $body:ident) => {
        $crate::test_device!($body on cpu cuda);
    };
    (cuda: $body:ident) => {
        $crate::test_device!($body on cuda);
    };
    ($body:ident on $($device:ident)+) => {
        mod $body {
            $($crate::test_device!(@$device $body);)+
        }
    };
    (@cpu $body:ident) => {
        #[test]
        fn cpu() -> anyhow::Result<()> {
            super::$body(&candle_core::Device::Cpu)
        }
    };
    (@cuda $body:ident) => {
        #[cfg(feature = "cuda")]
        #[test]
        fn cuda() -> anyhow::Result<()> {
            super::$body($crate::cuda())
        }
    };
    (@metal $body:ident) => {
        #[cfg(feature = "metal")]
        #[test]
        fn metal() -> anyhow::Result<()> {
            super::$body($crate::metal())
        }
    };
}

/// The GPU. A cuda build without one fails here: a skipped test would look like a passed one.
pub fn cuda() -> &'static Device {
    static DEVICE: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
    DEVICE.get_or_init(|| Device::new_cuda(0).expect("the cuda tests need a GPU"))
}

/// The GPU of a metal build, likewise.
pub fn metal() -> &'static Device {
    static DEVICE: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
    DEVICE.get_or_init(|| Device::new_metal(0).expect("the metal tests need a GPU"))
}

/// True if the device has numbers of this dtype: every device all, but Metal no f64.
pub fn has(device: &Device, dtype: DType) -> bool {
    !(device.is_metal() && dtype == DType::F64)
}

/// The dtypes among `dtypes` that the device has.
pub fn on(device: &Device, dtypes: &[DType]) -> Vec<DType> {
    let on_device = dtypes.iter().filter(|&&dtype| has(device, dtype));
    on_device.copied().collect()
}

/// `got` may differ from `want` by `atol + rtol * |want|`.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    pub atol: f64,
    pub rtol: f64,
}

impl Tolerance {
    /// For values around 1 of this dtype, against exact ones.
    ///
    /// The arithmetic is f64 for f64 and f32 for the rest. Sums of a few thousand terms and a
    /// reciprocal square root leave some 1e-6 of error in f32 (torch's own: 6e-7), in whatever order
    /// they are taken; 1e-5 leaves room for that and none for a wrong formula. Half types add the
    /// rounding of the result, half an ulp, and must not round anything before.
    pub fn of(dtype: DType) -> Self {
        let (atol, rtol) = match dtype {
            DType::F64 => (1e-11, 1e-11),
            DType::F32 => (1e-5, 1e-5),
            DType::F16 => (1e-5, 1e-5 + 2f64.powi(-11)),
            DType::BF16 => (1e-5, 1e-5 + 2f64.powi(-8)),
            dtype => panic!("no tolerance for {dtype:?}"),
        };
        Self { atol, rtol }
    }

    /// For results that are sums or products of numbers around `scale`: where those cancel, what
    /// is left keeps their absolute error.
    pub fn scaled(self, scale: f64) -> Self {
        Self {
            atol: self.atol * scale,
            ..self
        }
    }

    /// Allows for an absolute error that the inputs make unavoidable.
    pub fn plus(self, atol: f64) -> Self {
        Self {
            atol: self.atol + atol,
            ..self
        }
    }
}

/// The elements as f64, wherever and in whatever dtype they are.
pub fn to_f64(t: &Tensor) -> Vec<f64> {
    t.to_device(&Device::Cpu)
        .and_then(|t| t.to_dtype(DType::F64)?.flatten_all()?.to_vec1())
        .expect("read a tensor")
}

pub fn max_abs(t: &Tensor) -> f64 {
    to_f64(t).into_iter().fold(0., |m, v| m.max(v.abs()))
}

/// Panics unless `got` has the shape of `want` and each element is within `tol`. A NaN never is.
#[track_caller]
pub fn assert_close(what: &str, got: &Tensor, want: &Tensor, tol: Tolerance) {
    assert_eq!(got.dims(), want.dims(), "{what}: shape");
    let (mut count, mut worst) = (0, None);
    let (got, want) = (to_f64(got), to_f64(want));
    for (i, (&g, &w)) in got.iter().zip(&want).enumerate() {
        let excess = (g - w).abs() / (tol.atol + tol.rtol * w.abs());
        // No comparison holds for NaN: make it the worst there is.
        let excess = Some(excess)
            .filter(|e| !e.is_nan())
            .unwrap_or(f64::INFINITY);
        if excess > 1. {
            count += 1;
            if worst.is_none_or(|(_, e)| excess > e) {
                worst = Some((i, excess));
            }
        }
    }
    if let Some((i, excess)) = worst {
        panic!(
            "{what}: {count} of {} elements are off, worst at {i}: got {:e}, want {:e}, {excess:.3} times what {tol:?} allows",
            got.len(),
            got[i],
            want[i],
        );
    }
}

/// The properties of the input that decide the errors to expect.
pub struct Planes {
    /// The largest 1 / sqrt(var + eps) of a plane.
    pub rstd: f64,
    /// The largest |mean| * rstd of a plane: by how much a rounding of the mean grows in the output.
    pub condition: f64,
}

impl Planes {
    /// The properties of an input whose last `dims` dimensions are the spatial ones.
    pub fn of(x: &Tensor, dims: usize, eps: f64) -> Self {
        let len: usize = x.dims()[x.rank() - dims..].iter().product();
        let (mut rstd, mut condition) = (0f64, 0f64);
        for plane in to_f64(x).chunks(len) {
            let mean = plane.iter().sum::<f64>() / len as f64;
            let var = plane.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / len as f64;
            let r = 1. / (var + eps).sqrt();
            rstd = rstd.max(r);
            condition = condition.max(mean.abs() * r);
        }
        Self { rstd, condition }
    }

    /// The error of a normalized value when the mean, kept in an f64, is off by an ulp: torch's is
    /// too. Only a large mean makes this more than noise. The other types keep more of the mean than
    /// their arithmetic has digits, so that there is nothing to allow for.
    pub fn mean_error(&self, dtype: DType) -> f64 {
        match dtype {
            DType::F64 => f64::EPSILON * self.condition,
            _ => 0.,
        }
    }
}

/// A zip archive of these files, deflated or stored.
pub fn zip_of(files: &[(&str, &[u8])], deflated: bool) -> Result<Vec<u8>> {
    let method = if deflated {
        zip::CompressionMethod::Deflated
    } else {
        zip::CompressionMethod::Stored
    };
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        archive.start_file(*name, options)?;
        archive.write_all(bytes)?;
    }
    Ok(archive.finish()?.into_inner())
}

/// Runs `backward` so that exactly `dy` arrives at `y`. In half types the loss itself may be
/// infinite; the gradient of `y` is `dy` times one all the same.
pub fn backward(y: &Tensor, dy: &Tensor) -> candle_core::Result<candle_core::backprop::GradStore> {
    (y * dy)?.sum_all()?.backward()
}

/// Panics unless `result` is an error with this in its message.
#[track_caller]
pub fn says<T>(what: &str, result: candle_core::Result<T>, message: &str) {
    match result {
        Ok(_) => panic!("{what}: expected an error, {message:?}"),
        Err(e) => {
            let e = e.to_string();
            assert!(
                e.contains(message),
                "{what}: got {e:?}, expected {message:?}"
            );
        }
    }
}
