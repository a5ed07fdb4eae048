"""Writes family.safetensors next to this file: the conventions of the family of norms.

    pip install torch numpy safetensors
    python tests/golden/family.py

As generate.py: seeded inputs rounded to the dtype of their case, results of torch in float64 on
the CPU from those inputs, random parameters everywhere. A case is `{name, op, dtype, ...}`, where
the rest are the arguments of the op; its tensors are `<name>.x` and the other inputs, `<name>.y`,
`<name>.dy`, and `<name>.d.<input>` for the gradient of each. The name of a case starts with the
implementation whose formula it is; the formulas are written out below in torch's own functions.
"""

import torch
import torch.nn.functional as F

from generate import DTYPES, SEED, Random, save


def planes(t):
    return t.flatten(2)


def spread(p, x):
    """A parameter per channel, sample or element, to go with x."""
    if p.dim() == x.dim():
        return p
    return p.reshape(*(p.shape if p.dim() == 2 else (1, *p.shape)), *(1,) * (x.dim() - 2))


def deviation(var, eps, mode):
    return {
        "add_to_var": lambda: (var + eps).sqrt(),
        "add_to_std": lambda: var.sqrt() + eps,
        "max_with_var": lambda: var.clamp(min=eps).sqrt(),
    }[mode]()


def moments(x, eps, mode="add_to_var", correction=0):
    var = planes(x).var(2, correction=correction)
    return planes(x).mean(2), deviation(var, eps, mode)


ACTIVATIONS = {
    "none": lambda v: v,
    "relu": F.relu,
    "leaky_relu": lambda v: F.leaky_relu(v, 0.2),
    "silu": F.silu,
}


# ---------------------------------------------------------------- the ops


def adain(t, eps=1e-5, mode="add_to_var", correction=1, alpha=1.0, shares=None):
    """Content with the statistics of one style or of several, each with its share."""
    x = t["x"]
    mean, std = moments(x, eps, mode, correction)
    z = (x - spread(mean, x)) / spread(std, x)
    total = 0
    for k, share in enumerate(shares or [1.0]):
        mean, std = moments(t[f"style{k}"], eps, mode, correction)
        total = total + share * (z * spread(std, x) + spread(mean, x))
    return alpha * total + (1 - alpha) * x


def norm(t, groups=0, eps=1e-5, mode="add_to_var", correction=0, offset=0.0, alpha=1.0, activation="none"):
    """What one Normalization does."""
    x = t["x"]
    if "mean" in t:
        z = (x - spread(t["mean"], x)) * spread(t["rstd"], x)
    elif groups:
        z = F.group_norm(x, groups, eps=eps)
    else:
        mean, std = moments(x, eps, mode, correction)
        z = (x - spread(mean, x)) / spread(std, x)
    if "weight" in t:
        z = z * (spread(t["weight"], x) + offset)
    if "bias" in t:
        z = z + spread(t["bias"], x)
    v = alpha * z + (1 - alpha) * x
    if "residual" in t:
        v = v + t["residual"]
    return ACTIVATIONS[activation](v)


def stats(t, eps=1e-5):
    mean, std = moments(t["x"], eps)
    return torch.stack([mean, 1 / std])


def adaptive(t, eps=1e-5, one_plus=True, order="scale_shift"):
    x = t["x"]
    scale, shift = t["style"].chunk(2, dim=1)
    if order == "shift_scale":
        scale, shift = shift, scale
    return F.instance_norm(x, eps=eps) * spread(scale + one_plus, x) + spread(shift, x)


def adaptive_layer(t, eps=1e-5, one_plus=True, order="scale_shift"):
    x = t["x"]
    weight, bias = t.get("state.norm.weight"), t.get("state.norm.bias")
    scale, shift = F.linear(t["style"], t["state.fc.weight"], t["state.fc.bias"]).chunk(2, dim=1)
    if order == "shift_scale":
        scale, shift = shift, scale
    z = F.instance_norm(x, weight=weight, bias=bias, eps=eps)
    return z * spread(scale + one_plus, x) + spread(shift, x)


def conditional(t, tables="gamma_beta", ids=None, styles=0, eps=1e-5):
    x = t["x"]
    if tables == "gamma_beta":
        gamma, beta = t["state.gamma"], t["state.beta"]
    elif tables == "embedding":
        gamma, beta = t["state.embed.weight"].chunk(2, dim=1)
    else:
        gamma = torch.stack([t[f"state.inns.{k}.weight"] for k in range(styles)])
        beta = torch.stack([t[f"state.inns.{k}.bias"] for k in range(styles)])
    if ids is not None:
        gamma, beta = gamma[ids], beta[ids]
    else:
        gamma, beta = t["weights"] @ gamma, t["weights"] @ beta
    return F.instance_norm(x, eps=eps) * spread(gamma, x) + spread(beta, x)


