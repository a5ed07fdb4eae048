"""Writes resnet_generator.safetensors: two tiny CycleGAN generators with random weights, an input
and their outputs. Run it from anywhere; needs torch and safetensors.

The layers stand at the indices of junyanz/pytorch-CycleGAN-and-pix2pix, so that the state dict has
the names of a published checkpoint: `full.*` without dropout; `separable.*` (GAN Compression) with
it, its blocks narrower inside.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

SEED = 20240611
WIDTH = 4
BLOCKS = 2


def norm(channels):
    return nn.InstanceNorm2d(channels, affine=False, track_running_stats=False)


class SeparableConv(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(c_in, c_in, 3, groups=c_in), norm(c_in), nn.Conv2d(c_in, c_out, 1)
        )

    def forward(self, x):
        return self.conv(x)


class Block(nn.Module):
    def __init__(self, width, inner, separable):
        super().__init__()
        conv = SeparableConv if separable else lambda c_in, c_out: nn.Conv2d(c_in, c_out, 3)
        dropout = [nn.Dropout(0.5)] if separable else []
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), conv(width, inner), norm(inner), nn.ReLU(), *dropout,
            nn.ReflectionPad2d(1), conv(inner, width), norm(width),
        )  # fmt: skip

    def forward(self, x):
        return x + self.conv_block(x)


class Generator(nn.Module):
    def __init__(self, separable):
        super().__init__()
        w1, w2, w4 = WIDTH, 2 * WIDTH, 4 * WIDTH
        inner = 3 * WIDTH if separable else w4
        up = dict(stride=2, padding=1, output_padding=1)
        self.model = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(3, w1, 7), norm(w1), nn.ReLU(),
            nn.Conv2d(w1, w2, 3, stride=2, padding=1), norm(w2), nn.ReLU(),
            nn.Conv2d(w2, w4, 3, stride=2, padding=1), norm(w4), nn.ReLU(),
            *(Block(w4, inner, separable) for _ in range(BLOCKS)),
            nn.ConvTranspose2d(w4, w2, 3, **up), norm(w2), nn.ReLU(),
            nn.ConvTranspose2d(w2, w1, 3, **up), norm(w1), nn.ReLU(),
            nn.ReflectionPad2d(3), nn.Conv2d(w1, 3, 7), nn.Tanh(),
        )  # fmt: skip

    def forward(self, x):
        return self.model(x)


@torch.no_grad()
def main():
    torch.manual_seed(SEED)
    # 23 columns: the sides need not be multiples of 4.
    tensors = {"input": torch.rand(2, 3, 20, 23) * 2 - 1}
    for name, separable in [("full", False), ("separable", True)]:
        generator = Generator(separable).eval()
        tensors |= {f"{name}.{key}": value for key, value in generator.state_dict().items()}
        tensors[f"{name}.output"] = generator(tensors["input"])
    metadata = {"torch": torch.__version__, "seed": str(SEED), "script": Path(__file__).name}
    save_file(tensors, Path(__file__).with_suffix(".safetensors"), metadata)


if __name__ == "__main__":
    main()
