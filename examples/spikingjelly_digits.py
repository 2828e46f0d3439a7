"""Ternary weights and a twin in a training script of SpikingJelly: handwritten digits, seconds on one core.

pip install tnacli spikingjelly
python examples/spikingjelly_digits.py
"""

import torch
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.nn import functional as F

import tnacli

T, EPOCHS, TERNARY_FROM = 4, 6, 4


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            layer.Conv2d(1, 8, 3, padding=1, bias=False),
            layer.BatchNorm2d(8),
            neuron.LIFNode(surrogate_function=surrogate.ATan(), detach_reset=True),
            layer.AvgPool2d(2),
            layer.Conv2d(8, 16, 3, padding=1, bias=False),
            layer.BatchNorm2d(16),
            neuron.LIFNode(surrogate_function=surrogate.ATan(), detach_reset=True),
            layer.AvgPool2d(2),
            layer.Flatten(),
            layer.Linear(64, 32, bias=False),
            layer.BatchNorm1d(32),
            neuron.LIFNode(surrogate_function=surrogate.ATan(), detach_reset=True),
            layer.Linear(32, 10),
        )
        functional.set_step_mode(self, "m")

    def forward(self, images: Tensor) -> Tensor:
        functional.reset_net(self)
        return self.layers(images.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean(0)  # [T, N, ...] to [N, classes]


def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    net.eval()
    with torch.no_grad():
        return 100 * (net(images).argmax(1) == labels).float().mean().item()


digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
test = slice(1440, None)

torch.manual_seed(0)
base, twin = Net(), Net()
optimizer = torch.optim.Adam([*base.parameters(), *twin.parameters()], lr=1e-2)
for epoch in range(EPOCHS):
    if epoch == TERNARY_FROM:
        print(f"full precision: {accuracy(base, images[test], labels[test]):.2f} %")
        tnacli.ternarize(base)
    base.train(), twin.train()
    for rows in torch.randperm(1440).split(48):
        logits, other = base(images[rows]), twin(images[rows])
        loss = F.cross_entropy(logits, labels[rows]) + F.cross_entropy(other, labels[rows])
        loss = loss + tnacli.twin_loss(logits, other, alpha=1e-2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

print(f"ternary: {accuracy(base, images[test], labels[test]):.2f} %")
for name, share in tnacli.shares(base).items():
    print(f"{name}: {share.zero:.0%} zero")

packed = tnacli.from_module(base, images[test], data_set="digits", mean=[0.0], std=[1.0])
(file,) = packed.save("spikingjelly_digits.safetensors")
print(f"{file}: {file.stat().st_size} bytes, runs without SpikingJelly")
