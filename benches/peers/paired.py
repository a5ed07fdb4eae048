"""Times the ops of this crate, a copy, candle's composed ops, PyTorch and ONNX Runtime in turns, on the CPU.

    python benches/peers/paired.py
    python benches/peers/paired.py --ops instance_norm --shapes 16x256x7x7 --dtypes f32 bf16

It needs cargo and torch, and times ONNX Runtime where onnx and onnxruntime are installed. Each peer is a process of its own that waits while the others have their
turns, so that a change of clocks or of load meets all of them alike. A figure is the median over the
turns, a ratio that of the turns' ratios.

A result of 32 MB and more is mapped afresh on every call by the system's allocator, and to clear its
pages takes as long as all the rest; several results of one call that have as much in all are given back where
they are freed together. Those rows are there twice: `system`, and `kept`, with allocators that keep what is
freed (ours mimalloc, the others glibc's, told to).
"""

import argparse
import importlib.util
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time

from pytorch import SETS, shape

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS = pathlib.Path(__file__).resolve().parent
KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "8000000000", "MALLOC_TOP_PAD_": "268435456"}
LARGE = 32 << 20
BYTES = {"f32": 4, "f16": 2, "bf16": 2, "f64": 8}


class Worker:
    """A process that answers requests, a line of JSON each."""

    def __init__(self, command, keep, threads):
        variables = {"RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        environment = os.environ | variables | (KEEP if keep else {})
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=ROOT)

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


def benchmark(name):
    """The path of a benchmark of this crate, built."""
    command = ["cargo", "bench", "--locked", "--no-run", "--bench", name, "--message-format", "json"]
    built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == name and message.get("executable"):
            return message["executable"]
    sys.exit(f"{name}: cargo has built no such benchmark")


class Memory:
    """The workers with one kind of allocator."""

    def __init__(self, keep, args):
        ours = args.binary or benchmark("speed_mimalloc" if keep else "speed")
        # The environment reaches glibc alone; with mimalloc it changes nothing.
        self.workers = [Worker([ours, "--device", "cpu", "serve"], keep, args.threads)]
        peer = [sys.executable, str(PEERS / "pytorch.py"), "--serve", "--threads", str(args.threads)]
        self.workers.append(Worker(peer, keep, args.threads))
        if all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
            onnx = [sys.executable, str(PEERS / "onnx_runtime.py"), str(args.threads)]
            self.workers.append(Worker(onnx, keep, args.threads))

    def row(self, op, shape, dtype, direction, args):
        """The times of each contender, one a turn."""
        contenders = []
        for worker in self.workers:
            try:
                names = worker.ask(op=op, shape=shape, dtype=dtype, direction=direction)["contenders"]
            except RuntimeError as error:
                print(f"{op} {shape} {dtype} {direction}: {error}", file=sys.stderr)
                continue
            contenders += [(name, worker) for name in names if args.composed or name != "composed"]
        times = {name: [] for name, _ in contenders}
        for _ in range(args.turns):
            for name, worker in contenders:
                # Threads that wait for work spin for a while: not into the turn of another.
                time.sleep(args.pause)
                times[name].append(worker.ask(turn=name, seconds=args.seconds)["ms"])
        return times


def line(op, shape, dtype, direction, memory, times):
    ms = {name: statistics.median(all) for name, all in times.items()}
    peers = [name for name in times if name not in ("ours", "copy", "composed")]
    best = min(peers, key=lambda name: ms[name], default=None)
    ratio = lambda name: statistics.median(p / o for p, o in zip(times[name], times["ours"]))
    row = {"op": op, "shape": shape, "dtype": dtype, "direction": direction, "memory": memory, "ms": ms}
    row |= {"best": best, "ratio": ratio(best) if best else None}
    sizes = "x".join(map(str, shape))
    times = "  ".join(f"{name} {ms[name]:.4f}" for name in ms)
    ratio = f"{row['ratio']:.2f}" if best else "-"
    print(f"{op:<16} {sizes:<16} {dtype:<4} {direction:<16} {memory:<6} {ratio:>5}x  {times}", flush=True)
    return row


def summary(rows):
    kinds = {}
    for row in rows:
        large = math.prod(row["shape"]) * BYTES[row["dtype"]] >= LARGE
        if row["ratio"] and (row["memory"] == "kept" or not large):
            kind = row["op"] if row["op"] in ("instance_norm", "in_place") else "family"
            kinds.setdefault((kind, row["dtype"], row["direction"]), []).append(row["ratio"])
    for (kind, dtype, direction), ratios in kinds.items():
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        lose, bar = sum(r < 1 for r in ratios), sum(r < 0.95 for r in ratios)
        print(f"{kind:<13} {dtype:<4} {direction:<16} geometric mean {mean:.2f}x, below 1x: {lose}, below 0.95x: {bar} of {len(ratios)}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ops", nargs="+", help="only these")
    parser.add_argument("--shapes", nargs="+", type=shape, metavar="1x64x256x256", help="only these")
    parser.add_argument("--dtypes", nargs="+", choices=BYTES, default=list(BYTES))
    parser.add_argument("--directions", nargs="+", default=["forward", "forward+backward"])
    parser.add_argument("--memory", nargs="+", choices=["system", "kept"], default=["system", "kept"])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.05, help="the time of a turn")
    parser.add_argument("--pause", type=float, default=0.01, help="between turns")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--composed", action="store_true", help="candle's composed ops, too")
    parser.add_argument("--binary", help="a benchmark that is built already")
    parser.add_argument("--json", metavar="FILE", help="write the rows here")
    return parser.parse_args()


def main():
    args = arguments()
    memories = {name: Memory(name == "kept", args) for name in args.memory}
    rows = []
    for table in SETS["speed"]["eager"] + SETS["family"]["eager"]:
        if args.ops and table.op not in args.ops:
            continue
        for sizes in [s for s in table.shapes if not args.shapes or s in args.shapes]:
            for dtype in (d for d in table.dtypes if d in args.dtypes):
                for direction in (d for d in table.directions if d in args.directions):
                    results = 1 if direction == "forward" else 2
                    large = results * math.prod(sizes) * BYTES[dtype] >= LARGE
                    for name, memory in memories.items():
                        if name == "system" or large or len(memories) == 1:
                            times = memory.row(table.op, list(sizes), dtype, direction, args)
                            if "ours" in times:
                                rows.append(line(table.op, list(sizes), dtype, direction, name, times))
    summary(rows)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
