"""Instructions that move values between registers, predicates and lanes."""
from bits import MASK, half_bits
from sass import Unknown


def mov(w, i):
    w.set(i.operands[0], w.words(i.operands[1], i.width))


def r2ur(w, i):
    w.set(i.operands[0], [w.words(i.operands[1])[w.active[0]]])


def kind_of(all_predicates):
    """P or UP, of PR or UPR."""
    return all_predicates.value[:-1]


def p2r(w, i):
    out, predicates, old, mask = i.operands
    flags = list(zip(*w.registers[kind_of(predicates)][:7]))
    bits = [sum(flag << k for k, flag in enumerate(of)) for of in flags]
    w.set(out, [v & ~mask.value & MASK | b & mask.value for v, b in zip(w.words(old), bits)])


def r2p(w, i):
    predicates, source, mask = i.operands
    values = w.words(source, 32 if kind_of(predicates) == "P" else 1)
    for k in range(7):
        if mask.value >> k & 1:
            w.put(kind_of(predicates), k, [bool(v >> k & 1) for v in values])


def special(w, i):
    out, source = i.operands
    name = source.value
    if name not in w.specials:
        raise Unknown(f"special register {name}")
    value = w.specials[name]
    width = 1 if out.kind == "UR" else 32
    values = [value] * width if isinstance(value, int) else list(value)[:width]
    if i.op == "CS2R" and not i.has("32"):
        w.set_longs(out, values)
    else:
        w.set(out, values)


def constant_of_halves(w, i):
    """How the compiler loads a constant with the unit of the half types: its two halves as f16."""
    out, a, b, *both = i.operands
    if len(both) != 2 or (a.index, b.index) != (255, 255):
        raise Unknown("a pair of f16 that is computed")
    high, low = (half_bits(float(o.value)) for o in both)
    w.set(out, [high << 16 | low] * 32)


def vote(w, i):
    """Whether the predicate holds in any active lane (and in which ones)."""
    flags = w.flags(i.operands[-1])
    ballot = sum(1 << lane for lane in w.active if flags[lane])
    everywhere = all(flags[lane] for lane in w.active)
    for out in i.operands[:-1]:
        if out.kind in ("P", "UP"):
            w.set(out, [everywhere if i.has("ALL") else ballot != 0] * 32)
        else:
            w.set(out, [ballot] * 32)


def shfl(w, i):
    flag, out, a, by, limits = i.operands
    values, result, there = w.words(a), [], []
    for lane, (n, limit) in enumerate(zip(w.words(by), w.words(limits))):
        segment, last = limit >> 8 & 31, limit & 31
        first, last = lane & segment, lane & segment | last & ~segment
        source = {"BFLY": lane ^ n, "UP": lane - n, "DOWN": lane + n, "IDX": first | n & ~segment}[i.mods[0]]
        inside = source >= last if i.has("UP") else source <= last
        there.append(inside)
        result.append(values[source if inside else lane])
    w.set(out, result)
    w.set(flag, there)


OPS = {
    "MOV": mov, "UMOV": mov, "R2UR": r2ur, "P2R": p2r, "UP2UR": p2r, "R2P": r2p, "UR2UP": r2p,
    "S2R": special, "S2UR": special, "CS2R": special, "HFMA2": constant_of_halves,
    "VOTE": vote, "VOTEU": vote, "SHFL": shfl,
}
