"""Times PyTorch's norms: the peers of the rows of benches/speed, eager and under torch.compile.

    python benches/peers/pytorch.py --json torch.json
    python benches/peers/pytorch.py --shapes 1x64x256x256 4x512x16x16 --dtypes f32
    python benches/peers/pytorch.py --device cuda --json torch.json --limit 300

Compiled rows start sooner with a cache on disk; N processes side by side fill it, I from 1 to N:

    export TORCHINDUCTOR_CACHE_DIR=FOLDER
    python benches/peers/pytorch.py --device cuda --compile-only --part I/N

A row of the JSON file: op (the name of our row), peer (what torch calls it), compiled, shape, dtype,
direction, cache, method, sets, calls, tensors, ms, gb_per_s. `ms` is the median time of a call, and
gb_per_s counts the bytes that a perfect kernel moves: `tensors` of the size of x, each read or
written once. A row that failed has `error` instead. While rows are missing, the last one is
{"left_out": their number}.

On a GPU, calls are timed by replays of a CUDA graph of `calls` of them (method "graph"; where they
cannot be captured, "events" around a batch of calls). `cold` rotates through `sets` of tensors, more
than the L2 cache holds; `warm` repeats a call on one. On a CPU the method is "host", the cache null.
"""

import argparse
import collections
import contextlib
import faulthandler
import json
import math
import os
import statistics
import sys
import time
from typing import NamedTuple

import torch
import torch.nn.functional as F

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}
GROUPS = 32

# The timed calls: functions of x, weight, bias and another tensor of the size of x, which is a residual
# or a style. Those that have none of these get None.


def instance(x, weight, bias, residual):
    return F.instance_norm(x, weight=weight, bias=bias)


def per_channel(x, weight, bias, residual):
    return F.group_norm(x, x.shape[1], weight, bias)


def groups(x, weight, bias, residual):
    return F.group_norm(x, GROUPS, weight, bias)


def groups_silu(x, weight, bias, residual):
    return F.silu(F.group_norm(x, GROUPS, weight, bias))


def instance_relu(x, weight, bias, residual):
    return F.relu(F.instance_norm(x) + residual)


def per_channel_relu(x, weight, bias, residual):
    return F.relu(F.group_norm(x, x.shape[1]) + residual)


def as_one_sample(x):
    """N*C channels of one sample, so that a norm with parameters per channel has them per plane."""
    return x.reshape(1, -1, *x.shape[2:])


def per_plane(t, x):
    return t.reshape(*x.shape[:2], *[1] * (x.dim() - 2))


def adain_composed(x, weight, bias, style):
    var, mean = torch.var_mean(x, (2, 3), keepdim=True)
    style_var, style_mean = torch.var_mean(style, (2, 3), keepdim=True)
    return (x - mean) * ((style_var + 1e-5) / (var + 1e-5)).sqrt() + style_mean


def adain_as_group_norm(x, weight, bias, style):
    # The variance of x is the biased one here: as fast, and not the same to the last digits.
    var, mean = torch.var_mean(style, (2, 3))
    one = as_one_sample(x)
    return F.group_norm(one, one.shape[1], (var + 1e-5).sqrt().flatten(), mean.flatten()).view_as(x)


def conditional(x, weight, bias, residual):
    return F.group_norm(x, x.shape[1]) * per_plane(weight, x) + per_plane(bias, x)


def conditional_as_group_norm(x, weight, bias, residual):
    one = as_one_sample(x)
    return F.group_norm(one, one.shape[1], weight.flatten(), bias.flatten()).view_as(x)


def spade(x, weight, bias, residual):
    return F.group_norm(x, x.shape[1]) * (1 + weight) + bias


def spade_addcmul(x, weight, bias, residual):
    return torch.addcmul(bias, F.group_norm(x, x.shape[1]), 1 + weight)


def stats(x, weight, bias, residual):
    var, mean = torch.var_mean(x, (2, 3), correction=0)
    return mean, (var + 1e-5).rsqrt()


def with_stats(x, mean, rstd, residual):
    return (x - per_plane(mean, x)) * per_plane(rstd, x)


def with_stats_as_batch_norm(x, mean, var, residual):
    return F.batch_norm(as_one_sample(x), mean.flatten(), var.flatten()).view_as(x)


def clone(x, weight, bias, residual):
    return x.clone()


