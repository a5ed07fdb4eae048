"""Writes adain_style.safetensors: a narrow AdaIN style network with random weights, contents, styles
and the outputs. Run it from anywhere; needs torch and safetensors.

The layers stand at the indices of naoto0804/pytorch-AdaIN: the VGG's relu4_1 is the 31st layer.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

SEED = 20250314
A, B, C, D = 6, 8, 10, 14
EPS = 1e-5


def conv(c_in, c_out):
    return [nn.ReflectionPad2d(1), nn.Conv2d(c_in, c_out, 3), nn.ReLU()]


def pool():
    return [nn.MaxPool2d(2, 2, 0, ceil_mode=True)]


def up():
    return [nn.Upsample(scale_factor=2, mode="nearest")]


def mean_std(x):
    x = x.flatten(2)
    return x.mean(2)[..., None, None], (x.var(2) + EPS).sqrt()[..., None, None]


@torch.no_grad()
def main():
    torch.manual_seed(SEED)
    vgg = nn.Sequential(
        nn.Conv2d(3, 3, 1), *conv(3, A), *conv(A, A), *pool(), *conv(A, B), *conv(B, B), *pool(),
        *conv(B, C), *conv(C, C), *conv(C, C), *conv(C, C), *pool(), *conv(C, D),
    )  # fmt: skip
    decoder = nn.Sequential(
        *conv(D, C), *up(), *conv(C, C), *conv(C, C), *conv(C, C), *conv(C, B), *up(),
        *conv(B, B), *conv(B, A), *up(), *conv(A, A), *conv(A, 3)[:2],
    )  # fmt: skip
    # 35 columns: the poolings have a rest.
    tensors = {"content": torch.rand(2, 3, 24, 35), "style": torch.rand(1, 3, 26, 17)}
    for name, network in [("vgg_normalised", vgg), ("decoder", decoder)]:
        # Weights that keep the deviation from layer to layer, so that a wrong statistic shows at the end.
        for parameter in network.parameters():
            if parameter.dim() > 1:
                nn.init.kaiming_normal_(parameter)
            else:
                nn.init.normal_(parameter, 0.2, 0.1)
        tensors |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
    assert len(vgg) == 31 and "decoder.28.weight" in tensors
    content, style = vgg(tensors["content"]), vgg(tensors["style"])
    (mean, std), (style_mean, style_std) = mean_std(content), mean_std(style)
    styled = (content - mean) / std * style_std + style_mean
    for name, alpha in [("whole", 1.0), ("part", 0.4)]:
        tensors[f"output.{name}"] = decoder(alpha * styled + (1 - alpha) * content)
    metadata = {"torch": torch.__version__, "seed": str(SEED), "script": Path(__file__).name}
    save_file(tensors, Path(__file__).with_suffix(".safetensors"), metadata)


if __name__ == "__main__":
    main()
