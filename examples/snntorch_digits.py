"""Ternary weights and a twin in a training script of snnTorch: handwritten digits, seconds on one core.

pip install tnacli snntorch
python examples/snntorch_digits.py
"""

import snntorch as snn
import torch
from sklearn.datasets import load_digits
from snntorch import surrogate, utils
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

import tnacli

T, EPOCHS, TERNARY_FROM = 4, 6, 4


def leaky() -> snn.Leaky:
    return snn.Leaky(beta=0.5, threshold=0.5, init_hidden=True, reset_mechanism="zero", spike_grad=surrogate.atan())


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        leaky(),
        nn.AvgPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        leaky(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 32),
        leaky(),
        nn.Linear(32, 10),
    )


def forward(net: nn.Module, images: Tensor) -> Tensor:
    utils.reset(net)
    with parametrize.cached():  # ternary weights are computed once, not at each timestep
        return torch.stack([net(images) for _ in range(T)]).mean(0)  # [N, classes]


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    return 100 * (forward(net, images).argmax(1) == labels).float().mean().item()


digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
test = slice(1440, None)

torch.manual_seed(0)
base, twin = network(), network()
optimizer = torch.optim.Adam([*base.parameters(), *twin.parameters()], lr=1e-2)
for epoch in range(EPOCHS):
    if epoch == TERNARY_FROM:
        print(f"full precision: {accuracy(base, images[test], labels[test]):.2f} %")
        tnacli.ternarize(base)
    for rows in torch.randperm(1440).split(48):
        logits, other = forward(base, images[rows]), forward(twin, images[rows])
        loss = F.cross_entropy(logits, labels[rows]) + F.cross_entropy(other, labels[rows])
        loss = loss + tnacli.twin_loss(logits, other, alpha=1e-2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

print(f"ternary: {accuracy(base, images[test], labels[test]):.2f} %")
for name, share in tnacli.shares(base).items():
    print(f"{name}: {share.zero:.0%} zero")

packed = tnacli.from_module(base, images[test], forward=lambda images: forward(base, images))
(file,) = packed.save("snntorch_digits.safetensors")
print(f"{file}: {file.stat().st_size} bytes, runs without snnTorch")
