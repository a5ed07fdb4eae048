//! What a convolution reads, multiplies and writes, as plain data that follows from the shapes alone.
//!
//! The input is seen through two tables, one of rows and one of columns, in which padding and upsampling
//! are entries like any other. A tile copies the part of it that it needs into a *strip*, whose pitch
//! makes a tap a single offset: the sum over the taps then runs over the whole tile as one long row.
//! Where the input is read in steps of two, the strip holds even and odd rows and columns apart, in
//! planes of their own (*phases*), so that a step of two is a step of one in a phase. The transposed
//! convolution is the mirror image: it writes in steps, and every phase of its output is a convolution
//! of its own with some of the taps.

use candle_core::{Result, bail};

/// The entry of an [axis](Plan::axes) that reads a zero.
pub const ZERO: u32 = u32::MAX;

/// The most output channels of a tile: the strip is copied once for so many.
const MAX_OUTPUTS: usize = 64;
/// The most values of a tile's sums, 256 KiB in f32, and about those of its strip. Together with the
/// weights that is half of an L2 of 1 MiB.
const MAX_SUMS: usize = 1 << 16;
const MAX_STRIP: usize = 1 << 16;
/// The tiles to cut a plane into at least, for the sake of many threads.
const MIN_TILES: usize = 16;
/// The least pixels of a tile that is cut for the sake of threads.
const MIN_PIXELS: usize = 1024;

/// What lies around a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// As many zeros on each side.
    Zeros(usize),
    /// The picture itself, reflected without repeating the edge.
    Reflect(usize),
}

impl Padding {
    /// The width of the padding.
    pub fn width(self) -> usize {
        let (Self::Zeros(width) | Self::Reflect(width)) = self;
        width
    }
}

/// A convolution apart from its widths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    pub stride: usize,
    pub padding: Padding,
    /// The input is doubled first: every pixel becomes a square of four.
    pub upsample: bool,
    pub groups: usize,
    /// Negative results become 0.
    pub relu: bool,
}

/// A place of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tap {
    /// The offset of its weight in a kernel.
    pub weight: usize,
    /// The phase of the input that it reads, and the row and the column there.
    pub phase: usize,
    pub row: usize,
    pub column: usize,
}

/// The part of the output that is computed at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    pub rows: usize,
    pub columns: usize,
    /// The channels of the input that are in the strip at a time.
    pub inputs: usize,
    pub outputs: usize,
}

/// A convolution of given shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub samples: usize,
    pub groups: usize,
    /// The channels of a group.
    pub inputs: usize,
    pub outputs: usize,
    /// The input's rows and columns as the taps see them: indices into the tensor, or [`ZERO`].
    pub axes: [Vec<u32>; 2],
    /// The step between the rows and columns that one tap reads, and the phases that are read, in rows
    /// and columns.
    pub in_step: usize,
    pub in_phases: [usize; 2],
    /// The sides of the output.
    pub out: [usize; 2],
    /// The step between the rows and columns of a phase of the output.
    pub out_step: usize,
    /// The taps of each phase of the output, rows of phases first.
    pub taps: Vec<Vec<Tap>>,
    /// The largest row and column of a tap.
    pub span: [usize; 2],
    /// The distances in the weight between groups, output channels and input channels.
    pub weight: [usize; 3],
    /// Negative sums become 0.
    pub relu: bool,
    pub tile: Tile,
}

