//! Times of whole networks of the published sizes, with random weights:
//!
//! ```text
//! cargo bench -p candle-style-models --bench networks                 every network in f32
//! cargo bench -p candle-style-models --bench networks -- adain bf16   some, in other dtypes
//! ```
//!
//! `pytorch.py` beside this file times the same networks in PyTorch, in turns with these. To that end
//! `--serve` reads lines of a network and a dtype, and answers each with the milliseconds of one pass.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, VarBuilder, VarMap};
use candle_style_models::{
    AdaInStyle, ResnetGenerator, StarGanV2Config, StarGanV2Generator, TransformerNet,
    TransformerNetConfig,
};

/// The networks that are timed.
const NAMES: [&str; 8] = [
    "transformer16-1024",
    "transformer16-512",
    "transformer32-1024",
    "transformer32-512",
    "cyclegan-256",
    "compressed-256",
    "adain-512",
    "stargan-256",
];

/// The passes of which the median is printed.
const TURNS: usize = 9;

/// One pass of a network.
type Pass = Box<dyn Fn() -> Result<Tensor>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--serve") {
        return serve();
    }
    let words: Vec<_> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let (dtypes, parts): (Vec<_>, Vec<_>) = words.into_iter().partition(|arg| dtype(arg).is_ok());
    let dtype = dtypes.first().map_or(Ok(DType::F32), |name| dtype(name))?;
    let wanted = |name: &str| parts.is_empty() || parts.iter().any(|part| name.contains(*part));
    for name in NAMES.into_iter().filter(|name| wanted(name)) {
        let pass = network(name, dtype)?;
        time(&pass)?;
        let mut times = (0..TURNS)
            .map(|_| time(&pass))
            .collect::<Result<Vec<_>>>()?;
        times.sort_by(f64::total_cmp);
        println!("{name:20} {:8.1} ms", times[TURNS / 2]);
    }
    Ok(())
}

