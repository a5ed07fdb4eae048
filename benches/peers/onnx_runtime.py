"""Turns of ONNX Runtime on the CPU, for paired.py, which says what it is asked.

It has InstanceNormalization and GroupNormalization forward, in f32 alone.
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from pytorch import GROUPS, one_line, turn

# The operator, its attributes, and the length of its weight and bias.
OPS = {
    "instance_norm": ("InstanceNormalization", {}),
    "instance_norm_affine": ("InstanceNormalization", {}),
    "in_place": ("InstanceNormalization", {}),
    "group_norm": ("GroupNormalization", {"num_groups": GROUPS}),
}


def call(op, shape, dtype, direction, threads):
    """A call with its memory bound: a result is written where the last one was."""
    if op not in OPS or dtype != "f32" or direction != "forward":
        return None
    name, attributes = OPS[op]
    info = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    node = helper.make_node(name, ["x", "weight", "bias"], ["y"], epsilon=1e-5, **attributes)
    channels = shape[1:2]
    inputs = [info("x", shape), info("weight", channels), info("bias", channels)]
    graph = helper.make_graph([node], "norm", inputs, [info("y", shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its threads spin for longer than the pause behind a turn: they stop where a call ends.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    bound = session.io_binding()
    random = np.random.default_rng(1)
    for tensor in inputs:
        sizes = [dim.dim_value for dim in tensor.type.tensor_type.shape.dim]
        bound.bind_cpu_input(tensor.name, random.standard_normal(sizes, np.float32))
    y = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32)
    bound.bind_ortvalue_output("y", y)
    return lambda: session.run_with_iobinding(bound)


def main():
    threads, run = int(sys.argv[1]), None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "turn" in request:
                answer = {"ms": turn(run, request["seconds"])}
            else:
                run = None
                names = ("op", "shape", "dtype", "direction")
                run = call(*(request[name] for name in names), threads)
                answer = {"contenders": ["ONNX Runtime"] if run else []}
        except Exception as error:
            answer = {"error": one_line(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
