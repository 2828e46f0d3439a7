"""Draws docs/images/recordings.png from recordings of a DVS128: FOLDER/OBJECT/*.aedat. Needs matplotlib.

python docs/images/draw_recordings.py FOLDER OBJECT...
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

from tnacli.data.recordings import read_recording

mpl.use("Agg")
from matplotlib import pyplot as plt

folder, *objects = sys.argv[1:]
figure, axes = plt.subplots(1, len(objects), figsize=(2 * len(objects), 2.2), layout="tight")
for axis, name in zip(axes, objects, strict=True):
    recording = read_recording(str(sorted((Path(folder) / name).glob("*.aedat"))[3]), None)
    events, picture = recording.events, np.zeros(recording.sensor[::-1])
    np.add.at(picture, (events.y, events.x), np.where(events.p > 0, 1, -1))
    axis.imshow(picture, cmap="gray", vmin=-4, vmax=4)
    axis.set_title(name, fontsize=8)
    axis.axis("off")
figure.savefig(Path(__file__).with_name("recordings.png"), dpi=80)
