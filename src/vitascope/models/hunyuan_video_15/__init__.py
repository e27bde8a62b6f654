"""HunyuanVideo 1.5: text to video, and first frame to video.

Reference: diffusers' `HunyuanVideo15Pipeline` and `HunyuanVideo15ImageToVideoPipeline`; same seed, same
latents, up to the rounding that leaving out the padding of the text brings.
"""

from vitascope.models.hunyuan_video_15.family import load as load
