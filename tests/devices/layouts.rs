//! Inputs of any strides and offsets give what their contiguous copies give.

use crate::common::reference::{Affine, Case, Random};
use crate::common::{self, to_f64};
use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use candle_instance_norm::instance_norm;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

const DTYPES: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];

/// Ten times what `accuracy` holds the kernels to: an expanded tensor repeats its values,
/// whose roundings then add up instead of averaging out. A wrong stride is off by 1.
fn bound(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-12,
        _ => 2e-5,
    }
}

/// Ways to a tensor of shape (N, C, H, W) that is not contiguous or does not start at 0.
#[derive(Clone, Copy, Debug, PartialEq)]
enum View {
    Whole,
    NarrowN,
    NarrowC,
    NarrowW,
    SwapNC,
    SwapHW,
    ChannelsLast,
    ExpandN,
    ExpandC,
    ExpandW,
    /// Starts so many elements into a flat storage.
    Offset(usize),
}

use View::*;
const VIEWS: [View; 13] = [
    Whole,
    NarrowN,
    NarrowC,
    NarrowW,
    SwapNC,
    SwapHW,
    ChannelsLast,
    ExpandN,
    ExpandC,
    ExpandW,
    Offset(1),
    Offset(3),
    Offset(64),
];

impl View {
    /// The shape of the base that the view is taken of.
    fn base(self, [n, c, h, w]: [usize; 4]) -> Vec<usize> {
        match self {
            Whole => vec![n, c, h, w],
            NarrowN => vec![n + 2, c, h, w],
            NarrowC => vec![n, c + 3, h, w],
            NarrowW => vec![n, c, h, w + 2],
            SwapNC => vec![c, n, h, w],
            SwapHW => vec![n, c, w, h],
            ChannelsLast => vec![n, h, w, c],
            ExpandN => vec![1, c, h, w],
            ExpandC => vec![n, 1, h, w],
            ExpandW => vec![n, c, h, 1],
            Offset(by) => vec![by + n * c * h * w + 2],
        }
    }

    fn of(self, base: &Tensor, shape: [usize; 4]) -> candle_core::Result<Tensor> {
        let [n, c, h, w] = shape;
        match self {
            Whole => Ok(base.clone()),
            NarrowN => base.narrow(0, 1, n),
            NarrowC => base.narrow(1, 1, c),
            NarrowW => base.narrow(3, 1, w),
            SwapNC => base.transpose(0, 1),
            SwapHW => base.transpose(2, 3),
            ChannelsLast => base.permute((0, 3, 1, 2)),
            ExpandN | ExpandC | ExpandW => base.broadcast_as(&shape),
            Offset(by) => base.narrow(0, by, n * c * h * w)?.reshape(&shape),
        }
    }
}

/// A random base and its view.
fn draw(
    random: &mut Random,
    view: View,
    shape: [usize; 4],
    dtype: DType,
    mean: f64,
) -> Result<Tensor> {
    let base = random.tensor(view.base(shape), dtype, mean, 1.)?;
    let view = view.of(&base, shape)?;
    assert_eq!(view.dims(), shape);
    Ok(view)
}

/// Parameters that are parts of larger tensors, at odd offsets.
fn narrowed(random: &mut Random, x: &Tensor, kind: Affine) -> Result<(Tensor, Tensor)> {
    let (n, c) = (x.dim(0)?, x.dim(1)?);
    let mut draw = |mean| -> Result<Tensor> {
        let base = match kind {
            Affine::Sample => random.tensor((n + 1, c + 2), x.dtype(), mean, 0.5)?,
            _ => random.tensor(c + 2, x.dtype(), mean, 0.5)?,
        };
        Ok(match kind {
            Affine::Sample => base.narrow(0, 1, n)?.narrow(1, 1, c)?,
            _ => base.narrow(0, 1, c)?,
        })
    };
    Ok((draw(1.)?, draw(0.)?))
}

/// A copy that starts at the start of its own storage.
fn copied(t: &Tensor) -> candle_core::Result<Tensor> {
    t.copy()?.force_contiguous()
}

