//! Gradients: against differences, against candle's own ops, and the same bits each time.

use crate::common::reference::{Affine, Case, Random};
use crate::common::{self, Tolerance, assert_close, to_f64};
use anyhow::Result;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_instance_norm::{instance_norm, instance_norm_backward};

const EPS: f64 = 1e-5;

/// A loss with another gradient at each element, and another second derivative than 0.
fn loss(y: &Tensor, target: &Tensor) -> candle_core::Result<Tensor> {
    (y.sin()? * target)?.sum_all()
}

fn var(random: &mut Random, shape: &[usize], mean: f64) -> Result<Var> {
    Ok(Var::from_tensor(&random.tensor(
        shape,
        DType::F64,
        mean,
        1.,
    )?)?)
}

/// Each gradient of `loss` against central differences. With a step of 1e-4 those are off by
/// 1e-8 of a third derivative, which for planes of few elements may be some tens.
fn central_differences(device: &Device) -> Result<()> {
    const STEP: f64 = 1e-4;
    let mut random = Random::new(31, device);
    let shapes: [&[usize]; 3] = [&[2, 3, 7], &[2, 2, 3, 4], &[1, 3, 2, 2, 3]];
    for shape in shapes {
        for params in [&shape[1..2], &shape[..2]] {
            let x = var(&mut random, shape, 1.)?;
            let weight = var(&mut random, params, 1.)?;
            let bias = var(&mut random, params, 0.)?;
            let target = random.tensor(shape, DType::F64, 0., 1.)?;
            let run = || {
                loss(
                    &instance_norm(&x, Some(&weight), Some(&bias), EPS)?,
                    &target,
                )
            };
            let grads = run()?.backward()?;
            for (name, v) in [("x", &x), ("weight", &weight), ("bias", &bias)] {
                let before = v.as_tensor().copy()?;
                let mut differences = Vec::new();
                for i in 0..before.elem_count() {
                    let at = |step: f64| -> Result<f64> {
                        let mut values = to_f64(&before);
                        values[i] += step;
                        v.set(&Tensor::from_vec(values, before.shape(), device)?)?;
                        Ok(run()?.to_scalar::<f64>()?)
                    };
                    differences.push((at(STEP)? - at(-STEP)?) / (2. * STEP));
                }
                v.set(&before)?;
                let want = Tensor::from_vec(differences, before.shape(), device)?;
                let tol = Tolerance {
                    atol: 1e-6,
                    rtol: 1e-6,
                };
                let what = format!("{shape:?}: {name} {params:?}");
                assert_close(&what, grads.get(v).expect("a gradient"), &want, tol);
            }
        }
    }
    Ok(())
}

test_device!(f64: central_differences);

/// Only variables get gradients, and the function gives what `backward` gives, bit for bit.
fn only_what_is_tracked(device: &Device) -> Result<()> {
    let mut random = Random::new(32, device);
    for tracked in 1..8 {
        let x = random.tensor((2, 3, 5, 7), DType::F32, 0., 1.)?;
        let (weight, bias) = random.params(&x, DType::F32, Affine::Channel)?;
        let dy = random.tensor(x.shape(), DType::F32, 0., 1.)?;
        let inputs = [x, weight.unwrap(), bias.unwrap()];
        let vars: Vec<Option<Var>> = inputs
            .iter()
            .enumerate()
            .map(|(i, t)| {
                (tracked >> i & 1 == 1)
                    .then(|| Var::from_tensor(t))
                    .transpose()
            })
            .collect::<candle_core::Result<_>>()?;
        let of = |i: usize| vars[i].as_deref().unwrap_or(&inputs[i]);
        let y = instance_norm(of(0), Some(of(1)), Some(of(2)), EPS)?;
        let grads = (&y * &dy)?.sum_all()?.backward()?;
        let [x, weight, bias] = &inputs;
        let all = instance_norm_backward(x, Some(weight), Some(bias), &dy, EPS)?;
        for (i, want) in [Some(all.x), all.weight, all.bias].iter().enumerate() {
            let got = vars[i]
                .as_ref()
                .map(|v| to_f64(grads.get(v).expect("a gradient")));
            assert_eq!(
                got,
                vars[i].as_ref().and(want.as_ref()).map(to_f64),
                "{tracked}: {i}"
            );
            assert!(grads.get(&inputs[i]).is_none());
        }
    }
    Ok(())
}

test_device!(only_what_is_tracked);

/// Instance norm composed of candle's own ops.
fn composed(x: &Tensor, weight: &Tensor, bias: &Tensor) -> candle_core::Result<Tensor> {
    let (n, c) = (x.dim(0)?, x.dim(1)?);
    let planes = x.contiguous()?.reshape((n, c, ()))?;
    let d = planes.broadcast_sub(&planes.mean_keepdim(2)?)?;
    let std = (d.sqr()?.mean_keepdim(2)? + EPS)?.sqrt()?;
    let y = d.broadcast_div(&std)?;
    let y = y.broadcast_mul(&weight.reshape((1, c, 1))?)?;
    y.broadcast_add(&bias.reshape((1, c, 1))?)?
        .reshape(x.shape())
}

