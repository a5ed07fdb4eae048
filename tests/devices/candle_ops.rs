//! candle's own CUDA kernels against its CPU backend: on the emulated GPU, a test of the emulator
//! by kernels that are not this crate's.

use crate::common::to_f64;
use anyhow::{Context, Result};
use candle_core::{D, DType, Device, Tensor};

type Op = fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>;

/// Ops on two tensors [4, 6, 8] of numbers around 1.
const FLOAT: [(&str, Op); 46] = [
    ("add", |a, b| a + b),
    ("sub", |a, b| a - b),
    ("mul", |a, b| a * b),
    ("div", |a, b| a / b),
    ("maximum", |a, b| a.maximum(b)),
    ("minimum", |a, b| a.minimum(b)),
    ("eq", |a, b| a.eq(b)),
    ("ne", |a, b| a.ne(b)),
    ("lt", |a, b| a.lt(b)),
    ("le", |a, b| a.le(b)),
    ("gt", |a, b| a.gt(b)),
    ("ge", |a, b| a.ge(b)),
    ("affine", |a, _| a.affine(2.5, -0.5)),
    ("neg", |a, _| a.neg()),
    ("abs", |a, _| a.abs()),
    ("sqr", |a, _| a.sqr()),
    ("sqrt", |a, _| a.abs()?.sqrt()),
    ("recip", |a, _| a.recip()),
    ("exp", |a, _| a.exp()),
    ("log", |a, _| a.abs()?.log()),
    ("sin", |a, _| a.sin()),
    ("cos", |a, _| a.cos()),
    ("tanh", |a, _| a.tanh()),
    ("erf", |a, _| a.erf()),
    ("ceil", |a, _| a.ceil()),
    ("floor", |a, _| a.floor()),
    ("round", |a, _| a.round()),
    ("relu", |a, _| a.relu()),
    ("silu", |a, _| a.silu()),
    ("gelu", |a, _| a.gelu()),
    ("gelu_erf", |a, _| a.gelu_erf()),
    ("elu", |a, _| a.elu(1.5)),
    ("powf", |a, _| a.abs()?.powf(1.5)),
    ("sum", |a, _| a.sum(1)),
    ("mean", |a, _| a.mean(2)),
    ("max", |a, _| a.max(2)),
    ("min", |a, _| a.min(0)),
    // The value at the place: of equal ones either backend may name another.
    ("argmax", |a, _| {
        a.gather(&a.argmax_keepdim(D::Minus1)?, D::Minus1)
    }),
    ("argmin", |a, _| a.gather(&a.argmin_keepdim(1)?, 1)),
    ("transposed", |a, _| a.transpose(0, 2)?.contiguous()),
    ("narrowed", |a, b| a.narrow(1, 1, 3)? + b.narrow(1, 2, 3)?),
    ("broadcast", |a, b| a.broadcast_mul(&b.narrow(0, 0, 1)?)),
    ("where", |a, b| a.gt(b)?.where_cond(a, b)),
    ("cat", |a, b| Tensor::cat(&[a, b], 2)),
    ("softmax", |a, _| candle_nn::ops::softmax_last_dim(a)),
    ("matmul", |a, b| a.matmul(&b.transpose(1, 2)?.contiguous()?)),
];

/// Ops on images [2, 3, 8, 8] of the same numbers.
const IMAGE: [(&str, Op); 6] = [
    ("conv2d", |a, b| {
        a.conv2d(
            &b.narrow(2, 0, 3)?.narrow(3, 0, 3)?.contiguous()?,
            1,
            1,
            1,
            1,
        )
    }),
    ("conv_transpose2d", |a, b| {
        a.conv_transpose2d(
            &b.narrow(0, 0, 1)?
                .transpose(0, 1)?
                .contiguous()?
                .narrow(2, 0, 3)?
                .narrow(3, 0, 3)?
                .contiguous()?,
            1,
            0,
            2,
            1,
        )
    }),
    ("avg_pool2d", |a, _| a.avg_pool2d(2)),
    ("max_pool2d", |a, _| a.max_pool2d(2)),
    ("upsample", |a, _| a.upsample_nearest2d(13, 16)),
    ("pad", |a, _| a.pad_with_same(3, 1, 2)),
];

/// Ops with indices along dimension 1.
const INDEXED: [(&str, Op); 4] = [
    ("gather", |a, i| a.gather(i, 1)),
    ("index_select", |a, i| {
        a.index_select(&i.flatten_all()?.narrow(0, 0, 5)?, 1)
    }),
    ("index_add", |a, i| {
        a.index_add(&i.flatten_all()?.narrow(0, 0, 6)?, &a.affine(0.5, 0.)?, 1)
    }),
    ("scatter_add", |a, i| {
        a.scatter_add(i, &a.affine(0.5, 0.)?, 1)
    }),
];

