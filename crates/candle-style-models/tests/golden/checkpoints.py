"""Writes checkpoints/: one small state dict in every container that torch.save has had, and what
must come out of them, as checkpoints/expected.safetensors. Run it from anywhere; needs torch, numpy
and safetensors.

`zip.pth` nests the state dict beside an optimizer and puts `module.` before each name, `legacy.pth`
is the stream before PyTorch 1.6, `tar.pth` the archive before 0.1.10, which is written by hand here
and read back by torch.load.
"""

import io
import pickle
import struct
import tarfile
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file

SEED = 20250311
FOLDER = Path(__file__).with_name("checkpoints")


def state_dict():
    base = torch.randn(4, 6)
    return OrderedDict(
        {
            "conv.weight": torch.randn(2, 3, 3, 3),
            "conv.bias": torch.randn(2),
            # A view into another storage, neither contiguous nor at its start.
            "fc.weight": base.t()[1:4],
            "fc.half": torch.randn(5).half(),
            "fc.bfloat": torch.randn(5).bfloat16(),
            "fc.double": torch.randn(3, dtype=torch.float64),
            "norm.running_mean": torch.randn(2),
            "norm.num_batches_tracked": torch.tensor(7),
        }
    )


def save_tar(state, path):
    """As torch.save did before 0.1.10; it had no bfloat16."""
    storages, tensors = io.BytesIO(), io.BytesIO()
    pickle.dump(len(state), storages, protocol=2)
    pickle.dump(len(state), tensors, protocol=2)
    ids = {}
    for index, tensor in enumerate(state.values()):
        kind = {
            torch.float32: "Float", torch.float64: "Double",
            torch.float16: "Half", torch.int64: "Long",
        }[tensor.dtype]  # fmt: skip
        storage_key, tensor_key = 1000 + index, 2000 + index
        storage = tensor.storage()
        pickle.dump((storage_key, "cpu", getattr(torch, f"{kind}Storage")), storages, protocol=2)
        storages.write(struct.pack("<q", len(storage)))
        storages.write(bytes(storage.untyped()))
        pickle.dump((tensor_key, storage_key, getattr(torch, f"{kind}Tensor")), tensors, protocol=2)
        tensors.write(struct.pack("<ii", tensor.dim(), 0))
        tensors.write(struct.pack(f"<{tensor.dim()}q", *tensor.shape))
        tensors.write(struct.pack(f"<{tensor.dim()}q", *tensor.stride()))
        tensors.write(struct.pack("<q", tensor.storage_offset()))
        ids[id(tensor)] = str(tensor_key)
    pickle.dump([], storages, protocol=2)

    class Pickler(pickle._Pickler):
        def persistent_id(self, value):
            return ids.get(id(value))

    main = io.BytesIO()
    Pickler(main, protocol=2).dump(state)
    system = dict(protocol_version=1000, little_endian=True, type_sizes=dict(short=2, int=4, long=4))
    with tarfile.open(path, "w:", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in [
            ("sys_info", pickle.dumps(system, protocol=2)),
            ("pickle", main.getvalue()),
            ("tensors", tensors.getvalue()),
            ("storages", storages.getvalue()),
        ]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def main():
    torch.manual_seed(SEED)
    FOLDER.mkdir(exist_ok=True)
    state = state_dict()
    metadata = {"torch": torch.__version__, "seed": str(SEED), "script": Path(__file__).name}
    save_file({k: v.contiguous() for k, v in state.items()}, FOLDER / "expected.safetensors", metadata)

    training = {
        "epoch": 3,
        "optimizer": {"state": {0: {"exp_avg": torch.randn(2)}}},
        "state_dict": OrderedDict({f"module.{name}": value for name, value in state.items()}),
    }
    torch.save(training, FOLDER / "zip.pth")
    torch.save(state, FOLDER / "legacy.pth", _use_new_zipfile_serialization=False)
    old = OrderedDict({k: v for k, v in state.items() if v.dtype != torch.bfloat16})
    save_tar(old, FOLDER / "tar.pth")
    for name, tensor in torch.load(FOLDER / "tar.pth", weights_only=False).items():
        assert torch.equal(tensor, state[name]), name


if __name__ == "__main__":
    main()
