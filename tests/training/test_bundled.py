import json
from pathlib import Path

import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline, WanTransformer3DModel
from PIL import Image

FOLDER = Path(__file__).parents[2] / "src/vitascope/bundled/vitascope-tiny"
pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own
BRIEF = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 2, "output_type": "np"}


def test_the_folder_loads_unchanged_in_the_text_pipeline():
    pipeline = WanPipeline.from_pretrained(FOLDER)
    frames = pipeline(
        "a red circle moving left on white", generator=torch.Generator().manual_seed(0), **BRIEF
    ).frames
    assert frames.shape == (1, 5, 32, 32, 3)


def test_the_folder_loads_unchanged_in_the_image_pipeline_with_and_without_a_last_image():
    net = WanTransformer3DModel.from_pretrained(FOLDER, subfolder="transformer_i2v")
    pipeline = WanImageToVideoPipeline.from_pretrained(FOLDER, transformer=net)
    image = Image.new("RGB", (32, 32), "red")
    for last in (None, image):
        frames = pipeline(image, "a red circle moving left", last_image=last, **BRIEF).frames
        assert frames.shape == (1, 5, 32, 32, 3)


def test_both_transformers_are_one_function_and_the_folder_is_small():
    text, image = (
        WanTransformer3DModel.from_pretrained(FOLDER, subfolder=f"transformer{s}") for s in ("", "_i2v")
    )
    other = image.state_dict()
    for name, value in text.state_dict().items():
        expected = other[name][:, :16] if name == "patch_embedding.weight" else other[name]
        assert torch.equal(value, expected), name
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) <= 19e6


def test_the_description_names_words_that_the_tokenizer_knows():
    about = json.loads((FOLDER / "vitascope.json").read_text())
    vocabulary = json.loads((FOLDER / "tokenizer/tokenizer.json").read_text())["model"]["vocab"]
    assert set(about["known_words"]) <= set(vocabulary)
    for prompt in about["example_prompts"]:
        assert set(prompt.split()) <= set(about["known_words"])