/// In the middle of a graph: behind other ops and views, before others.
fn within_a_graph(device: &Device) -> Result<()> {
    let mut random = Random::new(33, device);
    let base = var(&mut random, &[4, 5, 6, 7], 0.)?;
    let params = var(&mut random, &[12], 1.)?;
    type Views = [(&'static str, fn(&Tensor) -> candle_core::Result<Tensor>); 6];
    let views: Views = [
        ("whole", |t| Ok(t.clone())),
        ("chain", |t| (t * 2.)?.relu()),
        ("narrow n", |t| t.narrow(0, 1, 2)),
        ("narrow w", |t| t.narrow(3, 2, 3)),
        ("swap n, c", |t| t.transpose(0, 1)?.narrow(1, 0, 3)),
        ("channels last", |t| t.permute((0, 3, 1, 2))),
    ];
    for (name, view) in views {
        let x = view(&base)?;
        let c = x.dim(1)?;
        // Narrowed parameters: their gradients go to a part of the variable.
        let (weight, bias) = (params.narrow(0, 1, c)?, params.narrow(0, 3, c)?);
        let target = random.tensor(x.shape(), DType::F64, 0., 1.)?;
        let grads = |y: Tensor| -> Result<GradStore> { Ok(loss(&y.sqr()?, &target)?.backward()?) };
        let got = grads(instance_norm(&x, Some(&weight), Some(&bias), EPS)?)?;
        let want = grads(composed(&x, &weight, &bias)?)?;
        for v in [&base, &params] {
            let (got, want) = (got.get(v).expect("ours"), want.get(v).expect("candle's"));
            assert_close(
                name,
                got,
                want,
                Tolerance {
                    atol: 1e-10,
                    rtol: 1e-10,
                },
            );
        }
    }
    Ok(())
}

test_device!(f64: within_a_graph);

/// There is no second derivative; asking for one is an error, whichever gradient it goes through.
fn no_second_derivative(device: &Device) -> Result<()> {
    let mut random = Random::new(34, device);
    let tensor = |random: &mut Random, shape: &[usize]| random.tensor(shape, DType::F32, 0., 1.);
    for tracked in ["x", "weight", "dy"] {
        let mut draw = |name: &str, shape: &[usize]| -> Result<Tensor> {
            let t = tensor(&mut random, shape)?;
            Ok(if name == tracked {
                Var::from_tensor(&t)?.as_tensor().clone()
            } else {
                t
            })
        };
        let (x, dy) = (draw("x", &[2, 3, 9])?, draw("dy", &[2, 3, 9])?);
        let (weight, bias) = (draw("weight", &[3])?, draw("bias", &[3])?);
        let grads = instance_norm_backward(&x, Some(&weight), Some(&bias), &dy, EPS)?;
        for grad in [grads.x, grads.weight.unwrap(), grads.bias.unwrap()] {
            let error = grad.sum_all()?.backward().expect_err(tracked).to_string();
            assert!(
                error.contains("CANDLE_GRAD_DO_NOT_DETACH"),
                "{tracked}: {error}"
            );
        }
    }
    Ok(())
}

test_device!(no_second_derivative);

/// The bits of y and of all gradients.
fn bits(case: &Case) -> Result<Vec<Vec<u64>>> {
    let grads = case.backward()?;
    let all = [
        Some(case.forward()?),
        Some(grads.x),
        grads.weight,
        grads.bias,
    ];
    let bits = |t: &Tensor| to_f64(t).into_iter().map(f64::to_bits).collect();
    Ok(all.iter().flatten().map(bits).collect())
}

/// Every run gives the same bits, and on the CPU every number of threads.
fn determinism(device: &Device) -> Result<()> {
    let mut random = Random::new(35, device);
    // Many small planes, and few large ones: 2 threads split the last, 5 do not. The sums are f64
    // on the CPU, so that only f64 shows another order.
    for shape in [(8, 300, 5, 9), (3, 7, 33, 65), (1, 2, 300, 500)] {
        for dtype in common::on(device, &[DType::F32, DType::BF16, DType::F64]) {
            let x = random.tensor(shape, dtype, 3., 1.)?;
            let case = Case {
                what: String::new(),
                params: random.params(&x, dtype, Affine::Channel)?,
                dy: random.tensor(shape, dtype, 0.25, 1.)?,
                x,
                eps: EPS,
            };
            let first = bits(&case)?;
            assert!(bits(&case)? == first && bits(&case)? == first, "{shape:?}");
            for threads in [1, 2, 3, 5].into_iter().filter(|_| device.is_cpu()) {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                let got = pool.build()?.install(|| bits(&case))?;
                assert!(got == first, "{shape:?} {dtype:?} on {threads} threads");
            }
        }
    }
    Ok(())
}

test_device!(determinism);
