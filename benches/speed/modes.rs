//! Measurements that are made once for a device rather than for each shape.

use std::hint::black_box;
use std::time::Instant;

use candle_core::{DType, Device, Result, Var};
use candle_instance_norm::{
    Activation, AdaInConfig, Normalization, adain, instance_norm, instance_stats,
};
use serde_json::{Value, json};

use super::timing::random;

const EPS: f64 = 1e-5;
const HOST_CALLS: u32 = 2000;
const DTYPES: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];

/// The first call of a process that needs a module of kernels waits for the driver to compile it; the
/// second says what is left of its time. `CUDA_CACHE_DISABLE=1` keeps the driver from having it already.
pub fn first(device: &Device) -> anyhow::Result<Vec<Value>> {
    println!("module of kernels            first ms  second ms");
    let mut rows = vec![];
    for dtype in DTYPES {
        let x = random(&[2, 4, 8, 8], dtype, device)?;
        // Few planes of more than a block takes are computed in parts.
        let large = random(&[1, 2, 128, 512], dtype, device)?;
        let last = random(&[2, 8, 8, 4], dtype, device)?.permute((0, 3, 1, 2))?;
        let plain = Normalization::instance(EPS);
        let full = plain.clone().activation(Activation::Relu);
        // The kernels that make tensors are candle's and are loaded by now; each call needs one more
        // module.
        let calls: [(&str, &dyn Fn() -> Result<()>); 9] = [
            ("in_fwd.plain", &|| plain.forward(&x).map(drop)),
            ("in_fwd.full", &|| full.forward(&x).map(drop)),
            ("in_bwd.plain", &|| plain.backward(&x, &x).map(drop)),
            ("in_bwd.full", &|| full.backward(&x, &x).map(drop)),
            ("split.plain, finish", &|| {
                instance_stats(&large, EPS).map(drop)
            }),
            ("split.full", &|| full.forward(&large).map(drop)),
            ("channels_last.plain", &|| plain.forward(&last).map(drop)),
            ("channels_last.full", &|| full.forward(&last).map(drop)),
            ("of candle", &|| x.affine(2., 1.).map(drop)),
        ];
        for (module, call) in calls {
            let module = format!("{module} {}", dtype.as_str());
            let mut ms = [0.; 2];
            for ms in &mut ms {
                device.synchronize()?;
                let start = Instant::now();
                call()?;
                device.synchronize()?;
                *ms = start.elapsed().as_secs_f64() * 1e3;
            }
            println!("{module:<27} {:>9.3} {:>10.3}", ms[0], ms[1]);
            rows.push(json!({"module": module, "first_ms": ms[0], "second_ms": ms[1]}));
        }
    }
    Ok(rows)
}

/// Calls on a tensor so small that the host is what takes the time.
pub fn host(device: &Device) -> anyhow::Result<Vec<Value>> {
    let x = random(&[1, 4, 8, 8], DType::F32, device)?;
    let (weight, bias) = (
        random(&[4], DType::F32, device)?,
        random(&[4], DType::F32, device)?,
    );
    let tracked = Var::from_tensor(&x)?;
    let plain = Normalization::instance(EPS);
    let calls: [(&str, &dyn Fn() -> Result<()>); 6] = [
        ("candle's affine", &|| {
            x.affine(2., 1.).map(|y| drop(black_box(y)))
        }),
        ("candle's copy", &|| x.copy().map(|y| drop(black_box(y)))),
        ("instance_norm", &|| {
            instance_norm(&x, None, None, EPS).map(|y| drop(black_box(y)))
        }),
        ("instance_norm, affine", &|| {
            instance_norm(&x, Some(&weight), Some(&bias), EPS).map(|y| drop(black_box(y)))
        }),
        ("backward", &|| {
            plain.backward(&x, &x).map(|y| drop(black_box(y)))
        }),
        ("autograd", &|| {
            let y = instance_norm(&tracked, None, None, EPS)?;
            y.backward().map(|y| drop(black_box(y)))
        }),
    ];
    println!("call                     us of the host");
    let mut rows = vec![];
    for (name, call) in calls {
        call()?;
        device.synchronize()?;
        let start = Instant::now();
        for _ in 0..HOST_CALLS {
            call()?;
        }
        let us = start.elapsed().as_secs_f64() * 1e6 / f64::from(HOST_CALLS);
        device.synchronize()?;
        println!("{name:<24} {us:>14.2}");
        rows.push(json!({"call": name, "us": us}));
    }
    Ok(rows)
}