BOTH = {"F.instance_norm": instance, "F.group_norm": per_channel}
PEERS = {
    "instance_norm": BOTH,
    "instance_norm_affine": BOTH,
    "planes": BOTH,
    "group_norm": {"F.group_norm": groups},
    "group_norm_silu": {"F.silu(F.group_norm)": groups_silu},
    "relu_residual": {
        "F.relu(F.instance_norm + residual)": instance_relu,
        "F.relu(F.group_norm + residual)": per_channel_relu,
    },
    "adain": {"var_mean": adain_composed, "F.group_norm of N*C": adain_as_group_norm},
    "conditional": {"F.group_norm * w + b": conditional, "F.group_norm of N*C": conditional_as_group_norm},
    "spade": {"F.group_norm * (1 + w) + b": spade, "addcmul": spade_addcmul},
    "stats": {"var_mean": stats},
    "with_stats": {"(x - mean) * rstd": with_stats, "F.batch_norm of N*C": with_stats_as_batch_norm},
    # Out of place: PyTorch has no other.
    "in_place": BOTH,
    "channels_last": BOTH,
    "copy": {"x.clone()": clone},
}
AFFINE = {"instance_norm_affine", "group_norm", "group_norm_silu"}
PER_PLANE = {"conditional", "with_stats"}
PER_ELEMENT = {"spade"}
RESIDUAL = {"relu_residual", "adain"}
# Statistics that are given have no gradient.
CONSTANT = {"with_stats"}

FORWARD, BACKWARD, TOGETHER = DIRECTIONS = ("forward", "backward", "forward+backward")
COLD, WARM = CACHES = ("cold", "warm")


class Rows(NamedTuple):
    op: str
    shapes: list
    dtypes: list
    directions: list = (FORWARD,)
    caches: list = CACHES
    peers: int = 2  # the first ones of the op


