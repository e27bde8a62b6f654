"""Wan 2.1 and 2.2: text, first frame, and first and last frame to video.

Reference: diffusers' `WanPipeline` and `WanImageToVideoPipeline`; same seed, same latents, to the bit.
"""

from vitascope.models.wan.family import load as load
