//! Data that breaks careless implementations.

use crate::common::reference::{Affine, Case, Params, Random};
use crate::common::{self, to_f64};
use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use candle_instance_norm::{
    AdaInConfig, EpsMode, Normalization, adain, instance_norm, instance_norm_backward,
};

const DTYPES: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];
const EPS: f64 = 1e-5;
const KINDS: [Affine; 3] = [Affine::None, Affine::Channel, Affine::Sample];
/// Elements of planes for the warp, block and split kernels, and for one and more chunks on a CPU.
const SIZES: [usize; 5] = [3, 45, 700, 6000, 33_001];

/// The bounds of the table of `accuracy`.
fn bound(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-12,
        _ => 2e-6,
    }
}

/// A case of random parameters and gradients around given data.
fn case(random: &mut Random, what: &str, x: &Tensor, kind: Affine) -> Result<Case> {
    Ok(Case {
        what: format!("{what} {:?} {kind:?}", x.shape()),
        x: x.clone(),
        params: random.params(x, x.dtype(), kind)?,
        dy: random.tensor(x.shape(), x.dtype(), 0.5, 1.)?,
        eps: EPS,
    })
}

/// The bias in the shape of x; 0 where there is none.
fn bias_everywhere(x: &Tensor, (_, bias): &Params) -> Result<Tensor> {
    let Some(bias) = bias else {
        return Ok(x.zeros_like()?);
    };
    let (n, c) = (x.dim(0)?, x.dim(1)?);
    let per_plane = bias.broadcast_as((n, c))?.reshape((n, c, 1))?;
    Ok(per_plane.broadcast_as(x.shape())?.contiguous()?)
}

/// A constant plane gives the bias, and moves no weight: rounding is divided by the root of eps,
/// and what it leaves in dweight is nothing next to the sum of dy.
fn constant_planes(device: &Device) -> Result<()> {
    let mut random = Random::new(11, device);
    for dtype in common::on(device, &DTYPES) {
        for (i, spatial) in [1].into_iter().chain(SIZES).enumerate() {
            let level = random.tensor((1, 3, 1), dtype, 0., 10.)?;
            let x = level.broadcast_as((1, 3, spatial))?.contiguous()?;
            let case = case(&mut random, "constant", &x, KINDS[i % 3])?;
            let bias = bias_everywhere(&x, &case.params)?;
            assert_eq!(to_f64(&case.forward()?), to_f64(&bias), "{}", case.what);
            let mut want = case.reference();
            want.dweight.scale = want.dbias.scale.clone();
            want.dweight.values.fill(0.);
            case.check_against(&want, bound(dtype))?;
        }
    }
    Ok(())
}

test_device!(constant_planes);

/// Without eps a constant plane is the bias as well, and what is behind it gets no gradient, whatever
/// the rounding of its mean leaves: 0.1 is no f32, and its sums are none of its multiples.
///
/// On the CPU alone: the CUDA and Metal kernels divide 0 by 0.
fn constant_planes_without_eps(device: &Device) -> Result<()> {
    let mut random = Random::new(17, device);
    for dtype in common::on(device, &DTYPES) {
        for (spatial, level) in [1, 100, 2049, 33_001, 70_000]
            .into_iter()
            .flat_map(|s| [(s, 0.1), (s, -3e7), (s, 0.)])
        {
            if dtype == DType::F16 && level < -1e5 {
                continue;
            }
            let x = Tensor::full(level, (1, 4, spatial), &Device::Cpu)?
                .to_dtype(dtype)?
                .to_device(device)?;
            let bias = Tensor::full(7., 4, &Device::Cpu)?
                .to_dtype(dtype)?
                .to_device(device)?;
            let dy = random.tensor(x.shape(), dtype, 0.5, 1.)?;
            let last = x.transpose(1, 2)?.contiguous()?.transpose(1, 2)?;
            for mode in [EpsMode::AddToVar, EpsMode::AddToStd, EpsMode::MaxWithVar] {
                for norm in [Normalization::instance(0.), Normalization::group(2, 0.)] {
                    let norm = norm.eps_mode(mode).bias(&bias);
                    for x in [&x, &last] {
                        let what = format!("{dtype:?} {spatial} {level} {mode:?}");
                        let y = norm.forward(x)?;
                        assert!(to_f64(&y).iter().all(|&v| v == 7.), "{what}");
                        let dx = norm.backward(x, &dy)?.x;
                        assert!(to_f64(&dx).iter().all(|&v| v == 0.), "{what}");
                    }
                }
            }
            // AdaIN: the mean of the style, or a style without deviation.
            let style = random.tensor(x.shape(), dtype, 1., 2.)?;
            let config = AdaInConfig {
                correction: 0,
                eps: 0.,
                ..AdaInConfig::default()
            };
            for (content, style) in [(&x, &style), (&style, &x)] {
                let y = adain(content, style, &config)?;
                assert!(
                    to_f64(&y).iter().all(|v| v.is_finite()),
                    "{dtype:?} {spatial}"
                );
            }
        }
    }
    Ok(())
}

