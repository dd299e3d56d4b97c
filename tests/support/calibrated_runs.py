"""What the tests of encoders with a calibration share: weights in.safetensors, their calibration c.safetensors, and containers that were made of both."""

import json
import random

import safetensors_bytes as st


def normal(elems, seed):
    """fp32 bytes; a short sequence again and again, because Python is slow."""
    rng = random.Random(seed)
    piece = st.floats(*[rng.gauss(0, 0.02) for _ in range(min(elems, 40009))])
    return (piece * (4 * elems // len(piece) + 1))[: 4 * elems]


def lay_weights(work, shapes):
    """in.safetensors with tensors of {name: shape}, matrices and stacks of them."""
    sizes = {name: shape[-1] * shape[-2] * (shape[0] if len(shape) == 3 else 1) for name, shape in shapes.items()}
    (work / "in.safetensors").write_bytes(st.tensor_file({name: ("F32", shapes[name], normal(sizes[name], i)) for i, name in enumerate(shapes)}))


def proof(tools, container="out.q4", *options, **rest):
    return tools.run("q4verify", container, "--against", "in.safetensors", "--calibration", "c.safetensors", "--require-proof", *options, **rest)


def tensors_in(tools, container):
    """{name: what q4inspect says of it}."""
    text = tools.run("q4inspect", container, "--json", "--tensors", "--stats").stdout
    return {tensor["name"]: tensor for tensor in json.loads(text)["tensors"]}
