"""Instructions that compute integers, bits and predicates.

A function takes the warp and the instruction, here and in the files beside this one.
"""
from bits import LONG_MASK, MASK, signed, signed_long
from compare import COMPARE, named, set_flags
from sass import bare


def split(i, predicates=1):
    """The operands of an instruction: the result, the predicates that it writes beside that (as many as
    stand there, at most so many), and what it reads."""
    k = 1
    while k <= predicates and i.operands[k].kind in ("P", "UP"):
        k += 1
    return i.operands[0], i.operands[1:k], i.operands[k:]


def read(w, i, sources, how=None):
    """The values of all operands, lane by lane."""
    return zip(*((how or w.words)(o, i.width) for o in sources))


def iadd3(w, i):
    out, carries, sources = split(i, 2)
    numbers, into = sources[:3], sources[3:]
    # A negated one is its complement plus 1, which carries for 0.
    values = [[(v ^ MASK) + 1 for v in w.words(bare(o), i.width)] if o.negate else w.words(o, i.width)
              for o in numbers]
    if i.has("X"):
        values += [w.flags(p, i.width) for p in into]
    sums = [sum(of) for of in zip(*values)]
    w.set(out, [v & MASK for v in sums])
    for k, carry in enumerate(carries):
        w.set(carry, [v >> 32 > k for v in sums])


def viadd(w, i):
    w.set(i.operands[0], [a + b & MASK for a, b in read(w, i, i.operands[1:3])])


def imad(w, i):
    out, carries, (a, b, c, *into) = split(i)
    if i.has("WIDE") or i.has("HI"):
        of = (lambda v: v) if i.has("U32") else signed
        products = [of(x) * of(y) & LONG_MASK for x, y in read(w, i, [a, b])]
        sums = [p + v for p, v in zip(products, w.longs(c, i.width))]
        if i.has("X"):
            sums = [v + p for v, p in zip(sums, w.flags(into[0], i.width))]
        if i.has("HI"):
            w.set(out, [v >> 32 & MASK for v in sums])
        else:
            w.set_longs(out, sums)
        carried = [v >> 64 != 0 for v in sums]
    else:
        sums = [x * y + z for x, y, z in read(w, i, [a, b, c])]
        if i.has("X"):
            sums = [v + p for v, p in zip(sums, w.flags(into[0], i.width))]
        w.set(out, [v & MASK for v in sums])
        carried = [v >> 32 != 0 for v in sums]
    for carry in carries:
        w.set(carry, carried)


def lea(w, i):
    """a << shift, of 64 bits with what stands behind b if the high part is meant, plus b."""
    out, carries, (a, b, *rest) = split(i)
    if i.has("HI"):
        if i.has("SX32"):
            wide = [signed(v) for v in w.words(a, i.width)]
        else:
            above, *rest = rest
            wide = [low | high << 32 for low, high in read(w, i, [a, above])]
    else:
        wide = w.words(a, i.width)
    shift, into = w.words(rest[0], 1)[0], rest[1:]
    shifted = [v << shift for v in wide]
    if i.has("HI"):
        shifted = [v >> 32 for v in shifted]
    sums = [(v & MASK) + y for v, y in zip(shifted, w.words(b, i.width))]
    if i.has("X"):
        sums = [v + p for v, p in zip(sums, w.flags(into[0], i.width))]
    w.set(out, [v & MASK for v in sums])
    for carry in carries:
        w.set(carry, [v >> 32 != 0 for v in sums])


def shf(w, i):
    """A funnel shift of {c, a}, of which one word is the result."""
    out, (a, by, c) = i.operands[0], i.operands[1:4]
    wide = i.has("U64") or i.has("S64")
    most = 63 if wide else 32
    wraps, is_signed = i.has("W"), i.has("S32") or i.has("S64")
    right, upper = i.has("R"), i.has("HI")
    results = []
    for low, n, high in read(w, i, [a, by, c]):
        n = n & (63 if wide else 31) if wraps else min(n, most)
        v = low | high << 32
        if is_signed:
            v = signed_long(v)
        v = v >> n if right else v << n
        results.append((v >> 32 if upper else v) & MASK)
    w.set(out, results)


