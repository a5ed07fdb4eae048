"""Times the networks of `networks.rs` in PyTorch and in this crate, in turns.

    pip install torch
    cargo bench -p candle-style-models --bench networks --no-run
    python crates/candle-style-models/benches/pytorch.py BINARY [--dtype bf16] [--turns 9] [NAME ...]

BINARY is the path that the second command prints. Each turn is one pass here and one there, after
one that is not timed. PyTorch runs each network in its usual memory format and in channels_last, and
the better of the two medians counts. The weights are random on both sides: the time is the same.
"""

import argparse
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F
from torch import nn


class Transformer(nn.Module):
    def __init__(self, width):
        super().__init__()

        def stage(c_in, c_out, kernel, stride=1):
            conv = [nn.ReflectionPad2d(kernel // 2), nn.Conv2d(c_in, c_out, kernel, stride)]
            return nn.Sequential(*conv, nn.InstanceNorm2d(c_out, affine=True))

        w1, w2, w4 = width, 2 * width, 4 * width
        self.down = nn.ModuleList([stage(3, w1, 9), stage(w1, w2, 3, 2), stage(w2, w4, 3, 2)])
        self.blocks = nn.ModuleList(nn.ModuleList([stage(w4, w4, 3), stage(w4, w4, 3)]) for _ in range(5))
        self.up = nn.ModuleList([stage(w4, w2, 3), stage(w2, w1, 3)])
        self.tail = nn.Sequential(nn.ReflectionPad2d(4), nn.Conv2d(w1, 3, 9))

    def forward(self, x):
        for stage in self.down:
            x = F.relu(stage(x))
        for first, second in self.blocks:
            x = x + second(F.relu(first(x)))
        for stage in self.up:
            x = F.relu(stage(F.interpolate(x, scale_factor=2)))
        return self.tail(x)


class Generator(nn.Module):
    """Of CycleGAN, in full or as GAN Compression has it."""

    def __init__(self, a, b, c, inner, separable):
        super().__init__()

        def block_conv(c_in, c_out):
            if not separable:
                return nn.Conv2d(c_in, c_out, 3)
            depthwise = nn.Conv2d(c_in, c_in, 3, groups=c_in)
            return nn.Sequential(depthwise, nn.InstanceNorm2d(c_in), nn.Conv2d(c_in, c_out, 1))

        def block():
            first = [nn.ReflectionPad2d(1), block_conv(c, inner), nn.InstanceNorm2d(inner), nn.ReLU()]
            return nn.Sequential(*first, nn.ReflectionPad2d(1), block_conv(inner, c), nn.InstanceNorm2d(c))

        norm = lambda width: [nn.InstanceNorm2d(width), nn.ReLU()]
        up = lambda c_in, c_out: nn.ConvTranspose2d(c_in, c_out, 3, 2, 1, 1)
        head = [nn.ReflectionPad2d(3), nn.Conv2d(3, a, 7), *norm(a)]
        down = [nn.Conv2d(a, b, 3, 2, 1), *norm(b), nn.Conv2d(b, c, 3, 2, 1), *norm(c)]
        self.head = nn.Sequential(*head, *down)
        self.blocks = nn.ModuleList(block() for _ in range(9))
        tail = [nn.ReflectionPad2d(3), nn.Conv2d(a, 3, 7), nn.Tanh()]
        self.tail = nn.Sequential(up(c, b), *norm(b), up(b, a), *norm(a), *tail)

    def forward(self, x):
        x = self.head(x)
        for block in self.blocks:
            x = x + block(x)
        return self.tail(x)


class AdaIn(nn.Module):
    def __init__(self):
        super().__init__()

        def layers(c_in, widths):
            for width in widths:
                if width == "M":
                    yield nn.MaxPool2d(2, ceil_mode=True)
                elif width == "U":
                    yield nn.Upsample(scale_factor=2)
                else:
                    yield from [nn.ReflectionPad2d(1), nn.Conv2d(c_in, width, 3), nn.ReLU()]
                    c_in = width

        widths = [64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512]
        self.encoder = nn.Sequential(nn.Conv2d(3, 3, 1), *layers(3, widths))
        widths = [256, "U", 256, 256, 256, 128, "U", 128, 64, "U", 64, 3]
        self.decoder = nn.Sequential(*list(layers(512, widths))[:-1])

    def forward(self, x):
        x = self.encoder(x)
        var, mean = torch.var_mean(x, (2, 3), keepdim=True)
        return self.decoder((x - mean) / (var + 1e-5).sqrt() * 1.1 + 0.1)


class StarGan(nn.Module):
    def __init__(self):
        super().__init__()
        widths = [64, 128, 256, 512, 512, 512, 512]
        pairs = list(zip(widths, widths[1:]))
        self.from_rgb = nn.Conv2d(3, 64, 3, 1, 1)
        # Halved four times, then two blocks of one size; and the way back.
        self.encode = nn.ModuleList(StarGanBlock(a, b, index < 4) for index, (a, b) in enumerate(pairs))
        back = list(enumerate(pairs))[::-1]
        self.decode = nn.ModuleList(StyledBlock(b, a, index < 4) for index, (a, b) in back)
        self.to_rgb = nn.Sequential(nn.InstanceNorm2d(64, affine=True), nn.LeakyReLU(0.2), nn.Conv2d(64, 3, 1))
        self.style = nn.Parameter(torch.randn(1, 64))

    def forward(self, x):
        x = self.from_rgb(x)
        for block in self.encode:
            x = block(x)
        for block in self.decode:
            x = block(x, self.style)
        return self.to_rgb(x)


class StarGanBlock(nn.Module):
    def __init__(self, c_in, c_out, halves):
        super().__init__()
        self.halves = halves
        self.norms = nn.ModuleList(nn.InstanceNorm2d(c_in, affine=True) for _ in range(2))
        self.conv1, self.conv2 = nn.Conv2d(c_in, c_in, 3, 1, 1), nn.Conv2d(c_in, c_out, 3, 1, 1)
        self.around = nn.Conv2d(c_in, c_out, 1, bias=False) if c_in != c_out else nn.Identity()

    def forward(self, x):
        shrink = lambda x: F.avg_pool2d(x, 2) if self.halves else x
        y = shrink(self.conv1(F.leaky_relu(self.norms[0](x), 0.2)))
        y = self.conv2(F.leaky_relu(self.norms[1](y), 0.2))
        return (shrink(self.around(x)) + y) / 2**0.5


class StyledBlock(nn.Module):
    def __init__(self, c_in, c_out, doubles):
        super().__init__()
        self.doubles = doubles
        self.fcs = nn.ModuleList(nn.Linear(64, 2 * width) for width in (c_in, c_out))
        self.conv1, self.conv2 = nn.Conv2d(c_in, c_out, 3, 1, 1), nn.Conv2d(c_out, c_out, 3, 1, 1)
        self.around = nn.Conv2d(c_in, c_out, 1, bias=False) if c_in != c_out else nn.Identity()

    def norm(self, x, fc, style):
        gamma, beta = fc(style)[:, :, None, None].chunk(2, 1)
        return F.leaky_relu((1 + gamma) * F.instance_norm(x) + beta, 0.2)

    def forward(self, x, style):
        grow = lambda x: F.interpolate(x, scale_factor=2) if self.doubles else x
        y = self.conv1(grow(self.norm(x, self.fcs[0], style)))
        y = self.conv2(self.norm(y, self.fcs[1], style))
        return (self.around(grow(x)) + y) / 2**0.5


NETWORKS = {
    "transformer16-1024": lambda: Transformer(16),
    "transformer16-512": lambda: Transformer(16),
    "transformer32-1024": lambda: Transformer(32),
    "transformer32-512": lambda: Transformer(32),
    "cyclegan-256": lambda: Generator(64, 128, 256, 256, False),
    "compressed-256": lambda: Generator(16, 32, 64, 64, True),
    "adain-512": AdaIn,
    "stargan-256": StarGan,
}


def timed(run):
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--dtype", default="f32")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("names", nargs="*", default=list(NETWORKS))
    args = parser.parse_intermixed_args()
    torch.set_num_threads(args.threads)
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    bench = subprocess.Popen([args.binary, "--serve"], **pipes)

    def ours(name):
        bench.stdin.write(f"{name} {args.dtype}\n")
        bench.stdin.flush()
        return float(bench.stdout.readline())

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[args.dtype]
    print(f"{'network':20} {'here ms':>9} {'PyTorch':>9} {'its NHWC':>9}  here / PyTorch's better")
    for name in args.names or list(NETWORKS):
        side = int(name.split("-")[1])
        usual = NETWORKS[name]().eval().to(dtype)
        x = torch.rand(1, 3, side, side, dtype=dtype)
        last = NETWORKS[name]().eval().to(dtype, memory_format=torch.channels_last)
        x_last = x.to(memory_format=torch.channels_last)
        runs = [lambda: ours(name), lambda: timed(lambda: usual(x)), lambda: timed(lambda: last(x_last))]
        for run in runs:
            run()
        turns = [[run() for run in runs] for _ in range(args.turns)]
        here, theirs, nhwc = (statistics.median(times) for times in zip(*turns))
        print(f"{name:20} {here:9.1f} {theirs:9.1f} {nhwc:9.1f}  {here / min(theirs, nhwc):.2f}", flush=True)


if __name__ == "__main__":
    main()
