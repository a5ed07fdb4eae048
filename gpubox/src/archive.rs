//! A folder as one compressed file. What unpacks it is in the box, since a machine with a GPU need
//! have neither xz nor zstd, and gzip makes twice of it.

use lzma_rust2::{LzipOptions, LzipReader, LzipWriter};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

/// A seventh of the size at 15 MB/s; the next presets take three times as long for a tenth less.
const PRESET: u32 = 1;

pub fn pack(folder: &Path, file: &Path) -> io::Result<()> {
    let file = BufWriter::new(File::create(file)?);
    let mut tar = tar::Builder::new(LzipWriter::new(file, LzipOptions::with_preset(PRESET)));
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
