//! Tests of the convolutions.

use super::plan::{Plan, axes};
use super::vector::Isa;
use super::*;
use candle_core::{DType, Device, Var};

/// Numbers without a pattern, from -1 to 1, the same in every run.
fn numbers(shape: &[usize], seed: usize) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let value = |at: usize| (((at + 1) * (seed + 3)) as f64 * 12.9898).sin() * 43758.5453 % 1.;
    let values: Vec<f64> = (0..count).map(value).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// A layer of every kind: the widths, the kernel, the sides of the input, and the form.
fn layers() -> Vec<([usize; 2], usize, [usize; 2], Form)> {
    let (same, reflect) = (Form::same, Form::reflect);
    let unpadded = Form {
        padding: Padding::Zeros(0),
        ..same(3)
    };
    vec![
        ([5, 7], 3, [9, 11], unpadded),
        ([3, 16], 9, [13, 10], reflect(9)),
        ([3, 9], 7, [8, 15], reflect(7)),
        ([16, 3], 9, [12, 21], reflect(9)),
        ([6, 12], 1, [5, 7], same(1)),
        ([6, 1], 1, [5, 6], same(1).stride(2)),
        ([4, 2], 3, [1, 1], same(3)),
        ([4, 6], 3, [7, 6], same(3)),
        ([4, 6], 3, [7, 6], reflect(3).relu()),
        ([4, 13], 3, [7, 10], reflect(3).stride(2)),
        ([4, 8], 3, [8, 9], same(3).stride(2)),
        ([4, 8], 3, [9, 12], same(3).stride(3)),
        ([8, 4], 3, [5, 6], reflect(3).upsampled()),
        ([8, 11], 5, [6, 5], same(5).upsampled()),
        ([6, 4], 3, [5, 4], reflect(3).upsampled().stride(2)),
        ([8, 4], 3, [5, 6], same(3).groups(2)),
        ([6, 6], 3, [8, 5], reflect(3).groups(6)),
        ([6, 12], 3, [8, 5], reflect(3).stride(2).groups(6)),
        // More outputs than a tile has, and more inputs than a strip holds of these long rows.
        ([40, 70], 3, [3, 700], same(3)),
        ([2, 3], 3, [40, 1100], reflect(3)),
        // Six inputs a strip, where the gradient of the weight takes them in fours.
        ([12, 4], 3, [128, 128], reflect(3).stride(2)),
    ]
}

/// The tensors of a layer in f64: two samples, the weight and the bias.
fn tensors(
    widths: [usize; 2],
    kernel: usize,
    sides: [usize; 2],
    form: Form,
) -> Result<[Tensor; 3]> {
    let [c_in, c_out] = widths;
    let x = numbers(&[2, c_in, sides[0], sides[1]], 1)?;
    let weight = numbers(&[c_out, c_in / form.groups, kernel, kernel], 2)?;
    Ok([x, weight, numbers(&[c_out], 3)?])
}

/// The convolution as the networks have it.
fn conv(x: &Tensor, weight: &Tensor, bias: &Tensor, form: Form) -> Result<Tensor> {
    Conv::new(weight.clone(), Some(bias.clone()), form)?.forward(x)
}

/// The largest difference as a share of the largest value.
fn off(got: &Tensor, expected: &Tensor) -> Result<f64> {
    assert_eq!(got.dims(), expected.dims());
    let largest = |x: Tensor| {
        x.to_dtype(DType::F64)?
            .abs()?
            .flatten_all()?
            .max(0)?
            .to_scalar::<f64>()
    };
    let [got, expected] = [got, expected].map(|x| x.to_dtype(DType::F64));
    let expected = expected?;
    Ok(largest((got? - &expected)?)? / largest(expected)?)
}

fn bits(x: &Tensor) -> Result<Vec<u64>> {
    let values = x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    Ok(values.into_iter().map(f64::to_bits).collect())
}

