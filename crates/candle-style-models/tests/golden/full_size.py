"""Writes networks of the published sizes with random weights, in the files their authors save, and
the pictures that PyTorch makes with them: for `stylize`, where published weights cannot be had.

    pip install torch numpy pillow safetensors
    python crates/candle-style-models/tests/golden/full_size.py FOLDER

1.3 GB. Each line that it prints is a command whose OUT.png should be the picture named behind it,
to a byte here and there. The layers have the names of clovaai/stargan-v2, NVlabs/SPADE and
naoto0804/pytorch-AdaIN.
"""

import sys
from pathlib import Path

import numpy as np
import spade_generator
import stargan_v2
import torch
import torch.nn.functional as F
from PIL import Image
from spade_generator import Spade
from stargan_v2 import Block, StyledBlock, act, mlp
from torch import nn
from torch.nn.utils import spectral_norm

SIDE = 256
stargan_v2.STYLE = 64
spade_generator.INNER = 128


class Generator(nn.Module):
    def __init__(self, faces):
        super().__init__()
        widths = [64, 128, 256, 512, 512] + [512] * faces
        self.from_rgb = nn.Conv2d(3, 64, 3, 1, 1)
        pairs = list(zip(widths, widths[1:]))
        down = [Block(a, b, True, True) for a, b in pairs]
        up = [StyledBlock(b, a, True) for a, b in reversed(pairs)]
        self.encode = nn.ModuleList(down + [Block(512, 512, True, False) for _ in range(2)])
        self.decode = nn.ModuleList([StyledBlock(512, 512, False) for _ in range(2)] + up)
        for block in self.decode:
            block.shortcut = not faces
        self.to_rgb = nn.Sequential(nn.InstanceNorm2d(64, affine=True), nn.LeakyReLU(0.2), nn.Conv2d(64, 3, 1))
        if faces:
            self.hpf = nn.Module()
            self.hpf.register_buffer("filter", torch.ones(3, 3))

    def forward(self, x, s):
        x = self.from_rgb(x)
        for block in self.encode:
            x = block(x)
        for block in self.decode:
            x = block(x, s)
        return self.to_rgb(x)


class Mapping(nn.Module):
    def __init__(self, domains):
        super().__init__()
        self.shared = nn.Sequential(*mlp(16, 512, 512, 512, 512))
        branch = lambda: nn.Sequential(*mlp(512, 512, 512, 512, 64)[:-1])
        self.unshared = nn.ModuleList(branch() for _ in range(domains))


class StyleEncoder(nn.Module):
    def __init__(self, domains):
        super().__init__()
        widths = [64, 128, 256, 512, 512, 512, 512]
        blocks = [Block(a, b, False, True) for a, b in zip(widths, widths[1:])]
        last = [nn.LeakyReLU(0.2), nn.Conv2d(512, 512, 4), nn.LeakyReLU(0.2)]
        self.shared = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1), *blocks, *last)
        self.unshared = nn.ModuleList(nn.Linear(512, 64) for _ in range(domains))

    def forward(self, x, domain):
        return self.unshared[domain](self.shared(x).flatten(1))


class SpadeBlock(nn.Module):
    def __init__(self, c_in, c_out, labels):
        super().__init__()
        spade_generator.LABELS = labels
        middle = min(c_in, c_out)
        self.conv_0 = spectral_norm(nn.Conv2d(c_in, middle, 3, padding=1))
        self.conv_1 = spectral_norm(nn.Conv2d(middle, c_out, 3, padding=1))
        self.norm_0, self.norm_1 = Spade(c_in, True), Spade(middle, True)
        if c_in != c_out:
            self.conv_s = spectral_norm(nn.Conv2d(c_in, c_out, 1, bias=False))
            self.norm_s = Spade(c_in, True)

    def forward(self, x, seg):
        around = self.conv_s(self.norm_s(x, seg)) if hasattr(self, "conv_s") else x
        y = self.conv_0(act(self.norm_0(x, seg)))
        return around + self.conv_1(act(self.norm_1(y, seg)))


class GauGan(nn.Module):
    def __init__(self, labels, more):
        super().__init__()
        self.more = more
        self.fc = nn.Conv2d(labels, 1024, 3, padding=1)
        self.head_0 = SpadeBlock(1024, 1024, labels)
        self.G_middle_0, self.G_middle_1 = SpadeBlock(1024, 1024, labels), SpadeBlock(1024, 1024, labels)
        for index in range(4):
            setattr(self, f"up_{index}", SpadeBlock(1024 >> index, 512 >> index, labels))
        self.conv_img = nn.Conv2d(64, 3, 3, padding=1)

    def forward(self, seg):
        up = lambda x: F.interpolate(x, scale_factor=2)
        x = self.head_0(self.fc(F.interpolate(seg, size=SIDE >> (5 + self.more))), seg)
        x = self.G_middle_0(up(x), seg)
        x = self.G_middle_1(up(x) if self.more else x, seg)
        for index in range(4):
            x = getattr(self, f"up_{index}")(up(x), seg)
        return torch.tanh(self.conv_img(act(x)))


def adain(widths, last):
    """Of naoto0804; a number is a convolution to it, "M" and "U" are a pooling and an upsampling."""
    layers, c_in = [], widths[0]
    for width in widths[1:]:
        if width == "M":
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        elif width == "U":
            layers.append(nn.Upsample(scale_factor=2))
        else:
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(c_in, width, 3), nn.ReLU()]
            c_in = width
    return layers if last else layers[:-1]


