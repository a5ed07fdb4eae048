"""Loads and stores, and what there is to load."""
from bits import LONG_MASK, MASK, signed
from sass import Unknown

ONE = 0x3f800000  # 1.0, in shared memory that no lane of the warp has written
SCALES = {".X4": 4, ".X8": 8, ".X16": 16}


def words_of(dtype):
    """Global memory as a function from an address to a word: numbers of the dtype from 1 to 2 that differ
    from place to place. Those of a half type are, as f32, above 0 as well."""
    def mixed(address):
        return (address >> 2) * 0x9e3779b1 & MASK
    of = {
        "f32": lambda h, address: 0x3f800000 | h >> 9,
        "bf16": lambda h, address: 0x3f803f80 | h >> 9 & 0x7f | h >> 2 & 0x7f0000,
        "f16": lambda h, address: 0x3c003c00 | h >> 6 & 0x3ff | h >> 3 & 0x3ff0000,
        "f64": lambda h, address: 0x3ff00000 | h >> 12 if address & 4 else h,
    }[dtype]
    return lambda address: of(mixed(address), address)


def addresses(w, o):
    total = [0] * 32
    for term in o.terms:
        if term.kind == "R" and ".64" in term.part:
            values = w.longs(term)
        elif term.kind == "R":
            values = [v * SCALES.get(term.part, 1) for v in w.words(term)]
        elif term.kind == "UR" and len(o.terms) > 1 and ".64" in o.terms[0].part:
            values = w.longs(term)
        elif term.kind == "immediate":
            values = [signed(v) for v in w.words(term)]
        else:
            values = w.words(term)
        total = [a + b for a, b in zip(total, values)]
    return [v & LONG_MASK for v in total]


def part_of(word, address, size):
    """What a load of so many bytes takes of a word."""
    return word if size >= 4 else word >> 8 * (address & 3) & (1 << 8 * size) - 1


def check(w, i, at):
    size = i.bytes
    if any(at[lane] % size for lane in w.active):
        raise Unknown(f"addresses that are not aligned: {[hex(at[lane]) for lane in w.active]}")


def global_load(w, i):
    at = addresses(w, i.operands[1])
    check(w, i, at)
    active, size = set(w.active), i.bytes
    count = max(1, size // 4)
    words = [[part_of(w.memory((v & -4) + 4 * k), v, size) if lane in active else 0
              for lane, v in enumerate(at)] for k in range(count)]
    w.issue_load(i.operands[0], words, size)


def global_store(w, i):
    """What is stored is of no later use, but has to be there."""
    check(w, i, addresses(w, i.operands[0]))
    stored_words(w, i, i.operands[1])


def stored_words(w, i, o):
    count = max(1, i.bytes // 4)
    if o.index + count > 255 and o.index != 255:
        raise Unknown("registers behind the last one")
    return [w.register("R", min(o.index + k, 255)) for k in range(count)]


def near_load(w, i):
    """From shared memory, or of each lane's own local memory."""
    at = addresses(w, i.operands[1])
    check(w, i, at)
    local = i.op == "LDL"
    words = []
    for k in range(max(1, i.bytes // 4)):
        if local:
            words.append([w.local.get((lane, v + 4 * k), 0) for lane, v in enumerate(at)])
        else:
            words.append([w.shared.get(v + 4 * k, ONE) for v in at])
    w.set_words(i.operands[0], words)


def near_store(w, i):
    at = addresses(w, i.operands[0])
    check(w, i, at)
    for k, values in enumerate(stored_words(w, i, i.operands[1])):
        for lane in w.active:
            if i.op == "STL":
                w.local[lane, at[lane] + 4 * k] = values[lane]
            else:
                w.shared[at[lane] + 4 * k] = values[lane]


def constant_load(w, i):
    out, source = i.operands
    if i.has("64"):
        w.set_longs(out, w.longs(source, i.width))
    else:
        size = 8 * min(4, i.bytes)
        w.set(out, [v & (1 << size) - 1 for v in w.words(source, i.width)])


OPS = {
    "LDG": global_load, "STG": global_store, "ST": global_store, "LDS": near_load, "STS": near_store,
    "LDL": near_load, "STL": near_store, "LDC": constant_load, "ULDC": constant_load,
}