def spade(t, norm="instance", slope=0.0, eps=1e-5, train=False):
    x = t["x"]
    if norm == "instance":
        z = F.instance_norm(x, eps=eps)
    else:
        running = [t[f"state.param_free_norm.running_{k}"].detach().clone() for k in ("mean", "var")]
        z = F.batch_norm(x, *running, training=train, eps=eps)
        t["after"] = dict(zip(("running_mean", "running_var"), running)) if train else {}
    labels = F.interpolate(t["labels"], size=x.shape[2:], mode="nearest")
    conv = lambda h, name: F.conv2d(h, t[f"state.{name}.weight"], t[f"state.{name}.bias"], padding="same")
    hidden = F.leaky_relu(conv(labels, "mlp_shared.0"), slope)
    return z * (1 + conv(hidden, "mlp_gamma")) + conv(hidden, "mlp_beta")


def batch_instance_norm(t, train=True, momentum=0.1, eps=1e-5):
    x, gate = t["x"], t["state.gate"]
    weight, bias = t.get("state.weight"), t.get("state.bias")
    running = [t[f"state.running_{k}"].detach().clone() for k in ("mean", "var")]
    scale = 1 if weight is None else weight
    batch = F.batch_norm(x, *running, scale * gate, bias, train, momentum, eps)
    t["after"] = dict(zip(("running_mean", "running_var"), running))
    return batch + F.instance_norm(x, eps=eps) * spread(scale * (1 - gate), x)


OPS = {
    "adain": adain,
    "norm": norm,
    "stats": stats,
    "adaptive": adaptive,
    "adaptive_layer": adaptive_layer,
    "conditional": conditional,
    "spade": spade,
    "batch_instance_norm": batch_instance_norm,
}
# Inputs that get no gradient.
FIXED = ("running_mean", "running_var")


# ---------------------------------------------------------------- the cases

# The inputs: shape and kind, or dtype where it is not that of the case.
X = (2, 4, 5, 6)


def scale(shape, dtype=None):
    return shape, "scale", dtype


def shift(shape, dtype=None):
    return shape, "shift", dtype


def image(shape):
    return shape, "image", None


def uneven(shape):
    """Planes with deviations from 0.05 to 5, on both sides of an eps of 0.5 for the variance."""
    return shape, "uneven", None


def labels(shape):
    return shape, "labels", None


