"""LTX-2's guidance: one clean estimate out of up to four, for video and sound apart.

Besides the unconditional pass, two passes of a weakened model point away from what is wanted: one without
self-attention in a block (spatio-temporal guidance), and one in which video and sound do not see each other
(modality guidance).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Scales:
    """One stream's scales. 1 is neutral for `text` and `modality`, 0 for `perturbed` and `rescale`."""

    text: float
    perturbed: float = 0.0
    modality: float = 1.0
    rescale: float = 0.0


@dataclass(frozen=True, slots=True)
class Guidance:
    """The scales of both streams, and the block whose self-attention the perturbed pass leaves out.

    A None as `audio` is the video's scales.
    """

    video: Scales
    audio: Scales | None = None
    block: int | None = None

    @property
    def streams(self) -> dict[str, Scales]:
        """The scales by stream."""
        return {"video": self.video, "audio": self.audio or self.video}

    @property
    def perturbs(self) -> bool:
        """Whether a pass without self-attention in `block` is due."""
        return self.block is not None and any(s.perturbed > 0.0 for s in self.streams.values())

    @property
    def isolates(self) -> bool:
        """Whether a pass with video and sound apart is due."""
        return any(s.modality > 1.0 for s in self.streams.values())

    def with_text(self, scale: float) -> Guidance:
        """Return the same with another text scale for the video; the sound keeps its own if it has one."""
        return replace(self, video=replace(self.video, text=scale))


@dataclass(frozen=True, slots=True)
class Estimates:
    """Clean estimates of one stream, (1, tokens, features) each; None for a pass that was not made."""

    cond: Tensor
    uncond: Tensor
    perturbed: Tensor | None = None
    isolated: Tensor | None = None


def guide(estimates: Estimates, scales: Scales) -> Tensor:
    """Return the guided clean estimate; the order of the operations is the reference's."""
    cond = estimates.cond
    guided = cond + (scales.text - 1) * (cond - estimates.uncond)
    if estimates.perturbed is not None:
        guided = guided + scales.perturbed * (cond - estimates.perturbed)
    if estimates.isolated is not None:
        guided = guided + (scales.modality - 1) * (cond - estimates.isolated)
    return rescaled(guided, cond, scales.rescale) if scales.rescale > 0 else guided


def rescaled(guided: Tensor, cond: Tensor, factor: float) -> Tensor:
    """Bring the spread back towards that of the conditional estimate (Lin et al. 2023, arXiv 2305.08891)."""
    spread = guided * (cond.std(dim=(1, 2), keepdim=True) / guided.std(dim=(1, 2), keepdim=True))
    return factor * spread + (1 - factor) * guided
