"""Your own images: a folder for each class, a network trained on them, and its packed file.

    python examples/own_images.py DATA

DATA holds train/CLASS/*.png and test/CLASS/*.png (JPEG and others will do as well). The packed file is DATA/model.safetensors.
"""

import sys
from pathlib import Path

from tnacli.experiment import Experiment
from tnacli.exporting import export_checkpoint
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.compression import Ternary
from tnacli.recipe.schema.data import Data
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.recipe import Settings, Train

root = Path(sys.argv[1])
settings = Settings(
    data=Data(name="folder", root=str(root), size=(16, 16)),
    model=Model(layout="8C3-AP2-16C3-AP2-32FC", timesteps=4),
    train=Train(epochs=10, batch_size=16),
    compression=Ternary(start="60%"),
)
outcome = Experiment(root / "runs").execute(Run("own_images", "t_snn", 0, settings))
packed = export_checkpoint(outcome.checkpoint, root / "model.safetensors")
print(f"{packed.path}: {packed.size_bytes} bytes, test accuracy {packed.accuracy:.1f} %")
