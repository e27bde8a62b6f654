import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline, WanTransformer3DModel
from PIL import Image

import vitascope
from vitascope.errors import InvalidRequest

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


def test_both_transformers_differ_in_their_input_alone_and_the_folder_is_small():
    text, image = (
        WanTransformer3DModel.load_config(FOLDER, subfolder=f"transformer{s}") for s in ("", "_i2v")
    )
    assert (text.pop("in_channels"), image.pop("in_channels")) == (16, 36)
    assert text == image
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) <= 19e6


def test_the_description_names_words_that_the_tokenizer_knows():
    about = json.loads((FOLDER / "vitascope.json").read_text())
    vocabulary = json.loads((FOLDER / "tokenizer/tokenizer.json").read_text())["model"]["vocab"]
    assert set(about["known_words"]) <= set(vocabulary)
    for prompt in about["example_prompts"]:
        assert set(prompt.split()) <= set(about["known_words"])


# ---- one short generation, pinned: nobody changes the model or the loop unnoticed

PINNED, PINNED_SEED = "5441ead92d6286a2", 12
GRID = 1000  # figures are pinned to a thousandth


@pytest.fixture(scope="module")
def model():
    return vitascope.load(FOLDER, device="cpu", num_threads=1)


def figures(model: vitascope.Model, **changes) -> np.ndarray:
    """Mean and spread of each latent channel after two steps, in units of the grid.

    Processors differ in the last bits of a latent, so the latents themselves have no portable hash, nor have
    they rounded: of hundreds of values some always lie where the rounding turns. Of these few none does
    (the seed was chosen so), and a change of the weights, the text or the loop moves them all the same.
    """
    wishes = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 2, "seed": PINNED_SEED}
    latents = model.generate("a red circle moving right on a blue background", **(wishes | changes)).latents
    inner = (0, 2, 3, 4)
    return torch.cat((latents.double().mean(inner), latents.double().std(inner))).numpy() * GRID


def digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.round(values).astype("<i8").tobytes()).hexdigest()[:16]


def renewed(model: vitascope.Model) -> str:
    for seed in range(400):
        values = figures(model, seed=seed)
        if clear(values):
            return f"PINNED, PINNED_SEED = {digest(values)!r}, {seed}"
    raise AssertionError("no seed of 400 keeps off the rounding")


def clear(values: np.ndarray) -> bool:
    """Whether every value keeps off the places where the rounding turns, far beyond a processor's noise."""
    return bool(np.abs(values - np.floor(values) - 0.5).min() > 0.04)


def test_a_short_generation_has_the_pinned_latents(model):
    values = figures(model)
    assert digest(values) == PINNED, f"other latents; if they should be others, renew: {renewed(model)}"
    assert clear(values), "by chance some value is no longer safe from rounding; renew the pin"


@pytest.mark.parametrize("change", [{"guidance_scale": 5.9}, {"flow_shift": 4.1}, {"seed": PINNED_SEED + 1}])
def test_the_pin_tells_small_changes(model, change):
    assert digest(figures(model, **change)) != digest(figures(model))


def test_unknown_words_are_named_beside_three_prompts_that_work(model):
    short = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 1}
    (warning,) = model.generate("a red zebra moving right, beautifully", **short).warnings
    assert "'zebra', 'beautifully'" in warning
    assert "'red'" not in warning
    for prompt in model.card.prompt_guide.examples[:3]:
        assert prompt in warning
        assert not model.generate(prompt, **short).warnings


def test_the_shortest_length_of_a_prompt_still_reads_some_of_it(model):
    shortest = model.card.rules.min_sequence_length
    short = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 1}
    clip = model.generate("red circle moving right", max_sequence_length=shortest, **short)
    assert any("reads the first 1," in warning for warning in clip.warnings)
    with pytest.raises(InvalidRequest, match=f"must be from {shortest} to"):
        model.generate("red circle", max_sequence_length=shortest - 1, **short)