/// One call of each kernel that a profiler is to look at, most in bf16.
pub fn profile(device: &Device) -> anyhow::Result<()> {
    let plain = Normalization::instance(EPS);
    let group = Normalization::group(32, EPS).activation(Activation::Silu);
    let of = |shape: &[usize], dtype| random(shape, dtype, device);
    let planes = of(&[32, 256, 56, 56], DType::BF16)?;
    let few = of(&[1, 64, 256, 256], DType::F32)?;
    let small = of(&[16, 256, 7, 7], DType::BF16)?;
    plain.forward(&planes)?;
    plain.backward(&planes, &planes)?;
    plain.forward(&of(&[4, 512, 16, 16], DType::BF16)?)?;
    plain.forward(&small)?;
    plain.backward(&small, &small)?;
    plain.forward(&few)?;
    plain.backward(&few, &few)?;
    let of_groups = of(&[2, 320, 64, 64], DType::BF16)?;
    group.forward(&of_groups)?;
    group.backward(&of_groups, &of_groups)?;
    plain.forward(&of(&[8, 64, 64, 256], DType::BF16)?.permute((0, 3, 1, 2))?)?;
    device.synchronize()?;
    Ok(())
}

/// Twelve calls whose instructions `.ci/instructions` counts, on one thread: the one of a number, or
/// all. Their names go to the standard output.
pub fn count(number: Option<usize>) -> anyhow::Result<()> {
    let cpu = &Device::Cpu;
    let plain = Normalization::instance(EPS);
    let group = Normalization::group(32, EPS).activation(Activation::Silu);
    let odd = |dtype| random(&[2, 100, 35, 45], dtype, cpu);
    let [f32, f16, bf16] = [odd(DType::F32)?, odd(DType::F16)?, odd(DType::BF16)?];
    let own = f32.copy()?;
    let small = random(&[8, 256, 7, 7], DType::F32, cpu)?;
    let small_bf16 = small.to_dtype(DType::BF16)?;
    let groups = random(&[2, 64, 32, 32], DType::F32, cpu)?;
    let last = f32
        .permute((0, 2, 3, 1))?
        .contiguous()?
        .permute((0, 3, 1, 2))?;
    let style = AdaInConfig::default();
    let calls: [(&str, &(dyn Fn() -> Result<()> + Sync)); 12] = [
        ("forward f32", &|| plain.forward(&f32).map(drop)),
        ("forward f16", &|| plain.forward(&f16).map(drop)),
        ("forward bf16", &|| plain.forward(&bf16).map(drop)),
        ("backward f32", &|| plain.backward(&f32, &f32).map(drop)),
        ("backward f16", &|| plain.backward(&f16, &f16).map(drop)),
        ("backward bf16", &|| plain.backward(&bf16, &bf16).map(drop)),
        ("forward f32 7x7", &|| plain.forward(&small).map(drop)),
        ("forward bf16 7x7", &|| plain.forward(&small_bf16).map(drop)),
        ("in place f32", &|| plain.forward_in_place(&own)),
        ("channels-last f32", &|| plain.forward(&last).map(drop)),
        ("group norm, SiLU f32", &|| group.forward(&groups).map(drop)),
        ("adain f32", &|| adain(&f32, &own, &style).map(drop)),
    ];
    // In a pool of one thread the whole call runs on that thread, inside of `counted`.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let wanted = |index: &usize| number.is_none_or(|number| number == *index);
    for (_, (name, call)) in calls
        .into_iter()
        .enumerate()
        .filter(|(index, _)| wanted(index))
    {
        call()?;
        pool.install(|| counted_call(call))?;
        println!("{name}");
    }
    Ok(())
}

/// What a profiler finds by its name.
#[inline(never)]
fn counted_call(call: &dyn Fn() -> Result<()>) -> Result<()> {
    black_box(call)()
}
