"""Counts the instructions of CUDA kernels without a GPU: see report.py for what, and --help for how."""
import argparse
import os
import pathlib
import re
import sys
from concurrent.futures import ProcessPoolExecutor

sys.dont_write_bytecode = True  # the folder is one of sources

import report  # noqa: E402
import rows  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(prog="count", description="Counts instructions of kernels.")
    parser.add_argument("folder", type=pathlib.Path, help="OUT_DIR of build.rs, which has ptx.rs and PTX")
    parser.add_argument("--ptxas", default="ptxas")
    parser.add_argument("--nvdisasm", default="nvdisasm")
    all_archs = ",".join(map(str, rows.ARCHS))
    parser.add_argument("--arch", default=all_archs, help="such as 75,90; all by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--rows", default="", help="count only rows that this expression is found in")
    parser.add_argument("--classes", action="store_true", help="print how instructions are shared by class")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", type=pathlib.Path, metavar="FILE", help="write the counts there")
    what.add_argument("--check", type=pathlib.Path, metavar="FILE", help="fail where counts are worse")
    args = parser.parse_args()
    args.archs = [int(arch) for arch in args.arch.split(",")]
    if unknown := set(args.archs) - set(rows.ARCHS):
        parser.error(f"--arch: {sorted(unknown)} is none of {rows.ARCHS}")
    if args.write and args.rows:
        parser.error("--write needs all rows")
    return args


def jobs(args, launches):
    """One for each file and architecture, those first that take longest."""
    # The folder may have files of kernels that have gone since.
    table = (args.folder / "ptx.rs").read_text()
    names = sorted({pathlib.PurePath(name).name for name in re.findall(r'"([^"]+\.ptx)\.z"', table)})
    if not names:
        sys.exit(f"no PTX in {args.folder}")
    found = []
    for arch in args.archs:
        device = "baseline" if arch in rows.BASELINE else "hopper"
        wanted = [of for of in launches if of.arch == arch and re.search(args.rows, of.text())]
        for name in names:
            stem, of_device, _ = name.rsplit(".", 2)
            if of_device == device:
                counted = [of for of in wanted if of.source == stem]
                found.append(rows.Job(args.ptxas, args.nvdisasm, args.folder / name, arch, counted))
        missing = {of.source for of in wanted} - {name.rsplit(".", 2)[0] for name in names}
        if missing:
            sys.exit(f"no PTX of {sorted(missing)}")
    return sorted(found, key=lambda job: -len(job.launches))


def main():
    args = arguments()
    launches = rows.launches()
    todo = jobs(args, launches)
    kernels, counted = {}, []
    with ProcessPoolExecutor(args.jobs) as pool:
        for job, (of_file, of_rows) in zip(todo, pool.map(rows.do, todo)):
            # <source>.<variant>.<dtype>.<device>.ptx, or without a variant
            _, *variant, dtype, _, _ = job.file.name.split(".")
            for name, has in of_file.items():
                kernels[name, dtype, job.arch, "".join(variant)] = has
            counted += of_rows
    shapes = list(dict.fromkeys(of.case for of in launches))
    counted.sort(key=lambda row: (row.arch, shapes.index(row.shape), row.kernel, row.dtype))
    new = report.counted(counted, kernels)
    text = report.markdown(new)
    faults = report.faults_of_memory(kernels)
    if args.write:
        args.write.write_text(text)
    elif args.check:
        faults += report.faults_of_counts(new, report.parse(args.check.read_text()))
        print(f"{len(new.rows)} rows and {len(kernels)} kernels compared with {args.check}")
    else:
        print(text[len(report.INTRODUCTION):], end="")
    if args.classes:
        for row in new.rows.values():
            shares = ", ".join(f"{name} {row.an_element * share:.3g}" for name, share in row.issued)
            print(f"{row.kernel} {row.shape} {row.dtype} sm_{row.arch}: {shares}")
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
