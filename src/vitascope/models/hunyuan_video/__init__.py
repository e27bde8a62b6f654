"""HunyuanVideo: text to video, and first frame to video in its two ways of taking a picture in.

Reference: diffusers' `HunyuanVideoPipeline` and `HunyuanVideoImageToVideoPipeline`; same seed, same latents,
up to the rounding that leaving out the padding of the text brings.
"""

from vitascope.models.hunyuan_video.family import load as load
