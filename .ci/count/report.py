"""The counts as a Markdown file, and how new ones compare with it."""
from dataclasses import dataclass, field

from rows import Row

INTRODUCTION = """\
# Counted

What compiled kernels ask of a multiprocessor, counted without one: `.ci/count` compiles the PTX of a build
with ptxas and executes the listing of nvdisasm, lane by lane, for warps of the first blocks.

    .ci/counted --arch 75,80,89,90 --write kernels/cuda/counted.md     makes this file
    .ci/counted --arch 75,90 --check kernels/cuda/counted.md           compares with it, as the gate does

No row may have over 3 % more instructions than here, fewer resident warps or less in flight. A kernel with an
activation or a residual may get worse: with this file renewed, and the reason in the commit.

A row is a kernel that a shape gets, on a T4 (sm_75), an A100 (80), an L40S (89) or an H200 (90).

- resident warps: how many a multiprocessor has registers, shared memory and room for. There may be fewer
  where planes are few.
- KB in flight: what all of these have asked of memory, each at the time when it has asked for most before
  it waits for any of it.
- instructions: of a thread for an element, those that a warp issues times 32 over the elements of the tensor
  that it has. Both arms of a branch count where lanes diverge.

"""
ROWS = "| kernel | shape | dtype | sm | registers | resident warps | KB in flight | instructions |"
REGISTERS = """
Registers a thread: plain, then full (with what goes beside the normalization). No kernel has local memory, be it
for spilled registers or a stack frame: the check fails where one does.

"""
# A count may grow by so much.
MOST_GROWTH = 1.03
# What is in the file is rounded.
ROUNDED = 0.999


@dataclass
class Counted:
    rows: dict = field(default_factory=dict)  # by key
    # The text of each kernel's registers, by name, dtype and architecture.
    registers: dict = field(default_factory=dict)


def cell(variants):
    """What a thread of a kernel has, in its variants."""
    return " / ".join(str(variants[v].registers) for v in sorted(variants, reverse=True))


def counted(rows, kernels):
    """`kernels` has the resources by name, dtype, architecture and variant."""
    cells = {}
    for (name, dtype, arch, variant), has in kernels.items():
        cells.setdefault((name, dtype, arch), {})[variant] = has
    texts = {key: cell(variants) for key, variants in cells.items()}
    return Counted({row.key(): row for row in rows}, texts)


def markdown(new):
    out = INTRODUCTION + ROWS + "\n" + "|---|---|---|--:|--:|--:|--:|--:|\n"
    for row in new.rows.values():
        out += (f"| {row.kernel} | {row.shape} | {row.dtype} | {row.arch} | {row.registers} | {row.warps} | "
                f"{row.in_flight / 1024:.1f} | {row.an_element:.4g} |\n")
    archs = sorted({arch for _, _, arch in new.registers})
    out += REGISTERS + "| kernel | dtype |" + "".join(f" sm_{arch} |" for arch in archs) + "\n"
    out += "|---|---|" + "--:|" * len(archs) + "\n"
    for name, dtype in sorted({(name, dtype) for name, dtype, _ in new.registers}):
        cells = [new.registers.get((name, dtype, arch), "") for arch in archs]
        out += f"| {name} | {dtype} | " + " | ".join(cells) + " |\n"
    return out


def parse(text):
    """What `markdown` has written."""
    old, archs = Counted(), []
    for line in text.splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        if line.startswith("| kernel | dtype |"):
            archs = [int(c[len("sm_"):]) for c in cells[2:]]
        elif line.startswith("| in_") and not archs:
            kernel, shape, dtype, arch, registers, warps, kb, instructions = cells
            row = Row(kernel, shape, dtype, int(arch), int(registers), int(warps), float(kb) * 1024,
                      float(instructions))
            old.rows[row.key()] = row
        elif line.startswith("| in_"):
            old.registers.update(((cells[0], cells[1], arch), c) for arch, c in zip(archs, cells[2:]) if c)
    return old


def faults_of_memory(kernels):
    """Kernels that keep anything in local memory, be it spilled registers or a stack frame."""
    return [f"{name} {variant} {dtype} on sm_{arch} has {has.local()} bytes of local memory"
            for (name, dtype, arch, variant), has in kernels.items() if has.local()]


def faults_of_counts(new, old):
    """Where new counts are worse than those of the file, or not there."""
    faults = [f"{' '.join(key[:2])} on sm_{key[2]} is not in the file"
              for key in new.registers if key not in old.registers]
    for key, row in new.rows.items():
        of = f"{row.kernel} of {row.shape} {row.dtype} on sm_{row.arch}"
        if key not in old.rows:
            faults.append(f"{of} is not in the file")
            continue
        before = old.rows[key]
        if row.an_element > before.an_element * MOST_GROWTH:
            faults.append(f"{of}: {row.an_element:.4g} instructions, {before.an_element:.4g} before")
        if row.warps < before.warps:
            faults.append(f"{of}: {row.warps} resident warps, {before.warps} before")
        if round(row.in_flight / 1024, 1) < before.in_flight / 1024 * ROUNDED:
            kb, kb_before = row.in_flight / 1024, before.in_flight / 1024
            faults.append(f"{of}: {kb:.1f} KB in flight, {kb_before:.1f} before")
    return faults
