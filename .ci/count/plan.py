"""Which kernels a shape gets, with which launches: src/plan/gpu.rs and src/gpu/multi_pass.rs again.

Constants are read from the sources, so that what they decide cannot differ.
"""
import pathlib
import re
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[2]


def constants_of(file):
    text = (ROOT / file).read_text()
    found = re.findall(r"^(?:pub(?:\([^)]*\))? )?const (\w+): usize = ([\d* ]+);", text, re.M)
    out = {}
    for name, product in found:
        out[name] = 1
        for factor in product.split("*"):
            out[name] *= int(factor)
    return out


TUNING = constants_of("src/tuning.rs")
GPU = constants_of("src/plan/gpu.rs")
SIZES = {"f32": 4, "f16": 2, "bf16": 2, "f64": 8}
WARP, MAX_THREADS = TUNING["WARP"], TUNING["MAX_THREADS"]
MAX_CLUSTER, SPLIT_THREADS = TUNING["MAX_CLUSTER"], TUNING["SPLIT_THREADS"]
ON_CHIP_THREADS = WARP * TUNING["WARPS_PER_BLOCK"]
MAX_VECTORS = {"fwd": 8, "bwd": 4}


@dataclass(frozen=True)
class Case:
    """Planes to normalize, and what goes with them."""
    name: str
    n: int
    c: int
    spatial: int
    channels_per_group: int = 1
    last: bool = False  # channels-last
    full: bool = False  # with a residual and SiLU

    def planes(self):
        return self.n * self.c

    def per_vector(self, dtype):
        return TUNING["VECTOR_BYTES"] // SIZES[dtype]

    def aligned(self, dtype):
        return self.spatial % self.per_vector(dtype) == 0

    def lines(self, dtype):
        """Vectors that a plane touches."""
        head = 0 if self.aligned(dtype) else self.per_vector(dtype) - 1
        return ceil_div(self.spatial + head, self.per_vector(dtype))


@dataclass(frozen=True)
class Launch:
    source: str
    entry: str
    grid: int
    threads: int
    tier: str
    cluster: int = 1
    shared: int = 0  # bytes beside those that the kernel declares
    chunks: tuple = (0, 0, 0)  # count, length and team
    pointers: tuple = ()  # which buffers between launches there are
    lanes: int = WARP
    back: bool = False  # from the last block on


