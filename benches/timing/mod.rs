//! Timing things in turns, and what the benchmarks say about themselves.

use candle_core::{bail, Device, Result};
use std::hint::black_box;
use std::time::Instant;

/// A batch of calls takes at least this long, so that a call that only queues work for a device
/// is not timed by its launch.
const MIN_BATCH_SECONDS: f64 = 1e-3;
const MIN_BATCHES: usize = 3;

pub fn device(text: &str) -> Result<Device> {
    match text {
        "cpu" => Ok(Device::Cpu),
        "cuda" => Device::new_cuda(0),
        "metal" => Device::new_metal(0),
        _ => bail!("expected cpu, cuda or metal"),
    }
}

/// One of the things timed in turns.
pub struct Contender {
    call: Box<dyn Fn() -> Result<()>>,
    /// The number of calls in a batch.
    batch: usize,
    /// The seconds of each batch.
    times: Vec<f64>,
}

impl Contender {
    /// What `call` returns is dropped within the time of the call.
    pub fn new<R>(call: impl Fn() -> Result<R> + 'static) -> Self {
        Self {
            call: Box::new(move || call().map(|output| drop(black_box(output)))),
            batch: 1,
            times: Vec::new(),
        }
    }

    /// The seconds that a batch takes, to the end of its work on the device.
    fn run_batch(&self, device: &Device) -> Result<f64> {
        let start = Instant::now();
        for _ in 0..self.batch {
            (self.call)()?;
        }
        device.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Runs for `seconds`, for caches, the allocator and clocks, and finds the size of a batch.
    pub fn warm_up(&mut self, device: &Device, seconds: f64) -> Result<()> {
        let start = Instant::now();
        // The first call may load kernels and says nothing about the next.
        self.run_batch(device)?;
        loop {
            if self.run_batch(device)? < MIN_BATCH_SECONDS {
                self.batch *= 2;
            } else if start.elapsed().as_secs_f64() >= seconds {
                return Ok(());
            }
        }
    }

    pub fn median_ms(&mut self) -> f64 {
        self.times.sort_by(f64::total_cmp);
        self.times[self.times.len() / 2] * 1e3 / self.batch as f64
    }
}

/// Times the contenders in turns, so that a change of clocks or of load meets all of them alike.
/// Each takes part until its share of `seconds` is used up, and at least `MIN_BATCHES` times.
pub fn take_turns(contenders: &mut [Contender], device: &Device, seconds: f64) -> Result<()> {
    let share = seconds / contenders.len() as f64;
    let unfinished =
        |c: &Contender| c.times.len() < MIN_BATCHES || c.times.iter().sum::<f64>() < share;
    while contenders.iter().any(unfinished) {
        for contender in contenders.iter_mut().filter(|c| unfinished(c)) {
            // An untimed call first: whoever came before has left the caches full of other data.
            (contender.call)()?;
            contender.times.push(contender.run_batch(device)?);
        }
    }
    Ok(())
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

/// What ran, where, on how many threads.
pub fn print_header(device: &Device) -> anyhow::Result<()> {
    let (name, threads) = (device_name(device)?, rayon::current_num_threads());
    println!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    println!("{name}, {threads} threads\n");
    Ok(())
}