#[test]
fn every_kind_is_candles() -> Result<()> {
    for (widths, kernel, sides, form) in layers() {
        let case = format!("{widths:?} {kernel} {sides:?} {form:?}");
        let [x, weight, bias] = tensors(widths, kernel, sides, form)?;
        let expected = composed::conv(&x, &weight, Some(&bias), form)?;
        for (dtype, bound) in [(DType::F64, 1e-13), (DType::F32, 2e-6)] {
            let [x, weight, bias] = [&x, &weight, &bias].map(|t| t.to_dtype(dtype));
            let y = conv(&x?, &weight?, &bias?, form)?;
            assert_eq!(y.dtype(), dtype);
            let off = off(&y, &expected)?;
            assert!(off < bound, "{case}: {off:e} in {dtype:?}");
        }
    }
    Ok(())
}

/// The half types compute in f32 and round once: to the bits of the f32 result, rounded.
#[test]
fn half_types_round_the_f32_result_once() -> Result<()> {
    for (widths, kernel, sides, form) in layers() {
        let [x, weight, bias] = tensors(widths, kernel, sides, form)?;
        for dtype in [DType::F16, DType::BF16] {
            let half = [&x, &weight, &bias].map(|t| t.to_dtype(dtype));
            let [x, weight, bias] = half
                .into_iter()
                .collect::<Result<Vec<_>>>()?
                .try_into()
                .unwrap();
            let y = conv(&x, &weight, &bias, form)?;
            let [x, weight, bias] = [x, weight, bias].map(|t: Tensor| t.to_dtype(DType::F32));
            let expected = conv(&x?, &weight?, &bias?, form)?.to_dtype(dtype)?;
            assert_eq!(bits(&y)?, bits(&expected)?, "{form:?} in {dtype:?}");
        }
    }
    Ok(())
}

#[test]
fn bf16_rounds_to_nearest_even() {
    use super::element::Element;
    use half::bf16;
    use std::mem::MaybeUninit;

    let halves = (0..=u16::MAX).map(|high| (u32::from(high) << 16) | 0x8000);
    let near = halves.flat_map(|bits| [bits - 1, bits, bits + 1, bits & 0xffff_0000]);
    for values in near.map(f32::from_bits).collect::<Vec<_>>().chunks(1000) {
        let mut rounded = vec![MaybeUninit::new(bf16::ZERO); values.len()];
        bf16::narrow(values, &mut rounded);
        for (value, rounded) in values.iter().zip(rounded) {
            // SAFETY: initialised above.
            let (rounded, expected) = (unsafe { rounded.assume_init() }, bf16::from_f32(*value));
            assert!(rounded.to_bits() == expected.to_bits() || value.is_nan() && rounded.is_nan());
        }
    }
}

#[test]
fn every_instruction_set_computes_the_same() -> Result<()> {
    use super::forward::forward;
    use super::strip::Planes;
    use super::weight_grad::weight_grad;

    fn planes(values: &[f32], channels: usize, [height, width]: [usize; 2]) -> Planes<'_, f32> {
        Planes {
            values,
            strides: [channels * height * width, height * width, width],
            width,
        }
    }

    for (widths, kernel, sides, form) in layers() {
        let [x, weight, bias] = tensors(widths, kernel, sides, form)?;
        let dims = [2, widths[0], sides[0], sides[1]];
        let plan = Plan::conv(dims, weight.dims4().map(|(a, b, c, d)| [a, b, c, d])?, form)?;
        let [x, weight, bias] =
            [x, weight, bias].map(|t| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>());
        let (x, weight, bias) = (x?, weight?, bias?);
        let run = |isa: Isa| {
            let x = planes(&x, widths[0], sides);
            let y = forward::<f32, f32>(&plan, x, &weight, &bias, isa);
            let grad = weight_grad(plan.clone(), x, planes(&y, widths[1], plan.out), isa);
            [y, grad]
        };
        let expected = run(Isa::Baseline);
        for isa in Isa::available() {
            for (got, expected) in run(isa).iter().zip(&expected) {
                let largest = expected.iter().fold(0f32, |a, b| a.max(b.abs()));
                let off = got.iter().zip(expected).map(|(a, b)| (a - b).abs());
                assert!(off.fold(0., f32::max) < 1e-5 * largest, "{isa:?} {form:?}");
            }
        }
    }
    Ok(())
}