def lop3(w, i):
    # The predicate that says whether any bit is set stands in front.
    flag, out, sources = None, i.operands[0], i.operands[1:]
    if out.kind in ("P", "UP"):
        flag, out, sources = out, sources[0], sources[1:]
    table = sources[3].value
    terms = [k for k in range(8) if table >> k & 1]
    results = []
    for a, b, c in read(w, i, sources[:3]):
        v = 0
        for k in terms:
            v |= (a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c)
        results.append(v & MASK)
    w.set(out, results)
    if flag:
        w.set(flag, [v != 0 for v in results])


def plop3(w, i):
    first, second, *sources = i.operands
    table, other = sources[3].value, sources[4].value
    index = [a << 2 | b << 1 | c for a, b, c in read(w, i, sources[:3], w.flags)]
    w.set(first, [bool(table >> k & 1) for k in index])
    w.set(second, [bool(other >> k & 1) for k in index])


def sel(w, i):
    out, a, b, by = i.operands
    w.set(out, [x if p else y for (x, y), p in zip(read(w, i, [a, b]), w.flags(by, i.width))])


def iabs(w, i):
    w.set(i.operands[0], [abs(signed(v)) for v in w.words(i.operands[1])])


def least(w, i, values):
    """The lesser of pairs, or the greater where the last operand is false."""
    of = (lambda v: v) if i.has("U32") else signed
    flags = w.flags(i.operands[-1], i.width)
    w.set(i.operands[0], [(min if p else max)(a, b, key=of) for (a, b), p in zip(values, flags)])


def imnmx(w, i):
    least(w, i, read(w, i, i.operands[1:3]))


def viaddmnmx(w, i):
    least(w, i, [(a + b & MASK, c) for a, b, c in read(w, i, i.operands[1:4])])


def prmt(w, i):
    out, a, by, b = i.operands
    results = []
    for low, selector, high in read(w, i, [a, by, b]):
        both = (low | high << 32).to_bytes(8, "little")
        v = 0
        for k in range(4):
            nibble = selector >> 4 * k & 15
            byte = both[nibble & 7]
            v |= (255 * (byte >> 7) if nibble & 8 else byte) << 8 * k
        results.append(v)
    w.set(out, results)


def isetp(w, i):
    first, second, a, b, by, *below = i.operands
    of = (lambda v: v) if i.has("U32") else signed
    pairs = [(of(x), of(y)) for x, y in read(w, i, [a, b])]
    compare = named(i, COMPARE)
    values = [compare(x, y) for x, y in pairs]
    if i.has("EX"):
        # The words above those that the last predicate tells of, which decides where these are equal.
        lower = w.flags(below[0], i.width)
        if i.has("NE"):
            values = [v or p for v, p in zip(values, lower)]
        elif i.has("EQ"):
            values = [v and p for v, p in zip(values, lower)]
        else:
            values = [p if x == y else v for (x, y), v, p in zip(pairs, values, lower)]
    set_flags(w, i, values, by)


OPS = {
    "IADD3": iadd3, "UIADD3": iadd3, "VIADD": viadd, "IMAD": imad, "UIMAD": imad, "LEA": lea, "ULEA": lea,
    "SHF": shf, "USHF": shf, "LOP3": lop3, "ULOP3": lop3, "PLOP3": plop3, "UPLOP3": plop3,
    "ISETP": isetp, "UISETP": isetp, "SEL": sel, "USEL": sel, "IABS": iabs, "IMNMX": imnmx, "VIMNMX": imnmx,
    "VIADDMNMX": viaddmnmx, "PRMT": prmt, "UPRMT": prmt,
}