def cases():
    for d in DTYPES:
        both = {"x": image(X), "style0": image((2, 4, 3, 7))}
        yield f"naoto0804_{d}", "adain", d, both, {}
        yield f"naoto0804_alpha_{d}", "adain", d, both, {"alpha": 0.6}
    yield "naoto0804_one_style_for_all", "adain", "f32", {"x": image((3, 4, 5, 6)), "style0": image((1, 4, 33))}, {}
    yield "naoto0804_interpolation", "adain", "f32", {
        "x": image(X), "style0": image((2, 4, 3, 7)), "style1": image((2, 4, 19)), "style2": image((1, 4, 2, 3, 3)),
    }, {"shares": [0.5, 0.2, 0.3], "alpha": 0.8}
    yield "naoto0804_interpolation_f16", "adain", "f16", {
        "x": image(X), "style0": image((1, 4, 3, 7)), "style1": image((1, 4, 19)),
    }, {"shares": [0.25, 0.75]}
    yield "microast_rank_5", "adain", "bf16", {"x": image((2, 3, 3, 4, 2)), "style0": image((2, 3, 17))}, {}
    yield "stargan_biased", "adain", "f32", both, {"correction": 0}
    yield "keras_contrib_adain", "adain", "f32", both, {"correction": 0, "mode": "add_to_std", "eps": 1e-3}
    yield "keras_contrib", "norm", "f32", {"x": image(X), "weight": scale(4), "bias": shift(4)}, {
        "mode": "add_to_std", "eps": 1e-3}
    yield "keras_contrib_f16", "norm", "f16", {"x": image(X), "weight": scale(4)}, {"mode": "add_to_std", "eps": 1e-3}
    for d in ("f32", "f16", "f64"):
        yield f"diffusers_reference_adain_{d}", "adain", d, {"x": uneven(X), "style0": uneven((2, 4, 3, 7))}, {
            "correction": 0, "mode": "max_with_var", "eps": 0.5}

    for d in DTYPES:
        wide = "f32" if d in ("f16", "bf16") else d
        yield f"instance_stats_{d}", "stats", d, {"x": image(X)}, {}
        yield f"with_stats_{d}", "norm", d, {
            "x": image(X), "weight": scale(4), "bias": shift(4), "mean": shift((2, 4), wide), "rstd": scale((2, 4), wide)}, {}
        yield f"torch_group_norm_{d}", "norm", d, {"x": image((2, 6, 5, 3)), "weight": scale(6), "bias": shift(6)}, {"groups": 3}
        yield f"torch_group_norm_silu_{d}", "norm", d, {
            "x": image((2, 6, 5, 3)), "weight": scale(6), "bias": shift(6)}, {"groups": 2, "activation": "silu"}
        for a in ("relu", "leaky_relu", "silu"):
            yield f"{a}_{d}", "norm", d, {"x": image(X), "weight": scale(4), "bias": shift(4)}, {"activation": a}
            yield f"{a}_residual_{d}", "norm", d, {
                "x": image(X), "weight": scale((2, 4)), "bias": shift((2, 4)), "residual": image(X)}, {"activation": a}
        yield f"residual_{d}", "norm", d, {"x": image(X), "residual": image(X)}, {}
        yield f"per_element_{d}", "norm", d, {"x": image(X), "weight": scale(X), "bias": shift(X)}, {"offset": 1.0}
        yield f"one_plus_weight_{d}", "norm", d, {"x": image(X), "weight": shift((2, 4)), "bias": shift((2, 4))}, {"offset": 1.0}
    yield "per_element_silu_residual", "norm", "f32", {
        "x": image((2, 3, 7)), "weight": scale((2, 3, 7)), "bias": shift((2, 3, 7)), "residual": image((2, 3, 7))}, {
        "activation": "silu"}
    yield "with_stats_per_channel_relu", "norm", "f32", {
        "x": image((2, 3, 7)), "bias": shift(3), "mean": shift(3), "rstd": scale(3)}, {"activation": "relu"}
    yield "torch_layer_norm", "norm", "f32", {"x": image((3, 5, 7)), "weight": scale(5), "bias": shift(5)}, {"groups": 1}
    yield "torch_group_norm_sample_residual", "norm", "f32", {
        "x": image((2, 8, 9)), "weight": scale((2, 8)), "bias": shift((2, 8)), "residual": image((2, 8, 9))}, {
        "groups": 4, "activation": "relu", "eps": 1e-3}
    yield "torch_group_norm_affine_in_f32", "norm", "bf16", {
        "x": image((2, 6, 5, 3)), "weight": scale(6, "f32"), "bias": shift(6, "f32")}, {"groups": 3}

    for d in DTYPES:
        style = {"x": image(X), "style": shift((2, 8))}
        yield f"stylegan_{d}", "adaptive", d, style, {"eps": 1e-8, "one_plus": True, "order": "scale_shift"}
        yield f"stargan_v2_{d}", "adaptive", d, style, {"eps": 1e-5, "one_plus": True, "order": "scale_shift"}
        yield f"munit_{d}", "adaptive", d, style, {"eps": 1e-5, "one_plus": False, "order": "shift_scale"}
        fc = {"x": image((2, 4, 19)), "style": shift((2, 3)), "state.fc.weight": shift((8, 3)), "state.fc.bias": shift(8)}
        yield f"styletts2_layer_{d}", "adaptive_layer", d, fc, {}
        yield f"kokoro_layer_{d}", "adaptive_layer", d, fc | {"state.norm.weight": scale(4), "state.norm.bias": shift(4)}, {}
    yield "kokoro_layer_weight_alone", "adaptive_layer", "f32", fc | {"state.norm.weight": scale(4)}, {}
    yield "kokoro_layer_bias_alone", "adaptive_layer", "f32", fc | {"state.norm.bias": shift(4)}, {}
    yield "munit_layer_affine", "adaptive_layer", "f32", fc | {"state.norm.weight": scale(4), "state.norm.bias": shift(4)}, {
        "one_plus": False, "order": "shift_scale"}

    K, N = 3, 4
    x = {"x": image((N, 4, 5, 3))}
    layouts = {
        "magenta": ("gamma_beta", {"state.gamma": scale((K, 4)), "state.beta": shift((K, 4))}),
        "embedding": ("embedding", {"state.embed.weight": scale((K, 8))}),
        "kewellcjj": ("module_list", {f"state.inns.{k}.{p}": (scale if p == "weight" else shift)(4)
                                      for k in range(K) for p in ("weight", "bias")}),
    }
    for name, (tables, state) in layouts.items():
        for d in DTYPES:
            args = {"tables": tables, "styles": K}
            yield f"{name}_ids_{d}", "conditional", d, x | state, args | {"ids": [2, 0, 2, 1]}
            yield f"{name}_weights_{d}", "conditional", d, x | state | {"weights": shift((N, K))}, args

    conv = lambda a, b: {"weight": ((b, a, 3, 3), "small", None), "bias": shift(b)}
    convs = {"mlp_shared.0": conv(3, 6), "mlp_gamma": conv(6, 4), "mlp_beta": conv(6, 4)}
    state = {f"state.{k}.{p}": how for k, v in convs.items() for p, how in v.items()}
    running = {"running_mean": shift(4), "running_var": scale(4)}
    free = {f"state.param_free_norm.{k}": how for k, how in running.items()}
    for d in ("f32", "f64"):
        maps = {"x": image((2, 4, 6, 5)), "labels": labels((2, 3, 13, 7))}
        yield f"spade_instance_{d}", "spade", d, maps | state, {}
        yield f"spade_syncbatch_{d}", "spade", d, maps | state | free, {"norm": "batch"}
    yield "spade_enlarged", "spade", "f32", {"x": image((1, 4, 7, 6)), "labels": labels((1, 3, 2, 3))} | state, {}
    yield "spade_batch_train", "spade", "f32", maps | state | free, {"norm": "batch", "train": True}
    yield "monai_spade", "spade", "f32", {"x": image((1, 4, 6, 4)), "labels": labels((1, 3, 6, 4))} | state, {"slope": 0.01}

    params = {"state.weight": scale(4), "state.bias": shift(4)}
    for d in DTYPES:
        gate = {"x": uneven((3, 4, 5, 3)), "state.gate": ((4,), "unit", None)}
        gate |= {f"state.{k}": how for k, how in running.items()}
        yield f"hyeonseobnam_train_{d}", "batch_instance_norm", d, gate | params, {}
        yield f"hyeonseobnam_eval_{d}", "batch_instance_norm", d, gate | params, {"train": False}
    yield "hyeonseobnam_not_affine", "batch_instance_norm", "f32", gate, {"momentum": 0.3}


