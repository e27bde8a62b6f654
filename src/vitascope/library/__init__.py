"""The public Python API, on the same engine as the server: load a model, generate, get frames, save.

import vitascope
model = vitascope.load()
clip = model.generate("a red circle moving right on a blue background", seed=1)
clip.save("circle.mp4")
"""

from vitascope.library.clip import Clip as Clip
from vitascope.library.model import Model as Model
from vitascope.library.model import OnDownload as OnDownload
from vitascope.library.model import OnProgress as OnProgress
from vitascope.library.model import load as load
