"""The constants of a launch, and the warps of its first blocks."""
import struct
from collections import Counter
from dataclasses import dataclass

from machine import Warp
from memory import words_of

WARP = 32
# Where a constant bank has what the driver puts there: parameters, by architecture, and of a cluster
# whether there is one and how many blocks it has.
PARAMETERS_AT = {75: 0x160, 80: 0x160, 86: 0x160, 89: 0x160, 90: 0x210}
STACK_AT, IS_CLUSTER_AT, CLUSTER_BLOCKS_AT = 0x28, 0x140, 0x188
STACK = 0xfffdc0
SHARED_WINDOW = 0x7e00  # the upper half of the addresses of a cluster's shared memory
# Planes of which every alignment is met.
PLANES = 8
# The most elements of a thread that its registers hold. Where it has more there are loops.
IN_REGISTERS = 64


def constants(launch):
    """Constant bank 0."""
    bank = bytearray(PARAMETERS_AT[launch.arch])
    struct.pack_into("<6I", bank, 0, launch.threads, 1, 1, launch.grid, 1, 1)
    struct.pack_into("<I", bank, STACK_AT, STACK)
    if launch.arch >= 90:
        struct.pack_into("<I", bank, IS_CLUSTER_AT, launch.cluster > 1)
        struct.pack_into("<I", bank, CLUSTER_BLOCKS_AT, launch.cluster)
    return bytes(bank) + bytes.fromhex(launch.arguments)


def blocks_of(launch):
    """How many blocks are counted, from the first one on: a cluster, or what meets every alignment."""
    if launch.cluster > 1 or launch.aligned:
        return launch.cluster
    # A block has several planes, one, or a part of one.
    of_planes = -(-PLANES * min(launch.grid, launch.planes) // launch.planes)
    return min(launch.grid, of_planes)


def elements_of(launch, blocks):
    """The elements that so many blocks have. All have as many, but for the last ones of planes that are cut."""
    return launch.elements * blocks / launch.grid


def sampled(count, every):
    """Which of so many are counted, each with how many it stands for: all, or the first two and the last."""
    if every or count <= 3:
        return [(k, 1) for k in range(count)]
    return [(0, 1), (1, count - 2), (count - 1, 1)]


@dataclass
class Count:
    """Of the warps of some blocks."""
    issued: Counter  # instructions by class
    elements: float  # of the tensor, which the blocks have together
    bytes_in_flight: float  # of a warp, on average

    def an_element(self):
        return sum(self.issued.values()) * WARP / self.elements


def run(kernel, banks, launch):
    """Counts the blocks of the first elements. In clusters that share a plane, and where threads have loops, most do the same."""
    banks, memory = {0: constants(launch), **banks}, words_of(launch.dtype)
    blocks = blocks_of(launch)
    of_plane = launch.cluster > 1 and launch.cluster * launch.planes == launch.grid
    loops = launch.elements > IN_REGISTERS * launch.grid * launch.threads
    issued, in_flight, warps = Counter(), 0, 0
    for block, for_blocks in sampled(blocks, not of_plane):
        for warp, for_warps in sampled(launch.threads // WARP, not loops):
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
    return Count(issued, elements_of(launch, blocks), in_flight / warps)