impl Plan {
    /// A convolution of `x`, `(N, C, H, W)`, by `weight`, `(outputs, C / groups, h, w)`.
    pub fn conv(x: [usize; 4], weight: [usize; 4], form: Form) -> Result<Self> {
        let [samples, channels, height, width] = x;
        let [outputs, inputs, kh, kw] = weight;
        let Form { groups, stride, .. } = form;
        if groups == 0 || stride == 0 || x.contains(&0) || weight.contains(&0) {
            bail!("conv: expected no dimension of 0, got {x:?} for a weight {weight:?}, {form:?}")
        }
        if inputs * groups != channels || !outputs.is_multiple_of(groups) {
            bail!(
                "conv: expected {} channels in {groups} groups, got {channels} for a weight {weight:?}",
                inputs * groups
            )
        }
        let axes = axes([height, width], form)?;
        let [rows, columns] = [axes[0].len(), axes[1].len()];
        if rows < kh || columns < kw {
            bail!(
                "conv: expected at least {kh}x{kw} with the padding, got {rows}x{columns} of {height}x{width}"
            )
        }
        let in_phases = [stride.min(kh), stride.min(kw)];
        let tap = |at: usize| {
            let (row, column) = (at / kw, at % kw);
            Tap {
                weight: at,
                phase: row % stride * in_phases[1] + column % stride,
                row: row / stride,
                column: column / stride,
            }
        };
        let plan = Self {
            samples,
            groups,
            inputs,
            outputs: outputs / groups,
            axes,
            in_step: stride,
            in_phases,
            out: [(rows - kh) / stride + 1, (columns - kw) / stride + 1],
            out_step: 1,
            taps: vec![(0..kh * kw).map(tap).collect()],
            span: [(kh - 1) / stride, (kw - 1) / stride],
            weight: [
                outputs / groups * inputs * kh * kw,
                inputs * kh * kw,
                kh * kw,
            ],
            relu: form.relu,
            tile: Tile::NONE,
        };
        Ok(plan.tiled())
    }

    /// A transposed convolution of `x`, `(N, C, H, W)`, by `weight`, `(C, outputs / groups, h, w)`, to
    /// the sides `out`, without the first `padding` rows and columns. It is also the gradient of a
    /// convolution's input, as it is padded.
    pub fn transposed(
        x: [usize; 4],
        weight: [usize; 4],
        [stride, padding, groups]: [usize; 3],
        out: [usize; 2],
    ) -> Result<Self> {
        let [samples, channels, height, width] = x;
        let [inputs, outputs, kh, kw] = weight;
        let dims = [&x[..], &weight, &out, &[stride, groups]].concat();
        if dims.contains(&0) {
            bail!("conv_transpose: expected no dimension of 0, got {x:?} for a weight {weight:?}")
        }
        if inputs != channels || !inputs.is_multiple_of(groups) {
            bail!("conv_transpose: expected {inputs} channels, got {channels}")
        }
        // Output y takes the input's i by the tap k where y + padding = stride * i + k.
        let lead = |kernel: usize| (kernel - 1).saturating_sub(padding).div_ceil(stride);
        let reads = |phase: usize, kernel: usize| {
            let at = phase + padding;
            let of_phase = move |&k: &usize| k % stride == at % stride;
            let row = move |k: usize| (k, (at + stride * lead(kernel) - k) / stride);
            (0..kernel).filter(of_phase).map(row)
        };
        let taps = |phase: usize| {
            let rows = reads(phase / stride, kh);
            let pairs =
                rows.flat_map(|row| reads(phase % stride, kw).map(move |column| (row, column)));
            let tap = |((ky, row), (kx, column))| Tap {
                weight: ky * kw + kx,
                phase: 0,
                row,
                column,
            };
            pairs.map(tap).collect::<Vec<_>>()
        };
        let taps: Vec<_> = (0..stride * stride).map(taps).collect();
        let most = |of: fn(&Tap) -> usize| taps.iter().flatten().map(of).max().unwrap_or(0);
        let zeros_before = |length: usize, kernel: usize| {
            let before = std::iter::repeat_n(ZERO, lead(kernel));
            before.chain(0..length as u32).collect::<Vec<_>>()
        };
        let plan = Self {
            samples,
            groups,
            inputs: inputs / groups,
            outputs,
            axes: [zeros_before(height, kh), zeros_before(width, kw)],
            in_step: 1,
            in_phases: [1, 1],
            out,
            out_step: stride,
            span: [most(|tap| tap.row), most(|tap| tap.column)],
            taps,
            weight: [
                inputs / groups * outputs * kh * kw,
                kh * kw,
                outputs * kh * kw,
            ],
            relu: false,
            tile: Tile::NONE,
        };
        Ok(plan.tiled())
    }

    /// The sides of a phase of the output.
    pub fn grid(&self) -> [usize; 2] {
        self.out.map(|side| side.div_ceil(self.out_step))
    }

    /// The width of a row in the strip.
    pub fn pitch(&self) -> usize {
        self.tile.columns + self.span[1]
    }

    /// The values of one phase of one channel in the strip.
    pub fn phase_len(&self) -> usize {
        (self.tile.rows + self.span[0]) * self.pitch()
    }

