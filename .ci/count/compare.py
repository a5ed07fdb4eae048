"""Comparisons and what they are combined with."""
import operator

COMPARE = {
    "LT": operator.lt, "LE": operator.le, "GT": operator.gt, "GE": operator.ge, "EQ": operator.eq,
    "NE": lambda a, b: a < b or a > b,
    "NUM": lambda a, b: a == a and b == b, "NAN": lambda a, b: a != a or b != b,
    "LTU": lambda a, b: not a >= b, "LEU": lambda a, b: not a > b, "GTU": lambda a, b: not a <= b,
    "GEU": lambda a, b: not a < b, "EQU": lambda a, b: not (a < b or a > b), "NEU": operator.ne,
}
COMBINE = {"AND": operator.and_, "OR": operator.or_, "XOR": operator.xor}


def named(i, table):
    """The entry of a table that an instruction names."""
    return next(table[mod] for mod in i.mods if mod in table)


def set_flags(w, i, values, by):
    """Two results: of the comparison combined with a predicate, and of its contrary."""
    combine = named(i, COMBINE)
    flags = w.flags(by, i.width)
    w.set(i.operands[0], [combine(v, p) for v, p in zip(values, flags)])
    w.set(i.operands[1], [combine(not v, p) for v, p in zip(values, flags)])
