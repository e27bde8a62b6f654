"""The cases of every family: importing this adds them to `tiny_models.CASES`, where Wan's are."""

import tiny_cogvideox  # noqa: F401
import tiny_hunyuan  # noqa: F401
import tiny_ltx2  # noqa: F401
