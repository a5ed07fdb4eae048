"""Writes double_backward.safetensors next to this file: derivatives of gradients.

    pip install torch numpy safetensors
    python tests/golden/double_backward.py

The ops, the inputs and the names are those of family.py. With g the gradients of sum(y * dy) in
all inputs, `<name>.d.<input>` and `<name>.d.dy` are the gradients of the sum of g * u over all of
them, where `<name>.u.<input>` are random: what a gradient penalty differentiates. In float64.
"""

import torch

from family import X, DTYPES, FIXED, OPS, draw, image, scale, shift, uneven
from generate import SEED, Random, save


def cases():
    affine = {"x": image(X), "weight": scale(4), "bias": shift(4)}
    for d in DTYPES:
        yield f"instance_norm_{d}", "norm", d, affine, {}
        yield f"group_norm_{d}", "norm", d, {"x": image((2, 4, 5)), "weight": scale(4), "bias": shift(4)}, {"groups": 2}
        yield f"adain_{d}", "adain", d, {"x": image((2, 3, 7)), "style0": image((2, 3, 2, 4))}, {"alpha": 0.7}
    for d in ("f32", "f64"):
        sample = {"x": image((2, 3, 7)), "weight": scale((2, 3)), "bias": shift((2, 3))}
        element = {"x": image((2, 3, 7)), "weight": shift((2, 3, 7)), "bias": shift((2, 3, 7))}
        given = {"mean": shift((2, 3)), "rstd": scale((2, 3))}
        residual = {"residual": image((2, 3, 7))}
        yield f"relu_{d}", "norm", d, sample, {"activation": "relu"}
        yield f"leaky_relu_residual_{d}", "norm", d, sample | residual, {"activation": "leaky_relu"}
        yield f"silu_{d}", "norm", d, sample, {"activation": "silu"}
        yield f"group_norm_silu_{d}", "norm", d, {"x": image((2, 4, 5)), "weight": scale(4), "bias": shift(4)}, {
            "groups": 2, "activation": "silu"}
        yield f"spade_like_{d}", "norm", d, element, {"offset": 1.0}
        yield f"spade_like_silu_residual_{d}", "norm", d, element | residual, {"offset": 1.0, "activation": "silu"}
        yield f"with_stats_{d}", "norm", d, sample | given, {}
        # Six tensors on the graph.
        yield f"with_stats_silu_residual_{d}", "norm", d, sample | given | residual, {"activation": "silu"}
        yield f"keras_contrib_{d}", "norm", d, {"x": image((2, 3, 7))}, {"mode": "add_to_std", "eps": 1e-3}
        yield f"instance_stats_{d}", "stats", d, {"x": image((2, 3, 7))}, {}
        yield f"adain_one_style_{d}", "adain", d, {"x": image((3, 2, 7)), "style0": image((1, 2, 5))}, {}
        yield f"adain_mix_{d}", "adain", d, {"x": image((2, 2, 7)), "style0": image((2, 2, 5)), "style1": image((1, 2, 3, 3))}, {
            "shares": [0.3, 0.7]}
        yield f"reference_adain_{d}", "adain", d, {"x": uneven((2, 3, 9)), "style0": uneven((2, 3, 5))}, {
            "correction": 0, "mode": "max_with_var", "eps": 0.5}
        yield f"stargan_v2_{d}", "adaptive", d, {"x": image((2, 3, 7)), "style": shift((2, 6))}, {}
        yield f"magenta_{d}", "conditional", d, {"x": image((3, 2, 7)), "state.gamma": scale((3, 2)), "state.beta": shift((3, 2))}, {
            "tables": "gamma_beta", "styles": 3, "ids": [2, 0, 2]}
        yield f"hyeonseobnam_{d}", "batch_instance_norm", d, {
            "x": uneven((2, 3, 7)), "state.gate": ((3,), "unit", None), "state.weight": scale(3), "state.bias": shift(3),
            "state.running_mean": shift(3), "state.running_var": scale(3)}, {}


def main():
    rng = Random(SEED + 3)
    tensors, listed = {}, []
    for name, op, d, inputs, args in cases():
        drawn = {k: draw(rng, shape, kind, DTYPES[own or d]) for k, (shape, kind, own) in inputs.items()}
        exact = {k: v.double().requires_grad_(not k.endswith(FIXED)) for k, v in drawn.items()}
        y = OPS[op](exact, **args)
        exact.pop("after", None)
        dy = rng.normal(y.shape, DTYPES[d])
        free = {k: v for k, v in exact.items() if v.requires_grad}
        u = {k: rng.normal(v.shape, DTYPES[d]) for k, v in free.items()}
        free["dy"] = dy.double().requires_grad_()
        first = torch.autograd.grad((y * free["dy"]).sum(), [free[k] for k in u], create_graph=True)
        sum((g * u[k].double()).sum() for k, g in zip(u, first)).backward()
        out = drawn | {"dy": dy} | {f"u.{k}": v for k, v in u.items()}
        out |= {f"d.{k}": torch.zeros_like(v) if v.grad is None else v.grad for k, v in free.items()}
        for k, v in out.items():
            assert v.isfinite().all(), (name, k)
            tensors[f"{name}.{k}"] = v
        listed.append({"name": name, "op": op, "dtype": d, **args})
    save("double_backward.safetensors", tensors, listed)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
