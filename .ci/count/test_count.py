"""Tests of the counter, which take neither ptxas nor nvdisasm: python3 -B -m unittest discover .ci/count"""
import json
import pathlib
import struct
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import launch  # noqa: E402
import report  # noqa: E402
import rows  # noqa: E402
import sass  # noqa: E402
import tools  # noqa: E402
from bits import as_floats  # noqa: E402
from machine import Warp  # noqa: E402
from memory import words_of  # noqa: E402
from occupancy import resident_warps  # noqa: E402


def kernel(text):
    """A kernel of these lines: labels, and instructions that get their addresses here."""
    lines, address = [".text.k:"], 0
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.endswith(":"):
            lines.append(line)
        else:
            lines.append(f"/*{address:04x}*/    {line} ;")
            address += sass.BYTES
    return sass.parse("\n".join(lines))["k"]


def run(text, bank=bytes(64), memory=lambda address: address >> 2):
    specials = {"SR_TID.X": list(range(32))}
    return Warp(kernel(text), {0: bank}, specials, memory).run()


def issued(warp):
    return sum(warp.issued_at.values())


class Parsing(unittest.TestCase):
    def test_operands(self):
        o = sass.operand("-|R7.reuse|")
        self.assertEqual((o.kind, o.index, o.negate, o.absolute), ("R", 7, True, True))
        self.assertEqual(sass.operand("~UR3").invert, True)
        self.assertEqual(sass.operand("RZ").index, 255)
        self.assertEqual((sass.operand("!UPT").kind, sass.operand("!UPT").index), ("UP", 7))
        self.assertEqual(sass.operand("-0x8").value, 0xfffffff8)
        self.assertEqual(sass.operand("-1.5").value, -1.5)
        self.assertEqual(sass.operand("+INF").value, float("inf"))
        terms = sass.operand("desc[UR4][R2.64+UR6+-0x10]").terms
        self.assertEqual([t.kind for t in terms], ["R", "UR", "immediate"])
        self.assertEqual(sass.operand("c[0x2][R10+0x20]").index, 2)

    def test_lines(self):
        i = sass.instruction("/*0af0*/  @!P5 LDG.E.128 R4, desc[UR4][R22.64] ;")
        self.assertEqual((i.address, i.op, i.bytes, i.guard.negate), (0xaf0, "LDG", 16, True))
        i = sass.instruction('/*6210*/  BRX R80 -0x6220  (*"BRANCH_TARGETS .L_x_1,.L_x_2"*);')
        self.assertEqual([o.kind for o in i.operands], ["R", "immediate"])

    def test_unknown_text_names_its_place(self):
        with self.assertRaisesRegex(sass.Unknown, "k: 0000: MOV R0, what"):
            kernel("MOV R0, what?")
        with self.assertRaisesRegex(sass.Unknown, "k at 0x10: FROB R1, R2"):
            run("MOV R1, RZ\nFROB R1, R2\nEXIT")


