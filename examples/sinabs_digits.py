"""Ternary weights and a twin in a training script of sinabs: handwritten digits, seconds on one core.

pip install tnacli sinabs
python examples/sinabs_digits.py
"""

import sinabs
import sinabs.activation as sa
import sinabs.layers as sl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import tnacli

T, EPOCHS, TERNARY_FROM = 4, 6, 4


def lif() -> sl.LIFSqueeze:
    return sl.LIFSqueeze(
        num_timesteps=T,
        tau_mem=2.0,
        spike_fn=sa.SingleSpike,
        reset_fn=sa.MembraneReset(),
        spike_threshold=torch.tensor(0.5),
        surrogate_grad_fn=sa.SingleExponential(),
        norm_input=False,
    )


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        lif(),
        nn.AvgPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        lif(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 32),
        lif(),
        nn.Linear(32, 10),
    )


def forward(net: nn.Module, images: Tensor) -> Tensor:
    sinabs.reset_states(net)
    over_time = net(images.repeat_interleave(T, 0))  # [N * T, classes]
    return over_time.unflatten(0, (-1, T)).mean(1)


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    return 100 * (forward(net, images).argmax(1) == labels).float().mean().item()


digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
test = slice(1440, None)

torch.manual_seed(0)
base, twin = network(), network()
weights = [p for name, p in [*base.named_parameters(), *twin.named_parameters()] if not name.endswith("tau_mem")]
optimizer = torch.optim.Adam(weights, lr=1e-2)
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
(file,) = packed.save("sinabs_digits.safetensors")
print(f"{file}: {file.stat().st_size} bytes, runs without sinabs")
