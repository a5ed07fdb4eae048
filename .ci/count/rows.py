"""What is counted: the launches that the crate makes for some shapes."""
import json
import pathlib
import subprocess
from dataclasses import dataclass

import launch
import sass
from occupancy import resident_warps
from tools import compile_ptx

BASELINE, HOPPER = (75, 80, 86, 89), (90, 100, 120)  # which PTX a device takes
ARCHS = BASELINE + HOPPER
# The test that prints them. Without the feature cuda: the gate has built that before.
TEST = "gpu::cuda::tests::counted"
COMMAND = ["cargo", "test", "--locked", "--lib", "--", "--exact", TEST, "--nocapture"]


@dataclass(frozen=True)
class Launch:
    """A launch as src/gpu/cuda/tests.rs prints it."""
    arch: int
    case: str  # the shape, and what goes with it
    dtype: str
    source: str  # the file of PTX, without the device in its name
    entry: str
    grid: int
    threads: int
    cluster: int
    shared: int  # bytes beside those that the kernel declares
    back: bool  # from the last block on
    arguments: str  # the kernel's, in hexadecimal
    elements: int  # of the tensor
    planes: int
    aligned: bool  # every plane starts at a whole vector

    def text(self):
        return f"{self.entry} {self.case} {self.dtype}"


@dataclass(frozen=True)
class Row:
    kernel: str
    shape: str
    dtype: str
    arch: int
    registers: int
    warps: int  # resident on a multiprocessor
    in_flight: float  # bytes on a multiprocessor
    an_element: float  # instructions of a thread
    issued: tuple = ()  # instructions of the warps by class, on average

    def key(self):
        return self.kernel, self.shape, self.dtype, self.arch


def launches():
    """All that is counted, on every GPU that the test knows."""
    root = pathlib.Path(__file__).resolve().parents[2]
    done = subprocess.run(COMMAND, cwd=root, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(COMMAND)} fails")
    return parse(done.stdout)


def parse(text):
    """The launches among lines of a test. A kernel of several passes is counted once a shape, in the first
    pass that runs it."""
    found = {}
    for line in filter(lambda line: line.startswith("{"), text.splitlines()):
        of = Launch(**json.loads(line))
        found.setdefault((of.arch, of.text()), of)
    if not found:
        raise SystemExit(f"{TEST} prints no launches")
    return list(found.values())


@dataclass
class Job:
    """A file for an architecture, with what is counted of it."""
    ptxas: str
    nvdisasm: str
    file: object
    arch: int
    launches: list


def do(job):
    """The resources of each kernel of a file, and its rows."""
    compiled = compile_ptx(job.ptxas, job.nvdisasm, job.file, job.arch, bool(job.launches))
    kernels = sass.parse(compiled.listing, {of.entry for of in job.launches})
    rows = []
    for of in job.launches:
        name = of.entry
        try:
            count = launch.run(kernels[name], compiled.banks[name], of)
        except sass.Unknown as unknown:
            raise SystemExit(f"{job.file.name} for sm_{job.arch}, {of.case}: {unknown}") from None
        has = compiled.kernels[name]
        warps = resident_warps(job.arch, has.registers, of.threads, has.shared + of.shared)
        total = sum(count.issued.values())
        shares = tuple((c, n / total) for c, n in count.issued.most_common())
        rows.append(Row(name, of.case, of.dtype, job.arch, has.registers, warps,
                        count.bytes_in_flight * warps, count.an_element(), shares))
    return compiled.kernels, rows
