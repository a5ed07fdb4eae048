"""How many warps a multiprocessor keeps at a time."""
from dataclasses import dataclass

REGISTERS = 65536  # of a multiprocessor
REGISTERS_TOGETHER = 256  # that a warp gets at once
WARPS_TOGETHER = 4  # warps are spread over as many schedulers


@dataclass(frozen=True)
class Limits:
    """Of a multiprocessor. Of its shared memory a block takes multiples of `shared_together` bytes, with
    `reserved` ones for the system."""
    warps: int
    blocks: int
    shared: int
    reserved: int = 1024
    shared_together: int = 128


LIMITS = {
    75: Limits(32, 16, 64 << 10, 0, 256),
    80: Limits(64, 32, 164 << 10),
    86: Limits(48, 16, 100 << 10),
    89: Limits(48, 24, 100 << 10),
    90: Limits(64, 32, 228 << 10),
    100: Limits(64, 32, 228 << 10),
    120: Limits(48, 24, 100 << 10),
}


def next_multiple(n, of):
    return -(-n // of) * of


def resident_warps(arch, registers, threads, shared):
    limits, warps = LIMITS[arch], -(-threads // 32)
    of_warp = next_multiple(registers * 32, REGISTERS_TOGETHER)
    with_registers = REGISTERS // of_warp // WARPS_TOGETHER * WARPS_TOGETHER
    of_block = next_multiple(shared + limits.reserved, limits.shared_together)
    blocks = min(limits.blocks, limits.warps // warps,
                 with_registers // warps,
                 limits.shared // of_block if of_block else limits.blocks)
    return blocks * warps
