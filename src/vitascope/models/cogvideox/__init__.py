"""CogVideoX 2b, 5b and 1.5: text to video, and first frame to video.

Reference: diffusers' `CogVideoXPipeline` and `CogVideoXImageToVideoPipeline`; same seed, same latents, to
the bit.
"""

from vitascope.models.cogvideox.family import load as load
