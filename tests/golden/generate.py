"""Writes functional.safetensors and layers.safetensors next to this file.

    pip install torch numpy safetensors
    python tests/golden/generate.py

Inputs are drawn from a fixed seed and rounded to the dtype of their case. The
expected results are what torch computes on the CPU in float64 from those very
inputs, and are stored as float64. Weights, biases and running statistics are
always random: with ones and zeros a kernel that ignores them would pass.

The metadata of each file has `torch` (version), `seed` and `cases`, a JSON list
that describes each case; README.md in this folder says what the names mean.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save as serialize

SEED = 20240817
HERE = Path(__file__).resolve().parent
DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64}


def save(file, tensors, cases):
    metadata = {"torch": torch.__version__, "seed": str(SEED), "cases": json.dumps(cases)}
    data = bytearray(serialize({k: v.detach().contiguous() for k, v in tensors.items()}, metadata))
    # The metadata come out in random order; sorted, the same numbers make the same file.
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    data[8:end] = json.dumps(header, separators=(",", ":")).encode().ljust(end - 8)
    (HERE / file).write_bytes(data)
    print(f"{file}: {len(cases)} cases, {(HERE / file).stat().st_size} bytes")


class Random:
    """Draws in float64 and rounds, so that a case's numbers do not depend on how torch draws a dtype."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, shape, dtype, mean=0.0, std=1.0):
        x = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return (x * std + mean).to(dtype)

    def uniform(self, shape, dtype, low, high):
        x = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return (x * (high - low) + low).to(dtype)


# ---------------------------------------------------------------- the function


def apply(x, weight, bias, eps):
    """instance_norm as torch has it; [N, C] weights, which it has not, are multiplied and added after."""
    if all(p is None or p.dim() == 1 for p in (weight, bias)):
        return F.instance_norm(x, weight=weight, bias=bias, eps=eps)
    y = F.instance_norm(x, eps=eps)
    spatial = (1,) * (x.dim() - 2)
    if weight is not None:
        y = y * weight.reshape(*weight.shape, *spatial)
    if bias is not None:
        y = y + bias.reshape(*bias.shape, *spatial)
    return y


def ordinary(rng, shape, dtype):
    return rng.normal(shape, dtype, mean=0.5, std=1.5)


def large_mean(rng, shape, dtype):
    # Half types have few bits left above the mean; theirs keep a few steps within one deviation.
    mean = {torch.float16: 64.0, torch.bfloat16: 16.0}.get(dtype, 1e4)
    return rng.normal(shape, dtype, mean=mean)


def constant(rng, shape, dtype):
    """Channel 0 is constant in all samples, channel 1 in the first only, the others vary."""
    x = ordinary(rng, shape, dtype)
    x[:, 0] = 3.0
    x[0, 1] = -1.25
    return x


def checkerboard(rng, shape, dtype):
    """+-512: the variance, 262144, does not fit in f16 (ml-explore/mlx#4228)."""
    i, j = torch.arange(shape[-2])[:, None], torch.arange(shape[-1])[None, :]
    return (512.0 * (1 - 2 * ((i + j) % 2))).expand(shape).to(dtype).clone()


