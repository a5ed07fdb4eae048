"""SASS, as `nvdisasm -c` prints it, as instructions with parsed operands."""
import dataclasses
import functools
import re
from dataclasses import dataclass, field

BYTES = 16  # of an instruction, from sm_75 on
# Bytes of an access by what its name has; 4 without any of these.
ACCESSES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}

SECTION = re.compile(r"\.text\.(\w+):$")
LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z]\w*)([.\w]*)\s*(.*?)\s*;$")
NOTE = re.compile(r'\(\*".*?"\*\)')
REGISTER = re.compile(r"(U?)R(\d+|Z)((?:\.\w+)*)$")
PREDICATE = re.compile(r"U?P(\d|T)$")
CONSTANT = re.compile(r"c\[0x(\w+)\]\[([^\]]+)\]((?:\.\w+)*)$")
MEMORY = re.compile(r"(?:desc\[UR\d+\])?\[([^\]]+)\]$")
NUMBERS = {"INF": float("inf"), "QNAN": float("nan"), "SNAN": float("nan")}
# Registers are numbered from 0 on; the last of each kind is constant.
LAST = {"R": 255, "UR": 63, "P": 7, "UP": 7}


class Unknown(Exception):
    """Text that the counter does not know, which would make its counts wrong."""


@dataclass
class Operand:
    kind: str  # R, UR, P, UP, B, immediate, constant, memory, label or special
    index: int = 0  # of a register, or the bank of a constant
    value: object = None  # of an immediate, the name of a label or of a special register
    negate: bool = False  # of a predicate: `!`
    invert: bool = False
    absolute: bool = False
    part: str = ""  # what of the register is meant, as ".H0_H0"
    terms: list = field(default_factory=list)  # whose sum is an address or the place in a bank


@dataclass
class Instruction:
    address: int
    guard: object  # an operand or None
    op: str
    mods: list
    operands: list
    text: str

    def __post_init__(self):
        # Uniform instructions compute one value for the warp.
        self.width = 1 if self.op[0] == "U" else 32

    def has(self, mod):
        return mod in self.mods

    @functools.cached_property
    def bytes(self):
        """Of an access to memory, and of a lane."""
        return next((size for mod, size in ACCESSES.items() if mod in self.mods), 4)


@dataclass
class Kernel:
    name: str
    instructions: dict  # by address
    labels: dict  # the address behind each


def number(text):
    """The bits of a hexadecimal immediate, the float that another one is."""
    if re.fullmatch(r"-?0x[0-9a-f]+", text):
        return int(text, 16) & 0xffffffff
    sign = -1. if text.startswith("-") else 1.
    magnitude = text.lstrip("+-")
    return sign * NUMBERS[magnitude] if magnitude in NUMBERS else sign * float(magnitude)


def address_terms(text):
    """The operands whose sum is an address, as of `R2.64+UR4+-0x8`."""
    return [operand(term) for term in re.split(r"\+", text)]


@functools.lru_cache(maxsize=None)
def operand(text):
    """An operand; equal ones are one object."""
    text = text.strip().replace(".reuse", "")
    out = Operand("")
    while text[0] in "!~|" or text[0] == "-" and re.match(r"-[|Rc]|-UR", text):
        if text[0] == "|":
            out.absolute, text = True, text.replace("|", "")
        else:
            out.negate |= text[0] in "!-"
            out.invert |= text[0] == "~"
            text = text[1:]
    if match := REGISTER.match(text):
        out.kind = match[1] + "R"
        out.index, out.part = LAST[out.kind] if match[2] == "Z" else int(match[2]), match[3]
    elif match := PREDICATE.match(text):
        out.kind = text[:-1]
        out.index = LAST[out.kind] if match[1] == "T" else int(match[1])
    elif match := CONSTANT.match(text):
        out.kind, out.index, out.part = "constant", int(match[1], 16), match[3]
        out.terms = address_terms(match[2])
    elif match := MEMORY.match(text):
        out.kind, out.terms = "memory", address_terms(match[1])
    elif match := re.match(r"`\((.*)\)$", text):
        out.kind, out.value = "label", match[1]
    elif match := re.match(r"B(\d+)$", text):
        out.kind, out.index = "B", int(match[1])
    elif re.match(r"SR|U?PR$", text):
        out.kind, out.value = "special", text
    else:
        try:
            out.kind, out.value = "immediate", number(text)
        except ValueError:
            raise Unknown(f"operand {text!r}") from None
    return out


def bare(o):
    """An operand without its signs."""
    return dataclasses.replace(o, negate=False, invert=False, absolute=False)


def operands(text):
    text = NOTE.sub("", text).strip()
    # A jump to what a register has: what is added to it stands behind a space.
    text = re.sub(r"^(U?R\d+) (?=[-`0])", r"\1, ", text)
    return [operand(part) for part in text.split(",") if part.strip()]


def instruction(line):
    match = LINE.match(NOTE.sub("", line))
    if not match:
        raise Unknown(f"line {line!r}")
    address, guard, op, mods, rest = match.groups()
    text = line.split("*/", 1)[1].strip()
    try:
        return Instruction(int(address, 16), operand(guard) if guard else None, op,
                           mods.split(".")[1:], operands(rest), text)
    except Unknown as unknown:
        raise Unknown(f"{address}: {text}: {unknown}") from None


def parse(text, wanted=None):
    """The kernels of a listing by their names: all, or those that are wanted."""
    kernels, kernel, open_labels = {}, None, []
    for line in map(str.strip, text.splitlines()):
        if match := SECTION.match(line):
            kernel = None
            if wanted is None or match[1] in wanted:
                kernel = kernels[match[1]] = Kernel(match[1], {}, {})
        elif line.startswith((".section", "//--")):
            kernel = None
        elif kernel is None:
            continue
        elif line.startswith("/*"):
            try:
                parsed = instruction(line)
            except Unknown as unknown:
                raise Unknown(f"{kernel.name}: {unknown}") from None
            kernel.instructions[parsed.address] = parsed
            kernel.labels.update((label, parsed.address) for label in open_labels)
            open_labels = []
        elif line.endswith(":"):
            open_labels.append(line[:-1])
    return kernels
