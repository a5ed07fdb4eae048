//! Timing calls in turns, so that a change of clocks or of load meets all of them alike: by the
//! host's clock here, on a GPU by replays of CUDA graphs.

use std::any::Any;
use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor, bail};

/// A batch of calls takes at least this long, so that a call that only queues work for a device
/// is not timed by its launch.
const MIN_BATCH_SECONDS: f64 = 1e-3;
const MIN_BATCHES: usize = 3;

/// A call; its result is dropped within the time, unless it is kept to make the next one write
/// elsewhere.
pub struct Call(Box<dyn Fn() -> Result<Box<dyn Any>>>);

impl Call {
    pub fn new<R: 'static>(call: impl Fn() -> Result<R> + 'static) -> Self {
        Self(Box::new(move || Ok(Box::new(black_box(call()?)))))
    }

    pub fn run(&self) -> Result<Box<dyn Any>> {
        (self.0)()
    }
}

/// One of the things that are timed in turns: the same call on as many sets of tensors as it takes
/// to find none of them in the cache, or on one.
pub struct Contender {
    sets: Vec<Call>,
}

impl Contender {
    pub fn new(sets: Vec<Call>) -> Self {
        Self { sets }
    }

    pub fn sets(&self) -> usize {
        self.sets.len()
    }

    /// Makes `calls` calls, each on the next set. With several sets, results live until all sets
    /// have had their turn: they rotate through memory as the inputs do.
    pub fn run(&self, calls: usize) -> Result<()> {
        let mut kept = VecDeque::new();
        for set in self.sets.iter().cycle().take(calls) {
            kept.push_back(set.run()?);
            if kept.len() >= self.sets.len() {
                kept.pop_front();
            }
        }
        Ok(())
    }
}

/// The time of a call and how it was measured.
#[derive(Clone, Copy)]
pub struct Measured {
    pub ms: f64,
    pub method: &'static str,
}

/// The median time of each contender, within about `seconds` in all.
pub fn medians(contenders: &[Contender], device: &Device, seconds: f64) -> Vec<Result<Measured>> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(gpu) = device {
        return super::graph::medians(contenders, gpu, seconds);
    }
    let share = seconds / contenders.len() as f64;
    let mut clocks: Vec<Result<HostClock>> = contenders
        .iter()
        .map(|contender| HostClock::warm_up(contender, device, share / 3.))
        .collect();
    take_turns(&mut clocks, |clock| clock.sample(device), share);
    let median = |clock: Result<HostClock>| {
        let clock = clock?;
        Ok(Measured {
            ms: median(clock.times) * 1e3 / clock.batch as f64,
            method: "host",
        })
    };
    clocks.into_iter().map(median).collect()
}

/// Random numbers, from the host where the device has no generator of its own.
pub fn random(shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    let draw = |on: &Device| Tensor::randn(0f32, 1., shape, on)?.to_dtype(dtype);
    draw(device).or_else(|_| draw(&Device::Cpu)?.to_device(device))
}

/// Half a second of work: an idle GPU has low clocks, and the first rows matter most.
pub fn raise_clocks(device: &Device) -> Result<()> {
    if !device.is_cuda() {
        return Ok(());
    }
    let (x, start) = (Tensor::zeros(1 << 24, DType::F32, device)?, Instant::now());
    while start.elapsed().as_secs_f64() < 0.5 {
        x.copy()?;
        device.synchronize()?;
    }
    Ok(())
}

/// Samples all in turns until each has used up its share of time, and at least [`MIN_BATCHES`] times;
/// one that fails takes no part any more.
pub fn take_turns<T>(
    timed: &mut [Result<T>],
    mut sample: impl FnMut(&mut T) -> Result<f64>,
    share: f64,
) {
    let mut used = vec![(0, 0.); timed.len()];
    let unfinished = |&(samples, seconds): &(usize, f64)| samples < MIN_BATCHES || seconds < share;
    loop {
        let mut any = false;
        for (one, used) in timed.iter_mut().zip(&mut used) {
            let Ok(inner) = one else { continue };
            if !unfinished(used) {
                continue;
            }
            any = true;
            match sample(inner) {
                Ok(seconds) => *used = (used.0 + 1, used.1 + seconds),
                Err(error) => *one = Err(error),
            }
        }
        if !any {
            return;
        }
    }
}

pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

struct HostClock<'a> {
    contender: &'a Contender,
    /// The number of calls in a batch.
    batch: usize,
    /// The seconds of each batch.
    times: Vec<f64>,
}

impl<'a> HostClock<'a> {
    /// Runs for `seconds`, for caches, the allocator and clocks, and finds the size of a batch.
    fn warm_up(contender: &'a Contender, device: &Device, seconds: f64) -> Result<Self> {
        let start = Instant::now();
        let (batch, times) = (contender.sets(), vec![]);
        let mut clock = Self {
            contender,
            batch,
            times,
        };
        // The first call may load kernels and says nothing about the next.
        clock.run_batch(device)?;
        loop {
            if clock.run_batch(device)? < MIN_BATCH_SECONDS {
                clock.batch *= 2;
            } else if start.elapsed().as_secs_f64() >= seconds {
                return Ok(clock);
            }
        }
    }

    /// The seconds that a batch takes, to the end of its work on the device.
    fn run_batch(&self, device: &Device) -> Result<f64> {
        let start = Instant::now();
        self.contender.run(self.batch)?;
        device.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn sample(&mut self, device: &Device) -> Result<f64> {
        // An untimed call first: whoever came before has left the caches full of other data.
        self.contender.run(1)?;
        let seconds = self.run_batch(device)?;
        self.times.push(seconds);
        Ok(seconds)
    }
}

pub fn device(text: &str) -> Result<Device> {
    match text {
        "cpu" => Ok(Device::Cpu),
        "cuda" => {
            let device = Device::new_cuda(0)?;
            #[cfg(feature = "cuda")]
            if let Device::Cuda(gpu) = &device {
                // SAFETY: the benchmarks have one stream, so that nothing is used on two of them.
                unsafe { gpu.disable_event_tracking() };
            }
            Ok(device)
        }
        "metal" => Device::new_metal(0),
        _ => bail!("expected cpu, cuda or metal"),
    }
}

fn device_name(device: &Device) -> anyhow::Result<String> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => Ok(cuda.cuda_stream().context().name()?),
        _ => {
            // Linux on x86 says it; elsewhere the architecture has to do.
            let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            let model = info.lines().find_map(|l| l.strip_prefix("model name\t: "));
            Ok(model.unwrap_or(std::env::consts::ARCH).to_string())
        }
    }
}

/// The machine, the versions and the number of threads of a run.
pub fn print_header(device: &Device) -> anyhow::Result<()> {
    let (name, threads) = (device_name(device)?, rayon::current_num_threads());
    println!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    println!("{name}, {threads} threads\n");
    Ok(())
}