def functional_cases():
    # (name, shape, dtype, dtype of the parameters, weight, bias, eps, input)
    affines = [
        ("plain", "none", "none"),
        ("affine", "channel", "channel"),
        ("weight", "channel", "none"),
        ("bias", "none", "channel"),
        ("sample_affine", "sample", "sample"),
        ("sample_weight", "sample", "none"),
        ("sample_bias", "none", "sample"),
    ]
    shapes = [(2, 3, 7), (2, 4, 7, 9), (3, 5, 33), (2, 3, 5, 4, 3), (3, 2, 8, 8), (2, 6, 5, 5), (4, 3, 31)]
    for i, d in enumerate(DTYPES):
        for j, (name, weight, bias) in enumerate(affines):
            # Every dtype meets every shape, and every form of affine meets several.
            yield f"{d}_{name}", shapes[(i + j) % len(shapes)], d, d, weight, bias, 1e-5, ordinary
        # A form of affine and a rank that the loop above may not have brought together.
        yield f"{d}_affine_1d", (2, 3, 17), d, d, "channel", "channel", 1e-5, ordinary
        yield f"{d}_affine_3d", (2, 3, 3, 5, 7), d, d, "channel", "channel", 1e-5, ordinary
        yield f"{d}_large_mean", (2, 3, 15, 17), d, d, "channel", "channel", 1e-5, large_mean
        yield f"{d}_constant", (2, 3, 5, 5), d, d, "channel", "channel", 1e-5, constant
        yield f"{d}_eps_1e-3", (2, 3, 6, 7), d, d, "sample", "sample", 1e-3, ordinary
    for d in ("f16", "bf16"):
        yield f"{d}_affine_in_f32", (3, 4, 7, 5), d, "f32", "channel", "channel", 1e-5, ordinary
        yield f"{d}_sample_affine_in_f32", (3, 4, 35), d, "f32", "sample", "sample", 1e-5, ordinary
        yield f"{d}_weight_in_f32", (2, 3, 3, 3, 3), d, "f32", "channel", "none", 1e-5, ordinary
    yield "f16_checkerboard", (1, 2, 16, 16), "f16", "f16", "channel", "channel", 1e-5, checkerboard
    yield "f64_eps_1e-8", (2, 3, 6, 7), "f64", "f64", "channel", "channel", 1e-8, ordinary
    yield "f32_two_elements", (2, 3, 2), "f32", "f32", "channel", "channel", 1e-5, ordinary
    yield "f32_one_plane", (1, 1, 11), "f32", "f32", "channel", "channel", 1e-5, ordinary
    yield "f32_64x64", (1, 2, 64, 64), "f32", "f32", "channel", "channel", 1e-5, ordinary
    yield "bf16_64x64", (1, 2, 64, 64), "bf16", "bf16", "sample", "sample", 1e-5, ordinary
    yield "f32_long_plane", (1, 1, 97, 101), "f32", "f32", "channel", "channel", 1e-5, ordinary
    yield "f16_long_plane", (1, 1, 97, 101), "f16", "f16", "channel", "channel", 1e-5, ordinary
    yield "f32_many_planes", (3, 67, 9), "f32", "f32", "channel", "channel", 1e-5, ordinary


def functional():
    rng = Random(SEED)
    tensors, cases, native = {}, [], {}
    for name, shape, dtype, param_dtype, weight, bias, eps, make in functional_cases():
        x = make(rng, shape, DTYPES[dtype])
        dy = rng.normal(shape, DTYPES[dtype])
        sizes = {"channel": shape[1:2], "sample": shape[:2]}
        inputs = {"x": x}
        if weight != "none":
            w = rng.uniform(sizes[weight], DTYPES[param_dtype], 0.5, 2.0)
            w[..., -1] *= -1.0  # a weight may be negative
            inputs["weight"] = w
        if bias != "none":
            inputs["bias"] = rng.normal(sizes[bias], DTYPES[param_dtype])

        exact = {k: v.double().requires_grad_() for k, v in inputs.items()}
        y = apply(exact["x"], exact.get("weight"), exact.get("bias"), eps)
        y.backward(dy.double())
        results = {"y": y, **{f"d{k}": v.grad for k, v in exact.items()}}
        if dtype == "f32":
            results["y_native"] = apply(x, inputs.get("weight"), inputs.get("bias"), eps)
            native[name] = (results["y_native"].double() - y).abs().max().item()
        for k, v in {**inputs, "dy": dy, **results}.items():
            assert v.isfinite().all(), (name, k)
            tensors[f"{name}.{k}"] = v
        cases.append(
            {
                "name": name,
                "dtype": dtype,
                "param_dtype": param_dtype if len(inputs) > 1 else None,
                "eps": eps,
                "weight": weight,
                "bias": bias,
            }
        )
    save("functional.safetensors", tensors, cases)
    print("largest |y_native - y|: " + ", ".join(f"{k} {v:.1e}" for k, v in native.items()))


# ---------------------------------------------------------------- the modules


