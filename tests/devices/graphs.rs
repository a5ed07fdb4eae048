//! Calls captured in a CUDA graph: nothing in them waits for the GPU, asks it something or uploads
//! anything, and a replay computes what a call does.

use crate::common::reference::Random;
use crate::common::to_f64;
use anyhow::{Context, Result};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUgraphInstantiate_flags, CUstreamCaptureMode,
};
use candle_core::{DType, Device, Tensor};
use candle_instance_norm::{Activation, AdaInConfig, Normalization, adain};

const EPS: f64 = 1e-5;
/// Planes for a warp each, in parts, and channels-last.
const SHAPES: [((usize, usize, usize), bool); 3] = [
    ((2, 6, 77), false),
    ((1, 2, 20_000), false),
    ((2, 8, 100), true),
];

/// A call on x with another tensor like it.
type Run = fn(&Tensor, &Tensor) -> candle_core::Result<Vec<Tensor>>;

const RUNS: [(&str, Run); 5] = [
    ("forward", |x, _| {
        Ok(vec![Normalization::instance(EPS).forward(x)?])
    }),
    ("backward", |x, dy| {
        Ok(vec![Normalization::instance(EPS).backward(x, dy)?.x])
    }),
    ("group norm, residual, SiLU", |x, residual| {
        let norm = Normalization::group(2, EPS).residual(residual);
        Ok(vec![norm.activation(Activation::Silu).forward(x)?])
    }),
    ("SPADE, backward", |x, other| {
        let norm = Normalization::instance(EPS).weight(other).bias(other);
        let grads = norm.backward(x, other)?;
        Ok([Some(grads.x), grads.weight]
            .into_iter()
            .flatten()
            .collect())
    }),
    ("AdaIN", |x, style| {
        Ok(vec![adain(x, style, &AdaInConfig::default())?])
    }),
];

fn replays(device: &Device) -> Result<()> {
    for (shape, last) in SHAPES {
        for (name, run) in RUNS {
            let what = format!("{name} {shape:?} channels-last {last}");
            replay(device, shape, last, run).with_context(|| what)?;
        }
    }
    Ok(())
}

test_device!(cuda: replays);

fn replay(device: &Device, (n, c, s): (usize, usize, usize), last: bool, run: Run) -> Result<()> {
    let Device::Cuda(gpu) = device else {
        anyhow::bail!("expected a GPU, got {device:?}")
    };
    let mut random = Random::new(5, device);
    let dims = if last { (n, s, c) } else { (n, c, s) };
    let mut memory = || random.tensor(dims, DType::F32, 1., 2.);
    let (first, second, other) = (memory()?, memory()?, memory()?);
    let planar = |t: &Tensor| {
        if last {
            t.transpose(1, 2)
        } else {
            Ok(t.clone())
        }
    };
    let x = first.copy()?;
    // Kernels are loaded before the capture.
    let want = [
        run(&planar(&first)?, &planar(&other)?)?,
        run(&planar(&second)?, &planar(&other)?)?,
    ];

    let stream = gpu.cuda_stream();
    let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    // With this, candle refuses whatever a capture would upload.
    let guard = gpu.enable_cuda_graph_htod_cache();
    stream.begin_capture(mode).w()?;
    let got = planar(&x).and_then(|x| run(&x, &planar(&other)?));
    let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags).w()?.context("an empty graph")?;
    let got = got?;
    drop(guard);

    for (input, want) in [&first, &second].into_iter().zip(&want) {
        x.slice_set(input, 0, 0)?;
        graph.launch().w()?;
        for (got, want) in got.iter().zip(want) {
            assert_eq!(to_f64(got), to_f64(want));
        }
    }
    Ok(())
}
