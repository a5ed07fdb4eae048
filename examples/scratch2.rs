use candle_core::{DType, Device, Tensor};
use candle_instance_norm::*;
fn main() -> anyhow::Result<()> {
    let a: Vec<String> = std::env::args().collect();
    let dt = match a[1].as_str() {
        "f32" => DType::F32,
        "f16" => DType::F16,
        "bf16" => DType::BF16,
        _ => DType::F64,
    };
    let dims: Vec<usize> = a[2].split(',').map(|v| v.parse().unwrap()).collect();
    let n: usize = a[3].parse()?;
    let x = Tensor::randn(0f32, 1., dims, &Device::Cpu)?.to_dtype(dt)?;
    let t = std::time::Instant::now();
    for _ in 0..n {
        if a.len() > 4 {
            instance_norm_backward(&x, None, None, &x, 1e-5)?;
        } else {
            instance_norm(&x, None, None, 1e-5)?;
        }
    }
    println!("{:.4} ms", t.elapsed().as_secs_f64() * 1e3 / n as f64);
    Ok(())
}