def draw(rng, shape, kind, dtype):
    shape = (shape,) if isinstance(shape, int) else shape
    if kind == "image":
        return rng.normal(shape, dtype, mean=0.5, std=1.5)
    if kind == "uneven":
        deviations = torch.logspace(-1.3, 0.7, shape[0] * shape[1], dtype=torch.float64)
        x = rng.normal(shape, torch.float64) * deviations.reshape(*shape[:2], *(1,) * (len(shape) - 2))
        return (x + rng.normal(shape[:2], torch.float64).reshape(*shape[:2], *(1,) * (len(shape) - 2))).to(dtype)
    if kind == "labels":
        ids = (rng.uniform((shape[0], *shape[2:]), torch.float64, 0, 1) * shape[1]).long()
        return F.one_hot(ids, shape[1]).movedim(-1, 1).to(dtype)
    if kind == "scale":
        return rng.uniform(shape, dtype, 0.5, 2.0)
    if kind == "unit":
        return rng.uniform(shape, dtype, 0.1, 0.9)
    return rng.normal(shape, dtype, std=0.3 if kind == "small" else 1.0)


def main():
    rng = Random(SEED + 2)
    tensors, listed = {}, []
    for name, op, d, inputs, args in cases():
        drawn = {k: draw(rng, shape, kind, DTYPES[own or d]) for k, (shape, kind, own) in inputs.items()}
        exact = {k: v.double().requires_grad_(not k.endswith(FIXED)) for k, v in drawn.items()}
        y = OPS[op](exact, **args)
        # The statistics come out in f32 for the half types, and so does their gradient.
        dy = rng.normal(y.shape, DTYPES["f32" if op == "stats" and d != "f64" else d])
        y.backward(dy.double())
        after = exact.pop("after", {})
        out = drawn | {"y": y, "dy": dy} | {f"after.{k}": v for k, v in after.items()}
        out |= {f"d.{k}": v.grad for k, v in exact.items() if v.requires_grad}
        for k, v in out.items():
            assert v.isfinite().all(), (name, k)
            tensors[f"{name}.{k}"] = v
        listed.append({"name": name, "op": op, "dtype": d, **args})
    save("family.safetensors", tensors, listed)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
