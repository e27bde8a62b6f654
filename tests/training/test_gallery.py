import re
from pathlib import Path

import numpy as np
from PIL import Image
from training.gallery import PROMPTS, moving_picture, page

import vitascope

DOCS = Path(__file__).parents[2] / "docs"


def test_a_moving_picture_keeps_every_frame_and_its_pace(tmp_path):
    frames = np.zeros((5, 16, 24, 3), np.uint8)
    frames[np.arange(5), :, np.arange(5) * 4] = 255
    moving_picture(frames, 8, tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as picture:
        assert (picture.n_frames, picture.size, picture.info["loop"]) == (5, (48, 32), 0)
        picture.seek(1)
        picture.load()
        assert picture.info["duration"] == 125


def test_the_page_shows_every_prompt_and_is_the_one_in_the_docs():
    names = [f"{n:02d}.webp" for n in range(1, len(PROMPTS) + 1)]
    text = page(names)
    assert (DOCS / "gallery.md").read_text() == text
    shown = re.findall(r"!\[(.*?)\]\((.*?)\)", text)
    assert [p for p, _ in shown] == list(PROMPTS)
    assert all((DOCS / path).is_file() for _, path in shown)


def test_the_prompts_are_within_the_vocabulary():
    known = {*vitascope.load(device="cpu").card.prompt_guide.known_words}
    assert all(set(re.findall(r"[a-z]+", p)) <= known for p in PROMPTS)