/// Answers requests for single passes, the first of which is not timed.
fn serve() -> Result<()> {
    let mut passes: HashMap<String, Pass> = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if !passes.contains_key(&line) {
            let (name, dtype_name) = line
                .split_once(' ')
                .context("expected a name and a dtype")?;
            // One network at a time, as on the other side.
            passes.clear();
            let pass = network(name, dtype(dtype_name)?)?;
            time(&pass)?;
            passes.insert(line.clone(), pass);
        }
        println!("{}", time(&passes[&line])?);
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn dtype(name: &str) -> Result<DType> {
    Ok(match name {
        "f32" => DType::F32,
        "f16" => DType::F16,
        "bf16" => DType::BF16,
        "f64" => DType::F64,
        other => bail!("there is no dtype {other}"),
    })
}

/// The milliseconds of a pass.
fn time(pass: &Pass) -> Result<f64> {
    let start = Instant::now();
    pass()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn network(name: &str, dtype: DType) -> Result<Pass> {
    let device = &Device::Cpu;
    let side = name.rsplit('-').next().and_then(|side| side.parse().ok());
    let side: usize = side.context("a name ends in the side of the picture")?;
    let x = Tensor::rand(0f32, 1., (1, 3, side, side), device)?.to_dtype(dtype)?;
    if let Some(width) = name.strip_prefix("transformer") {
        let width = width.split('-').next().unwrap_or_default().parse()?;
        let vars = VarMap::new();
        let config = TransformerNetConfig {
            width,
            num_blocks: 5,
        };
        TransformerNet::with_config(config, VarBuilder::from_varmap(&vars, DType::F32, device))?;
        // Tensors in place of variables: nothing is tracked, as with the weights of a file.
        let vars = vars.data().lock().expect("no other thread has it").clone();
        let weights = vars
            .into_iter()
            .map(|(name, var)| (name, var.as_tensor().detach()));
        let vb = VarBuilder::from_tensors(weights.collect(), dtype, device);
        let network = TransformerNet::new(vb)?;
        return Ok(Box::new(move || Ok(network.forward(&x)?)));
    }
    let mut weights = Weights::default();
    match name.split('-').next() {
        Some("cyclegan") => {
            weights.cyclegan([64, 128, 256], 256, false)?;
            let network = ResnetGenerator::new(weights.into_vb(dtype))?;
            Ok(Box::new(move || Ok(network.forward(&x)?)))
        }
        Some("compressed") => {
            // As GAN Compression's horse2zebra.
            weights.cyclegan([16, 32, 64], 64, true)?;
            let network = ResnetGenerator::new(weights.into_vb(dtype))?;
            Ok(Box::new(move || Ok(network.forward(&x)?)))
        }
        Some("adain") => {
            weights.adain()?;
            let network = AdaInStyle::new(weights.into_vb(dtype))?;
            let style = network.style(&x)?;
            Ok(Box::new(move || Ok(network.forward(&x, &style, 1.)?)))
        }
        Some("stargan") => {
            weights.stargan()?;
            let config = StarGanV2Config { shortcuts: true };
            let network = StarGanV2Generator::new(config, weights.into_vb(dtype))?;
            let style = Tensor::randn(0f32, 1., (1, 64), device)?.to_dtype(dtype)?;
            Ok(Box::new(move || Ok(network.forward(&x, &style)?)))
        }
        _ => bail!("there is no network {name}"),
    }
}

/// Random weights under their published names.
#[derive(Default)]
struct Weights(HashMap<String, Tensor>);

impl Weights {
    fn into_vb(self, dtype: DType) -> VarBuilder<'static> {
        VarBuilder::from_tensors(self.0, dtype, &Device::Cpu)
    }

    fn vector(&mut self, name: String, length: usize) -> Result<()> {
        let tensor = Tensor::rand(-0.1f32, 0.1, length, &Device::Cpu)?;
        self.0.insert(name, tensor);
        Ok(())
    }

    /// A weight `[a, b, kernel, kernel]` and a bias.
    fn conv(&mut self, name: &str, [a, b, kernel]: [usize; 3], bias: usize) -> Result<()> {
        let bound = (3. / (b * kernel * kernel) as f32).sqrt();
        let weight = Tensor::rand(-bound, bound, (a, b, kernel, kernel), &Device::Cpu)?;
        self.0.insert(format!("{name}.weight"), weight);
        self.vector(format!("{name}.bias"), bias)
    }

    fn linear(&mut self, name: &str, to: usize, from: usize) -> Result<()> {
        let weight = Tensor::rand(-0.1f32, 0.1, (to, from), &Device::Cpu)?;
        self.0.insert(format!("{name}.weight"), weight);
        self.vector(format!("{name}.bias"), to)
    }

    fn cyclegan(&mut self, [a, b, c]: [usize; 3], inner: usize, separable: bool) -> Result<()> {
        self.conv("model.1", [a, 3, 7], a)?;
        self.conv("model.4", [b, a, 3], b)?;
        self.conv("model.7", [c, b, 3], c)?;
        for block in 10..19 {
            for (index, [to, from]) in [(1, [inner, c]), (5, [c, inner])] {
                let name = format!("model.{block}.conv_block.{index}");
                if separable {
                    self.conv(&format!("{name}.conv.0"), [from, 1, 3], from)?;
                    self.conv(&format!("{name}.conv.2"), [to, from, 1], to)?;
                } else {
                    self.conv(&name, [to, from, 3], to)?;
                }
            }
        }
        self.conv("model.19", [c, b, 3], b)?;
        self.conv("model.22", [b, a, 3], a)?;
        self.conv("model.26", [3, a, 7], 3)
    }

    fn adain(&mut self) -> Result<()> {
        self.conv("vgg_normalised.0", [3, 3, 1], 3)?;
        let encoder = [
            (2, 3, 64),
            (5, 64, 64),
            (9, 64, 128),
            (12, 128, 128),
            (16, 128, 256),
            (19, 256, 256),
            (22, 256, 256),
            (25, 256, 256),
            (29, 256, 512),
        ];
        let decoder = [
            (1, 512, 256),
            (5, 256, 256),
            (8, 256, 256),
            (11, 256, 256),
            (14, 256, 128),
            (18, 128, 128),
            (21, 128, 64),
            (25, 64, 64),
            (28, 64, 3),
        ];
        for (index, from, to) in encoder {
            self.conv(&format!("vgg_normalised.{index}"), [to, from, 3], to)?;
        }
        for (index, from, to) in decoder {
            self.conv(&format!("decoder.{index}"), [to, from, 3], to)?;
        }
        Ok(())
    }

    /// The generator of animals.
    fn stargan(&mut self) -> Result<()> {
        let widths = [64, 128, 256, 512, 512, 512, 512];
        self.conv("from_rgb", [64, 3, 3], 64)?;
        for (index, pair) in widths.windows(2).enumerate() {
            let &[from, to] = pair else { unreachable!() };
            self.stargan_block(&format!("encode.{index}"), [from, from, to], false)?;
            let index = widths.len() - 2 - index;
            self.stargan_block(&format!("decode.{index}"), [to, from, from], true)?;
        }
        self.vector("to_rgb.0.weight".into(), 64)?;
        self.vector("to_rgb.0.bias".into(), 64)?;
        self.conv("to_rgb.2", [3, 64, 1], 3)
    }

    fn stargan_block(
        &mut self,
        name: &str,
        [from, mid, to]: [usize; 3],
        styled: bool,
    ) -> Result<()> {
        self.conv(&format!("{name}.conv1"), [mid, from, 3], mid)?;
        self.conv(&format!("{name}.conv2"), [to, mid, 3], to)?;
        if from != to {
            self.conv(&format!("{name}.conv1x1"), [to, from, 1], to)?;
        }
        for (norm, width) in [("norm1", from), ("norm2", mid)] {
            if styled {
                self.linear(&format!("{name}.{norm}.fc"), 2 * width, 64)?;
            } else {
                self.vector(format!("{name}.{norm}.weight"), width)?;
                self.vector(format!("{name}.{norm}.bias"), width)?;
            }
        }
        Ok(())
    }
}