/// The gradients of the sum of `f` times fixed numbers, of each tensor.
fn gradients(tensors: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<Vec<Tensor>> {
    let vars = tensors
        .iter()
        .map(Var::from_tensor)
        .collect::<Result<Vec<_>>>()?;
    let inputs: Vec<_> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = f(&inputs)?;
    let grads = (&y * numbers(y.dims(), 5)?.to_dtype(y.dtype())?)?
        .sum_all()?
        .backward()?;
    let grad = |var: &Var| match grads.get(var) {
        Some(grad) => Ok(grad.clone()),
        None => candle_core::bail!("no gradient"),
    };
    vars.iter().map(grad).collect()
}

/// The same in differences: exact but for rounding, since the convolution is linear in each tensor.
fn differences(tensors: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<Vec<Tensor>> {
    let y = f(tensors)?;
    let dy = numbers(y.dims(), 5)?;
    let mut grads = Vec::new();
    for index in 0..tensors.len() {
        // The product with random directions in place of every element.
        let direction = numbers(tensors[index].dims(), 7)?;
        let mut moved = tensors.to_vec();
        moved[index] = (&moved[index] + &direction)?;
        grads.push(((f(&moved)? - &y)? * &dy)?.sum_all()?);
    }
    Ok(grads)
}

#[test]
fn gradients_are_those_of_differences() -> Result<()> {
    for (widths, kernel, sides, form) in layers() {
        // Not linear: its gradients are compared with candle's.
        if form.relu {
            continue;
        }
        let tensors = tensors(widths, kernel, sides, form)?;
        let f = |t: &[Tensor]| conv(&t[0], &t[1], &t[2], form);
        let grads = gradients(&tensors, f)?;
        for (index, expected) in differences(&tensors, f)?.iter().enumerate() {
            let direction = numbers(tensors[index].dims(), 7)?;
            let along = (&grads[index] * direction)?.sum_all()?;
            let off = off(&along, expected)?;
            assert!(
                off < 1e-10,
                "{off:e} of tensor {index}, {widths:?} {kernel} {sides:?} {form:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn gradients_are_candles_where_those_are_right() -> Result<()> {
    for (widths, kernel, sides, form) in layers() {
        // candle takes the output padding of the height for the width too; its upsampling here is
        // that of `resample`.
        if form.stride > 1 || sides == [1, 1] {
            continue;
        }
        let tensors = tensors(widths, kernel, sides, form)?;
        let own = gradients(&tensors, |t| conv(&t[0], &t[1], &t[2], form))?;
        let candles = gradients(&tensors, |t| {
            composed::conv(&t[0], &t[1], Some(&t[2]), form)
        })?;
        for (own, candles) in own.iter().zip(&candles) {
            assert!(
                off(own, candles)? < 1e-12,
                "{widths:?} {kernel} {sides:?} {form:?}"
            );
        }
        for (dtype, bound) in [(DType::F32, 1e-5), (DType::BF16, 3e-2), (DType::F16, 4e-3)] {
            let tensors = tensors.clone().map(|t| t.to_dtype(dtype));
            let tensors = tensors.into_iter().collect::<Result<Vec<_>>>()?;
            let own = gradients(&tensors, |t| conv(&t[0], &t[1], &t[2], form))?;
            for (own, candles) in own.iter().zip(&candles) {
                assert_eq!(own.dtype(), dtype);
                assert!(
                    off(own, candles)? < bound,
                    "{widths:?} {kernel} {sides:?} {form:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn doubling_is_candles_with_its_gradients() -> Result<()> {
    for (widths, sides) in [([5, 7], [4, 6]), ([8, 3], [1, 1]), ([3, 12], [9, 70])] {
        let tensors = [
            numbers(&[2, widths[0], sides[0], sides[1]], 1)?,
            numbers(&[widths[0], widths[1], 3, 3], 2)?,
            numbers(&[widths[1]], 3)?,
        ];
        let own = |t: &[Tensor]| DoublingConv::new(t[1].clone(), t[2].clone())?.forward(&t[0]);
        let candles = |t: &[Tensor]| composed::doubling(&t[0], &t[1], Some(&t[2]));
        assert!(off(&own(&tensors)?, &candles(&tensors)?)? < 1e-13);
        let single = tensors.clone().map(|t| t.to_dtype(DType::F32));
        let single = single.into_iter().collect::<Result<Vec<_>>>()?;
        assert!(off(&own(&single)?, &candles(&tensors)?)? < 1e-6);
        for (index, expected) in differences(&tensors, own)?.iter().enumerate() {
            let direction = numbers(tensors[index].dims(), 7)?;
            let along = (&gradients(&tensors, own)?[index] * direction)?.sum_all()?;
            assert!(off(&along, expected)? < 1e-10, "tensor {index}");
        }
    }
    Ok(())
}

/// `d/dw` of the sum of squares of `dy/dx`, which takes a gradient of a gradient.
#[test]
fn gradients_have_gradients() -> Result<()> {
    let form = Form::reflect(3).stride(2);
    let [x, weight, _] = tensors([3, 4], 3, [6, 7], form)?;
    let dy = numbers(&[2, 4, 3, 4], 5)?;
    let f = |t: &[Tensor]| op::transposed(&dy, &t[0], None, form, [6, 7]);
    let grads = gradients(std::slice::from_ref(&weight), f)?;
    let expected = differences(std::slice::from_ref(&weight), f)?;
    let along = (&grads[0] * numbers(weight.dims(), 7)?)?.sum_all()?;
    assert!(off(&along, &expected[0])? < 1e-10);

    let f = |t: &[Tensor]| op::weight_grad(&t[0], &t[1], form, &weight);
    let tensors = [x, dy.clone()];
    let grads = gradients(&tensors, f)?;
    for (index, expected) in differences(&tensors, f)?.iter().enumerate() {
        let along = (&grads[index] * numbers(tensors[index].dims(), 7)?)?.sum_all()?;
        assert!(off(&along, expected)? < 1e-10, "tensor {index}");
    }
    Ok(())
}

#[test]
fn any_number_of_threads_gives_the_same_bits() -> Result<()> {
    for (widths, kernel, sides, form) in layers() {
        let tensors = tensors(widths, kernel, sides, form)?.map(|t| t.to_dtype(DType::F32));
        let tensors = tensors.into_iter().collect::<Result<Vec<_>>>()?;
        let run = |threads: usize| -> Result<Vec<Vec<u64>>> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().map_err(candle_core::Error::wrap)?;
            pool.install(|| {
                let f = |t: &[Tensor]| conv(&t[0], &t[1], &t[2], form);
                let grads = gradients(&tensors, f)?;
                std::iter::once(&f(&tensors)?)
                    .chain(&grads)
                    .map(bits)
                    .collect()
            })
        };
        let expected = run(1)?;
        for threads in [2, 3, 8] {
            assert_eq!(run(threads)?, expected, "{threads} threads, {form:?}");
        }
    }
    Ok(())
}

/// Without a gradient they are passes of their own, with one they are candle's.
#[test]
fn what_stands_between_is_candles() -> Result<()> {
    for sides in [[2, 2], [5, 8], [6, 7], [64, 33]] {
        let [x, y] = [1, 2].map(|seed| numbers(&[2, 3, sides[0], sides[1]], seed));
        let (x, y) = (x?, y?);
        for (dtype, bound) in [
            (DType::F64, 1e-15),
            (DType::F32, 1e-6),
            (DType::F16, 1e-3),
            (DType::BF16, 8e-3),
        ] {
            let [x, y] = [x.to_dtype(dtype)?, y.to_dtype(dtype)?];
            let exact = [
                Var::from_tensor(&x.to_dtype(DType::F64)?)?,
                Var::from_tensor(&y.to_dtype(DType::F64)?)?,
            ];
            let [wide_x, wide_y] = exact.each_ref().map(Var::as_tensor);
            let pairs = [
                (mean_pool2x(&x)?, mean_pool2x(wide_x)?),
                (max_pool2x(&x)?, max_pool2x(wide_x)?),
                (scaled_sum(&x, &y, 0.7)?, scaled_sum(wide_x, wide_y, 0.7)?),
            ];
            for (got, expected) in pairs {
                assert_eq!(got.dtype(), dtype);
                assert!(expected.track_op());
                assert!(off(&got, &expected)? < bound, "{sides:?} in {dtype:?}");
            }
        }
    }
    let nan = Tensor::new(
        &[[[[f32::NAN, 1.], [2., 3.]]], [[[1., 2.], [3., f32::NAN]]]],
        &Device::Cpu,
    )?;
    assert!(
        max_pool2x(&nan)?
            .flatten_all()?
            .to_vec1::<f32>()?
            .iter()
            .all(|value| value.is_nan())
    );
    Ok(())
}

#[test]
fn views_are_read_where_they_are() -> Result<()> {
    let whole = numbers(&[3, 6, 10, 12], 1)?;
    let weight = numbers(&[4, 3, 3, 3], 2)?;
    let parts = whole.narrow(0, 1, 2)?.narrow(1, 2, 3)?.narrow(2, 1, 8)?;
    let columns = whole.narrow(1, 0, 3)?.narrow(3, 2, 9)?;
    let turned = whole.narrow(1, 0, 3)?.transpose(2, 3)?;
    let same_for_all = whole
        .narrow(1, 0, 1)?
        .broadcast_as((3, 6, 10, 12))?
        .narrow(1, 1, 3)?;
    for x in [parts, columns, turned, same_for_all] {
        assert!(!x.is_contiguous());
        let y = op::conv(&x, &weight, None, Form::same(3))?;
        let expected = op::conv(&x.contiguous()?, &weight, None, Form::same(3))?;
        assert_eq!(bits(&y)?, bits(&expected)?);
    }
    let turned = weight.transpose(2, 3)?;
    let x = whole.narrow(1, 0, 3)?;
    let y = op::conv(&x, &turned, None, Form::same(3))?;
    let expected = op::conv(&x, &turned.contiguous()?, None, Form::same(3))?;
    assert_eq!(bits(&y)?, bits(&expected)?);
    Ok(())
}

#[test]
fn errors_say_what_was_expected() -> Result<()> {
    let x = numbers(&[1, 4, 6, 8], 1)?;
    let weight = numbers(&[8, 4, 3, 3], 2)?;
    let same = Form::same(3);
    let error = |y: Result<Tensor>| match y {
        Ok(y) => panic!("no error, but {y:?}"),
        Err(error) => error.to_string(),
    };
    let conv = |x: &Tensor, form| error(op::conv(x, &weight, None, form));
    let cases = [
        (
            conv(&x.narrow(1, 0, 3)?, same),
            "expected 4 channels in 1 groups, got 3",
        ),
        (
            conv(&x, same.groups(2)),
            "expected 8 channels in 2 groups, got 4",
        ),
        (conv(&x, same.groups(0)), "expected no dimension of 0"),
        (conv(&x, same.stride(0)), "expected no dimension of 0"),
        (
            conv(&x.narrow(3, 0, 0)?, same),
            "expected no dimension of 0",
        ),
        (
            conv(&x.flatten_all()?, same),
            "expected x of 4 dimensions, got [192]",
        ),
        (
            conv(&x.to_dtype(DType::F32)?, same),
            "expected a tensor in F32 for x in F32, got F64",
        ),
        (
            error(Conv::new(weight.clone(), None, same)?.forward(&x.to_dtype(DType::F32)?)),
            "expected x in the dtype of the weights, F64, got F32",
        ),
        (
            conv(&x.to_dtype(DType::U8)?, same),
            "expected x in f32, f16, bf16 or f64, got U8",
        ),
        (
            conv(&x, Form::reflect(13)),
            "expected a height above the reflection's 6, got 6",
        ),
        (
            conv(&x.narrow(3, 0, 1)?, Form::reflect(3)),
            "expected a width above the reflection's 1, got 1",
        ),
        (
            conv(
                &x.narrow(2, 0, 2)?,
                Form {
                    padding: Padding::Zeros(0),
                    ..same
                },
            ),
            "expected at least 3x3 with the padding, got 2x8 of 2x8",
        ),
        (
            error(op::conv(&x, &weight, Some(&numbers(&[4], 1)?), same)),
            "expected a bias of shape [8], got [4]",
        ),
        (
            error(DoublingConv::new(weight.clone(), numbers(&[4], 1)?)?.forward(&x)),
            "expected 8 channels, got 4",
        ),
    ];
    for (message, expected) in cases {
        assert!(message.contains(expected), "{message}");
    }
    Ok(())
}

#[test]
fn axes_reflect_and_double() -> Result<()> {
    let z = plan::ZERO;
    let [rows, columns] = axes([3, 2], Form::reflect(3))?;
    assert_eq!((rows, columns), (vec![1, 0, 1, 2, 1], vec![1, 0, 1, 0]));
    let [rows, _] = axes([2, 2], Form::same(3).upsampled())?;
    assert_eq!(rows, [z, 0, 0, 1, 1, z]);
    let [rows, _] = axes([2, 2], Form::reflect(5).upsampled())?;
    assert_eq!(rows, [1, 0, 0, 0, 1, 1, 1, 0]);
    Ok(())
}

/// Tiles cover the output, and their memory stays in an L2 of 1 MiB where one row does.
#[test]
fn tiles_follow_from_the_shape() -> Result<()> {
    for side in [1, 7, 64, 250, 1000, 4000] {
        for (widths, kernel, _, form) in layers() {
            if matches!(form.padding, Padding::Reflect(pad) if pad >= side) || kernel > side {
                continue;
            }
            let [c_in, c_out] = widths.map(|width| width * 8);
            let weight = [c_out, c_in / form.groups, kernel, kernel];
            let plan = Plan::conv([1, c_in, side, side], weight, form)?;
            let (tile, [rows, columns]) = (plan.tile, plan.tiles());
            assert!(rows * tile.rows >= plan.out[0] && (rows - 1) * tile.rows < plan.out[0]);
            assert!(columns * tile.columns >= plan.out[1]);
            let sums = tile.outputs * plan.tile_len();
            let strip = tile.inputs * plan.strip_len();
            assert!(4 * (sums + strip) < 700 << 10, "{plan:?}");
        }
    }
    Ok(())
}

/// Times of single layers, for whoever changes the kernels.
#[test]
#[ignore = "a benchmark"]
fn speed() -> Result<()> {
    let same = Form::same(3);
    let up = same.upsampled();
    for (name, [c_in, c_out, kernel, side], form) in [
        ("256 to 256, 64x64", [256, 256, 3, 64], same),
        ("128 to 128, 128x128", [128, 128, 3, 128], same),
        ("512 to 512, 16x16", [512, 512, 3, 16], same),
        ("512 to 512, 32x32", [512, 512, 3, 32], same),
        ("64 to 64, 512x512", [64, 64, 3, 512], same),
        ("64 to 3, 512x512", [64, 3, 3, 512], same),
        ("3 to 64, 512x512", [3, 64, 3, 512], same),
        (
            "32 to 64, stride 2, 512x512",
            [32, 64, 3, 512],
            same.stride(2),
        ),
        ("128 to 64, upsampled, 128x128", [128, 64, 3, 128], up),
        (
            "16 to 3, 9x9, 1024x1024",
            [16, 3, 9, 1024],
            Form::reflect(9),
        ),
        (
            "32 to 3, 9x9, 1024x1024",
            [32, 3, 9, 1024],
            Form::reflect(9),
        ),
        (
            "3 to 16, 9x9, 1024x1024",
            [3, 16, 9, 1024],
            Form::reflect(9),
        ),
        ("128 to 128, 1x1, 64x64", [128, 128, 1, 64], Form::same(1)),
        (
            "128 depthwise, 64x64",
            [128, 128, 3, 64],
            Form::reflect(3).groups(128),
        ),
    ] {
        let x = Tensor::randn(0f32, 1., (1, c_in, side, side), &Device::Cpu)?;
        let shape = (c_out, c_in / form.groups, kernel, kernel);
        let weight = Tensor::randn(0f32, 1., shape, &Device::Cpu)?;
        let conv = Conv::new(weight, None, form)?;
        let mut times = Vec::new();
        let mut macs = 0.;
        for _ in 0..19 {
            let start = std::time::Instant::now();
            let y = conv.forward(&x)?;
            times.push(start.elapsed().as_secs_f64());
            macs = (y.elem_count() * c_in / form.groups * kernel * kernel) as f64;
        }
        times.sort_by(f64::total_cmp);
        let rate = macs / times[0] / 1e9;
        let [best, median] = [times[0], times[times.len() / 2]].map(|time| time * 1e3);
        println!("{name:30} {median:8.2} ms, at best {best:8.2} ms, {rate:.0} G products a second");
    }
    Ok(())
}
