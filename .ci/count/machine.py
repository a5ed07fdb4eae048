"""Executes the SASS of a kernel for one warp and counts what the warp issues.

All lanes at the lowest address execute together, so that an instruction is issued once for all of them, and
the arms of a divergent branch one after the other. Lanes wait for each other where a convergence barrier
(BSSY and BSYNC), a barrier of the warp or one of the block says so; other warps are never waited for.

The numbers are as good as it takes to choose the branches of a real run: f32 is rounded to nearest once a
multiply-add, and what other warps would have left in shared memory is 1.
"""
from collections import Counter
from dataclasses import dataclass

import ops
from bits import LONG_MASK, MASK, as_doubles, as_floats, as_words, signed
from sass import BYTES, Unknown

LANES = list(range(32))
ALL = frozenset(LANES)
MOST_TIMES = 100_000  # that an instruction is issued


@dataclass
class Load:
    """A load from global memory that nothing has waited for."""
    lanes: frozenset
    bytes: int


def spread(values, width):
    return values * width if len(values) < width else values


def with_sign(floats, o):
    if o.absolute:
        floats = [abs(v) for v in floats]
    return [-v for v in floats] if o.negate else floats


class Waiting:
    """Lanes that go on at an address once all of the others have come to the barrier as well."""

    def __init__(self, participants):
        self.participants, self.arrived = participants, {}


