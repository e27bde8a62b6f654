"""LTX-2 and LTX-2.3, one-stage and distilled: text, first frame, or first and last frame to video with sound.

Reference: diffusers' `LTX2Pipeline`, `LTX2ImageToVideoPipeline` and, for two pictures,
`LTX2ConditionPipeline`; same seed, same latents, to the bit.
"""

from vitascope.models.ltx2.family import load as load