test_device!(constant_planes_without_eps on cpu);

/// NaN and infinity spoil their own plane, all of it, and no other.
fn nan_and_infinity_stay_in_their_plane(device: &Device) -> Result<()> {
    let mut random = Random::new(12, device);
    for (j, dtype) in common::on(device, &DTYPES).into_iter().enumerate() {
        for (i, spatial) in SIZES.into_iter().enumerate() {
            let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][(i + j) % 3];
            let good = random.tensor((1, 3, spatial), dtype, 0., 1.)?;
            let mut values = to_f64(&good);
            values[spatial + spatial / 2] = bad;
            let x = Tensor::from_vec(values, good.shape(), &Device::Cpu)?;
            let x = x.to_dtype(dtype)?.to_device(device)?;
            let case = case(&mut random, &format!("{bad}"), &x, KINDS[i % 3])?;
            let want = case.reference();
            for exact in [&want.y, &want.dx] {
                let spoilt = |p: &[f64]| p.iter().filter(|v| v.is_nan()).count();
                let spoilt = exact.values.chunks(spatial).map(spoilt);
                assert_eq!(spoilt.collect::<Vec<_>>(), [0, spatial, 0]);
            }
            case.check_against(&want, bound(dtype))?;
        }
    }
    Ok(())
}

test_device!(nan_and_infinity_stay_in_their_plane);

/// +-512 in f16: the squares of a few hundred elements overflow an f16, their sum in f32 does not
/// (mlx's issue 4228). The result is +-1 but for eps.
fn checkerboard_of_512(device: &Device) -> Result<()> {
    let mut random = Random::new(13, device);
    for side in [4, 32, 128] {
        let board = |i: usize| {
            if (i / side + i).is_multiple_of(2) {
                512f32
            } else {
                -512.
            }
        };
        let board: Vec<f32> = (0..2 * side * side).map(board).collect();
        let x = Tensor::from_vec(board, (1, 2, side, side), &Device::Cpu)?;
        let x = x.to_dtype(DType::F16)?.to_device(device)?;
        let case = case(&mut random, "checkerboard", &x, Affine::None)?;
        let y = case.forward()?;
        let signs = to_f64(&x).into_iter().map(f64::signum);
        assert_eq!(to_f64(&y), signs.collect::<Vec<_>>());
        case.check(2e-6)?;
    }
    Ok(())
}

test_device!(checkerboard_of_512);

/// One element of 1e6 among normal ones: it is no shift to subtract, and the others keep their
/// digits. They are around 1e-2, so the error allowed goes with each.
fn an_outlier_comes_first(device: &Device) -> Result<()> {
    let mut random = Random::new(14, device);
    for spatial in [100, 1001, 5000, 70_001] {
        let rest = random.tensor((1, 2, spatial), DType::F32, 0., 1.)?;
        let mut values = to_f64(&rest);
        values.iter_mut().step_by(spatial).for_each(|v| *v = 1e6);
        let x = Tensor::from_vec(values, rest.shape(), &Device::Cpu)?;
        let x = x.to_dtype(DType::F32)?.to_device(device)?;
        let case = case(&mut random, "outlier", &x, Affine::None)?;
        let mut want = case.reference();
        want.y.scale = want.y.values.iter().map(|y| y.abs()).collect();
        case.check_against(&want, 2e-6)?;
    }
    Ok(())
}

test_device!(an_outlier_comes_first);