/// Every view of x with another of dy: right, and near the results of contiguous copies. The
/// bits are the same where the planes start as far into a vector of 16 bytes as the copies' do,
/// and the order in memory is theirs.
fn views(device: &Device) -> Result<()> {
    let (mut random, dtypes) = (Random::new(21, device), common::on(device, &DTYPES));
    // Planes for the warp, block and split kernels; each but the first of whole vectors.
    let shapes = [
        [3, 5, 5, 7],
        [3, 2, 8, 16],
        [2, 3, 36, 64],
        [1, 2, 128, 132],
    ];
    for (i, x_view) in VIEWS.into_iter().enumerate() {
        for (j, shape) in shapes.into_iter().enumerate() {
            let dtype = dtypes[(i + j) % dtypes.len()];
            let dy_view = VIEWS[(i * 5 + j) % VIEWS.len()];
            let x = draw(&mut random, x_view, shape, dtype, 1.)?;
            let kind = [Affine::Channel, Affine::Sample][i % 2];
            let (weight, bias) = narrowed(&mut random, &x, kind)?;
            let case = Case {
                what: format!("x {x_view:?}, dy {dy_view:?}, {shape:?} {dtype:?}"),
                dy: draw(&mut random, dy_view, shape, dtype, 0.25)?,
                x,
                params: (Some(weight), Some(bias)),
                eps: 1e-5,
            };
            let flat = |t: &Option<Tensor>| t.as_ref().map(copied).transpose();
            let copy = Case {
                what: String::new(),
                x: copied(&case.x)?,
                dy: copied(&case.dy)?,
                params: (flat(&case.params.0)?, flat(&case.params.1)?),
                eps: 1e-5,
            };
            if x_view != ExpandW {
                case.check(bound(dtype))?;
            }
            let whole_vectors = j > 0 && !matches!(x_view, Offset(1 | 3));
            // Channels-last memory is summed in another order, in place.
            let in_order = x_view != ChannelsLast && (device.is_cpu() || whole_vectors);
            if in_order {
                let same = |got: &Tensor, want: &Tensor| {
                    assert_eq!(to_f64(got), to_f64(want), "{}", case.what)
                };
                same(&case.forward()?, &copy.forward()?);
                let (got, want) = (case.backward()?, copy.backward()?);
                same(&got.x, &want.x);
                same(&got.weight.unwrap(), &want.weight.unwrap());
                same(&got.bias.unwrap(), &want.bias.unwrap());
            }
        }
    }
    Ok(())
}

test_device!(views);

/// `sum_all` sends back one number broadcast to all of y: the bias counts, x does not move.
fn a_broadcast_gradient(device: &Device) -> Result<()> {
    let mut random = Random::new(22, device);
    let x = Var::from_tensor(&random.tensor((2, 3, 5, 7), DType::F32, 0., 1.)?)?;
    let weight = Var::from_tensor(&random.tensor(3, DType::F32, 1., 1.)?)?;
    let bias = Var::from_tensor(&random.tensor(3, DType::F32, 0., 1.)?)?;
    let y = instance_norm(&x, Some(&weight), Some(&bias), 1e-5)?;
    let grads = (y.sum_all()? * 3.)?.backward()?;
    let grad = |v: &Var| to_f64(grads.get(v).expect("a gradient"));
    assert_eq!(grad(&bias), [210.; 3]);
    assert!(
        grad(&x)
            .iter()
            .chain(&grad(&weight))
            .all(|g| g.abs() < 1e-5)
    );
    Ok(())
}

test_device!(a_broadcast_gradient);

/// Any shape, rank, view, dtype and parameters.
fn anything(device: &Device) -> Result<()> {
    let view = || prop::sample::select(VIEWS.to_vec());
    let dims = (1usize..5, 1usize..6, 1usize..40, 1usize..40);
    let kinds = vec![Affine::None, Affine::Channel, Affine::Sample];
    let strategy = (
        (any::<u64>(), dims, 0usize..3),
        (view(), view()),
        prop::sample::select(common::on(device, &DTYPES)),
        prop::sample::select(kinds),
        any::<bool>(),
    );
    let config = Config {
        cases: if device.is_cpu() { 400 } else { 40 },
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    runner.run(
        &strategy,
        |((seed, (n, c, h, w), rank), views, dtype, kind, wide)| {
            let case = || -> Result<()> {
                let mut random = Random::new(seed, device);
                let shape = [n, c, h, w];
                let x = draw(&mut random, views.0, shape, dtype, 1.)?;
                let dy = draw(&mut random, views.1, shape, dtype, 0.25)?;
                // The views are of 4 dimensions; some of them are the same in 3 and in 5.
                let flat = x.is_contiguous() && dy.is_contiguous();
                let ranked = |t: Tensor| match rank {
                    0 if flat => t.flatten_from(2),
                    1 => t.unsqueeze(3),
                    _ => Ok(t),
                };
                let (x, dy) = (ranked(x)?, ranked(dy)?);
                let half = matches!(dtype, DType::F16 | DType::BF16);
                let param = if wide && half { DType::F32 } else { dtype };
                let params = random.params(&x, param, kind)?;
                // A plane of few elements may be nearly constant; more eps keeps it tame.
                let case = Case {
                    what: format!("{views:?} {shape:?} {dtype:?}"),
                    x,
                    params,
                    dy,
                    eps: 1e-2,
                };
                Ok(case.check(bound(dtype))?)
            };
            case().map_err(|e| TestCaseError::fail(format!("{e:?}")))
        },
    )?;
    Ok(())
}

test_device!(anything);
