"""Instructions that decide where lanes go on, and with which others."""
from bits import MASK
from sass import Unknown


def target(w, i):
    """The address of the label in an instruction."""
    label = i.operands[-1].value
    if label not in w.kernel.labels:
        raise Unknown(f"no label {label}")
    return w.kernel.labels[label]


def bra(w, i):
    taken = w.active
    if i.has("DIV"):
        # To code that does the same for lanes that are apart.
        taken = taken if set(taken) != w.live else []
    elif i.has("CONV"):
        # Past a barrier of the warp that lanes which are together need not wait at.
        taken = taken if set(taken) == w.live else []
    else:
        for predicate in (o for o in i.operands if o.kind in ("P", "UP")):
            flags = w.flags(predicate)
            taken = [lane for lane in taken if flags[lane]]
    w.branch(taken, target(w, i) if taken else 0)


def to_registers(w, addresses):
    """Each active lane to an address of its own."""
    active = w.active
    for address in sorted({addresses[lane] for lane in active}):
        w.go(address, [lane for lane in active if addresses[lane] == address])
    w.go(w.next, [lane for lane in w.lanes if lane not in set(active)])


def brx(w, i):
    """To the sum of a register, a number and the address behind the instruction."""
    parts = [w.words(o) for o in i.operands if o.kind != "label"]
    to_registers(w, [sum(of) + w.next & MASK for of in zip(*parts)])


def call(w, i):
    # The caller leaves the address to return to in registers.
    w.branch(w.active, target(w, i))


def ret(w, i):
    to_registers(w, [v & MASK for v in w.words(i.operands[0])])


def bssy(w, i):
    together = frozenset(w.active)
    for lane in together:
        w.barriers[i.operands[0].index, lane] = together
    w.go(w.next, w.lanes)


def bsync(w, i):
    index = i.operands[0].index
    if w.active:
        together = w.barriers[index, w.active[0]]
        w.wait_for(("B", index, together), together)
    else:
        w.go(w.next, w.lanes)


def warpsync(w, i):
    if i.has("COLLECTIVE"):
        raise Unknown("a collective of lanes that are apart")
    mask = MASK if i.has("ALL") else w.words(i.operands[0])[w.active[0]]
    together = frozenset(lane for lane in range(32) if mask >> lane & 1)
    w.wait_for(("warp", together), together)


def barrier(w, i):
    w.wait_for(("block", i.op), frozenset(range(32)))


def leave(w, i):
    w.exit()


def nothing(w, i):
    w.go(w.next, w.lanes)


CONTROL = {
    "BRA": bra, "BRX": brx, "BRXU": brx, "CALL": call, "RET": ret, "BSSY": bssy, "BSYNC": bsync,
    "WARPSYNC": warpsync, "BAR": barrier, "UCGABAR_ARV": nothing, "UCGABAR_WAIT": barrier, "EXIT": leave,
    # The fences, and what tells the scheduler or the barrier's register something.
    **dict.fromkeys(("NOP", "YIELD", "BMOV", "MEMBAR", "ERRBAR", "CGAERRBAR", "CCTL"), nothing),
}
