//! The time of a call on the GPU without that of the host: many calls captured in a CUDA graph, whose
//! replays are timed between events.

use std::time::Instant;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUdevice_attribute, CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode,
};
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaStream};
use candle_core::{CudaDevice, Result};
use std::sync::Arc;

use super::timing::{Contender, Measured, median, take_turns};

/// The least time of a graph, about: the gap between two replays is some 10 us.
const MIN_GRAPH_SECONDS: f64 = 5e-4;
/// The most calls in a graph: one of more takes longer to make than to time.
const MAX_CALLS: usize = 2048;
/// The bytes that a rotation through the sets moves, in sizes of the L2: with four, least recently
/// used lines are gone long before their turn comes again.
const L2_SIZES: usize = 4;

/// The number of sets of `bytes` that a rotation needs to find none of them in the L2.
pub fn sets(gpu: &CudaDevice, bytes: usize) -> Result<usize> {
    let stream = gpu.cuda_stream();
    let l2 = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE;
    let l2 = stream.context().attribute(l2).w()?.max(1 << 20) as usize;
    Ok((L2_SIZES * l2)
        .div_ceil(bytes.max(1))
        .clamp(1, MAX_CALLS / 2))
}

pub fn medians(contenders: &[Contender], gpu: &CudaDevice, seconds: f64) -> Vec<Result<Measured>> {
    let share = seconds / contenders.len() as f64;
    let timer = |contender| Timer::new(contender, gpu);
    let mut timers: Vec<Result<Timer>> = contenders.iter().map(timer).collect();
    take_turns(&mut timers, Timer::sample, share);
    let median = |timer: Result<Timer>| {
        let timer = timer?;
        Ok(Measured {
            ms: median(timer.times) / timer.calls as f64,
            method: match timer.graph {
                Some(_) => "graph",
                None => "events",
            },
        })
    };
    timers.into_iter().map(median).collect()
}

struct Timer<'a> {
    contender: &'a Contender,
    stream: Arc<CudaStream>,
    /// The calls in a replay.
    calls: usize,
    /// `None` if a call cannot be captured: its time then includes the host's for launches.
    graph: Option<CudaGraph>,
    /// The milliseconds of each replay.
    times: Vec<f64>,
}

impl<'a> Timer<'a> {
    fn new(contender: &'a Contender, gpu: &CudaDevice) -> Result<Self> {
        // candle copies shapes and strides to the GPU for its own kernels. They have to be there
        // before a capture, which keeps no copy of them.
        let _uploaded = gpu.enable_cuda_graph_htod_cache();
        let mut timer = Self {
            contender,
            stream: gpu.cuda_stream(),
            calls: contender.sets(),
            graph: None,
            times: vec![],
        };
        // The first calls load kernels.
        contender.run(timer.calls)?;
        let mut seconds = timer.elapsed()? / 1e3;
        // Once by the time with launches, an overestimate, and once by that of the graph itself.
        for _ in 0..2 {
            timer.calls = timer.enough_calls(seconds);
            timer.graph = timer.capture();
            if timer.graph.is_none() {
                break;
            }
            timer.elapsed()?; // its memory is mapped with the first replay
            seconds = timer.elapsed()? / 1e3;
            if seconds >= MIN_GRAPH_SECONDS || timer.calls * 2 > MAX_CALLS {
                break;
            }
        }
        Ok(timer)
    }

    /// The calls of as many whole rotations as reach [`MIN_GRAPH_SECONDS`], by the `seconds` of the
    /// current number.
    fn enough_calls(&self, seconds: f64) -> usize {
        let sets = self.contender.sets();
        let more = MIN_GRAPH_SECONDS / seconds.max(1e-9);
        let calls = (self.calls as f64 * more.max(1.)).min(MAX_CALLS as f64) as usize;
        (calls / sets).max(1) * sets
    }

    fn capture(&self) -> Option<CudaGraph> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).ok()?;
        let ran = self.contender.run(self.calls);
        // Also after a failed call, since the stream would go on capturing.
        let graph = self
            .stream
            .end_capture(CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
        if let Err(error) = ran {
            eprintln!("not captured: {error}");
            // Clears the error of a tensor that was dropped since, which the next call would report.
            let _ = self.stream.context().check_err();
            return None;
        }
        graph.ok().flatten()
    }

    fn launch(&self) -> Result<()> {
        match &self.graph {
            Some(graph) => graph.launch().w()?,
            None => self.contender.run(self.calls)?,
        }
        Ok(())
    }

    /// The milliseconds of a replay.
    fn elapsed(&self) -> Result<f64> {
        let event = || {
            let timing = Some(CUevent_flags::CU_EVENT_DEFAULT);
            self.stream.record_event(timing).w()
        };
        let start = event()?;
        self.launch()?;
        let end = event()?;
        Ok(f64::from(start.elapsed_ms(&end).w()?))
    }

    /// A replay behind another one, during which the host gets ahead of the GPU.
    fn sample(&mut self) -> Result<f64> {
        let start = Instant::now();
        self.launch()?;
        let ms = self.elapsed()?;
        self.times.push(ms);
        Ok(start.elapsed().as_secs_f64())
    }
}
