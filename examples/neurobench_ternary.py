"""A packed file in NeuroBench's harness: 2 bits a weight, and additions where its own metrics say 32 bits and MACs.

pip install neurobench
tna train quickstart --run tna_t_snn
python examples/neurobench_ternary.py runs/quickstart/*/packed.safetensors
"""

import sys
from pathlib import Path

import numpy as np
import torch
from neurobench.benchmarks import Benchmark
from neurobench.metrics.abstract import AccumulatedMetric
from neurobench.metrics.static import Footprint
from neurobench.metrics.workload import ClassificationAccuracy
from neurobench.models import NeuroBenchModel
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from tnacli.data.batches import Batch
from tnacli.evaluation.activity import measure_activity
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import read_packed
from tnacli.packed.network import PackedNetwork


class TernaryModel(NeuroBenchModel):
    """Runs a packed network; what NeuroBench sees of it are its arrays as they are in the file, so its own Footprint is right."""

    def __init__(self, network: PackedNetwork) -> None:
        super().__init__()
        self.network, self.engine = network, PackedSNN(network)
        self.stored = torch.nn.Module()
        for name, array in network.arrays.items():
            self.stored.register_buffer(name.replace(".", "_"), torch.from_numpy(array.copy()))

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits [N, classes] of normalised images [N, C, H, W] or event frames [N, T, C, H, W]."""
        return self.engine(batch)

    def __net__(self) -> torch.nn.Module:
        return self.stored


class TernaryOperations(AccumulatedMetric):
    """Operations of a sample under the names of NeuroBench's SynapticOperations, counted as tna evaluate --activity does."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self.samples, self.sums = 0, {"Effective_MACs": 0.0, "Effective_ACs": 0.0, "Dense": 0.0}

    def __call__(self, model: TernaryModel, preds: torch.Tensor, data: tuple[torch.Tensor, torch.Tensor]) -> dict:
        inputs, labels = data
        activity = measure_activity(model.network, [Batch(inputs, labels, len(inputs))])
        dense = activity.timesteps * activity.total("ann_macs")  # every weight, at every timestep
        counted = (activity.total("macs"), activity.total("additions_nonzero"), dense)
        for key, each in zip(self.sums, counted, strict=True):
            self.sums[key] += len(inputs) * each
        self.samples += len(inputs)
        return self.compute()

    def compute(self) -> dict:
        return {key: value / max(self.samples, 1) for key, value in self.sums.items()}


def bench(network: PackedNetwork, inputs: torch.Tensor, labels: torch.Tensor) -> dict:
    """NeuroBench's results on inputs that the network takes, and labels [N]."""
    metrics = [[Footprint], [ClassificationAccuracy, TernaryOperations]]
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=64)
    return Benchmark(TernaryModel(network), loader, [], [lambda logits: logits.argmax(1)], metrics).run(quiet=True)


if __name__ == "__main__":
    network = read_packed(Path(sys.argv[1]))
    # All 1,797 digits: the operations are those of any, but most were trained on, so that the accuracy is no test accuracy.
    facts, digits = network.about.input, load_digits()
    pixels = np.round(digits.images * 255 / 16).astype(np.float32)[:, None] / 255
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (facts.mean, facts.std))
    print(bench(network, torch.from_numpy((pixels - mean) / std), torch.from_numpy(digits.target)))