def randomize(network):
    """Biases, norms and running statistics that are not the defaults."""
    for name, tensor in list(network.named_parameters()) + list(network.named_buffers()):
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.dim() == 1 and tensor.is_floating_point() and not name.endswith(("_u", "_v")):
            tensor.add_(torch.randn_like(tensor) * 0.2)
    for module in network.modules():
        if hasattr(module, "weight_orig"):
            # u and v give the largest singular value, as after some steps of training.
            weight = module.weight_orig.flatten(1)
            for _ in range(5):
                module.weight_v.copy_(F.normalize(weight.T @ module.weight_u, dim=0))
                module.weight_u.copy_(F.normalize(weight @ module.weight_v, dim=0))
    return network.eval()


def picture(folder, name, shift):
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    waves = [np.sin(7 * x + shift), np.cos(9 * y * x + shift), np.sin(31 * (x - y) ** 2)]
    pixels = (127.5 + 127.5 * np.stack(waves, -1)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def write(folder, name, y, command):
    """`y` from 0 to 1, in bytes."""
    pixels = y[0].permute(1, 2, 0).clamp(0, 255).byte().numpy()
    Image.fromarray(pixels).save(folder / f"{name}.png")
    print(f"stylize {command} --output OUT.png  # {name}.png, of deviation {pixels.std():.0f}")


def stargan(folder, content, style):
    for name, faces, domains in [("animals", False, 3), ("faces", True, 2)]:
        networks = dict(generator=Generator(faces), mapping_network=Mapping(domains), style_encoder=StyleEncoder(domains))
        networks = {key: randomize(network) for key, network in networks.items()}
        networks["generator"].to_rgb[2].weight.mul_(0.3)
        s = networks["style_encoder"](style * 2 - 1, 1)
        y = networks["generator"](content * 2 - 1, s)
        if faces:
            networks["fan"] = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        file = f"{name}_nets_ema.ckpt"
        torch.save({key: nn.DataParallel(network).state_dict() for key, network in networks.items()}, folder / file)
        options = f"--weights {file} --input content.png --style style.png --domain 1"
        write(folder, name, (y + 1) / 2 * 255 + 0.5, options)


def gaugan(folder):
    things = np.zeros((SIDE, SIDE), np.uint8)
    things[100:160, 60:95], things[100:160, 95:130] = 1, 2
    Image.fromarray(things).save(folder / "things.png")
    edges = torch.zeros(1, 1, SIDE, SIDE)
    for dim, length in [(0, 2), (1, 3)]:
        differ = torch.from_numpy(np.diff(things.astype(int), axis=dim) != 0)[None, None].float()
        for start in (0, 1):
            part = edges.narrow(length, start, SIDE - 1)
            part.copy_(torch.maximum(part, differ))
    bands = np.repeat(np.arange(SIDE) // 52, SIDE).reshape(SIDE, SIDE)
    for name, values, channels, more in [
        ("coco", (156, 134, 123, 0, 255), lambda v: np.where(v == 255, 182, v), 0),
        ("ade20k", (3, 150, 0, 17, 1), lambda v: np.where(v == 0, 150, v - 1), 0),
        ("cityscapes", (23, 7, 26, 34, 0), lambda v: v, 1),
    ]:
        labels = np.array(values)[bands]
        Image.fromarray(labels.astype(np.uint8)).save(folder / f"{name}-map.png")
        count = {"coco": 183, "ade20k": 151, "cityscapes": 35}[name]
        seg = F.one_hot(torch.from_numpy(channels(labels)), count).permute(2, 0, 1)[None].float()
        seg = seg if name == "ade20k" else torch.cat([seg, edges], 1)
        network = randomize(GauGan(seg.shape[1], more))
        network.conv_img.weight.mul_(3)
        y = network(seg)
        torch.save(network.state_dict(), folder / f"{name}_net_G.pth")
        options = f"--weights {name}_net_G.pth --input {name}-map.png"
        options += "" if name == "ade20k" else " --instances things.png"
        write(folder, name, (y + 1) / 2 * 255, options + (" --upsampling more" if more else ""))


def adain_style(folder, content, style):
    widths = [64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512]
    vgg = nn.Sequential(nn.Conv2d(3, 3, 1), *adain([3, 64] + widths, True))
    decoder = [512, 256, "U", 256, 256, 256, 128, "U", 128, 64, "U", 64, 3]
    decoder = nn.Sequential(*adain(decoder, False))
    for network in (vgg, decoder):
        for conv in (m for m in network if isinstance(m, nn.Conv2d)):
            nn.init.kaiming_normal_(conv.weight)
            conv.bias.normal_(0, 0.05)
    def moments(x):
        var, mean = torch.var_mean(x, (2, 3), keepdim=True)
        return mean, (var + 1e-5).sqrt()
    c, s = vgg[:31](content), vgg[:31](style)
    (mean, std), (style_mean, style_std) = moments(c), moments(s)
    t = ((c - mean) / std * style_std + style_mean) * 0.7 + c * 0.3
    decoder[-1].weight.mul_(0.15 / decoder(t).std())
    decoder[-1].bias.fill_(0.5)
    (folder / "adain").mkdir(exist_ok=True)
    torch.save(vgg.state_dict(), folder / "adain/vgg_normalised.pth")
    torch.save(decoder.state_dict(), folder / "adain/decoder.pth")
    options = "--weights adain --input content.png --style style.png --alpha 0.7"
    write(folder, "adain", decoder(t) * 255 + 0.5, options)


@torch.no_grad()
def main():
    torch.manual_seed(20261121)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    content, style = picture(folder, "content.png", 0), picture(folder, "style.png", 2)
    stargan(folder, content, style)
    gaugan(folder)
    adain_style(folder, content, style)


if __name__ == "__main__":
    main()
