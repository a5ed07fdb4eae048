"""Times torch.nn.functional.instance_norm (no affine) and prints one JSON object per row.

    python benches/peers/pytorch.py --device cuda --json pytorch.json
    python benches/peers/pytorch.py --shapes 1x64x256x256 4x512x16x16 --dtypes f32

The fields are those of the crate's own benchmarks: `ours_ms` is torch's time here, `copy_ms` that of
x.clone(), and `gb_per_s` counts the bytes that a perfect kernel moves: x read and y written forward,
then x and dy read and dx written backward.
"""

import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

SHAPES = [
    (1, 64, 256, 256),
    (1, 128, 128, 128),
    (8, 256, 64, 64),
    (1, 32, 512, 512),
    (4, 512, 16, 16),
    (20, 100, 35, 45),
    (1, 32, 64, 64, 64),
    (1, 3, 2160, 3840),
    (32, 256, 56, 56),
    (16, 256, 7, 7),
]
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}
DIRECTIONS = {"forward": 2, "forward+backward": 5}  # the tensors a perfect kernel moves


def median_ms(run, device, seconds):
    """The median time of a call, over as many as fit into `seconds` (at least 3, at most 1000)."""
    if device.type == "cuda":
        synchronize = lambda: torch.cuda.synchronize(device)
    else:
        synchronize = lambda: None
    # Warm up for a fifth of the time: caches, the allocator, clocks.
    start, calls = time.perf_counter(), 0
    while calls < 1 or (calls < 100 and time.perf_counter() - start < seconds / 5):
        run()
        synchronize()
        calls += 1
    each = (time.perf_counter() - start) / calls
    repetitions = max(3, min(1000, int(seconds * 0.8 / each)))

    if device.type == "cuda":
        # Queued back to back with an event between: the launches overlap the work before them.
        events = [torch.cuda.Event(enable_timing=True) for _ in range(repetitions + 1)]
        events[0].record()
        for event in events[1:]:
            run()
            event.record()
        synchronize()
        return statistics.median(a.elapsed_time(b) for a, b in zip(events, events[1:]))
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def rows(shape, dtype, device, seconds):
    x = torch.randn(shape, device=device).to(DTYPES[dtype])
    dy = torch.randn(shape, device=device).to(DTYPES[dtype])
    tracked = x.clone().requires_grad_()

    def forward():
        with torch.no_grad():
            return F.instance_norm(x)

    def forward_backward():
        return torch.autograd.grad(F.instance_norm(tracked), tracked, dy)

    copy_ms = median_ms(x.clone, device, seconds / 2)
    for direction, run in (("forward", forward), ("forward+backward", forward_backward)):
        ms = median_ms(run, device, seconds)
        moved = DIRECTIONS[direction] * x.numel() * x.element_size()
        yield {
            "op": "instance_norm",
            "shape": list(shape),
            "dtype": dtype,
            "direction": direction,
            "ours_ms": round(ms, 6),
            "copy_ms": round(copy_ms, 6),
            "composed_ms": None,
            "gb_per_s": round(moved / ms / 1e6, 3),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--shapes", nargs="+", metavar="1x64x256x256", help="default: all of the list")
    parser.add_argument("--dtypes", "--dtype", nargs="+", choices=DTYPES, default=["f32", "f16", "bf16"])
    parser.add_argument("--seconds", type=float, default=1.0, help="time for a row")
    parser.add_argument("--threads", type=int, help="CPU threads (default: what torch chooses)")
    parser.add_argument("--json", metavar="FILE", help="write the list of rows here too")
    args = parser.parse_args()

    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if args.device == "cuda" else torch.backends.cpu.get_cpu_capability()
    print(f"torch {torch.__version__}, {args.device} ({name}), {torch.get_num_threads()} threads", file=sys.stderr)

    shapes = [tuple(map(int, s.split("x"))) for s in args.shapes] if args.shapes else SHAPES
    written = []
    for shape in shapes:
        for dtype in args.dtypes:
            for row in rows(shape, dtype, device, args.seconds):
                print(json.dumps(row), flush=True)
                written.append(row)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(written, file, indent=1)


if __name__ == "__main__":
    main()
