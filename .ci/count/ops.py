"""The instructions that the counter knows, and the class in which each is counted."""
import floats
import integers
import memory
import moves
from control import CONTROL  # noqa: F401

# What computes, loads or stores and goes on to the next instruction.
OPS = {**integers.OPS, **moves.OPS, **floats.OPS, **memory.OPS}

CLASSES = {
    "float": "FADD FMUL FFMA FSEL FSETP FSET FMNMX FCHK HADD2",
    "double": "DADD DMUL DFMA DSETP",
    "special": "MUFU I2F F2I F2F I2FP F2FP",
    "load": "LDG LD",
    "store": "STG ST",
    "shared": "LDS STS",
    "local": "LDL STL",
    "shuffle": "SHFL",
    "constant": "LDC ULDC",
    "control": "BRA BRX BRXU BSSY BSYNC BMOV CALL RET EXIT BAR WARPSYNC YIELD NOP UCGABAR_ARV UCGABAR_WAIT "
               "MEMBAR ERRBAR CGAERRBAR CCTL",
    "move": "MOV UMOV CS2R S2R S2UR P2R R2P R2UR PRMT UPRMT SEL USEL HFMA2 VOTE VOTEU",
}
CLASS = {op: name for name, all_ops in CLASSES.items() for op in all_ops.split()}


def class_of(i):
    """Moves include those that the compiler makes of other instructions to even out the load of units."""
    if i.op == "IMAD" and i.has("MOV"):
        return "move"
    return CLASS.get(i.op, "integer")