/// Both backends sum half types in the type itself, each in its own order: partial sums reach 8,
/// where a step is 4/1024 (f16) or 4/128 (bf16), and two of those are allowed.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 8. / 1024.,
        DType::BF16 => 8. / 128.,
        DType::F32 => 4e-6,
        _ => 1e-12,
    }
}

fn compare(what: &str, op: Op, a: &Tensor, b: &Tensor, cuda: &Device) -> Result<()> {
    let Ok(want) = op(a, b) else {
        println!("{what}: the CPU has none");
        return Ok(());
    };
    let got = op(&a.to_device(cuda)?, &b.to_device(cuda)?).with_context(|| what.to_string())?;
    assert_eq!(
        (got.dims(), got.dtype()),
        (want.dims(), want.dtype()),
        "{what}"
    );
    let tolerance = tolerance(a.dtype());
    for (i, (got, want)) in to_f64(&got).into_iter().zip(to_f64(&want)).enumerate() {
        let close =
            (got - want).abs() <= tolerance * want.abs().max(1.) || got.is_nan() && want.is_nan();
        assert!(close, "{what}: at {i} {got} on CUDA, {want} on the CPU");
    }
    Ok(())
}

const DTYPES: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];

/// Numbers of both signs with all kinds of digits.
fn numbers(shape: &[usize], factor: f64) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count)
        .map(|i| (factor * (i as f64 + 0.7)).sin() * 2.3 + 0.1)
        .collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

fn elementwise_and_reductions(device: &Device) -> Result<()> {
    for dtype in DTYPES {
        let (a, b) = (
            numbers(&[4, 6, 8], 1.7)?.to_dtype(dtype)?,
            numbers(&[4, 6, 8], 0.9)?.to_dtype(dtype)?,
        );
        for (name, op) in FLOAT {
            compare(&format!("{name} {dtype:?}"), op, &a, &b, device)?;
        }
    }
    Ok(())
}

test_device!(cuda: elementwise_and_reductions);

fn images(device: &Device) -> Result<()> {
    for dtype in DTYPES {
        let (a, b) = (
            numbers(&[2, 3, 8, 8], 1.7)?.to_dtype(dtype)?,
            numbers(&[2, 3, 8, 8], 0.9)?.to_dtype(dtype)?,
        );
        for (name, op) in IMAGE {
            compare(&format!("{name} {dtype:?}"), op, &a, &b, device)?;
        }
    }
    Ok(())
}

test_device!(cuda: images);

fn indices(device: &Device) -> Result<()> {
    let indices: Vec<u32> = (0..4 * 6 * 8).map(|i| i * 7 % 6).collect();
    for dtype in DTYPES {
        let a = numbers(&[4, 6, 8], 1.7)?.to_dtype(dtype)?;
        for index in [DType::U32, DType::I64, DType::U8] {
            let i = Tensor::from_vec(indices.clone(), (4, 6, 8), &Device::Cpu)?.to_dtype(index)?;
            for (name, op) in INDEXED {
                let what = format!("{name} {dtype:?} by {index:?}");
                compare(&what, op, &a, &i, device)?;
            }
        }
    }
    Ok(())
}

test_device!(cuda: indices);

fn conversions(device: &Device) -> Result<()> {
    let all = [
        DType::F32,
        DType::F64,
        DType::F16,
        DType::BF16,
        DType::U8,
        DType::U32,
        DType::I64,
    ];
    let numbers = numbers(&[50], 1.7)?.affine(20., 60.)?;
    for from in all {
        let a = numbers.to_dtype(from)?;
        for to in all {
            // candle has no kernels between these.
            let half = |dtype| matches!(dtype, DType::F16 | DType::BF16);
            if to == DType::I64 && half(from) || from == DType::I64 && half(to) {
                continue;
            }
            let got = a
                .to_device(device)?
                .to_dtype(to)
                .with_context(|| format!("{from:?} to {to:?}"))?;
            assert_eq!(to_f64(&got), to_f64(&a.to_dtype(to)?), "{from:?} to {to:?}");
        }
    }
    Ok(())
}

test_device!(cuda: conversions);

fn sorting(device: &Device) -> Result<()> {
    let a = numbers(&[5, 37], 1.7)?.to_dtype(DType::F32)?;
    for ascending in [true, false] {
        let (values, places) = a.to_device(device)?.sort_last_dim(ascending)?;
        let (want, at) = a.sort_last_dim(ascending)?;
        assert_eq!(to_f64(&values), to_f64(&want));
        assert_eq!(to_f64(&places), to_f64(&at));
    }
    Ok(())
}

test_device!(cuda: sorting);
