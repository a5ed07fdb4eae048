//! Weights from the files that people have: `.safetensors`, `.pth`, a folder, the Hugging Face Hub.
//!
//! ```no_run
//! use candle_core::{DType, Device};
//! use candle_style_models::{weights::Weights, ResnetGenerator};
//!
//! let weights = Weights::open("latest_net_G.safetensors")?;
//! let generator = weights.build(DType::F32, &Device::Cpu, ResnetGenerator::new)?;
//! # let _ = generator; Ok::<(), candle_core::Error>(())
//! ```
//!
//! Safetensors are always read. The feature `pth` adds every format that `torch.save` has written:
//! zip (since PyTorch 1.6), the pickle stream before it and the tar before that. The feature `hub`
//! adds names such as `hf://owner/name/file@revision`.

#[cfg(feature = "hub")]
mod hub;
mod names;
#[cfg(feature = "pth")]
mod pth;
mod safetensors;
mod strict;
#[cfg(feature = "pth")]
mod vet;

#[cfg(feature = "hub")]
#[cfg_attr(docsrs, doc(cfg(feature = "hub")))]
pub use hub::Hub;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use candle_nn::VarBuilder;

/// The endings of the files that [`Weights::open`] takes from a folder, in order of preference.
const ENDINGS: [&str; 6] = ["safetensors", "pth", "pt", "ckpt", "bin", "pth.tar"];

/// The named tensors of a checkpoint, which are read when a network asks for them.
///
/// The names are those of the `state_dict`: the key of a dictionary around it (`state_dict`,
/// `model_state_dict`, `params`, `params_ema`, `network_weights`) and the `module.` of
/// `DataParallel` are taken off. A clone shares the tensors.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_style_models::{weights::Weights, TransformerNet};
///
/// let weights = Weights::open("../stylize/default.safetensors")?;
/// assert_eq!(weights.shape("conv1.conv2d.weight").map(|shape| shape.dims()), Some(&[12, 3, 9, 9][..]));
/// let network = weights.build(DType::F32, &Device::Cpu, TransformerNet::new)?;
/// assert_eq!(network.config().width, 12);
///
/// // A checkpoint that does not fit is one error, which names every tensor in question.
/// let weight = Tensor::zeros((12, 3, 9, 9), DType::F32, &Device::Cpu)?;
/// let weights = Weights::from_tensors([("conv1.conv2d.weight".to_string(), weight)], "a test");
/// let error = weights.build(DType::F32, &Device::Cpu, TransformerNet::new).err();
/// assert!(error.unwrap().to_string().starts_with("a test: missing conv1.conv2d.bias, "));
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Weights {
    entries: Arc<BTreeMap<String, Entry>>,
    /// The name of the source in errors.
    origin: String,
}

/// A tensor of known shape that may not be read yet.
#[derive(Clone)]
struct Entry {
    shape: Shape,
    stored: Stored,
}

#[derive(Clone)]
enum Stored {
    Tensor(Tensor),
    Mapped(Arc<safetensors::Mapped>, String),
    #[cfg(feature = "pth")]
    Pickled(pytorch_reader::Tensor),
}

impl Entry {
    fn load(&self, dtype: DType, device: &Device) -> Result<Tensor> {
        match &self.stored {
            Stored::Tensor(tensor) => tensor.to_device(device)?.to_dtype(dtype),
            Stored::Mapped(file, name) => file.load(name, dtype, device),
            #[cfg(feature = "pth")]
            Stored::Pickled(tensor) => pth::load(tensor, dtype, device),
        }
    }
}

impl Weights {
    /// Opens a file, a folder or, with the feature `hub`, a repository of the Hugging Face Hub.
    ///
    /// - A file is recognized by its content, not by its ending.
    /// - In a folder, every file that ends in `.safetensors`, `.pth`, `.pt`, `.ckpt`, `.bin` or
    ///   `.pth.tar` is opened; of files that differ in their endings alone, the first in this order.
    ///   The tensors of several files get the file's name in front: `decoder.pth` has
    ///   `decoder.conv1.weight`.
    /// - `hf://owner/name` and `hf://owner/name/file`, with `@revision` or without, are fetched once
    ///   and then read from the cache; see `Hub`.
    ///
    /// Safetensors are mapped into memory: the file must not be changed while they are in use. No
    /// pickle is executed: its opcodes are read as data.
    ///
    /// # Errors
    ///
    /// The file is missing, truncated or of no known format, holds tensors that cannot be read
    /// (quantized, sparse, complex, big-endian), or would take much more memory than it has bytes.
    pub fn open(source: impl AsRef<Path>) -> Result<Self> {
        let source = source.as_ref();
        if let Some(name) = source.to_str().and_then(|name| name.strip_prefix("hf://")) {
            #[cfg(feature = "hub")]
            return Self::open(Hub::from_env()?.fetch(name)?);
            #[cfg(not(feature = "hub"))]
            bail!("hf://{name}: this was built without the feature `hub`");
        }
        let entries = if source.is_dir() {
            open_folder(source)?
        } else {
            open_file(source)?
        };
        let origin = source.display().to_string();
        if entries.is_empty() {
            bail!("{origin} holds no tensors");
        }
        Ok(Self::from_entries(entries, origin))
    }

