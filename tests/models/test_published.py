from pathlib import Path
from typing import Any

import pytest

from published import PUBLISHED
from vitascope.models.cogvideox import parts as cogvideox
from vitascope.models.hunyuan_video import parts as hunyuan_video
from vitascope.models.hunyuan_video_15 import parts as hunyuan_video_15
from vitascope.models.ltx2 import parts as ltx2
from vitascope.models.registry import describe
from vitascope.models.wan import parts as wan
from vitascope.weights.checkpoint import Checkpoint

# size, frames, fps, steps, guidance, flow_shift, solver
WAN = (832, 480, 81, 16.0, 50, 5.0, 3.0, "unipc")
HUNYUAN_15 = (848, 480, 121, 24.0, 50, 6.0, 5.0, "euler")
COG = (720, 480, 49, 8.0, 50, 6.0, None, "dpm")
COG_15 = (1360, 768, 81, 16.0, 50, 6.0, None, "dpm")

EXPECTED: dict[str, tuple[str, tuple[str, ...], tuple[Any, ...]]] = {
    "Wan2.1-T2V-1.3B": ("wan", ("t2v", "v2v"), WAN),
    "Wan2.1-T2V-14B": ("wan", ("t2v", "v2v"), WAN),
    "Wan2.1-I2V-14B-480P": ("wan", ("i2v",), WAN),
    "Wan2.1-I2V-14B-720P": ("wan", ("i2v",), (*WAN[:6], 5.0, "unipc")),
    "Wan2.1-FLF2V-14B-720P": ("wan", ("flf2v",), (1280, 720, *WAN[2:6], 5.0, "unipc")),
    "Wan2.2-T2V-A14B": ("wan", ("t2v", "v2v"), (*WAN[:4], 40, 4.0, 3.0, "unipc")),
    "Wan2.2-I2V-A14B": ("wan", ("i2v", "flf2v"), (*WAN[:4], 40, 3.5, 3.0, "unipc")),
    "Wan2.2-TI2V-5B": ("wan", ("t2v", "i2v", "v2v"), (1280, 704, 121, 24.0, 50, 5.0, 5.0, "unipc")),
    "HunyuanVideo": ("hunyuan_video", ("t2v",), (1280, 720, 129, 24.0, 50, 6.0, 7.0, "euler")),
    "HunyuanVideo-I2V": ("hunyuan_video", ("i2v",), (1280, 720, 129, 24.0, 50, 6.0, 7.0, "euler")),
    "HunyuanVideo-I2V-33ch": ("hunyuan_video", ("i2v",), (1280, 720, 125, 24.0, 50, 1.0, 7.0, "euler")),
    "HunyuanVideo-1.5-480p_t2v": ("hunyuan_video_15", ("t2v",), HUNYUAN_15),
    "HunyuanVideo-1.5-720p_t2v": (
        "hunyuan_video_15",
        ("t2v",),
        (1280, 720, *HUNYUAN_15[2:6], 9.0, "euler"),
    ),
    "HunyuanVideo-1.5-480p_t2v_distilled": (
        "hunyuan_video_15",
        ("t2v",),
        (*HUNYUAN_15[:5], 1.0, 5.0, "euler"),
    ),
    "HunyuanVideo-1.5-720p_i2v": (
        "hunyuan_video_15",
        ("i2v",),
        (1280, 720, *HUNYUAN_15[2:6], 7.0, "euler"),
    ),
    "HunyuanVideo-1.5-480p_i2v_step_distilled": (
        "hunyuan_video_15",
        ("i2v",),
        (*HUNYUAN_15[:4], 12, 1.0, 7.0, "euler"),
    ),
    "CogVideoX-2b": ("cogvideox", ("t2v",), (*COG[:7], "ddim")),
    "CogVideoX-5b": ("cogvideox", ("t2v",), COG),
    "CogVideoX-5b-I2V": ("cogvideox", ("i2v",), COG),
    "CogVideoX1.5-5B": ("cogvideox", ("t2v",), COG_15),
    "CogVideoX1.5-5B-I2V": ("cogvideox", ("i2v",), COG_15),
    "LTX-2": ("ltx2", ("t2v", "i2v", "flf2v"), (768, 512, 121, 24.0, 40, 3.0, None, "euler")),
    "LTX-2-distilled": ("ltx2", ("t2v", "i2v", "flf2v"), (768, 512, 121, 24.0, 8, 1.0, None, "euler")),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_checkpoint_is_recognised_with_its_own_native_values(name: str, tmp_path: Path) -> None:
    card = describe(Checkpoint.open(PUBLISHED[name](tmp_path / name)))
    native = card.defaults
    assert (card.family, card.tasks) == EXPECTED[name][:2]
    assert EXPECTED[name][2] == (
        native.width,
        native.height,
        native.num_frames,
        native.fps,
        native.num_inference_steps,
        native.guidance_scale,
        native.flow_shift,
        native.sample_solver,
    )
    experts = {"Wan2.2-T2V-A14B": (3.0, 0.875), "Wan2.2-I2V-A14B": (3.5, 0.9)}
    assert (native.guidance_scale_2, native.boundary_ratio) == experts.get(name, (None, None))


def test_every_published_checkpoint_has_its_expected_card() -> None:
    assert EXPECTED.keys() == PUBLISHED.keys()


TOKENIZERS: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("CogVideoX-5b", "tokenizer", cogvideox._TOKENIZERS, ["▁c", "a", "t", "</s>"]),
    ("Wan2.1-T2V-14B", "tokenizer", wan._TOKENIZERS, ["▁cat", "</s>"]),
    ("HunyuanVideo", "tokenizer", hunyuan_video._TOKENIZERS, ["<|begin_of_text|>", "Ġcat"]),
    (
        "HunyuanVideo",
        "tokenizer_2",
        hunyuan_video._CLIP_TOKENIZERS,
        ["<|startoftext|>", "c", "a", "t</w>", "<|endoftext|>"],
    ),
    ("HunyuanVideo-1.5-480p_t2v", "tokenizer", hunyuan_video_15._TOKENIZERS, ["Ġcat"]),
    ("LTX-2", "tokenizer", ltx2._TOKENIZERS, ["<bos>", "▁", "c", "a", "t"]),
]


@pytest.mark.parametrize(("name", "part", "allowed", "expected"), TOKENIZERS)
def test_a_tokenizer_in_its_published_layout_keeps_words_apart(
    name: str, part: str, allowed: dict[str, Any], expected: list[str], tmp_path: Path
) -> None:
    tokenizer = Checkpoint.open(PUBLISHED[name](tmp_path / name)).processor(part, allowed)
    assert tokenizer.convert_ids_to_tokens(tokenizer(" cat").input_ids) == expected
