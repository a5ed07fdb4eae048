"""Instructions that compute floating-point numbers, or convert them."""
import math

from bits import (LONG_MASK, MASK, as_doubles, as_floats, as_longs, as_words, bfloat_bits, half,
                  half_bits)
from compare import COMBINE, COMPARE, named, set_flags
from sass import Unknown, bare

ONE = 0x3f800000


def read(sources, how):
    return zip(*map(how, sources))


def saturated(i, values):
    return [min(max(v, 0.), 1.) if v == v else 0. for v in values] if i.has("SAT") else values


def fadd(w, i):
    sums = [a + b for a, b in read(i.operands[1:3], w.floats)]
    w.set(i.operands[0], as_words(saturated(i, sums)))


def fmul(w, i):
    products = [a * b for a, b in read(i.operands[1:3], w.floats)]
    w.set(i.operands[0], as_words(saturated(i, products)))


def ffma(w, i):
    sums = [a * b + c for a, b, c in read(i.operands[1:4], w.floats)]
    w.set(i.operands[0], as_words(saturated(i, sums)))


def fsel(w, i):
    out, a, b, by = i.operands
    w.set(out, as_words([x if p else y for x, y, p in zip(w.floats(a), w.floats(b), w.flags(by))]))


def fmnmx(w, i):
    out, a, b, by = i.operands
    values = zip(w.floats(a), w.floats(b), w.flags(by))
    w.set(out, as_words([(min if p else max)(x, y) for x, y, p in values]))


def fsetp(w, i):
    how = w.doubles if i.op == "DSETP" else w.floats
    compare = named(i, COMPARE)
    set_flags(w, i, [compare(a, b) for a, b in read(i.operands[2:4], how)], i.operands[4])


def fset(w, i):
    out, a, b, by = i.operands
    combine, compare = named(i, COMBINE), named(i, COMPARE)
    results = [combine(compare(x, y), p) for x, y, p in zip(w.floats(a), w.floats(b), w.flags(by))]
    one = ONE if i.has("BF") else MASK
    w.set(out, [one if v else 0 for v in results])


def fchk(w, i):
    """Whether a quotient needs more than the short way: where an exponent is far from 0."""
    def far(a, b):
        exponents = [math.frexp(v)[1] if math.isfinite(v) else 999 for v in (a, b)]
        return b == 0 or max(map(abs, exponents)) > 120 or abs(exponents[0] - exponents[1]) > 120
    w.set(i.operands[0], [far(a, b) for a, b in read(i.operands[1:3], w.floats)])


def dadd(w, i):
    w.set_longs(i.operands[0], as_longs([a + b for a, b in read(i.operands[1:3], w.doubles)]))


def dmul(w, i):
    w.set_longs(i.operands[0], as_longs([a * b for a, b in read(i.operands[1:3], w.doubles)]))


def dfma(w, i):
    w.set_longs(i.operands[0], as_longs([a * b + c for a, b, c in read(i.operands[1:4], w.doubles)]))


def safely(f):
    def g(v):
        try:
            return f(v)
        except (ZeroDivisionError, OverflowError):
            return math.copysign(math.inf, v)
        except ValueError:
            return math.nan
    return g


MUFU = {mod: safely(f) for mod, f in {
    "RCP": lambda v: 1 / v, "RSQ": lambda v: 1 / math.sqrt(v), "SQRT": math.sqrt, "EX2": lambda v: 2. ** v,
    "LG2": math.log2, "TANH": math.tanh,
}.items()}


def mufu(w, i):
    out, source = i.operands
    function = i.mods[0]
    if function.endswith("64H"):
        # Of the high word of an f64.
        values = as_doubles([v << 32 for v in w.words(source)])
        w.set(out, [v >> 32 for v in as_longs([MUFU[function[:-3]](v) for v in values])])
    else:
        w.set(out, as_words([MUFU[function](v) for v in w.floats(source)]))


INTEGERS = {"U8": 8, "U16": 16, "U32": 32, "U64": 64, "S8": 8, "S16": 16, "S32": 32, "S64": 64}


def integer_type(i):
    name = next((mod for mod in i.mods if mod in INTEGERS), "S32")
    return name[0] == "S", INTEGERS[name]


def i2f(w, i):
    out, source = i.operands
    is_signed, size = integer_type(i)
    values = w.longs(source) if size == 64 else [v & (1 << size) - 1 for v in w.words(source)]
    if is_signed:
        values = [v - (1 << size) if v >> size - 1 else v for v in values]
    if i.has("F64"):
        w.set_longs(out, as_longs(list(map(float, values))))
        return
    words = as_words(list(map(float, values)))
    if i.has("RP"):
        # The kernels divide integers by it, which are not negative here.
        words = [word + (f < v) for word, f, v in zip(words, as_floats(words), values)]
    w.set(out, words)


def f2i(w, i):
    out, source = i.operands
    is_signed, size = integer_type(i)
    low, high = (-1 << size - 1, (1 << size - 1) - 1) if is_signed else (0, (1 << size) - 1)
    rounded = next((f for mod, f in (("FLOOR", math.floor), ("CEIL", math.ceil), ("TRUNC", math.trunc))
                    if i.has(mod)), round)

    def convert(v):
        if v != v:
            return 0
        return min(max(rounded(v), low), high) if math.isfinite(v) else high if v > 0 else low
    values = [convert(v) for v in (w.doubles(source) if i.has("F64") else w.floats(source))]
    if size == 64:
        w.set_longs(out, [v & LONG_MASK for v in values])
    else:
        w.set(out, [v & MASK for v in values])


def f2f(w, i):
    out, source = i.operands
    to, of = [mod for mod in i.mods if mod in ("F16", "F32", "F64", "BF16")]
    values = {"F64": w.doubles, "F32": w.floats, "F16": lambda o: halves(w, o)}[of](source)
    if to == "F64":
        w.set_longs(out, as_longs(values))
    elif to == "F32":
        w.set(out, as_words(values))
    elif to == "F16":
        w.set(out, list(map(half_bits, values)))
    else:
        w.set(out, list(map(bfloat_bits, as_words(values))))


def f2fp(w, i):
    """Two f32, the first above the second, as a pair of a half type."""
    out, *sources = i.operands
    bits = (lambda v: bfloat_bits(as_words([v])[0])) if i.has("BF16") else half_bits
    w.set(out, [bits(a) << 16 | bits(b) for a, b in read(sources[:2], w.floats)])


def halves(w, o):
    """The f16 that an operand names of a register."""
    shift = 16 if o.part == ".H1_H1" else 0
    values = [half(v >> shift & 0xffff) for v in w.words(bare(o))]
    return [-v for v in values] if o.negate else values


def hadd2(w, i):
    if not i.has("F32") or any(o.absolute for o in i.operands):
        raise Unknown("a pair of f16")
    sums = [a + b for a, b in read(i.operands[1:3], lambda o: halves(w, o))]
    w.set(i.operands[0], as_words(sums))


OPS = {
    "FADD": fadd, "FMUL": fmul, "FFMA": ffma, "FSEL": fsel, "FMNMX": fmnmx, "FSETP": fsetp, "DSETP": fsetp,
    "FSET": fset, "FCHK": fchk, "DADD": dadd, "DMUL": dmul, "DFMA": dfma, "MUFU": mufu, "I2F": i2f,
    "I2FP": i2f, "F2I": f2i, "F2F": f2f, "F2FP": f2fp, "HADD2": hadd2,
}
