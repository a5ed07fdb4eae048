//! Files that are no checkpoints in many ways: each gives one clear line and exit code 1, in little
//! memory and with nothing executed.

use std::fs;

use crate::workshop::{Workshop, check_error};
use anyhow::Result;
use testing::{own_process, zip_of};

const MAX_MEGABYTES: i64 = 200;

fn golden(name: &str) -> Result<Vec<u8>> {
    Ok(fs::read(testing::golden("checkpoints").join(name))?)
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), &vec![0; data]].concat()
}

fn stored(pickle: &[u8]) -> Result<Vec<u8>> {
    let entries = [("archive/data.pkl", pickle), ("archive/data/0", &[0; 4])];
    zip_of(&entries, false)
}

/// The pickle of `{"a": tensor}` with a view of a storage, as `torch.save` writes it.
fn pickle(key: &str, numel: &str, shape: &str, stride: &str) -> Vec<u8> {
    let text = |text: &str| format!("V{text}\n");
    let long = |number: &str| format!("L{number}L\n");
    let parts = [
        "}".into(),
        text("a"),
        "ctorch._utils\n_rebuild_tensor_v2\n((".into(),
        text("storage"),
        "ctorch\nFloatStorage\n".into(),
        text(key),
        text("cpu"),
        long(numel),
        "tQ".into(),
        long("0"),
        format!("({}t({}t", long(shape), long(stride)),
        "I00\nccollections\nOrderedDict\n)RtRs.".into(),
    ];
    parts.concat().into_bytes()
}

/// A tar archive with an entry of a sparse file of 64 TB, of which nothing is in the archive.
fn sparse_tar() -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_size(0);
    let _ = header.set_path("storages");
    if let Some(gnu) = header.as_gnu_mut() {
        let size = 1u64 << 46;
        gnu.realsize[..4].copy_from_slice(&[0x80, 0, 0, 0]);
        gnu.realsize[4..].copy_from_slice(&size.to_be_bytes());
        gnu.sparse[0].offset[..4].copy_from_slice(&[0x80, 0, 0, 0]);
        gnu.sparse[0].offset[4..].copy_from_slice(&size.to_be_bytes());
        gnu.sparse[0].numbytes[..11].copy_from_slice(b"00000000000");
    }
    header.set_cksum();
    let mut file = header.as_bytes().to_vec();
    file.resize(512 + 1024, 0);
    file
}

