//! The contents of a box, packed and unpacked.

use crate::invented::{gpubox, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn what_is_packed_is_unpacked() {
    let folder = run("what_is_packed_is_unpacked");
    let (inside, file) = (folder.join("inside"), folder.join("contents.tar.lz"));
    fs::create_dir_all(inside.join("bin")).unwrap();
    let program: Vec<u8> = (0..300_000u32)
        .flat_map(|i| (i * i % 977).to_le_bytes())
        .collect();
    fs::write(inside.join("bin/program"), &program).unwrap();
    fs::write(inside.join("empty"), "").unwrap();
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(inside.join("bin/program"), executable).unwrap();

    assert!(gpubox("pack", &inside, &file).status.success());
    let packed = fs::read(&file).unwrap();
    assert!(packed.len() < program.len() / 10, "{}", packed.len());
    assert!(
        gpubox("unpack", &file, &folder.join("out"))
            .status
            .success()
    );
    let out = folder.join("out/bin/program");
    assert_eq!(fs::read(&out).unwrap(), program);
    assert_eq!(
        fs::metadata(&out).unwrap().permissions().mode() & 0o777,
        0o755
    );
    assert_eq!(fs::read(folder.join("out/empty")).unwrap(), b"");

    // By a copy that was broken off, or a bit that fell over.
    fs::write(&file, &packed[..packed.len() / 2]).unwrap();
    assert!(
        !gpubox("unpack", &file, &folder.join("half"))
            .status
            .success()
    );
    let mut damaged = packed;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x10;
    fs::write(&file, &damaged).unwrap();
    assert!(
        !gpubox("unpack", &file, &folder.join("damaged"))
            .status
            .success()
    );
}
