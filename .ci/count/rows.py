"""What is counted: the shapes, and the kernels that a GPU of each architecture runs for them."""
from dataclasses import dataclass

import launch
import sass
from occupancy import resident_warps
from plan import Case, launches
from tools import compile_ptx

BASELINE, HOPPER = (75, 80, 86, 89), (90, 100, 120)  # which PTX a device takes
ARCHS = BASELINE + HOPPER
# Multiprocessors of a T4, an A100, an L40S and an H200: those whose instructions are counted.
SM_COUNT = {75: 40, 80: 108, 89: 142, 90: 132}
# Shared memory that a block of them may have.
SHARED = {75: 64 << 10, 80: 163 << 10, 89: 99 << 10, 90: 227 << 10}
DTYPES = ("f32", "bf16")

CASES = [
    *(Case(f"32x256x{h}x{w}", 32, 256, h * w) for h, w in [
        (7, 7), (14, 14), (15, 15), (16, 16), (28, 28), (35, 45), (56, 56), (64, 64), (128, 128)]),
    Case("1x128x128x128", 1, 128, 128 * 128),
    Case("1x64x256x256", 1, 64, 256 * 256),
    Case("1x32x512x512", 1, 32, 512 * 512),
    Case("1x3x2160x3840", 1, 3, 2160 * 3840),
    Case("2x320x64x64, 32 groups", 2, 320, 64 * 64, channels_per_group=10),
    Case("32x256x56x56, 32 groups", 32, 256, 56 * 56, channels_per_group=8),
    Case("32x256x56x56, channels-last", 32, 256, 56 * 56, last=True),
    Case("32x256x28x28, residual and SiLU", 32, 256, 28 * 28, full=True),
    Case("32x256x56x56, residual and SiLU", 32, 256, 56 * 56, full=True),
    Case("2x320x64x64, 32 groups, residual and SiLU", 2, 320, 64 * 64, channels_per_group=10, full=True),
]


@dataclass(frozen=True)
class Planned:
    """A kernel that is to be counted for a shape."""
    case: Case
    kind: str  # fwd or bwd
    dtype: str
    launch: object

    def file(self):
        """The file of PTX, without the device in its name."""
        variant = "" if self.launch.source == "finish" else ".full" if self.case.full else ".plain"
        return f"{self.launch.source}{variant}.{self.dtype}"


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


def planned(arch):
    """All that is counted for an architecture. A kernel of several passes is counted once a shape, in the
    first pass that runs it."""
    seen = {}
    for case in CASES if arch in SM_COUNT else []:
        for kind in ("fwd", "bwd"):
            for dtype in DTYPES:
                for of in launches(case, kind, dtype, SM_COUNT[arch], arch >= 90, SHARED[arch]):
                    seen.setdefault((of.entry, case.name, dtype), Planned(case, kind, dtype, of))
    return list(seen.values())


@dataclass
class Job:
    """A file for an architecture, with what is counted of it."""
    ptxas: str
    nvdisasm: str
    file: object
    arch: int
    rows: list


def do(job):
    """The resources of each kernel of a file, and its rows."""
    compiled = compile_ptx(job.ptxas, job.nvdisasm, job.file, job.arch, bool(job.rows))
    kernels = sass.parse(compiled.listing, {row.launch.entry for row in job.rows})
    rows = []
    for row in job.rows:
        name = row.launch.entry
        try:
            count = launch.run(kernels[name], compiled.banks[name], row.case, row.launch, row.kind,
                               row.dtype, job.arch)
        except sass.Unknown as unknown:
            raise SystemExit(f"{job.file.name} for sm_{job.arch}, {row.case.name}: {unknown}") from None
        has = compiled.kernels[name]
        warps = resident_warps(job.arch, has.registers, row.launch.threads, has.shared + row.launch.shared)
        total = sum(count.issued.values())
        shares = tuple((c, n / total) for c, n in count.issued.most_common())
        rows.append(Row(name, row.case.name, row.dtype, job.arch, has.registers, warps,
                        count.bytes_in_flight * warps, count.an_element(), shares))
    return compiled.kernels, rows
