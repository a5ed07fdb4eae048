"""Writes stargan_v2.safetensors: narrow StarGAN v2 networks with random weights, inputs and outputs.
Run it from anywhere; needs torch and safetensors.

The layers have the names of clovaai/stargan-v2, for pictures of 16x16 with 2 halvings; `faces.*` is
the output of the same generator without shortcuts in the decoder.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

SEED = 20250315
STYLE, LATENT, DOMAINS, HIDDEN = 5, 3, 3, 7
WIDTHS = (4, 6, 8)


def act(x):
    return F.leaky_relu(x, 0.2)


class Block(nn.Module):
    def __init__(self, c_in, c_out, norm, shrink):
        super().__init__()
        self.norm, self.shrink = norm, shrink
        self.conv1, self.conv2 = nn.Conv2d(c_in, c_in, 3, 1, 1), nn.Conv2d(c_in, c_out, 3, 1, 1)
        if norm:
            self.norm1 = nn.InstanceNorm2d(c_in, affine=True)
            self.norm2 = nn.InstanceNorm2d(c_in, affine=True)
        if c_in != c_out:
            self.conv1x1 = nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x):
        pool = (lambda x: F.avg_pool2d(x, 2)) if self.shrink else (lambda x: x)
        y = pool(self.conv1(act(self.norm1(x) if self.norm else x)))
        y = self.conv2(act(self.norm2(y) if self.norm else y))
        x = self.conv1x1(x) if hasattr(self, "conv1x1") else x
        return (pool(x) + y) / 2**0.5


class AdaIn(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.fc = nn.InstanceNorm2d(width), nn.Linear(STYLE, 2 * width)

    def forward(self, x, s):
        gamma, beta = self.fc(s)[..., None, None].chunk(2, dim=1)
        return (1 + gamma) * self.norm(x) + beta


class StyledBlock(nn.Module):
    def __init__(self, c_in, c_out, grow):
        super().__init__()
        self.grow, self.shortcut = grow, True
        self.conv1, self.conv2 = nn.Conv2d(c_in, c_out, 3, 1, 1), nn.Conv2d(c_out, c_out, 3, 1, 1)
        self.norm1, self.norm2 = AdaIn(c_in), AdaIn(c_out)
        if c_in != c_out:
            self.conv1x1 = nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x, s):
        up = (lambda x: F.interpolate(x, scale_factor=2)) if self.grow else (lambda x: x)
        y = self.conv1(up(act(self.norm1(x, s))))
        y = self.conv2(act(self.norm2(y, s)))
        if not self.shortcut:
            return y
        x = up(x)
        return ((self.conv1x1(x) if hasattr(self, "conv1x1") else x) + y) / 2**0.5


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        a, b, c = WIDTHS
        self.from_rgb = nn.Conv2d(3, a, 3, 1, 1)
        norm = dict(norm=True, shrink=False)
        self.encode = nn.ModuleList(
            [Block(a, b, True, True), Block(b, c, True, True), Block(c, c, **norm), Block(c, c, **norm)]
        )
        self.decode = nn.ModuleList(
            [StyledBlock(c, c, False), StyledBlock(c, c, False), StyledBlock(c, b, True), StyledBlock(b, a, True)]
        )
        self.to_rgb = nn.Sequential(nn.InstanceNorm2d(a, affine=True), nn.LeakyReLU(0.2), nn.Conv2d(a, 3, 1))

    def forward(self, x, s):
        x = self.from_rgb(x)
        for block in self.encode:
            x = block(x)
        for block in self.decode:
            x = block(x, s)
        return self.to_rgb(x)


def mlp(*widths):
    layers = []
    for c_in, c_out in zip(widths, widths[1:]):
        layers += [nn.Linear(c_in, c_out), nn.ReLU()]
    return layers


class Mapping(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Sequential(*mlp(LATENT, HIDDEN, HIDDEN))
        branch = lambda: nn.Sequential(*mlp(HIDDEN, HIDDEN, STYLE)[:-1])
        self.unshared = nn.ModuleList(branch() for _ in range(DOMAINS))

    def forward(self, z, y):
        h = self.shared(z)
        return torch.stack([self.unshared[k](h[i]) for i, k in enumerate(y)])


class StyleEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        a, b, c = WIDTHS
        self.shared = nn.Sequential(
            nn.Conv2d(3, a, 3, 1, 1), Block(a, b, False, True), Block(b, c, False, True),
            nn.LeakyReLU(0.2), nn.Conv2d(c, c, 4), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.unshared = nn.ModuleList(nn.Linear(c, STYLE) for _ in range(DOMAINS))

    def forward(self, x, y):
        h = self.shared(x).flatten(1)
        return torch.stack([self.unshared[k](h[i]) for i, k in enumerate(y)])


@torch.no_grad()
def main():
    torch.manual_seed(SEED)
    domains = [2, 0]
    tensors = {"x": torch.rand(2, 3, 16, 16) * 2 - 1, "z": torch.randn(2, LATENT), "s": torch.randn(2, STYLE)}
    networks = dict(generator=Generator(), mapping_network=Mapping(), style_encoder=StyleEncoder())
    for name, network in networks.items():
        for parameter in network.parameters():
            parameter.mul_(1.5).add_(torch.randn_like(parameter) * 0.1)
        tensors |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
    generator = networks["generator"]
    tensors["output.animals"] = generator(tensors["x"], tensors["s"])
    for block in generator.decode:
        block.shortcut = False
    tensors["output.faces"] = generator(tensors["x"], tensors["s"])
    tensors["output.mapping"] = networks["mapping_network"](tensors["z"], domains)
    tensors["output.style"] = networks["style_encoder"](tensors["x"], domains)
    metadata = {"torch": torch.__version__, "seed": str(SEED), "script": Path(__file__).name}
    save_file(tensors, Path(__file__).with_suffix(".safetensors"), metadata)


if __name__ == "__main__":
    main()
