#!/usr/bin/env python3
"""Prints registers and spills of every kernel, as ptxas counts them, and fails where one spills.

usage: registers.py PTXAS OUT_DIR_OF_BUILD_RS
"""
import pathlib
import re
import subprocess
import sys

# What ptxas 13.0 keeps elsewhere to have more threads at a time: four registers at most. One more is
# allowed. The groups' kernels keep more, most of it where an activation is in the pass (in f16 up to 464
# bytes of the gradients'; an H200 timed it like that), and so do two kernels in f64.
ALLOWED_BYTES = 20
ALLOWED_MORE = {
    "in_groups_fwd_block8": 64,
    "in_groups_fwd_cluster8": 88,
    "in_groups_bwd_block4": 464,
    "in_groups_bwd_cluster4": 408,
    "in_columns_write": 48,
    "in_split_write": 76,
}

ptxas, folder = sys.argv[1:]
# The folder may have those of kernels that have gone since.
table = pathlib.Path(folder, "ptx.rs").read_text()
files = sorted(pathlib.Path(name) for name in re.findall(r'"([^"]+\.ptx)\.z"', table))
if not files:
    sys.exit(f"no PTX in {folder}")
too_many = []
for file in files:
    text = file.read_text()
    arch = re.search(r"^\.target (sm_\d+)", text, re.M).group(1)
    log = subprocess.run(
        [ptxas, f"-arch={arch}", "-v", file, "-o", "/dev/null"],
        capture_output=True, text=True, check=True,
    ).stderr
    rows = re.findall(
        r"entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers",
        log, re.S,
    )
    if len(rows) != text.count(".entry "):
        sys.exit(f"{file.name}: {len(rows)} kernels reported of {text.count('.entry ')}")
    print(f"{file.name} ({arch}): {len(rows)} kernels")
    for name, stores, loads, registers in sorted(rows):
        spills = max(int(stores), int(loads))
        if spills > ALLOWED_MORE.get(name, ALLOWED_BYTES):
            too_many.append(f"{file.name}: {name} spills {spills} bytes")
        print(f"  {name:28} {registers:>3} registers" + (f", {spills} bytes spilled" if spills else ""))
if too_many:
    sys.exit("more than is allowed: " + "; ".join(too_many))