def layer_cases():
    # (name, dims, shape of an input, dtype, affine, track_running_stats, momentum, eps)
    yield "in2d", 2, (2, 3, 7, 5), "f32", False, False, 0.1, 1e-5
    yield "in2d_affine", 2, (2, 3, 7, 5), "f32", True, False, 0.1, 1e-5
    yield "in2d_track", 2, (2, 3, 7, 5), "f32", False, True, 0.1, 1e-5
    yield "in2d_affine_track", 2, (3, 4, 6, 5), "f32", True, True, 0.1, 1e-5
    yield "in2d_affine_track_m03_eps1e-3", 2, (3, 4, 6, 5), "f32", True, True, 0.3, 1e-3
    yield "in2d_affine_track_f64", 2, (3, 4, 6, 5), "f64", True, True, 0.3, 1e-5
    yield "in2d_unbatched_affine_track", 2, (4, 6, 5), "f32", True, True, 0.1, 1e-5
    yield "in2d_unbatched", 2, (3, 7, 7), "f32", False, False, 0.1, 1e-3
    yield "in1d_affine_track", 1, (2, 5, 19), "f32", True, True, 0.1, 1e-5
    yield "in1d_track_m03", 1, (4, 3, 8), "f32", False, True, 0.3, 1e-5
    yield "in1d_unbatched_affine", 1, (5, 19), "f32", True, False, 0.1, 1e-5
    yield "in3d_affine", 3, (2, 3, 4, 3, 5), "f32", True, False, 0.1, 1e-3
    yield "in3d_affine_track", 3, (2, 3, 4, 3, 5), "f32", True, True, 0.3, 1e-5
    yield "in3d_unbatched_affine_track", 3, (3, 4, 3, 5), "f32", True, True, 0.1, 1e-5
    # The unbiased variance differs most from the biased one in the smallest planes.
    yield "in1d_two_elements_track", 1, (3, 2, 2), "f32", False, True, 0.1, 1e-5


def run(module, x, dy):
    """The output for x and the gradients of everything, as if dy had come from above."""
    module.zero_grad()
    x = x.double().requires_grad_()
    y = module(x)
    y.backward(dy.double())
    return y.detach(), {"x": x.grad, **{k: p.grad.clone() for k, p in module.named_parameters()}}


def layers():
    rng = Random(SEED + 1)
    tensors, cases = {}, []
    for name, dims, shape, d, affine, track, momentum, eps in layer_cases():
        dtype, num_features = DTYPES[d], shape[-dims - 1]
        kind = {1: torch.nn.InstanceNorm1d, 2: torch.nn.InstanceNorm2d, 3: torch.nn.InstanceNorm3d}[dims]
        module = kind(num_features, eps=eps, momentum=momentum, affine=affine, track_running_stats=track)
        state = module.state_dict()
        for k, v in state.items():
            if k in ("weight", "running_var"):
                state[k] = rng.uniform(v.shape, dtype, 0.5, 2.0)
            elif k in ("bias", "running_mean"):
                state[k] = rng.normal(v.shape, dtype)
        module = module.double()
        module.load_state_dict(state)  # a copy: the module does not change `state`

        x0, x1 = ordinary(rng, shape, dtype), rng.normal(shape, dtype, mean=-1.0, std=0.7)
        dy = rng.normal(shape, dtype)
        module.train()
        y0 = module(x0.double())
        y1, train = run(module, x1, dy)
        module.eval()
        eval_y, eval_ = run(module, x0, dy)

        out = {f"state.{k}": v for k, v in state.items()}
        out |= {"x0": x0, "x1": x1, "dy": dy, "y0": y0, "y1": y1, "eval": eval_y}
        out |= {f"d{k}_train": v for k, v in train.items()} | {f"d{k}_eval": v for k, v in eval_.items()}
        if track:
            out |= {f"after.{k}": getattr(module, k).clone() for k in ("running_mean", "running_var")}
        for k, v in out.items():
            assert v.isfinite().all(), (name, k)
            tensors[f"{name}.{k}"] = v
        cases.append(
            {
                "name": name,
                "dtype": d,
                "dims": dims,
                "num_features": num_features,
                "affine": affine,
                "track_running_stats": track,
                "momentum": momentum,
                "eps": eps,
            }
        )
    save("layers.safetensors", tensors, cases)


if __name__ == "__main__":
    torch.set_num_threads(1)  # sums in one order, so that a second run writes the same files
    functional()
    layers()