class Executing(unittest.TestCase):
    def test_predication(self):
        warp = run("""
            S2R R0, SR_TID.X
            ISETP.GE.AND P0, PT, R0, 0x8, PT
            MOV R1, 0x1
            @P0 MOV R1, 0x2
            @!PT MOV R1, 0x3
            EXIT""")
        self.assertEqual(warp.registers["R"][1], [1] * 8 + [2] * 24)
        # What no lane executes is issued as well.
        self.assertEqual(issued(warp), 6)

    def test_both_arms_of_a_divergent_branch_are_counted(self):
        text = """
            S2R R0, SR_TID.X
            ISETP.LT.AND P0, PT, R0, {}, PT
            BSSY B0, `(.L_end)
            @P0 BRA `(.L_then)
            IADD3 R1, R0, 0x1, RZ
            BRA `(.L_join)
            .L_then:
            IADD3 R1, R0, 0x2, RZ
            .L_join:
            BSYNC B0
            .L_end:
            IADD3 R2, R1, R1, RZ
            EXIT"""
        diverged, one, other = (run(text.format(hex(n))) for n in (5, 32, 0))
        # The arms have one and two instructions besides 7 that all lanes execute.
        self.assertEqual([issued(warp) for warp in (one, other, diverged)], [8, 9, 10])
        self.assertEqual(diverged.registers["R"][2], [2 * (k + (2 if k < 5 else 1)) for k in range(32)])

    def test_lanes_wait_for_those_in_a_call_behind_the_end(self):
        warp = run("""
            S2R R0, SR_TID.X
            ISETP.NE.AND P0, PT, R0, RZ, PT
            BSSY B0, `(.L_end)
            @P0 BRA `(.L_end)
            MOV R4, 0x60
            CALL.REL.NOINC `(slow)
            NOP
            .L_end:
            BSYNC B0
            SHFL.BFLY PT, R1, R0, 0x1, 0x1f
            EXIT
            slow:
            MOV R5, RZ
            IADD3 R0, R0, 0x40, RZ
            RET.REL.NODEC R4 `(k)""")
        # The shuffle is executed once, by all lanes.
        self.assertEqual(warp.issued_at[0x80], 1)
        self.assertEqual(warp.registers["R"][1][:4], [1, 0x40, 3, 2])

    def test_a_loop_is_counted_as_often_as_its_slowest_lane_runs_it(self):
        warp = run("""
            S2R R0, SR_TID.X
            MOV R1, RZ
            .L_loop:
            IADD3 R1, R1, 0x1, RZ
            ISETP.LE.AND P0, PT, R1, R0, PT
            @P0 BRA `(.L_loop)
            EXIT""")
        self.assertEqual(warp.registers["R"][1], list(range(1, 33)))
        self.assertEqual(warp.issued_at[0x20], 32)

    def test_shuffles(self):
        warp = run("""
            S2R R0, SR_TID.X
            SHFL.BFLY PT, R1, R0, 0x4, 0x1f
            SHFL.DOWN P0, R2, R0, 0x10, 0x1f
            SHFL.IDX PT, R3, R0, 0x7, 0x1f
            EXIT""")
        self.assertEqual(warp.registers["R"][1], [k ^ 4 for k in range(32)])
        self.assertEqual(warp.registers["R"][2], [k + 16 if k < 16 else k for k in range(32)])
        self.assertEqual(warp.registers["P"][0], [k < 16 for k in range(32)])
        self.assertEqual(warp.registers["R"][3], [7] * 32)

    def test_shared_memory_has_what_was_stored_and_else_one(self):
        warp = run("""
            S2R R0, SR_TID.X
            IMAD.SHL.U32 R1, R0, 0x4, RZ
            ISETP.LT.AND P0, PT, R0, 0x4, PT
            @P0 STS [R1], R0
            LDS R2, [R1]
            EXIT""")
        self.assertEqual(warp.registers["R"][2], [0, 1, 2, 3] + [0x3f800000] * 28)

    def test_arithmetic(self):
        warp = run("""
            MOV R0, 0xfffffffe
            IADD3 R1, P0, R0, 0x3, RZ
            IADD3.X R2, RZ, RZ, RZ, P0, !PT
            IMAD.WIDE R4, R0, 0x4, RZ
            SHF.R.S32.HI R6, RZ, 0x1, R0
            LOP3.LUT R7, R0, 0xff, RZ, 0xc0, !PT
            PRMT R8, R0, 0x5410, R1
            MOV R9, 0x40400000
            FFMA R10, R9, R9, -1
            MUFU.RCP R11, R10
            I2FP.F32.S32 R12, R0
            F2FP.BF16.F32.PACK_AB R13, R9, R10
            EXIT""")
        r = [values[0] for values in warp.registers["R"]]
        self.assertEqual((r[1], r[2]), (1, 1))
        self.assertEqual((r[4], r[5]), (0xfffffff8, 0xffffffff))
        self.assertEqual((r[6], r[7], r[8]), (0xffffffff, 0xfe, 0x1fffe))
        self.assertEqual(as_floats([r[10], r[11], r[12]]), [8., 0.125, -2.])
        self.assertEqual(r[13], 0x40404100)


class InFlight(unittest.TestCase):
    def test_the_bytes_of_all_loads_before_the_first_wait(self):
        warp = run("""
            MOV R2, 0x1000
            MOV R3, RZ
            LDG.E.128 R4, desc[UR4][R2.64]
            LDG.E R8, desc[UR4][R2.64+0x200]
            @!PT LDG.E R9, desc[UR4][R2.64+0x400]
            IADD3 R10, R2, R2, RZ
            IADD3 R11, R4, RZ, RZ
            LDG.E R12, desc[UR4][R2.64]
            IADD3 R13, R12, R8, RZ
            EXIT""")
        self.assertEqual(warp.most_bytes, 32 * (16 + 4))
        self.assertEqual(warp.registers["R"][7], [0x403] * 32)

    def test_lanes_that_are_off_ask_for_nothing(self):
        warp = run("""
            S2R R0, SR_TID.X
            ISETP.LT.AND P0, PT, R0, 0x3, PT
            @P0 LDG.E.U16 R1, [R2]
            @P0 IADD3 R1, R1, R1, RZ
            EXIT""")
        self.assertEqual(warp.most_bytes, 3 * 2)

    def test_memory_differs_from_place_to_place(self):
        for dtype in ("f32", "f16", "bf16", "f64"):
            self.assertGreater(len(set(map(words_of(dtype), range(0, 4096, 4)))), 50, dtype)
        self.assertTrue(all(1 <= v < 2 for v in as_floats(list(map(words_of("f32"), range(0, 400, 4))))))


