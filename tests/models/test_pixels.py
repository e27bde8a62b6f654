import numpy as np
import torch

from vitascope.models.pixels import Sketch, to_pixels


def test_the_range_is_mapped_with_rounding_and_clamped() -> None:
    video = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).view(1, 1, 1, 1, 5).expand(1, 3, 1, 1, 5)
    assert to_pixels(video)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_axes_become_frames_height_width_channels() -> None:
    video = torch.zeros(1, 3, 2, 4, 6)
    video[0, 1, 1, 2, 5] = 1.0
    pixels = to_pixels(video)
    assert pixels.shape == (2, 4, 6, 3)
    assert pixels[1, 2, 5].tolist() == [128, 255, 128]


def _average_pool(video: torch.Tensor) -> torch.Tensor:
    """Stand in for a VAE, linearly: each latent holds the colours of its patch's four quarters."""
    frames = video[0].permute(1, 0, 2, 3)[::4]
    small = torch.nn.functional.avg_pool2d(frames, 4)
    return torch.nn.functional.pixel_unshuffle(small, 2).permute(1, 0, 2, 3)[None] * 2 + 0.3


def test_a_sketch_of_a_linear_latent_is_the_picture_itself() -> None:
    sketch = Sketch.fit(_average_pool, spatial=8, num_frames=5, device=torch.device("cpu"))
    colours = torch.rand(3, 4, 6) * 1.8 - 0.9
    video = colours.repeat_interleave(4, 1).repeat_interleave(4, 2)[None, :, None].expand(-1, -1, 9, -1, -1)
    drawn = sketch.draw(_average_pool(video))
    assert drawn.shape == (4, 6, 3)
    expected = to_pixels(colours[None, :, None])[0]
    assert (
        np.abs(drawn.astype(int) - expected.astype(int)).max() <= 8
    )  # the ridge pulls a little towards grey