    /// Wraps tensors that are in memory; errors call them `origin`.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_style_models::weights::Weights;
    ///
    /// let weight = Tensor::ones(3, DType::F32, &Device::Cpu)?;
    /// let weights = Weights::from_tensors([("module.in1.weight".to_string(), weight)], "a test");
    /// assert_eq!(weights.names().collect::<Vec<_>>(), ["in1.weight"]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn from_tensors(
        tensors: impl IntoIterator<Item = (String, Tensor)>,
        origin: impl Into<String>,
    ) -> Self {
        let entry = |(name, tensor): (String, Tensor)| {
            let shape = tensor.shape().clone();
            let stored = Stored::Tensor(tensor);
            (name, Entry { shape, stored })
        };
        let entries = names::unwrap(tensors.into_iter().map(entry).collect());
        Self::from_entries(entries, origin.into())
    }

    fn from_entries(entries: BTreeMap<String, Entry>, origin: String) -> Self {
        Self {
            entries: Arc::new(entries),
            origin,
        }
    }

    /// The name of the source in errors: a path, or the one given to
    /// [`from_tensors`](Self::from_tensors).
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The shape of a tensor, which is not read for it.
    pub fn shape(&self, name: &str) -> Option<&Shape> {
        Some(&self.entries.get(name)?.shape)
    }

    /// The tensors whose names `select` maps to new ones; the others are left out.
    ///
    /// ```
    /// # use candle_core::{DType, Device, Tensor};
    /// # use candle_style_models::weights::Weights;
    /// # let weight = Tensor::ones(3, DType::F32, &Device::Cpu)?;
    /// # let weights = Weights::from_tensors([("netG.a".to_string(), weight)], "a test");
    /// let generator = weights.select(|name| Some(name.strip_prefix("netG.")?.to_string()));
    /// assert_eq!(generator.names().collect::<Vec<_>>(), ["a"]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn select(&self, select: impl Fn(&str) -> Option<String>) -> Self {
        let chosen = |(name, entry): (&String, &Entry)| Some((select(name)?, entry.clone()));
        let entries = self.entries.iter().filter_map(chosen).collect();
        Self::from_entries(entries, self.origin.clone())
    }

    /// Builds a network in `dtype` on `device` and requires that it and the checkpoint have the same
    /// tensors, as `load_state_dict(strict=True)` does in PyTorch. Running statistics that the network
    /// does not ask for are ignored: many old files hold them for norms that never used them.
    ///
    /// # Errors
    ///
    /// A tensor is missing, has another shape than the network needs, or is in the file and not in the
    /// network: one error names all of these. Or a tensor cannot be read, or `network` fails by itself.
    pub fn build<T>(
        &self,
        dtype: DType,
        device: &Device,
        network: impl FnOnce(VarBuilder<'static>) -> Result<T>,
    ) -> Result<T> {
        strict::build(self, dtype, device, network)
    }

    /// A `VarBuilder` over all tensors. It does not notice tensors that a network leaves over;
    /// [`Self::build`] does.
    pub fn var_builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(strict::Plain(self.clone())), dtype, device.clone())
    }
}

fn open_folder(folder: &Path) -> Result<BTreeMap<String, Entry>> {
    let files = preferred(
        folder
            .read_dir()?
            .filter_map(|file| Some(file.ok()?.path())),
    );
    let mut all = BTreeMap::new();
    for (stem, path) in &files {
        for (name, entry) in open_file(path)? {
            let name = match files.len() {
                1 => name,
                _ => format!("{stem}.{name}"),
            };
            all.insert(name, entry);
        }
    }
    if files.is_empty() {
        let endings = ENDINGS.join(", .");
        bail!("{} holds no file that ends in .{endings}", folder.display());
    }
    Ok(all)
}

/// The paths to weights by their stems, each with the preferred ending.
fn preferred(paths: impl Iterator<Item = PathBuf>) -> BTreeMap<String, PathBuf> {
    let mut files = BTreeMap::<String, (usize, PathBuf)>::new();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str());
        let stem = |ending: &&str| name?.strip_suffix(*ending)?.strip_suffix('.');
        let mut ranked = ENDINGS.iter().enumerate();
        let Some((rank, stem)) = ranked.find_map(|(rank, ending)| Some((rank, stem(ending)?)))
        else {
            continue;
        };
        match files.get(stem) {
            Some((other, _)) if *other <= rank => {}
            _ => {
                files.insert(stem.to_string(), (rank, path.clone()));
            }
        }
    }
    let path = |(stem, (_, path))| (stem, path);
    files.into_iter().map(path).collect()
}

fn open_file(path: &Path) -> Result<BTreeMap<String, Entry>> {
    let shown = path.display();
    let cannot_read =
        |error: std::io::Error| candle_core::Error::Msg(format!("cannot read {shown}: {error}"));
    // Reading a pipe would block, and a device may never end.
    if !path.metadata().map_err(cannot_read)?.is_file() {
        bail!("cannot read {shown}: it is not a file");
    }
    let mut head = Vec::new();
    let file = File::open(path).map_err(cannot_read)?;
    file.take(9).read_to_end(&mut head).map_err(cannot_read)?;
    let entries = if head.is_empty() {
        bail!("cannot read {shown}: the file is empty")
    } else if head.get(8) == Some(&b'{') {
        safetensors::open(path)?
    } else {
        open_pickled(path)?
    };
    Ok(names::unwrap(entries))
}

#[cfg(feature = "pth")]
use pth::open as open_pickled;

#[cfg(not(feature = "pth"))]
fn open_pickled(path: &Path) -> Result<BTreeMap<String, Entry>> {
    let path = path.display();
    bail!("{path} is not a safetensors file; the feature `pth` reads those of torch.save")
}

/// The message of an error, without the backtrace that candle appends under `RUST_BACKTRACE`.
fn first_line(error: &candle_core::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_string()
}

/// Runs a reader of untrusted files or servers, and turns its panic into an error of the file.
#[cfg(any(feature = "pth", feature = "hub"))]
fn guarded<T>(what: &str, read: impl FnOnce() -> T) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read))
        .map_err(|_| candle_core::Error::Msg(format!("{what}: the reader gave up on it")))
}