LARGE = [(32, 256, 56, 56)]  # the shape that public figures exist for
MEDIUM = [(1, 64, 256, 256), (8, 256, 64, 64)]
SHAPES = LARGE + MEDIUM + [
    (1, 128, 128, 128),
    (1, 32, 512, 512),
    (4, 512, 16, 16),
    (20, 100, 35, 45),
    (1, 32, 64, 64, 64),
    (1, 3, 2160, 3840),
    (16, 256, 7, 7),
]
SMALL = [(1, 64, 14, 14), (1, 128, 28, 28)]
# Shapes of a diffusion model and an image decoder, then two of a video decoder.
IMAGES = [(2, 320, 64, 64), (1, 128, 512, 512)]
VIDEOS = [(1, 512, 16, 90, 160), (1, 128, 20, 256, 256)]
SIDES = [16, 49, 64, 196, 256, 784, 1024, 3136, 4096, 16384, 65536, 262144, 1048576]
PLANES = [(1, 2**24 // s, s) for s in SIDES]

ALL, HALVES, TWO, BF16 = ["f32", "f16", "bf16"], ["f16", "bf16"], ["f32", "bf16"], ["bf16"]

# The most valuable first, since a time limit may cut the run; all eager rows before the compiled
# ones. f16 compiles to what bf16 does, and F.group_norm with a group per channel to about what
# F.instance_norm does: it is not compiled everywhere.
#
# The set "gpu" on an H100, estimated: 631 eager rows of 0.13 s make 80 s. 103 functions, compiled
# already, of 0.35 s each to load and 193 rows of 0.12 s make 60 s. To compile one takes 2 to 4 s.
EAGER, COMPILED = "eager", "compiled"
SETS = {
    "speed": {EAGER: [Rows("instance_norm", SHAPES, list(DTYPES), [FORWARD, TOGETHER])]},
    "family": {
        EAGER: [
            Rows("instance_norm_affine", [LARGE[0], MEDIUM[1]], list(DTYPES), [FORWARD, TOGETHER]),
            Rows("group_norm", LARGE + IMAGES, list(DTYPES), [FORWARD, TOGETHER]),
            Rows("group_norm_silu", IMAGES, list(DTYPES), [FORWARD, TOGETHER]),
            Rows("relu_residual", [(1, 128, 64, 64)] + MEDIUM, list(DTYPES), [FORWARD, TOGETHER]),
            Rows("adain", [(1, 512, 32, 32), (1, 512, 64, 64), (4, 256, 64, 64)], list(DTYPES)),
            Rows("conditional", MEDIUM[1:], list(DTYPES), [FORWARD, TOGETHER]),
            Rows("spade", [(2, 128, 128, 128)], list(DTYPES), [FORWARD, TOGETHER]),
            Rows("stats", MEDIUM[1:], list(DTYPES)),
            Rows("with_stats", MEDIUM[1:], list(DTYPES), [FORWARD, TOGETHER]),
            Rows("in_place", LARGE + MEDIUM, list(DTYPES)),
            Rows("channels_last", LARGE + MEDIUM, list(DTYPES), [FORWARD, TOGETHER]),
            Rows("planes", PLANES, TWO),
        ]
    },
    "gpu": {
        EAGER: [
            Rows("instance_norm", LARGE, ALL, DIRECTIONS),
            Rows("instance_norm_affine", LARGE, HALVES),
            Rows("group_norm", LARGE, TWO, [FORWARD, BACKWARD]),
            Rows("group_norm_silu", IMAGES + VIDEOS, BF16),
            Rows("planes", PLANES, BF16, caches=[COLD]),
            Rows("relu_residual", [(1, 128, 64, 64)] + MEDIUM, TWO),
            Rows("instance_norm_affine", MEDIUM[1:], HALVES),
            Rows("group_norm", IMAGES, TWO, [FORWARD, BACKWARD]),
            Rows("instance_norm", SMALL + SHAPES[1:], ALL, DIRECTIONS),
        ],
        COMPILED: [
            Rows("instance_norm", LARGE, TWO, [FORWARD, TOGETHER]),
            Rows("instance_norm_affine", LARGE, HALVES),
            Rows("group_norm", LARGE, TWO),
            Rows("group_norm_silu", IMAGES + VIDEOS, BF16),
            Rows("planes", PLANES, BF16, caches=[COLD], peers=1),
            Rows("relu_residual", [(1, 128, 64, 64)] + MEDIUM, TWO),
            Rows("instance_norm_affine", MEDIUM[1:], HALVES),
            Rows("group_norm", IMAGES, TWO),
            Rows("instance_norm", SMALL + SHAPES[1:], TWO, [FORWARD, TOGETHER], peers=1),
            Rows("instance_norm", MEDIUM, TWO, [FORWARD, TOGETHER]),
        ],
    },
}

# Graphs of at least this long, so that launching them does not count, and of at most so many calls.
GRAPH_MS = 0.5
MAX_CALLS = 2048
MAX_SETS = 1024


class Job(NamedTuple):
    """Rows of one function on tensors of one shape: one for each cache."""

    op: str
    peer: str
    compiled: bool
    shape: tuple
    dtype: str
    direction: str
    caches: tuple

    @property
    def bytes(self):
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    @property
    def tensors(self):
        """What a perfect kernel moves: x and y, then x, dy and dx; and the residual each time."""
        moved = {FORWARD: 2 - (self.op == "stats"), BACKWARD: 3, TOGETHER: 5}[self.direction]
        others = (self.op in RESIDUAL) + 2 * (self.op in PER_ELEMENT)
        return moved + others * (2 if self.direction == TOGETHER else 1)

    @property
    def rotated(self):
        """The tensors that one set and its results take and that each call touches."""
        return {FORWARD: 2, BACKWARD: 3, TOGETHER: 4}[self.direction] + (self.op in RESIDUAL)


def jobs(args):
    """Those of the set that the arguments leave. A shape that the set does not have is for all ops."""
    found = {}
    tables = SETS[args.set]
    known = {shape for table in tables.values() for rows in table for shape in rows.shapes}
    new = [shape for shape in args.shapes or [] if shape not in known]
    caches = lambda of: tuple(of) if args.device == "cuda" else (None,)
    for kind, table in tables.items():
        for rows in table:
            if args.ops and rows.op not in args.ops:
                continue
            shapes = [s for s in rows.shapes if not args.shapes or s in args.shapes] + new
            for shape in shapes:
                for dtype in (d for d in rows.dtypes if d in args.dtypes):
                    compiled = kind == COMPILED
                    wanted = [(rows.op, d, p) for d in rows.directions for p in list(PEERS[rows.op])[: rows.peers]]
                    if not compiled and (not args.ops or "copy" in args.ops):
                        wanted.insert(0, ("copy", FORWARD, "x.clone()"))
                    for op, direction, peer in wanted:
                        job = Job(op, peer, compiled, shape, dtype, direction, caches(rows.caches))
                        found.setdefault(job[:-1], job)
    return list(found.values())


def function(job):
    peer = PEERS[job.op][job.peer]
    if not job.compiled:
        return peer
    # Or the functions compiled for other shapes would count towards a limit, and dtypes go dynamic.
    torch._dynamo.reset()
    return torch.compile(peer, fullgraph=True, dynamic=False)


def call_on_new_tensors(job, f, device):
    """A call of `f`, or of its backward pass, on a set of tensors of its own."""
    randn = lambda *shape: torch.randn(*shape, device=device).to(DTYPES[job.dtype])
    x, weight, bias, residual = randn(job.shape), None, None, None
    of = job.shape[:2] if job.op in PER_PLANE else job.shape if job.op in PER_ELEMENT else job.shape[1:2]
    if job.op in AFFINE | PER_PLANE | PER_ELEMENT:
        weight, bias = randn(*of), randn(*of).abs()
    if job.op == "channels_last":
        x = x.to(memory_format=torch.channels_last)
    if job.op in RESIDUAL:
        residual = randn(job.shape)
    if job.direction == FORWARD:

        def forward():
            with torch.no_grad():
                return f(x, weight, bias, residual)

        return forward

    tracked = (x,) if job.op in CONSTANT else (x, weight, bias, residual)
    inputs = [t.requires_grad_() for t in tracked if t is not None]
    dy = torch.randn_like(x).detach()
    if job.direction == BACKWARD:
        y = f(x, weight, bias, residual)
        return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)

    def forward_backward():
        y = f(x, weight, bias, residual)
        return y, torch.autograd.grad(y, inputs, dy)

    return forward_backward


def host_time(call, seconds):
    """The median of as many calls as fit into `seconds` (at least 3, at most 1000)."""
    # Warm up for a fifth of the time: caches, the allocator, clocks. The first call may compile.
    call()
    start, calls = time.perf_counter(), 0
    while calls < 1 or (calls < 100 and time.perf_counter() - start < seconds / 5):
        call()
        calls += 1
    each = (time.perf_counter() - start) / calls
    times = []
    for _ in range(max(3, min(1000, int(seconds * 0.8 / each)))):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


class Gpu:
    """Times calls on a stream of its own, the current one of the whole program.

    Captures are not possible on the default stream. Backward passes run on the stream of their
    forward passes, so that those have to run here too, and so does whatever warms up.
    """

    def __init__(self):
        self.device = torch.device("cuda", torch.cuda.current_device())
        self.stream = torch.cuda.Stream(self.device)
        self.l2 = getattr(torch.cuda.get_device_properties(self.device), "L2_cache_size", 0) or 50 << 20

    def warm_up(self):
        """Half a second of copies: an idle GPU has low clocks, and the first rows matter most."""
        x, start = torch.empty(64 << 20, device=self.device), time.perf_counter()
        while time.perf_counter() - start < 0.5:
            for _ in range(20):
                x.clone()
            torch.cuda.synchronize()

    def sets(self, job, cache):
        """How many sets it takes to find none of the last rotation in the L2 cache."""
        if cache != COLD:
            return 1
        return min(MAX_SETS, 4 * self.l2 // (job.rotated * job.bytes) + 1)

    def check_memory(self, job, sets):
        # A backward pass alone holds y too; some more for what torch needs on the way.
        need = ((job.rotated + 1) * sets + 6) * job.bytes
        free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        if need > free:
            raise MemoryError(f"takes {need / 1e9:.1f} GB of memory, {free / 1e9:.1f} are free")

    def launches(self, launch, count):
        """The median time of a launch; only the work on the GPU counts, if it keeps it busy."""
        events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        events[0].record()
        for event in events[1:]:
            launch()
            event.record()
        torch.cuda.synchronize()
        return statistics.median(a.elapsed_time(b) for a, b in zip(events, events[1:]))

    def capture(self, batch):
        """What replays the kernels of `batch()`."""
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        try:
            with torch.cuda.graph(graph, pool=pool, stream=self.stream):
                batch()
        except Exception:
            # After a capture that was broken off, the allocator still believes that it goes on.
            with contextlib.suppress(Exception):
                torch._C._cuda_endAllocateToPool(self.device.index, pool)
            raise
        return graph.replay

    def time(self, calls, rotate, seconds):
        """Milliseconds of a call, the method and the number of calls in a launch."""
        # The first calls load kernels, compile and tune, which no capture allows.
        for _ in range(3):
            calls[0]()
        torch.cuda.synchronize()
        try:
            return *self.time_launches(self.capture, calls, rotate, seconds), "graph"
        except Exception as error:
            print(f"no graph: {one_line(error)}", file=sys.stderr)
        torch.cuda.synchronize()
        return *self.time_launches(lambda batch: batch, calls, rotate, seconds), "events"

    def time_launches(self, prepare, calls, rotate, seconds):
        # The calls in turn. When they rotate, a result lives until its set's next turn, so that
        # results rotate too; else it is dropped at once and the next one has its memory.
        def batch(rounds):
            kept = collections.deque(maxlen=len(calls) if rotate else 0)
            for _ in range(rounds):
                for call in calls:
                    kept.append(call())

        most = max(1, MAX_CALLS // len(calls))
        rounds = min(most, math.ceil(16 / len(calls)))
        launch = prepare(lambda: batch(rounds))
        launch()
        ms = self.launches(launch, 3)
        if ms < GRAPH_MS and rounds < most:
            # Too short for the first try; a little more than it seems to take.
            rounds = min(most, math.ceil(rounds * 1.2 * GRAPH_MS / max(ms, 1e-3)))
            del launch
            launch = prepare(lambda: batch(rounds))
            launch()
            ms = self.launches(launch, 3)
        count = max(5, min(200, int(seconds * 1e3 / max(ms, 1e-3))))
        return self.launches(launch, count) / (rounds * len(calls)), rounds * len(calls)


def one_line(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def measure(job, f, cache, device, gpu, seconds):
    """The fields of a row that are measured."""
    sets = gpu.sets(job, cache) if gpu else 1
    if gpu:
        gpu.check_memory(job, sets)
    calls = [call_on_new_tensors(job, f, device) for _ in range(sets)]
    if gpu:
        ms, count, method = gpu.time(calls, cache == COLD, seconds)
    else:
        ms, count, method = host_time(calls[0], seconds), 1, "host"
    return {
        "method": method,
        "sets": sets,
        "calls": count,
        "tensors": job.tensors,
        "ms": round(ms, 6),
        "gb_per_s": round(job.tensors * job.bytes / ms / 1e6, 3),
    }


def serve(args, device):
    """Turns on request, as `speed serve` answers them: see benches/speed/serve.rs."""
    calls = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "turn" in request:
                answer = {"ms": turn(calls[request["turn"]], request["seconds"])}
            else:
                calls = {}
                peers = PEERS.get(request["op"], {})
                for peer, f in peers.items():
                    job = Job(request["op"], peer, False, tuple(request["shape"]), request["dtype"], request["direction"], (None,))
                    calls[peer] = call_on_new_tensors(job, f, device)
                answer = {"contenders": list(calls)}
        except Exception as error:
            answer = {"error": one_line(error)}
        print(json.dumps(answer), flush=True)


def turn(call, seconds):
    """The median time of a call. The first fifth of the time is for caches and the allocator."""
    start = time.perf_counter()
    while True:
        call()
        if time.perf_counter() - start > seconds / 5:
            break
    times = []
    while len(times) < 3 or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        call()
        times.append(time.perf_counter() - before)
    return statistics.median(times) * 1e3


class Results:
    """The file is written after each row, so that a run that is killed leaves what it has."""

    def __init__(self, path, total):
        self.path, self.total, self.rows = path, total, []

    def add(self, row):
        self.rows.append(json.dumps(row))
        self.write()
        result = row.get("error") or f"{row['ms']:9.4f} ms {row['gb_per_s']:7.1f} GB/s {row['method']}"
        shape, how = "x".join(map(str, row["shape"])), COMPILED if row["compiled"] else EAGER
        print(
            f"{row['op']:<20} {row['peer']:<34} {how:<8} {shape:<18} {row['dtype']:<4} "
            f"{row['direction']:<16} {row['cache'] or '':<4} {result}",
            flush=True,
        )

    def write(self):
        if not self.path:
            return
        left_out = self.total - len(self.rows)
        rows = self.rows + [json.dumps({"left_out": left_out})] * (left_out > 0)
        unfinished = self.path + ".tmp"
        with open(unfinished, "w") as file:
            file.write("[\n" + ",\n".join(rows) + "\n]\n")
        os.replace(unfinished, self.path)


def free(job, gpu):
    if gpu and 8 * job.bytes > 4e9:
        torch.cuda.empty_cache()


def time_all(todo, device, gpu, seconds, over, results):
    for job in todo:
        f = None
        for cache in job.caches:
            if over():
                return
            row = {**job._asdict(), "shape": list(job.shape), "cache": cache}
            del row["caches"]
            try:
                f = f or function(job)
                row |= measure(job, f, cache, device, gpu, seconds)
            except Exception as error:
                row["error"] = one_line(error)
            results.add(row)
        free(job, gpu)


def compile_all(todo, device, gpu, over):
    for done, job in enumerate(todo):
        if over():
            print(f"left out: {len(todo) - done} of {len(todo)} functions", file=sys.stderr)
            return
        start, result = time.perf_counter(), ""
        try:
            if gpu:
                gpu.check_memory(job, 1)
            call_on_new_tensors(job, function(job), device)()
            if gpu:
                torch.cuda.synchronize()
        except Exception as error:
            result = one_line(error)
        free(job, gpu)
        shape = "x".join(map(str, job.shape))
        what = f"{job.op} {job.peer} {shape} {job.dtype} {job.direction}"
        print(f"{time.perf_counter() - start:6.2f} s {what} {result}", flush=True)


def configure_compilation():
    import torch._dynamo
    import torch._inductor.config

    dynamo, inductor = torch._dynamo.config, torch._inductor.config
    for config, name, value in (
        # Each function is compiled in this process: its kernels are few, and a pool of workers is
        # slow to start and one more thing that can hang. --part is for compiling in parallel.
        (inductor, "compile_threads", 1),
        # Tune again, which takes some milliseconds: results that were tuned beside other processes are kept.
        (inductor, "autotune_local_cache", False),
        (dynamo, "recompile_limit", 10000),
        (dynamo, "cache_size_limit", 10000),
        (dynamo, "accumulated_recompile_limit", 10000),
    ):
        # Not every version has all of them.
        if hasattr(config, name):
            setattr(config, name, value)


def shape(text):
    return tuple(map(int, text.split("x")))


def part(text):
    index, of = map(int, text.split("/"))
    if not 1 <= index <= of:
        raise ValueError
    return index, of


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--set", choices=SETS, help="default: speed on a CPU, gpu on a GPU")
    parser.add_argument("--ops", nargs="+", choices=PEERS, help="only these (default: all, and copy)")
    parser.add_argument("--shapes", nargs="+", type=shape, metavar="1x64x256x256", help="only these")
    parser.add_argument("--dtypes", "--dtype", nargs="+", choices=DTYPES, default=ALL)
    parser.add_argument("--seconds", type=float, help="time for a row (default: 1, on a GPU 0.05)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: what torch chooses)")
    parser.add_argument("--limit", type=float, default=math.inf, help="start no row after this many seconds")
    parser.add_argument("--part", type=part, metavar="I/N", default=(1, 1), help="only every Nth function")
    parser.add_argument("--compile-only", action="store_true", help="call what is compiled once, for the cache")
    parser.add_argument("--json", metavar="FILE", help="write the rows here")
    parser.add_argument("--serve", action="store_true", help="turns on request, for paired.py")
    args = parser.parse_args()
    cuda = args.device == "cuda"
    args.set = args.set or ("gpu" if cuda else "speed")
    args.seconds = args.seconds or (0.05 if cuda else 1.0)
    return args


def main():
    start, args = time.perf_counter(), arguments()
    over = lambda: time.perf_counter() - start > args.limit
    if args.limit < math.inf:
        # A row that hangs ends the program; what was measured is in the file.
        faulthandler.dump_traceback_later(args.limit + 60, exit=True)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    gpu = Gpu() if args.device == "cuda" else None
    name = torch.cuda.get_device_name(gpu.device) if gpu else torch.backends.cpu.get_cpu_capability()
    if args.serve:
        return serve(args, device)
    print(f"torch {torch.__version__}, {args.device} ({name}), {torch.get_num_threads()} threads", file=sys.stderr)

    todo = [job for job in jobs(args) if job.compiled or not args.compile_only]
    todo = todo[args.part[0] - 1 :: args.part[1]]
    if any(job.compiled for job in todo):
        configure_compilation()
    with torch.cuda.stream(gpu.stream) if gpu else contextlib.nullcontext():
        if args.compile_only:
            return compile_all(todo, device, gpu, over)
        results = Results(args.json, sum(len(job.caches) for job in todo))
        results.write()
        if gpu:
            gpu.warm_up()
        time_all(todo, device, gpu, args.seconds, over, results)
    measured, total = len(results.rows), results.total
    if measured < total:
        print(f"left out for time: rows {measured + 1} to {total} of {total}", file=sys.stderr)


if __name__ == "__main__":
    main()
