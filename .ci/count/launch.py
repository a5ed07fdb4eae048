"""The arguments of a launch, and the warps of its first blocks."""
import struct
from collections import Counter
from dataclasses import dataclass

from machine import Warp
from memory import words_of
from plan import ON_CHIP_THREADS, SPLIT_THREADS, TUNING, WARP, ceil_div

# Where a constant bank has what the driver puts there: parameters, by architecture, and of a cluster
# whether there is one and how many blocks it has.
PARAMETERS_AT = {75: 0x160, 80: 0x160, 86: 0x160, 89: 0x160, 90: 0x210}
STACK_AT, IS_CLUSTER_AT, CLUSTER_BLOCKS_AT = 0x28, 0x140, 0x188
STACK = 0xfffdc0
ADDRESS = 0x7f0000000000  # of x; other tensors have one each, far apart
APART = 0x1000000000
SHARED_WINDOW = 0x7e00  # the upper half of the addresses of a cluster's shared memory
SILU = 3
# Vectors of a chunk: four loops of a thread.
LONG_CHUNK = 4 * SPLIT_THREADS * TUNING["SPLIT_VECTORS"]
# Planes of which every alignment is met.
PLANES = 8


def pack_call(case, kind, dtype):
    """Call of kernels/shared/abi.h. A group norm has a weight and a bias, and so has what goes with an
    activation; their gradients are wanted then."""
    address = iter(range(ADDRESS, ADDRESS + 100 * APART, APART))
    stride_c = 1 if case.last else case.spatial

    def tensor(there=True):
        return struct.pack("<Qqq", next(address), case.c * case.spatial, stride_c) if there else bytes(24)

    def param(there):
        return struct.pack("<Qii", next(address), case.c, 0) if there else bytes(16)

    backward, affine = kind == "bwd", case.channels_per_group > 1 or case.full
    n = case.channels_per_group * case.spatial
    shape = struct.pack("<qiiiI", case.spatial, case.planes(), case.c, case.channels_per_group, 0)
    numbers = "<7d4i" if dtype == "f64" else "<7f4i4x"
    spec = struct.pack(numbers, 1e-5, n, 1, 1, 0, 0, 0, 0, 0, 0, SILU if case.full else 0)
    inputs = [tensor(), tensor(backward), tensor(False), tensor(False), tensor(case.full)]
    params = [param(affine), param(affine), param(False), param(False)]
    outputs = [tensor(), tensor(False), tensor(False)]
    shares = [next(address) if backward and affine else 0 for _ in range(2)] + [0, 0]
    call = shape + spec + b"".join([*inputs, *params, *outputs]) + struct.pack("<4Q", *shares)
    real = "F64" if dtype == "f64" else "F32"
    assert len(shape + spec) == TUNING[f"CALL_X_AT_{real}"], "abi.h"
    assert len(call) == TUNING[f"CALL_BYTES_{real}"], "abi.h"
    return call


def constants(launch, call, arch):
    """Constant bank 0."""
    at = PARAMETERS_AT[arch]
    bank = bytearray(at)
    struct.pack_into("<6I", bank, 0, launch.threads, 1, 1, launch.grid, 1, 1)
    struct.pack_into("<I", bank, STACK_AT, STACK)
    if arch >= 90:
        struct.pack_into("<I", bank, IS_CLUSTER_AT, launch.cluster > 1)
        struct.pack_into("<I", bank, CLUSTER_BLOCKS_AT, launch.cluster)
    cut = struct.pack("<3i", *launch.chunks)
    assert len(cut) == TUNING["CHUNKS_BYTES"], "abi.h"
    # Addresses stand at multiples of 8.
    more = [ADDRESS + (50 + k) * APART if there else 0 for k, there in enumerate(launch.pointers)]
    pad = bytes(-len(call + cut) % 8)
    return bytes(bank) + call + cut + pad + struct.pack("<3Q", *more, *[0] * (3 - len(more)))


def blocks_of(case, launch, dtype):
    """How many blocks are counted, from the first one on."""
    if launch.cluster > 1:
        return launch.cluster
    of_block = ON_CHIP_THREADS // launch.lanes if launch.tier == "lanes" else 1
    planes = 1 if case.aligned(dtype) or launch.tier in ("columns", "finish") else PLANES
    few = ceil_div(planes, of_block)
    return min(launch.grid, few)


def elements_of(case, launch, dtype, blocks):
    """The elements that so many blocks have."""
    if launch.tier in ("block", "shared", "cluster", "groups"):
        return blocks // launch.cluster * case.channels_per_group * case.spatial
    if launch.tier == "lanes":
        return min(case.planes(), blocks * ON_CHIP_THREADS // launch.lanes) * case.spatial
    if launch.tier == "finish":
        groups = case.planes() // case.channels_per_group
        return min(groups, blocks * TUNING["WARPS_PER_BLOCK"]) * case.channels_per_group * case.spatial
    count, length, team = launch.chunks
    per_vector = case.per_vector(dtype)
    if launch.tier == "columns":
        def of(b):
            beside = ceil_div(ceil_div(case.c, per_vector), team)
            channels = min(case.c - b % beside * team * per_vector, team * per_vector)
            return channels * (min(case.spatial, (b // beside % count + 1) * length)
                               - b // beside % count * length)
        return sum(map(of, range(blocks)))

    def of_chunk(k):
        plane, part = divmod(k, count)
        begin = part * length * per_vector - plane * case.spatial % per_vector
        return min(case.spatial, begin + length * per_vector) - max(0, begin)
    return sum(map(of_chunk, range(min(case.planes() * count, blocks * (SPLIT_THREADS // team)))))


def sampled(count, every):
    """Which of so many are counted, each with how many it stands for: all, or the first two and the last."""
    if every or count <= 3:
        return [(k, 1) for k in range(count)]
    return [(0, 1), (1, count - 2), (count - 1, 1)]


@dataclass
class Count:
    """Of the warps of some blocks."""
    issued: Counter  # instructions by class
    elements: int  # of the tensor, which the blocks have together
    bytes_in_flight: float  # of a warp, on average

    def an_element(self):
        return sum(self.issued.values()) * WARP / self.elements


def run(kernel, banks, case, launch, kind, dtype, arch):
    """Counts the blocks of the first elements. Where chunks are long, and in clusters, most warps do the same."""
    banks = {0: constants(launch, pack_call(case, kind, dtype), arch), **banks}
    blocks, memory = blocks_of(case, launch, dtype), words_of(dtype)
    long_chunks = launch.tier == "columns" or launch.tier == "split" and launch.chunks[1] > LONG_CHUNK
    issued, in_flight, warps = Counter(), 0, 0
    for block, for_blocks in sampled(blocks, launch.tier != "cluster"):
        for warp, for_warps in sampled(launch.threads // WARP, not long_chunks):
            specials = {
                "SR_TID.X": list(range(warp * WARP, warp * WARP + WARP)),
                "SR_CTAID.X": launch.grid - 1 - block if launch.back else block,
                "SR_LANEID": list(range(WARP)),
                "SR_CgaCtaId": block % launch.cluster, "SR_SWINHI": SHARED_WINDOW,
            }
            done, weight = Warp(kernel, banks, specials, memory).run(), for_blocks * for_warps
            for name, n in done.issued().items():
                issued[name] += n * weight
            in_flight += done.most_bytes * weight
            warps += weight
    return Count(issued, elements_of(case, launch, dtype, blocks), in_flight / warps)