class Warp:
    """A warp of a kernel. `constants` has the bytes of each bank, `specials` the special registers' values
    (one number, or one a lane), and `memory(address)` the word that global memory has there."""

    def __init__(self, kernel, constants, specials, memory):
        self.kernel, self.constants, self.memory = kernel, constants, memory
        self.specials = {"SRZ": 0, **specials}
        self.registers = {"R": [[0] * 32] * 256, "UR": [[0]] * 64,
                          "P": [[False] * 32] * 7 + [[True] * 32], "UP": [[False]] * 7 + [[True]]}
        self.registers = {kind: list(values) for kind, values in self.registers.items()}
        self.groups = {0: LANES}  # lanes by the address of their next instruction
        self.live = ALL
        self.barriers = {}  # the lanes that meet at a convergence barrier, by its register and lane
        self.waiting = {}
        self.active = LANES  # the lanes that execute the instruction
        self.shared, self.local = {}, {}
        self.issued_at = Counter()  # how often, by address
        self.pending = {}  # loads by the register that they write
        self.outstanding = []  # loads in the order in which they were issued
        self.most_bytes = 0  # that were in flight when one of them was waited for

    def run(self):
        while self.groups:
            address = min(self.groups)
            lanes = self.groups.pop(address)
            instruction = self.kernel.instructions.get(address)
            try:
                if instruction is None:
                    raise Unknown("no instruction")
                self.step(instruction, lanes)
            except (Unknown, IndexError, KeyError, TypeError, ValueError) as error:
                text = instruction.text if instruction else ""
                raise Unknown(f"{self.kernel.name} at {address:#x}: {text} "
                              f"({type(error).__name__}: {error})") from error
        if self.live:
            raise Unknown(f"{self.kernel.name}: lanes {sorted(self.live)} wait forever")
        self.saw_wait()
        return self

    def issued(self):
        """Instructions by class."""
        out = Counter()
        for address, times in self.issued_at.items():
            out[ops.class_of(self.kernel.instructions[address])] += times
        return out

    def step(self, i, lanes):
        self.issued_at[i.address] += 1
        if self.issued_at[i.address] > MOST_TIMES:
            raise Unknown("no end of a loop")
        self.lanes, self.next = lanes, i.address + BYTES
        self.active = lanes
        if i.guard is not None:
            on = self.flags(i.guard, 32)
            self.active = [lane for lane in lanes if on[lane]]
        if i.op in ops.CONTROL:
            ops.CONTROL[i.op](self, i)
            return
        if i.op not in ops.OPS:
            raise Unknown("an instruction that the counter does not know")
        if self.active:
            ops.OPS[i.op](self, i)
        self.go(self.next, lanes)

    # Control flow.

    def go(self, address, lanes):
        """Lanes go on at an address, together with those that are there already."""
        if lanes:
            others = self.groups.get(address)
            self.groups[address] = sorted(others + lanes) if others else lanes

    def branch(self, taken, address):
        """Lanes of the current group go on at an address, and the rest of it behind the instruction."""
        taken_set = set(taken)
        self.go(address, taken)
        self.go(self.next, [lane for lane in self.lanes if lane not in taken_set])

    def wait_for(self, key, participants):
        """The active lanes wait until all participants that are alive have come to the barrier."""
        waiting = self.waiting.setdefault(key, Waiting(frozenset(participants)))
        waiting.arrived.update((lane, self.next) for lane in self.active)
        inactive = set(self.lanes) - set(self.active)
        self.go(self.next, sorted(inactive))
        self.release()

    def release(self):
        for key, waiting in list(self.waiting.items()):
            if waiting.arrived.keys() >= waiting.participants & self.live:
                del self.waiting[key]
                for address in set(waiting.arrived.values()):
                    self.go(address, sorted(l for l, at in waiting.arrived.items() if at == address))

    def exit(self):
        self.live -= set(self.active)
        self.go(self.next, [lane for lane in self.lanes if lane in self.live])
        self.release()

    # Reading operands: `width` values, a list with one for each lane or for the warp.

    def register(self, kind, index):
        if kind == "R" and index in self.pending:
            self.touch(index)
        return self.registers[kind][index]

    def raw(self, o):
        """The 32 bits of an operand without its signs: for each lane, or once where they are the same."""
        if o.kind in ("R", "UR"):
            return self.register(o.kind, o.index)
        if o.kind == "immediate":
            return [o.value] if isinstance(o.value, int) else as_words([o.value])
        if o.kind == "constant":
            return self.constant(o, 4)
        raise Unknown(f"no number: {o}")

    def raw_longs(self, o):
        """64 bits, of two registers."""
        if o.kind in ("R", "UR"):
            # The constant zero stands for two.
            above = min(o.index + 1, len(self.registers[o.kind]) - 1)
            halves = self.register(o.kind, o.index), self.register(o.kind, above)
            return [low | high << 32 for low, high in zip(*halves)]
        if o.kind == "immediate" and isinstance(o.value, int):
            return [signed(o.value) & LONG_MASK]
        if o.kind == "constant":
            return self.constant(o, 8)
        raise Unknown(f"no 64 bits: {o}")

    def words(self, o, width=32):
        values = self.raw(o)
        if o.absolute:
            raise Unknown("an absolute value of bits")
        if o.negate:
            values = [-v & MASK for v in values]
        if o.invert:
            values = [v ^ MASK for v in values]
        return spread(values, width)

    def longs(self, o, width=32):
        values = self.raw_longs(o)
        if o.negate:
            values = [-v & LONG_MASK for v in values]
        if o.invert:
            values = [v ^ LONG_MASK for v in values]
        return spread(values, width)

    def constant(self, o, size):
        """Of a bank, from the place that a register, a number or the sum of both says."""
        bank = self.constants.get(o.index)
        if bank is None:
            raise Unknown(f"constant bank {o.index}")
        width = max(len(self.words(term, 1)) for term in o.terms)
        places = [sum(place) & MASK for place in zip(*(self.words(term, width) for term in o.terms))]
        active = set(self.active) if width > 1 else {0}
        of = {p: int.from_bytes(bank[p:p + size], "little")
              for p in {place for lane, place in enumerate(places) if lane in active}}
        if any(place + size > len(bank) for place in of):
            raise Unknown(f"a place behind constant bank {o.index}")
        return [of.get(place, 0) for place in places]

    def floats(self, o, width=32):
        return spread(with_sign(as_floats(self.raw(o)), o), width)

    def doubles(self, o, width=32):
        if o.kind == "immediate" and (isinstance(o.value, float) or o.value == 0):
            values = [float(o.value)]
        else:
            values = as_doubles(self.raw_longs(o))
        return spread(with_sign(values, o), width)

    def flags(self, o, width=32):
        """The values of a predicate."""
        if o.kind not in ("P", "UP"):
            raise Unknown(f"no predicate: {o}")
        values = self.registers[o.kind][o.index]
        if o.negate:
            values = [not v for v in values]
        return spread(values, width)

    # Writing results: in the active lanes, and of uniform registers at all.

    def set(self, o, values):
        """Replaces a register or predicate."""
        if o.kind == "R" and o.index in self.pending:
            self.touch(o.index)
        self.put(o.kind, o.index, values)

    def put(self, kind, index, values):
        registers = self.registers[kind]
        if index == len(registers) - 1:
            return
        if len(registers[index]) == 1:
            registers[index] = values[:1]
        elif len(self.active) == 32:
            registers[index] = list(values)
        else:
            merged = list(registers[index])
            for lane in self.active:
                merged[lane] = values[lane]
            registers[index] = merged

    def set_longs(self, o, values):
        self.set_words(o, [[v & MASK for v in values], [v >> 32 & MASK for v in values]])

    def set_words(self, o, words):
        """Neighbouring registers."""
        for k, values in enumerate(words):
            if o.index + k < len(self.registers[o.kind]) - 1:
                if o.kind == "R" and o.index + k in self.pending:
                    self.touch(o.index + k)
                self.put(o.kind, o.index + k, values)

    # Loads in flight.

    def issue_load(self, o, words, size):
        """Registers that a load from global memory fills, `size` bytes a lane."""
        self.set_words(o, words)
        load = Load(frozenset(self.active), len(self.active) * size)
        self.outstanding.append(load)
        for k in range(len(words)):
            if o.index != 255:
                self.pending.setdefault(o.index + k, []).append(load)

    def touch(self, index):
        """Waits for the loads of the active lanes that write a register, and for those before them: they
        return in order."""
        awaited = [load for load in self.pending[index] if not load.lanes.isdisjoint(self.active)]
        if awaited:
            self.saw_wait()
            done = max(self.outstanding.index(load) for load in awaited) + 1
            gone = {id(load) for load in self.outstanding[:done]}
            del self.outstanding[:done]
            left = {r: [l for l in loads if id(l) not in gone] for r, loads in self.pending.items()}
            self.pending = {r: loads for r, loads in left.items() if loads}

    def saw_wait(self):
        self.most_bytes = max(self.most_bytes, sum(load.bytes for load in self.outstanding))
