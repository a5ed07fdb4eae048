"""Writes picture.safetensors: a piece of a picture, and what PyTorch makes of it with the network
that is built into `stylize`. Run it from anywhere; needs torch, pillow and safetensors.

As in pytorch/examples/fast_neural_style: values from 0 to 255 go in as they are, those that come out
are clamped and lose their fractions.
"""

from pathlib import Path

import numpy as np
import torch
import transformer_net
from PIL import Image
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parents[4]
WEIGHTS = ROOT / "crates/stylize/default.safetensors"
PICTURE = ROOT / "docs/demo.png"
# A part of the drawing on the left: the house's wall with windows and door, the edge of its roof, grass.
LEFT, TOP, WIDTH, HEIGHT = 68, 236, 64, 48


def network():
    weights = {name: value.float() for name, value in load_file(WEIGHTS).items()}
    transformer_net.WIDTH = len(weights["conv1.conv2d.weight"])
    transformer_net.BLOCKS = sum(name.endswith(".in1.weight") for name in weights)
    net = transformer_net.Net()
    net.load_state_dict(weights)
    return net.eval()


@torch.no_grad()
def main():
    picture = Image.open(PICTURE).convert("RGB").crop((LEFT, TOP, LEFT + WIDTH, TOP + HEIGHT))
    pixels = torch.from_numpy(np.array(picture))
    y = network()(pixels.permute(2, 0, 1)[None].float())
    expected = y[0].permute(1, 2, 0).clamp(0, 255).to(torch.uint8).contiguous()
    metadata = {"torch": torch.__version__, "script": Path(__file__).name}
    save_file({"input": pixels, "expected": expected}, Path(__file__).with_suffix(".safetensors"), metadata)


if __name__ == "__main__":
    main()