def ceil_div(a, b):
    return -(-a // b)


def power_of_two(n):
    return 1 << max(0, n - 1).bit_length()


def next_multiple(n, of):
    return ceil_div(n, of) * of


def has_many_vectors(case, kind, lines):
    most = TUNING["MANY_VECTORS_THREADS"] * GPU["MANY_VECTORS"]
    return kind == "bwd" and not case.full and GPU["MIN_THREADS"] * GPU["MANY_VECTORS"] // 2 <= lines <= most


def blocks_for(lines, most):
    return power_of_two(ceil_div(lines, MAX_THREADS * most))


def block(lines, target):
    threads = min(max(ceil_div(ceil_div(lines, target), WARP) * WARP, GPU["MIN_THREADS"]), MAX_THREADS)
    return threads, power_of_two(ceil_div(lines, threads))


def in_shared(case, kind, dtype, lines, sums, shared):
    """Threads of a block, and what it keeps in shared memory: None if it may not have so much."""
    most = MAX_VECTORS[kind]
    rows = 1 if kind == "fwd" else 1 + max(1, 4 // SIZES[dtype]) if case.full else 2
    threads, _ = block(lines, max(most, ceil_div(lines, MAX_THREADS)))
    size = max(0, ceil_div(lines, threads) - most) * rows * threads * TUNING["VECTOR_BYTES"]
    return (threads, size) if size + sums * max(SIZES[dtype], 4) <= shared else None


def launches(case, kind, dtype, sm_count, clusters, shared):
    """All launches of a pass, in their order."""
    on_chip = of_groups(case, kind, dtype, sm_count, clusters, shared)
    if on_chip is None and case.channels_per_group == 1 and not case.last:
        on_chip = of_planes(case, kind, dtype, sm_count, clusters, shared)
    return [on_chip] if on_chip else multi_pass(case, kind, dtype, sm_count)


def of_planes(case, kind, dtype, sm_count, clusters, shared):
    lines, most, planes = case.lines(dtype), MAX_VECTORS[kind], case.planes()
    idle = planes * GPU["IDLE"] <= sm_count and case.spatial * SIZES[dtype] >= GPU["SPLIT_MIN_BYTES"]
    source = f"in_{kind}"
    if lines <= WARP * most:
        lanes = min(max(power_of_two(ceil_div(lines, GPU["LANE_VECTORS"])), 4), WARP)
        vectors = power_of_two(ceil_div(lines, lanes))
        grid = ceil_div(planes, ON_CHIP_THREADS // lanes)
        return Launch(source, f"{source}_lanes{lanes}x{vectors}", grid, ON_CHIP_THREADS, "lanes", lanes=lanes)
    if lines <= MAX_THREADS * most and not idle:
        target = most if planes >= 4 * sm_count else most // 4
        if target == most and has_many_vectors(case, kind, lines):
            target = GPU["MANY_VECTORS"]
        threads, vectors = block(lines, target)
        return Launch(source, f"{source}_block{vectors}", planes, threads, "block")
    blocks = blocks_for(lines, most)
    if clusters and blocks <= MAX_CLUSTER:
        blocks = MAX_CLUSTER if idle or blocks == 4 else blocks
        threads, _ = block(ceil_div(lines, blocks), most)
        return Launch(source, f"{source}_cluster{most}", planes * blocks, threads, "cluster", blocks)
    fits = None if idle else in_shared(case, kind, dtype, lines, GPU["SUMS"], shared)
    if fits:
        threads, size = fits
        return Launch(source, f"{source}_shared{most}", planes, threads, "shared", shared=size)
    return None


def of_groups(case, kind, dtype, sm_count, clusters, shared):
    per_group, lines, most = case.channels_per_group, case.lines(dtype), MAX_VECTORS[kind]
    if per_group == 1 or case.last or not case.aligned(dtype):
        return None
    most_blocks = MAX_CLUSTER if clusters else 1
    if kind == "fwd":
        blocks = blocks_for(lines * per_group, most)
        of_block = ceil_div(lines * per_group, blocks)
    else:
        def of(threads):
            planes = threads * most // lines
            return ceil_div(per_group, planes) if planes else MAX_CLUSTER + 1
        half = of(MAX_THREADS // 2)
        blocks = half if half <= most_blocks else of(MAX_THREADS)
        of_block = ceil_div(per_group, blocks) * lines
    source, groups = f"in_groups_{kind}", case.planes() // per_group
    if blocks <= most_blocks and (kind == "fwd" or lines >= TUNING["MIN_GROUP_VECTORS"]):
        threads = next_multiple(ceil_div(of_block, most), WARP)
        name = f"block{most}" if blocks == 1 else f"cluster{most}"
        return Launch(source, f"{source}_{name}", groups * blocks, threads, "groups", blocks)
    many_planes = lines < WARP or per_group > TUNING["MAX_SHARED_PLANES"]
    if groups * GPU["IDLE"] <= sm_count or kind == "bwd" and many_planes:
        return None
    fits = in_shared(case, kind, dtype, lines * per_group, GPU["GROUP_SUMS"], shared)
    if fits:
        threads, size = fits
        return Launch(source, f"{source}_shared{most}", groups, threads, "groups", shared=size)
    return None


def chunks(size, wanted, least, unit):
    most = max(1, ceil_div(size, least))
    length = next_multiple(ceil_div(size, min(max(wanted, 1), most)), unit)
    return max(1, ceil_div(size, length)), length


def multi_pass(case, kind, dtype, sm_count):
    planes = case.planes()
    per_sm = 1 if case.last else 4 if kind == "fwd" and case.full else 2
    blocks = per_sm * sm_count
    if case.last:
        source, name, tier = "channels_last", "in_columns", "columns"
        vectors = ceil_div(case.c, case.per_vector(dtype))
        team = min(power_of_two(vectors), TUNING["MAX_COLUMNS"])
        beside, rows = ceil_div(vectors, team), SPLIT_THREADS // team
        wanted = ceil_div(blocks, case.n * beside)
        count, length = chunks(case.spatial, wanted, rows * GPU["MIN_PLACES"], rows)
        grid = case.n * beside * count
    else:
        source, name, tier = "split", "in_split", "split"
        lines, vectors = case.lines(dtype), TUNING["SPLIT_VECTORS"]
        team = WARP if lines <= WARP * vectors else SPLIT_THREADS
        wanted = max(1, blocks // planes)
        count, length = chunks(lines, wanted, SPLIT_THREADS * vectors, GPU["CHUNK_VECTORS"])
        grid = ceil_div(planes * count, SPLIT_THREADS // team)
    cut = (count, length, team)
    groups = ceil_div(planes // case.channels_per_group, TUNING["WARPS_PER_BLOCK"])

    def elements(phase, *pointers):
        # The gradients take a launch more where there is an activation.
        back = phase == "write" or phase == ("comoments" if case.full else "write_grad")
        return Launch(source, f"{name}_{phase}", grid, SPLIT_THREADS, tier, chunks=cut, pointers=pointers,
                      back=back)

    def finish(entry, team, *pointers):
        return Launch("finish", entry, groups, ON_CHIP_THREADS, "finish", chunks=(count, length, team),
                      pointers=pointers)

    forward = [elements("moments", True), finish("in_finish", team, True, True)]
    if kind == "fwd":
        part = TUNING["MOMENTS_NUMBERS"] * max(SIZES[dtype], 4) // TUNING["VECTOR_BYTES"]
        merges = tier == "split" and 8 * part * count * case.channels_per_group <= length
        if merges:
            return [forward[0], elements("write", False, True)]
        return [*forward, elements("write", True, False)]
    # An activation takes the coefficients of the forward pass first.
    return [
        *(forward if case.full else []),
        elements("comoments", case.full, True),
        finish("in_finish_grad", min(power_of_two(count), WARP), True, True, False),
        elements("write_grad", case.full, True),
    ]
