"""A packed file as a function: handwritten digits in, labels out.

tna train quickstart --run tna_t_snn
python examples/packed_file.py runs/quickstart/*/packed.safetensors
"""

import sys

import numpy as np
from sklearn.datasets import load_digits

import tnacli

model = tnacli.load(sys.argv[1])
print(f"{len(model.labels)} classes, {model.timesteps} timesteps, {model.weights} weights, takes {model.input.size}")

# scikit-learn's digits have 17 shades of grey; the network was trained on the usual 256.
digits = load_digits()
pixels = np.round(digits.images[:10] * 255 / 16).astype(np.uint8)[:, None]  # [N, C, H, W]
print("shown:    ", *digits.target[:10])
print("predicted:", *model.predict(pixels))
