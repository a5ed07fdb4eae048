//! Files that are refused before `pytorch-reader` sees them.
//!
//! That crate trusts nothing in a file, executes nothing and checks every length against the file, but
//! it accepts three things that make a small file take gigabytes:
//!
//! - Objects: it turns an opcode of a pickle, one byte, into a value of about a hundred. Here a file
//!   may have [`MAX_OPCODES`].
//! - Zip entries that inflate a thousandfold: its limit on `data.pkl` is 100 MiB. `torch.save` never
//!   compresses; here the entries of an archive may add up to twice its length.
//! - Tar entries of a sparse file, whose holes are not in the archive: here an entry must be a plain
//!   file or a folder.
//!
//! It accepts views larger than the file, too; [`super::pth`] refuses those.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

use candle_core::{Error, Result, bail};

/// The most opcodes in a file. A tensor in a state dict takes about 45: room for some 2900.
const MAX_OPCODES: u32 = 1 << 17;

/// The pickles at the start of a pickle stream; the bytes of its tensors follow.
const MAX_PICKLES: usize = 5;

/// The bytes that a zip archive may inflate to beyond twice its length.
const ZIP_ROOM: u64 = 1 << 20;

/// Refuses the file if reading it would take much more memory than it has bytes.
pub(super) fn check(path: &Path) -> Result<()> {
    match refusal(path) {
        Ok(None) => Ok(()),
        Ok(Some(reason)) => bail!("{} is not read: {reason}", path.display()),
        Err(error) => Err(Error::Msg(format!(
            "{} is not a whole PyTorch file: {error}",
            path.display()
        ))),
    }
}

fn refusal(path: &Path) -> io::Result<Option<String>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut head = Vec::new();
    file.by_ref().take(512).read_to_end(&mut head)?;
    file.rewind()?;
    if head.starts_with(b"PK") {
        refuse_zip(file)
    } else if head.get(257..262) == Some(b"ustar") {
        refuse_tar(file)
    } else {
        Ok(refuse_pickles(&mut file))
    }
}

fn refuse_zip(file: BufReader<File>) -> io::Result<Option<String>> {
    let length = file.get_ref().metadata()?.len();
    let allowed = 2 * length + ZIP_ROOM;
    let mut archive = zip::ZipArchive::new(file)?;
    let mut size = 0u64;
    let mut pickles = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        size = size.saturating_add(entry.size());
        if entry.name()?.ends_with("data.pkl") {
            pickles.push(index);
        }
    }
    if size > allowed {
        return Ok(Some(format!(
            "{length} bytes of zip archive claim to inflate to {size}"
        )));
    }
    for index in pickles {
        // An entry may inflate to more than it claims; the reader stops at the claimed length.
        let pickle = archive.by_index(index)?.take(allowed);
        if let Some(reason) = refuse_pickles(&mut BufReader::new(pickle)) {
            return Ok(Some(reason));
        }
    }
    Ok(None)
}

fn refuse_tar(file: BufReader<File>) -> io::Result<Option<String>> {
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if !kind.is_file() && !kind.is_dir() {
            return Ok(Some(format!(
                "a tar archive with an entry of type {kind:?}"
            )));
        }
        // The entries `storages` and `tensors` have other bytes between their pickles. The pickles
        // after the first are not looked at here; the memory they take is in proportion to the file.
        if let Some(reason) = refuse_pickles(&mut BufReader::new(&mut entry)) {
            return Ok(Some(reason));
        }
    }
    Ok(None)
}

/// Counts the opcodes of the first pickles. Bytes that are no pickle end the count: the reader stops
/// there too, with an error.
fn refuse_pickles(input: &mut impl BufRead) -> Option<String> {
    let mut opcodes = 0;
    for _ in 0..MAX_PICKLES {
        match skip_pickle(input, &mut opcodes) {
            Ok(true) => {}
            Ok(false) => return Some(format!("more than {MAX_OPCODES} opcodes of pickle")),
            Err(_) => break,
        }
    }
    None
}

/// Skips to the end of a pickle, or returns false when `opcodes` reaches the limit.
fn skip_pickle(input: &mut impl BufRead, opcodes: &mut u32) -> io::Result<bool> {
    while *opcodes < MAX_OPCODES {
        *opcodes += 1;
        let length = match bytes(input)? {
            [b'.'] => return Ok(true),
            // Numbers and indices.
            [b'K' | b'h' | b'q' | 0x80 | 0x82] => 1,
            [b'M' | 0x83] => 2,
            [b'J' | b'j' | b'r' | 0x84] => 4,
            [b'G' | 0x95] => 8,
            // Text with its length in front.
            [b'U' | b'C' | 0x8a | 0x8c] => u64::from(u8::from_le_bytes(bytes(input)?)),
            [b'T' | b'X' | b'B' | 0x8b] => u64::from(u32::from_le_bytes(bytes(input)?)),
            [0x8d | 0x8e | 0x96] => u64::from_le_bytes(bytes(input)?),
            // Lines of text.
            [b'I' | b'L' | b'F' | b'V' | b'g' | b'p' | b'P'] => {
                input.skip_until(b'\n')?;
                0
            }
            [b'c'] => {
                input.skip_until(b'\n')?;
                input.skip_until(b'\n')?;
                0
            }
            // Opcodes without an argument.
            [b'(' | b')' | b'0' | b'1' | b'2' | b'N' | b'Q' | b'R' | b']' | b'}'] => 0,
            [b'a' | b'b' | b'd' | b'e' | b'l' | b's' | b't' | b'u'] => 0,
            [0x81 | 0x85..=0x89 | 0x8f..=0x94] => 0,
            [_] => return Err(io::ErrorKind::InvalidData.into()),
        };
        if io::copy(&mut input.take(length), &mut io::sink())? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(false)
}

fn bytes<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}
