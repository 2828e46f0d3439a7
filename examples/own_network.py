"""Your own network: any layout of convolutions, average pooling and fully connected layers, with and without a twin.

python examples/own_network.py FOLDER
"""

import sys
from pathlib import Path

from tnacli.experiment import Experiment
from tnacli.recipe.compression_section import Ternary
from tnacli.recipe.data_section import Data
from tnacli.recipe.identity import Run
from tnacli.recipe.model_section import Model, Neuron
from tnacli.recipe.objective_section import Twin
from tnacli.recipe.schema import Settings, Train

LAYOUT = "12C5-AP2-24C3-48FC-24FC"  # 12 maps of a 5x5 convolution, 2x2 pooling, 24 maps of 3x3, two hidden layers

settings = Settings(
    data=Data(name="digits"),
    model=Model(layout=LAYOUT, timesteps=3, neuron=Neuron(decay=0.75)),
    train=Train(epochs=6, batch_size=64),
    compression=Ternary(start="60%"),
)
runs = {"alone": settings, "with a twin": settings.model_copy(update={"objective": Twin(alpha=1e-3)})}
for name, chosen in runs.items():
    outcome = Experiment(Path(sys.argv[1])).execute(Run("own_network", name.replace(" ", "_"), 0, chosen))
    print(f"{name}: {outcome.result['accuracy']['base']:.2f} %")
