"""The operator's settings, read once; the only room that reads the environment."""

from vitascope.config.settings import BUNDLED_MODEL as BUNDLED_MODEL
from vitascope.config.settings import Settings as Settings
from vitascope.config.settings import changed as changed
from vitascope.config.sources import load_settings as load_settings
