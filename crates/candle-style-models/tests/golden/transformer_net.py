"""Writes transformer_net.safetensors: a tiny TransformerNet with random weights, an input, its
output and the gradients of a weighted sum of it. Run it from anywhere; needs torch and safetensors.

The modules have the names of pytorch/examples/fast_neural_style, so that `net.*` is the state dict of
a checkpoint from there. Norms are as random as the convolutions: their defaults would hide a wrong
order.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

SEED = 20250918
WIDTH = 4
BLOCKS = 2


class Conv(nn.Module):
    def __init__(self, c_in, c_out, kernel, stride=1):
        super().__init__()
        self.conv2d = nn.Conv2d(c_in, c_out, kernel, stride)

    def forward(self, x):
        pad = self.conv2d.kernel_size[0] // 2
        return self.conv2d(F.pad(x, (pad, pad, pad, pad), mode="reflect"))


def norm(channels):
    norm = nn.InstanceNorm2d(channels, affine=True)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias, std=0.5)
    return norm


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.conv2 = Conv(width, width, 3), Conv(width, width, 3)
        self.in1, self.in2 = norm(width), norm(width)

    def forward(self, x):
        return x + self.in2(self.conv2(self.in1(self.conv1(x)).relu()))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        w1, w2, w4 = WIDTH, 2 * WIDTH, 4 * WIDTH
        self.conv1, self.in1 = Conv(3, w1, 9), norm(w1)
        self.conv2, self.in2 = Conv(w1, w2, 3, stride=2), norm(w2)
        self.conv3, self.in3 = Conv(w2, w4, 3, stride=2), norm(w4)
        for index in range(BLOCKS):
            setattr(self, f"res{index + 1}", Block(w4))
        self.deconv1, self.in4 = Conv(w4, w2, 3), norm(w2)
        self.deconv2, self.in5 = Conv(w2, w1, 3), norm(w1)
        self.deconv3 = Conv(w1, 3, 9)

    def forward(self, x):
        x = self.in1(self.conv1(x)).relu()
        x = self.in2(self.conv2(x)).relu()
        x = self.in3(self.conv3(x)).relu()
        for index in range(BLOCKS):
            x = getattr(self, f"res{index + 1}")(x)
        for conv, norm in [(self.deconv1, self.in4), (self.deconv2, self.in5)]:
            x = norm(conv(F.interpolate(x, scale_factor=2, mode="nearest"))).relu()
        return self.deconv3(x)


def main():
    torch.manual_seed(SEED)
    net = Net()
    # 23 columns: the sides need not be multiples of 4. The gradients need them to be, in candle.
    tensors = {"input": torch.rand(2, 3, 20, 23) * 255, "square": torch.rand(1, 3, 16, 16) * 255}
    tensors |= {f"net.{name}": value for name, value in net.state_dict().items()}
    tensors["output"] = net(tensors["input"]).detach()
    tensors["dy"] = torch.randn(1, 3, 16, 16)
    (net(tensors["square"]) * tensors["dy"]).sum().backward()
    tensors |= {f"grad.{name}": value.grad for name, value in net.named_parameters()}
    metadata = {"torch": torch.__version__, "seed": str(SEED), "script": Path(__file__).name}
    save_file(tensors, Path(__file__).with_suffix(".safetensors"), metadata)


if __name__ == "__main__":
    main()
