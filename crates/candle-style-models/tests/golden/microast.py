"""Writes microast.safetensors: a narrow MicroAST with random weights, a content, two styles and the
outputs. Run it from anywhere; needs torch and safetensors.

The layers have the names of EndyWon/MicroAST, each network's below the name of its file.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

SEED = 20250313
WIDTHS = (4, 8, 12)
EPS = 1e-5


class Conv(nn.Module):
    def __init__(self, c_in, c_out, kernel, stride=1, groups=1):
        super().__init__()
        self.pad = kernel // 2
        self.conv_layer = nn.Conv2d(c_in, c_out, kernel, stride, groups=groups)

    def forward(self, x):
        return self.conv_layer(F.pad(x, [self.pad] * 4, mode="reflect"))


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.conv2 = Conv(width, width, 3), Conv(width, width, 3)

    def forward(self, x, weight=None, bias=None):
        if weight is None:
            return x + self.conv2(F.relu(self.conv1(x)))
        inner = F.relu(weight * self.conv1(x) + bias * x)
        return x + weight * self.conv2(inner) + bias * inner


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        a, b, c = WIDTHS
        relu = nn.ReLU()
        self.enc1 = nn.Sequential(
            Conv(3, a, 9), relu,
            Conv(a, b, 3, stride=2, groups=a), relu, Conv(b, b, 1), relu,
            Conv(b, c, 3, stride=2, groups=4), relu, Conv(c, c, 1), relu,
            Residual(c),
        )  # fmt: skip
        self.enc2 = nn.Sequential(Residual(c))

    def forward(self, x):
        shallow = self.enc1(x)
        return shallow, self.enc2(shallow)


class Modulator(nn.Module):
    def __init__(self):
        super().__init__()
        width = WIDTHS[2]
        for name in ["weight1", "bias1", "weight2", "bias2"]:
            conv = Conv(width, width, 3, groups=width)
            setattr(self, name, nn.Sequential(conv, nn.AdaptiveAvgPool2d((1, 1))))

    def forward(self, features):
        shallow, deep = features
        return (self.weight1(shallow), self.bias1(shallow)), (self.weight2(deep), self.bias2(deep))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        a, b, c = WIDTHS
        relu, up = nn.ReLU(), nn.Upsample(scale_factor=2, mode="bilinear")
        self.dec1, self.dec2 = Residual(c), Residual(c)
        self.dec3 = nn.Sequential(
            up, Conv(c, b, 3, groups=4), relu, Conv(b, b, 1), relu,
            up, Conv(b, a, 3, groups=a), relu, Conv(a, a, 1), relu, Conv(a, 3, 9),
        )  # fmt: skip

    def forward(self, content, style, factors, alpha):
        x = content[1]
        x = alpha * adain(x, style[1]) + (1 - alpha) * x
        x = self.dec1(x, *factors[1])
        x = alpha * adain(x, style[0]) + (1 - alpha) * x
        return self.dec3(self.dec2(x, *factors[0]))


def adain(content, style):
    def stats(x):
        x = x.flatten(2)
        return x.mean(2)[..., None, None], (x.var(2) + EPS).sqrt()[..., None, None]

    (mean, std), (style_mean, style_std) = stats(content), stats(style)
    return (content - mean) / std * style_std + style_mean


@torch.no_grad()
def main():
    torch.manual_seed(SEED)
    content_encoder, style_encoder, modulator, decoder = Encoder(), Encoder(), Modulator(), Decoder()
    networks = dict(
        content_encoder=content_encoder, style_encoder=style_encoder,
        modulator=modulator, decoder=decoder,
    )  # fmt: skip
    # 22 columns: the sides need not be multiples of 4.
    tensors = {"content": torch.rand(2, 3, 20, 22), "style": torch.rand(1, 3, 17, 24)}
    for name, network in networks.items():
        # Weights that keep the deviation from layer to layer, so that a wrong factor shows at the end.
        for parameter in network.parameters():
            parameter.mul_(2.4)
        tensors |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
    style = style_encoder(tensors["style"])
    content = content_encoder(tensors["content"])
    for name, alpha in [("whole", 1.0), ("part", 0.4)]:
        tensors[f"output.{name}"] = decoder(content, style, modulator(style), alpha)
    metadata = {"torch": torch.__version__, "seed": str(SEED), "script": Path(__file__).name}
    save_file(tensors, Path(__file__).with_suffix(".safetensors"), metadata)


if __name__ == "__main__":
    main()
