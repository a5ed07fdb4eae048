"""Numbers as the bits of registers and back."""
import math
import struct
from array import array

MASK = 0xffffffff
LONG_MASK = (1 << 64) - 1


def cast(values, of, to):
    return memoryview(array(of, values)).cast("B").cast(to).tolist()


def as_floats(words):
    return cast(words, "I", "f")


def as_words(floats):
    """Of f32, rounded to nearest: infinite where they are too large."""
    return cast(floats, "f", "I")


def as_doubles(longs):
    return cast(longs, "Q", "d")


def as_longs(doubles):
    return cast(doubles, "d", "Q")


def half(bits):
    """The value of an f16."""
    return struct.unpack("<e", struct.pack("<H", bits))[0]


def half_bits(value):
    if math.isnan(value):
        return 0x7fff
    try:
        return struct.unpack("<H", struct.pack("<e", value))[0]
    except OverflowError:
        return 0x7c00 if value > 0 else 0xfc00


def bfloat_bits(word):
    """Of the bf16 nearest to the f32 that these bits are."""
    return word + 0x7fff + (word >> 16 & 1) >> 16 & 0xffff


def signed(word):
    return word - (1 << 32) if word >> 31 else word


def signed_long(long):
    return long - (1 << 64) if long >> 63 else long