/// Small odd shapes of every rank, and no eps at all.
fn shapes(device: &Device) -> Result<()> {
    let mut random = Random::new(15, device);
    let shapes: [&[usize]; 7] = [
        &[1, 1, 2],
        &[3, 5, 7],
        &[2, 3, 5, 7],
        &[2, 3, 1, 129, 1],
        &[1, 2, 3, 5, 7],
        &[2, 1, 3, 2, 5, 7],
        &[2, 3, 31, 33],
    ];
    for (i, shape) in shapes.into_iter().enumerate() {
        for (j, dtype) in common::on(device, &DTYPES).into_iter().enumerate() {
            // A plane of few elements may be nearly constant, and then eps is all there is.
            let few = shape[2..].iter().product::<usize>() < 6;
            let eps = [0., 1e-5, 1.][if few { 1 } else { (i + j) % 3 }];
            let x = random.tensor(shape, dtype, 1., 2.)?;
            let mut case = case(&mut random, &format!("eps {eps}"), &x, KINDS[(i + 1) % 3])?;
            case.eps = eps;
            case.check(bound(dtype))?;
        }
    }
    Ok(())
}

test_device!(shapes);

/// More planes than a grid has rows, and a gradient summed over as many samples.
fn many_planes(device: &Device) -> Result<()> {
    let mut random = Random::new(16, device);
    for (shape, dtype) in [((2, 40_000, 3), DType::F16), ((70_000, 1, 2), DType::F32)] {
        let x = random.tensor(shape, dtype, 0., 1.)?;
        case(&mut random, "many", &x, Affine::Channel)?.check(2e-6)?;
    }
    Ok(())
}

test_device!(many_planes);

/// No elements, no error: empty results, and gradients of parameters that are sums of nothing.
fn empty(device: &Device) -> Result<()> {
    for dtype in common::on(device, &DTYPES) {
        for shape in [[0, 3, 4, 4], [2, 3, 0, 4], [2, 0, 4, 4], [0, 0, 0, 0]] {
            let x = Var::from_tensor(&Tensor::zeros(&shape, dtype, device)?)?;
            for params in [&shape[1..2], &shape[..2]] {
                // Zeros, since on a GPU candle itself cannot fill a tensor of no elements, nor copy one.
                let weight = Tensor::zeros(params, dtype, device)?;
                let (weight, bias) = (Var::from_tensor(&weight)?, Var::from_tensor(&weight)?);
                let y = instance_norm(&x, Some(&weight), Some(&bias), EPS)?;
                assert_eq!((y.dims(), y.dtype()), (&shape[..], dtype));
                assert!(to_f64(&y).is_empty());
                let grads = instance_norm_backward(&x, Some(&weight), Some(&bias), &y, EPS)?;
                assert_eq!((grads.x.dims(), grads.x.dtype()), (&shape[..], dtype));
                for grad in [grads.weight.unwrap(), grads.bias.unwrap()] {
                    assert_eq!((grad.dims(), grad.dtype()), (params, dtype), "{shape:?}");
                    assert!(to_f64(&grad).iter().all(|&g| g == 0.));
                }
            }
            let untouched = instance_norm(&x, None, None, EPS)?;
            assert_eq!(untouched.dims(), shape);
        }
    }
    Ok(())
}

test_device!(empty);

/// Results of 32 MiB and more go past the caches on the CPU: planes of an odd size, of which each
/// begins elsewhere between two aligned addresses, are what each is by itself. Three large ones, and
/// thousands that a thread takes one after the other.
#[test]
fn large_results_are_their_planes() -> Result<()> {
    let (mut random, norm) = (Random::new(23, &Device::Cpu), Normalization::instance(EPS));
    for dtype in DTYPES {
        let elements = (32 << 20) / dtype.size_in_bytes();
        for (c, spatial) in [(3, elements / 3 + 1001), (elements / 1001 + 1, 1001)] {
            let [x, dy] = [(); 2].map(|()| random.tensor((1, c, spatial), dtype, 0.5, 1.));
            let (x, dy) = (x?, dy?);
            let (y, dx) = (norm.forward(&x)?, norm.backward(&x, &dy)?.x);
            for plane in (0..c).step_by(c / 3) {
                let of = |t: &Tensor| t.narrow(1, plane, 1);
                let bits = |t: &Tensor| Ok::<_, candle_core::Error>(to_f64(&t.contiguous()?));
                let alone = (of(&x)?, of(&dy)?);
                let what = format!("{dtype:?}, plane {plane} of {c}");
                let want = bits(&norm.forward(&alone.0)?)?;
                assert!(bits(&of(&y)?)? == want, "y, {what}");
                let want = bits(&norm.backward(&alone.0, &alone.1)?.x)?;
                assert!(bits(&of(&dx)?)? == want, "dx, {what}");
            }
        }
    }
    Ok(())
}