/// Every file, with a part of its error.
fn files() -> Result<Vec<(&'static str, Vec<u8>, &'static str)>> {
    let (zip, legacy, tar) = (
        golden("zip.pth")?,
        golden("legacy.pth")?,
        golden("tar.pth")?,
    );
    let net = golden("expected.safetensors")?;
    let cut = |bytes: &[u8], at: usize| bytes[..at].to_vec();
    let changed = |bytes: &[u8], at: usize, to: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    let find = |bytes: &[u8], what: &[u8]| {
        bytes
            .windows(what.len())
            .position(|window| window == what)
            .unwrap_or(0)
    };
    let header_end = 8 + u64::from_le_bytes([net[0], net[1], net[2], net[3], 0, 0, 0, 0]) as usize;
    let directory = find(&zip, b"PK\x01\x02");
    let little = find(&legacy, b"little_endian");
    let big_endian = [
        ("archive/byteorder", &b"big"[..]),
        ("archive/data.pkl", b"}."),
    ];
    let bomb = [b"}".to_vec(), vec![b'N'; 40 << 20]].concat();
    let nested = [vec![b']'; 50_000], vec![b'a'; 49_999], b".".to_vec()].concat();
    let wide = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#;
    let beyond = r#"{"a":{"dtype":"F32","shape":[64],"data_offsets":[0,256]}}"#;
    let dtype = r#"{"a":{"dtype":"F9","shape":[1],"data_offsets":[0,4]}}"#;
    let no_safetensors = "not a whole safetensors";
    let no_pth = "not a whole PyTorch file";
    Ok(vec![
        ("empty", vec![], "the file is empty"),
        ("text", b"a letter to no one".to_vec(), no_pth),
        ("safetensors-in-length", cut(&net, 5), no_pth),
        (
            "safetensors-in-header",
            cut(&net, header_end / 2),
            no_safetensors,
        ),
        (
            "safetensors-in-data",
            cut(&net, net.len() - 1),
            no_safetensors,
        ),
        (
            "safetensors-huge-header",
            changed(&net, 0, &[0xff; 8]),
            no_safetensors,
        ),
        (
            "safetensors-huge-shape",
            safetensors(wide, 4),
            no_safetensors,
        ),
        (
            "safetensors-beyond-end",
            safetensors(beyond, 4),
            no_safetensors,
        ),
        (
            "safetensors-wrong-dtype",
            safetensors(dtype, 4),
            no_safetensors,
        ),
        ("legacy-in-magic", cut(&legacy, 8), no_pth),
        ("legacy-wrong-magic", changed(&legacy, 4, b"magic"), no_pth),
        ("legacy-in-header", cut(&legacy, little), no_pth),
        ("legacy-in-pickle", cut(&legacy, 600), no_pth),
        ("legacy-in-storage", cut(&legacy, legacy.len() - 3), no_pth),
        ("zip-in-entry", cut(&zip, 700), no_pth),
        ("zip-in-directory", cut(&zip, directory + 20), no_pth),
        ("zip-in-end", cut(&zip, zip.len() - 4), no_pth),
        ("zip-without-pickle", zip_of(&[("a", b"b")], false)?, no_pth),
        ("zip-big-endian", zip_of(&big_endian, false)?, "Big-endian"),
        (
            "zip-bomb",
            zip_of(&[("archive/data.pkl", &bomb)], true)?,
            "claim to inflate",
        ),
        ("tar-in-entry", cut(&tar, 900), no_pth),
        ("tar-sparse", sparse_tar(), "an entry of type"),
        ("pickle-opcodes", vec![b'N'; 1 << 20], "opcodes of pickle"),
        (
            "pickle-objects",
            [b"}".to_vec(), vec![b'}'; 1 << 20]].concat(),
            "opcodes of pickle",
        ),
        (
            "pickle-cyclic",
            b"\x80\x02}q\x00X\x01\0\0\0ah\x00s.".to_vec(),
            "holds no tensors",
        ),
        (
            "pickle-doubling",
            [b"\x80\x02}N".to_vec(), b"2\x86".repeat(60), b".".to_vec()].concat(),
            "memo bomb",
        ),
        (
            "pickle-nested",
            [b"\x80\x02".to_vec(), nested].concat(),
            "nesting exceeds",
        ),
        (
            "pickle-command",
            b"\x80\x02cos\nsystem\nX\x0c\0\0\0touch pwned!\x85R.".to_vec(),
            "found os.system",
        ),
        (
            "huge-view",
            stored(&pickle("0", "1", "2147483647", "0"))?,
            "its tensors would take",
        ),
        (
            "huge-storage",
            stored(&pickle("0", "4611686018427387904", "1", "1"))?,
            "overflows",
        ),
        (
            "huge-shape",
            stored(&pickle("0", "1", "4611686018427387904", "1"))?,
            no_pth,
        ),
        // Read when the network asks for it; none does, for this name.
        (
            "path-of-storage",
            stored(&pickle("../../../in.png", "1", "1", "1"))?,
            "fits none of",
        ),
    ])
}

#[test]
fn each_gives_one_line_in_little_memory() -> Result<()> {
    // Memory is measured for the children of a process: it must have no others.
    const ALONE: &str = "STYLIZE_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let test = "each_gives_one_line_in_little_memory";
        own_process::run(module_path!(), test, &[(ALONE, "1")])?;
        return Ok(());
    }
    let shop = Workshop::new("malformed")?;
    for (name, bytes, _) in files()? {
        fs::write(shop.0.join(name), bytes)?;
    }
    fs::create_dir(shop.0.join("folder.pth"))?;
    let before = shop.files()?;
    for (name, _, expected) in files()? {
        let files = [
            "--weights",
            name,
            "--input",
            "in.png",
            "--output",
            "out.png",
        ];
        // The symbols of a backtrace would take more memory than any of the files.
        let output = shop.command(&files).env("RUST_BACKTRACE", "0").output()?;
        println!("{}", String::from_utf8_lossy(&output.stderr).trim_end());
        check_error(&output, &[name, expected])?;
    }
    check_memory();
    check_error(
        &shop.stylize("folder.pth", "in.png", "out.png", &[])?,
        &["holds no file"],
    )?;
    check_error(
        &shop.stylize("/dev/zero", "in.png", "out.png", &[])?,
        &["not a file"],
    )?;
    assert_eq!(shop.files()?, before);
    Ok(())
}

/// The peak memory of the largest child so far.
#[cfg(target_os = "linux")]
fn check_memory() {
    // SAFETY: all zeros is a valid `rusage`, and the call only writes into it.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage), 0);
        usage
    };
    let megabytes = usage.ru_maxrss >> 10;
    println!("at most {megabytes} MB");
    assert!(megabytes < MAX_MEGABYTES);
}

#[cfg(not(target_os = "linux"))]
fn check_memory() {}