def launched(**more):
    """A launch as a test of the crate prints it: of 8192 planes of 7x7, 32 a block."""
    of = {"arch": 90, "case": "32x256x7x7", "dtype": "bf16", "source": "in_fwd.plain.bf16",
          "entry": "in_fwd_lanes4x2", "grid": 256, "threads": 128, "cluster": 1, "shared": 0, "back": False, "arguments": "0102",
          "elements": 8192 * 49, "planes": 8192, "aligned": False}
    return of | more


class Launches(unittest.TestCase):
    def test_lines_of_a_test(self):
        lines = ["running 1 test", "test gpu::cuda::tests::counted ... ", json.dumps(launched()),
                 json.dumps(launched(grid=7)), json.dumps(launched(arch=75)), "ok"]
        found = rows.parse("\n".join(lines))
        self.assertEqual([(of.arch, of.grid) for of in found], [(90, 256), (75, 256)])
        with self.assertRaises(SystemExit):
            rows.parse("running 0 tests")

    def test_constants(self):
        bank = launch.constants(rows.Launch(**launched(cluster=8)))
        self.assertEqual(struct.unpack_from("<6I", bank), (128, 1, 1, 256, 1, 1))
        self.assertEqual(struct.unpack_from("<I", bank, launch.CLUSTER_BLOCKS_AT), (8,))
        self.assertEqual(bank[0x210:], bytes([1, 2]))

    def test_blocks_and_their_elements(self):
        def of(**more):
            one = rows.Launch(**launched(**more))
            blocks = launch.blocks_of(one)
            return blocks, launch.elements_of(one, blocks)
        self.assertEqual(of(), (1, 32 * 49))
        # A plane a block, all there are of them, and chunks of planes.
        self.assertEqual(of(grid=8192), (8, 8 * 49))
        self.assertEqual(of(grid=3, planes=3, elements=3 * 49), (3, 3 * 49))
        self.assertEqual(of(grid=2 * 8192), (8, 4 * 49))
        self.assertEqual(of(grid=8192, aligned=True), (1, 49))
        self.assertEqual(of(grid=8 * 8192, aligned=True, cluster=8), (8, 49))


class Occupancy(unittest.TestCase):
    def test_resident_warps(self):
        self.assertEqual(resident_warps(90, 64, 512, 4096), 32)
        self.assertEqual(resident_warps(90, 65, 512, 4096), 16)
        self.assertEqual(resident_warps(90, 32, 512, 0), 64)
        self.assertEqual(resident_warps(75, 64, 512, 0), 32)
        self.assertEqual(resident_warps(89, 40, 128, 0), 48)
        self.assertEqual(resident_warps(90, 32, 32, 0), 32, "blocks")
        self.assertEqual(resident_warps(86, 32, 256, 48 << 10), 16, "shared memory")


class Reports(unittest.TestCase):
    def counted(self, an_element=20., warps=32, local=0):
        row = rows.Row("in_fwd_block8", "32x256x7x7", "f32", 90, 64, warps, 65536., an_element)
        has = tools.Resources(64, local, 0, 0, 128)
        kernels = {("in_fwd_block8", "f32", 90, variant): has for variant in ("plain", "full")}
        return report.counted([row], kernels), kernels

    def test_what_is_written_is_read(self):
        new, _ = self.counted()
        old = report.parse(report.markdown(new))
        self.assertEqual((old.rows, old.registers), (new.rows, new.registers))
        self.assertEqual(report.faults_of_counts(new, old), [])

    def test_faults(self):
        old, _ = self.counted()
        for worse in ({"an_element": 20.7}, {"warps": 16}):
            self.assertEqual(len(report.faults_of_counts(self.counted(**worse)[0], old)), 1, worse)
        self.assertEqual(report.faults_of_counts(self.counted(an_element=20.5)[0], old), [])
        self.assertEqual(len(report.faults_of_counts(old, report.Counted())), 2)
        self.assertEqual(len(report.faults_of_memory(self.counted(local=8)[1])), 2)

    def test_what_ptxas_prints(self):
        log = ("ptxas info    : Compiling entry function 'a' for 'sm_90'\n"
               "ptxas info    : Function properties for a\n"
               "    8 bytes stack frame, 16 bytes spill stores, 12 bytes spill loads\n"
               "ptxas info    : Used 64 registers, used 1 barriers, 832 bytes smem\n")
        self.assertEqual(tools.resources(log, ".entry a"), {"a": tools.Resources(64, 8, 16, 12, 832)})


if __name__ == "__main__":
    unittest.main()
