"""Write the gallery of the docs: a dozen prompts, each as a moving picture, made by the product's own engine.

python -m training.gallery --out docs/gallery.md
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import vitascope

PROMPTS = (
    "a red circle moving right on a blue background",
    "a big yellow star drifts up over purple",
    "a green square slides to the left on white",
    "a small white ring falling on black, slowly",
    "a pink triangle moving diagonally up and right on green",
    "an orange ball bouncing on a gray background",
    "a blue star spinning on a yellow background",
    "a purple square and an orange circle moving left on white",
    "a white circle growing on red",
    "a black ring shrinking on an orange background",
    "a red square on the left and a white circle on the right on blue",
    "a yellow triangle above a green circle on black",
)
SEED = 1
COLUMNS = 3
SCALE = 2
HEAD = """# Gallery

A dozen prompts, seed {seed}, everything else at the bundled model's defaults: no clip was chosen among
several. The [model card](model-card.md) says how often such prompts succeed. `make gallery` writes this page
again, through the same engine as the server's. Turning, the seventh, is what the model does least well.

One clip alone:

```console
$ vitascope generate --prompt "{prompt}" --seed {seed}
```
"""


def moving_picture(frames: np.ndarray, fps: float, path: Path) -> None:
    """Write frames (T, H, W, 3) as an endless animated WebP, twice as large, pixels kept."""
    size = (frames.shape[2] * SCALE, frames.shape[1] * SCALE)
    first, *rest = (Image.fromarray(f).resize(size, Image.Resampling.NEAREST) for f in frames)
    first.save(
        path, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, quality=70, method=6
    )


def page(names: list[str]) -> str:
    """Return the Markdown page: a table of pictures with their prompts below."""
    cells = [f"![{p}](images/gallery/{n})<br>{p}" for p, n in zip(PROMPTS, names, strict=True)]
    rows = [cells[i : i + COLUMNS] for i in range(0, len(cells), COLUMNS)]
    table = ["| " * COLUMNS + "|", "|---" * COLUMNS + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return HEAD.format(seed=SEED, prompt=PROMPTS[0]) + "\n" + "\n".join(table) + "\n"


def main() -> None:
    """Parse the command line, make the clips and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/gallery.md"))
    parser.add_argument("--model", type=Path, help="default: the bundled model")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    folder = args.out.parent / "images" / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    model = vitascope.load(args.model, device="cpu", num_threads=args.threads)
    names = []
    for number, prompt in enumerate(PROMPTS, 1):
        clip = model.generate(prompt, seed=SEED)
        names.append(f"{number:02d}.webp")
        moving_picture(clip.frames, clip.fps, folder / names[-1])
        print(f"{names[-1]} {prompt}", flush=True)
    args.out.write_text(page(names))


if __name__ == "__main__":
    main()
