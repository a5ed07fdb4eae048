use candle_core::{DType, Device, Tensor};
use candle_instance_norm::*;
use std::time::Instant;
fn med(mut f: impl FnMut()) -> f64 {
    let mut v = vec![];
    let t0 = Instant::now();
    while t0.elapsed().as_secs_f64() < 0.7 || v.len() < 5 {
        let t = Instant::now();
        f();
        v.push(t.elapsed().as_secs_f64() * 1e3);
    }
    v.sort_by(|a, b| a.total_cmp(b));
    v[v.len() / 2]
}
fn main() -> anyhow::Result<()> {
    for dt in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        for dims in [
            vec![1, 64, 256, 256],
            vec![1, 128, 128, 128],
            vec![8, 256, 64, 64],
            vec![1, 32, 512, 512],
            vec![4, 512, 16, 16],
            vec![20, 100, 35, 45],
            vec![1, 3, 2160, 3840],
            vec![16, 256, 7, 7],
        ] {
            let x = Tensor::randn(0f32, 1., dims.clone(), &Device::Cpu)?.to_dtype(dt)?;
            let b = x.elem_count() * x.dtype().size_in_bytes();
            let c = med(|| {
                x.copy().unwrap();
            });
            let o = med(|| {
                instance_norm(&x, None, None, 1e-5).unwrap();
            });
            let g = med(|| {
                instance_norm_backward(&x, None, None, &x, 1e-5).unwrap();
            });
            println!(
                "{dt:?} {dims:?} copy {c:.3} ours {o:.3} ratio {:.2} {:.1} GB/s  bwd {g:.3} {:.2}",
                o / c,
                2. * b as f64 / o / 1e6,
                g / c
            );
        }
    }
    Ok(())
}