    /// The values of one channel in the strip.
    pub fn strip_len(&self) -> usize {
        self.in_phases[0] * self.in_phases[1] * self.phase_len()
    }

    /// The positions of a tile from its first to its last pixel, with those between its rows.
    pub fn tile_len(&self) -> usize {
        (self.tile.rows - 1) * self.pitch() + self.tile.columns
    }

    /// The number of tiles of a plane, in rows and columns.
    pub fn tiles(&self) -> [usize; 2] {
        let [rows, columns] = self.grid();
        [
            rows.div_ceil(self.tile.rows),
            columns.div_ceil(self.tile.columns),
        ]
    }

    /// The same with other tiles: of at most `outputs` channels and of about `pixels` pixels.
    pub fn with_tiles(mut self, outputs: usize, pixels: usize) -> Self {
        let [rows, columns] = self.grid();
        let outputs = blocks(self.outputs, outputs);
        let tiles = [512, 256, 128, 64].map(|most| {
            let columns = even(columns, most);
            let pitch = columns + self.span[1];
            Tile {
                rows: even(rows, (pixels / pitch).max(1)),
                columns,
                inputs: 1,
                outputs,
            }
        });
        let costs = tiles.map(|tile| {
            self.tile = tile;
            (self.cost(), tile)
        });
        let [first, rest @ ..] = costs;
        let less = |a: (f64, Tile), b: (f64, Tile)| if b.0 < a.0 { b } else { a };
        self.tile = rest.into_iter().fold(first, less).1;
        let inputs = (MAX_STRIP / self.strip_len()).clamp(1, self.inputs);
        self.tile.inputs = even(self.inputs, inputs);
        self
    }

    /// The cycles for a pixel of all channels of a tile, roughly: 32 products each, and one for every
    /// value that is copied to the strip.
    fn cost(&self) -> f64 {
        let pixels = (self.tile.rows * self.tile.columns * self.out_step * self.out_step) as f64;
        let taps: usize = self.taps.iter().map(Vec::len).sum();
        let products = self.tile_len().next_multiple_of(16) * taps * self.tile.outputs;
        self.inputs as f64 * (products as f64 / 32. + self.strip_len() as f64) / pixels
    }

    /// The same with tiles for a pass over the output.
    fn tiled(self) -> Self {
        let outputs = blocks(self.outputs, MAX_OUTPUTS);
        let sums = MAX_SUMS / (outputs * self.out_step * self.out_step);
        let [rows, columns] = self.grid();
        let share = rows * columns / MIN_TILES;
        self.with_tiles(MAX_OUTPUTS, sums.min(share.max(MIN_PIXELS)))
    }
}

impl Tile {
    const NONE: Self = Self {
        rows: 1,
        columns: 1,
        inputs: 1,
        outputs: 1,
    };
}

/// The length of equal parts of `length`, the last one smaller, of at most `most`.
fn even(length: usize, most: usize) -> usize {
    length.div_ceil(length.div_ceil(most))
}

/// [`even`] parts of whole blocks of the kernel, where there is more than one.
fn blocks(length: usize, most: usize) -> usize {
    if length <= most {
        return length;
    }
    even(length, most).next_multiple_of(8)
}

/// The rows and columns of an input of the given sides as the taps see them.
pub fn axes([height, width]: [usize; 2], form: Form) -> Result<[Vec<u32>; 2]> {
    Ok([axis(height, form, "height")?, axis(width, form, "width")?])
}

/// The rows or columns of an input of `length` as the taps see them.
fn axis(length: usize, form: Form, name: &str) -> Result<Vec<u32>> {
    let seen = if form.upsample { 2 * length } else { length };
    let pad = form.padding.width();
    if matches!(form.padding, Padding::Reflect(_)) && pad >= seen {
        bail!("conv: expected a {name} above the reflection's {pad}, got {seen}")
    }
    let source = |at: usize| {
        let inside = match (at.checked_sub(pad), form.padding) {
            (Some(at), _) if at < seen => at,
            (_, Padding::Zeros(_)) => return ZERO,
            (None, Padding::Reflect(_)) => pad - at,
            (Some(at), Padding::Reflect(_)) => 2 * (seen - 1) - at,
        };
        (if form.upsample { inside / 2 } else { inside }) as u32
    };
    Ok((0..seen + 2 * pad).map(source).collect())
}
