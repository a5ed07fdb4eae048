//! A folder as one compressed file. The box holds the program that unpacks it, since a machine with a
//! GPU may have neither xz nor zstd, and with gzip the file is twice as large.

use lzma_rust2::{LzipOptions, LzipReader, LzipWriter};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

/// An eighth of the size at 10 MB/s; the next presets take three times as long for a tenth less.
const PRESET: u32 = 1;
/// Each of the programs has candle's kernels in it. Where the dictionary reaches back to those of the
/// one before, they are packed once: half of the size for two programs, for 2 GB while it packs.
const DICTIONARY: u32 = 256 << 20;

pub fn pack(folder: &Path, file: &Path) -> io::Result<()> {
    let file = BufWriter::new(File::create(file)?);
    let mut options = LzipOptions::with_preset(PRESET);
    options.lzma_options.dict_size = DICTIONARY;
    let mut tar = tar::Builder::new(LzipWriter::new(file, options));
    tar.append_dir_all("", folder)?;
    tar.into_inner()?.finish()?.flush()
}

pub fn unpack(file: &Path, folder: &Path) -> io::Result<()> {
    let file = BufReader::new(File::open(file)?);
    let mut tar = tar::Archive::new(LzipReader::new(file));
    tar.unpack(folder)?;
    // To the end, where the checksum is, which tar itself does not read.
    io::copy(&mut tar.into_inner(), &mut io::sink()).map(drop)
}
