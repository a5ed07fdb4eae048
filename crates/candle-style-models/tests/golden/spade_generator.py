"""Writes spade_generator.safetensors: narrow GauGAN generators with random weights, a map and the
outputs. Run it from anywhere; needs torch and safetensors.

The layers have the names of NVlabs/SPADE: `instance.*` has spectral norm around instance norm and 5
doublings, `batch.*` batch norm, no spectral norm and 7 doublings.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import spectral_norm

SEED = 20250316
LABELS, INNER = 3, 4


class Spade(nn.Module):
    def __init__(self, width, batch):
        super().__init__()
        norm = nn.BatchNorm2d if batch else nn.InstanceNorm2d
        self.param_free_norm = norm(width, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(LABELS, INNER, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(INNER, width, 3, padding=1)
        self.mlp_beta = nn.Conv2d(INNER, width, 3, padding=1)

    def forward(self, x, seg):
        inner = self.mlp_shared(F.interpolate(seg, size=x.shape[2:], mode="nearest"))
        return self.param_free_norm(x) * (1 + self.mlp_gamma(inner)) + self.mlp_beta(inner)


class Block(nn.Module):
    def __init__(self, c_in, c_out, batch):
        super().__init__()
        middle = min(c_in, c_out)
        wrap = (lambda conv: conv) if batch else spectral_norm
        self.conv_0 = wrap(nn.Conv2d(c_in, middle, 3, padding=1))
        self.conv_1 = wrap(nn.Conv2d(middle, c_out, 3, padding=1))
        self.norm_0, self.norm_1 = Spade(c_in, batch), Spade(middle, batch)
        if c_in != c_out:
            self.conv_s = wrap(nn.Conv2d(c_in, c_out, 1, bias=False))
            self.norm_s = Spade(c_in, batch)

    def forward(self, x, seg):
        around = self.conv_s(self.norm_s(x, seg)) if hasattr(self, "conv_s") else x
        y = self.conv_0(F.leaky_relu(self.norm_0(x, seg), 0.2))
        return around + self.conv_1(F.leaky_relu(self.norm_1(y, seg), 0.2))


class Generator(nn.Module):
    def __init__(self, widths, doublings, batch):
        super().__init__()
        self.doublings = doublings
        first = widths[0]
        self.fc = nn.Conv2d(LABELS, first, 3, padding=1)
        self.head_0 = Block(first, first, batch)
        self.G_middle_0, self.G_middle_1 = Block(first, first, batch), Block(first, first, batch)
        self.ups = len(widths) - 1
        for index, (c_in, c_out) in enumerate(zip(widths, widths[1:])):
            setattr(self, f"up_{index}", Block(c_in, c_out, batch))
        self.conv_img = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, seg):
        up = lambda x: F.interpolate(x, scale_factor=2)
        height, width = (side >> self.doublings for side in seg.shape[2:])
        x = self.head_0(self.fc(F.interpolate(seg, size=(height, width))), seg)
        x = self.G_middle_0(up(x), seg)
        x = self.G_middle_1(up(x) if self.doublings > 5 else x, seg)
        for index in range(self.ups):
            x = getattr(self, f"up_{index}")(up(x), seg)
        return torch.tanh(self.conv_img(F.leaky_relu(x, 0.2)))


@torch.no_grad()
def main():
    torch.manual_seed(SEED)
    tensors = {}
    for name, generator, size in [
        ("instance", Generator((6, 5, 4, 4, 3), 5, False), (64, 96)),
        ("batch", Generator((4, 4, 3, 3, 3, 2), 7, True), (128, 128)),
    ]:
        for key, value in generator.state_dict().items():
            if value.is_floating_point() and not key.endswith(("_u", "_v")):
                value.mul_(1.5).add_(torch.randn_like(value).abs() * 0.1)
        # The vectors of spectral norm are found in training.
        generator.train()
        labels = torch.randint(LABELS, (2, 1, *size))
        seg = torch.zeros(2, LABELS, *size).scatter_(1, labels, 1.0)
        generator(seg)
        generator.eval()
        tensors[f"{name}.labels"] = labels.to(torch.uint8)
        state = generator.state_dict().items()
        tensors |= {f"{name}.net.{key}": value.clone() for key, value in state}
        # A part: pictures of this size do not pack.
        tensors[f"{name}.output"] = generator(seg)[:, :, 20:52, 30:64].contiguous()
    metadata = {"torch": torch.__version__, "seed": str(SEED), "script": Path(__file__).name}
    save_file(tensors, Path(__file__).with_suffix(".safetensors"), metadata)


if __name__ == "__main__":
    main()
