"""Evaluation of one ternary network by several engines, each from files that `prepare` writes.

Reading its file is part of making a contender, so that the peak memory of one is its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from benchmarks.layerwise import Layerwise
from benchmarks.peers import PEERS
from benchmarks.reference import inputs, model_of, network, settle_statistics
from benchmarks.work import CLASSES, DATA, IMAGE, PACKED, SkippedError, Step, Work
from tnacli.deploy.onnx import onnx_bytes
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import read_packed, write_packed
from tnacli.packed.network import PackedNetwork
from tnacli.packed.pack import pack_network
from tnacli.packed.spec import InputSpec, Origin
from tnacli.recipe.datasets import DATASETS
from tnacli.snn.network import SpikingNetwork

DENSE, INTEGERS, FLOATS = "dense.pt", "integers.onnx", "floats.onnx"
_STEPS = 8
_LABELS = [f"{label:02}" for label in range(CLASSES)]  # in the order of their names


def prepare(work: Work) -> None:
    """Write a ternary network that has learned the images of `work` into its folder, in every form that is evaluated."""
    folder = Path(work.folder)
    ternary = _learned(work)
    packed = _packed(ternary)
    write_packed(folder / PACKED, packed)
    _write_images(folder / DATA / "cifar100")
    module = _plain(work, "plain PyTorch loop").copy_from(ternary).to(memory_format=torch.channels_last)
    torch.save(module.state_dict(), folder / DENSE)
    try:
        data = onnx_bytes(packed)
        (folder / INTEGERS).write_bytes(data)
        (folder / FLOATS).write_bytes(_in_floats(data))
    except Exception as error:
        # Whatever ONNX lacks here costs its own rows alone; the rows tell why.
        (folder / "onnx.txt").write_text(f"{error}")


def _learned(work: Work) -> SpikingNetwork:
    """A ternary network after a few training steps on the images that it will be evaluated on, in evaluation mode.

    With random weights the largest of a hundred logits is hardly larger than the next, and one spike that a library's
    rounding turns into none can decide which it is. Few users evaluate networks that have learned nothing.
    """
    made = network(work, ternary=True)
    images, labels = inputs(work)
    optimiser = torch.optim.Adam(made.parameters(), lr=1e-3)
    for _ in range(_STEPS):
        optimiser.zero_grad()
        torch.autograd.backward(functional.cross_entropy(made(images), labels))
        optimiser.step()
    settle_statistics(made, images)
    return made.eval()


def _packed(ternary: Any) -> PackedNetwork:
    """Packed as a run on images in CIFAR-100's class folders, as `_write_images` makes them."""
    facts = DATASETS["cifar100"]
    origin = Origin(
        data_set="cifar100",
        recipe="benchmark",
        run="ternary",
        seed=0,
        identity="0" * 10,
        format="folder",
        test_samples=CLASSES,
    )
    about = InputSpec(kind="images", channels=IMAGE[0], size=IMAGE[1:], mean=facts.mean, std=facts.std)
    return pack_network(ternary, inputs=about, labels=_LABELS, origin=origin)


def _write_images(root: Path) -> None:
    """An image a class, of noise, as PNG files: generated samples would be made with PyTorch, which `tna evaluate` then loads."""
    noise = np.random.default_rng(0).integers(0, 256, (CLASSES, *IMAGE[1:], IMAGE[0]), dtype=np.uint8)
    for split in ("train", "test"):
        for label, pixels in enumerate(noise):
            folder = root / split / _LABELS[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / "0.png")


def _in_floats(data: bytes) -> bytes:
    """The exported graph with its integer convolutions and products in fp32: the same numbers, as all are exact."""
    onnx: Any = importlib.import_module("onnx")
    model = onnx.load_from_string(data)
    for node in model.graph.node:
        node.op_type = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}.get(node.op_type, node.op_type)
        for attribute in node.attribute if node.op_type == "Cast" else ():
            attribute.i = onnx.TensorProto.FLOAT if attribute.i == onnx.TensorProto.UINT8 else attribute.i
    for weight in model.graph.initializer:
        if weight.data_type == onnx.TensorProto.INT8:
            floats = onnx.numpy_helper.to_array(weight).astype(np.float32)
            weight.CopyFrom(onnx.numpy_helper.from_array(floats, weight.name))
    bytes_: bytes = model.SerializeToString()
    return bytes_


def _plain(work: Work, peer: str) -> Layerwise:
    about = PEERS[peer]
    return Layerwise(model_of(work), about.neurons, time_axis=about.time_axis)


def _step(run: Callable[[Tensor], Tensor], images: Tensor) -> Step:
    def step() -> Tensor:
        with torch.inference_mode():
            return run(images)

    return step


def tnacli_packed(work: Work) -> Step:
    """The packed file as `tna evaluate` and `tnacli.load` run it."""
    engine = PackedSNN(read_packed(Path(work.folder) / PACKED))
    return _step(engine, inputs(work)[0])


def dense(peer: str, *, channels_last: bool = True) -> Callable[[Work], Step]:
    """The same weights as floats in PyTorch, with the neurons of `peer`; bf16 by autocast."""

    def build(work: Work) -> Step:
        with torch.device("meta"):
            module = _plain(work, peer)
        # Weights are in memory once, as they come from the file.
        module.load_state_dict(torch.load(Path(work.folder) / DENSE, weights_only=True), assign=True)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        module = module.to(work.device).to(memory_format=layout).eval()
        images = inputs(work)[0].to(work.device, memory_format=layout)

        def run(x: Tensor) -> Tensor:
            with torch.autocast(work.device, torch.bfloat16, enabled=work.precision == "bf16"):
                logits: Tensor = module(x)
            return logits

        return _step(run, images)

    return build


def onnxruntime(file: str) -> Callable[[Work], Step]:
    def build(work: Work) -> Step:
        runtime: Any = importlib.import_module("onnxruntime")
        why = Path(work.folder) / "onnx.txt"
        if why.exists():
            raise SkippedError(why.read_text())
        if work.device != "cpu":
            raise SkippedError("measured on the CPU")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = runtime.InferenceSession(str(Path(work.folder) / file), options, providers=["CPUExecutionProvider"])
        images = inputs(work)[0].numpy()
        return lambda: torch.from_numpy(session.run(["logits"], {"input": images})[0])

    return build


CONTENDERS: dict[str, Callable[[Work], Step]] = {
    "tnacli, packed": tnacli_packed,
    "dense PyTorch": dense("plain PyTorch loop"),
    "SpikingJelly": dense("SpikingJelly", channels_last=False),
    "SpikingJelly, channels last": dense("SpikingJelly"),
    "ONNX Runtime fp32": onnxruntime(FLOATS),
    "ONNX Runtime int8": onnxruntime(INTEGERS),
}
