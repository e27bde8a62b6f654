"""Which published models would fit, by arithmetic on their sizes alone; nothing is loaded or measured."""

from __future__ import annotations

from dataclasses import dataclass

HEADROOM = 1.25  # activations, fragments and the runtime itself, for a clip of the model's native size
VAE_BYTES = 4  # as most VAEs run; where one takes less, it is little of the whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A published model: billions of parameters of all its transformers, its text encoders and its VAE."""

    name: str
    transformers: float
    text_encoders: float
    vae: float

    def needs_bytes(self, bytes_per_weight: int) -> int:
        """Estimate the memory to make a clip with all of it loaded."""
        weights = (self.transformers + self.text_encoders) * bytes_per_weight + self.vae * VAE_BYTES
        return int(weights * 1e9 * HEADROOM)


PUBLISHED = (
    Published(name="Wan2.1-T2V-1.3B", transformers=1.4, text_encoders=5.7, vae=0.13),
    Published(name="Wan2.1-T2V-14B", transformers=14.3, text_encoders=5.7, vae=0.13),
    Published(name="Wan2.2-TI2V-5B", transformers=5.0, text_encoders=5.7, vae=0.7),
    Published(name="Wan2.2-T2V-A14B", transformers=28.6, text_encoders=5.7, vae=0.13),
    Published(name="CogVideoX-2b", transformers=1.7, text_encoders=4.8, vae=0.22),
    Published(name="CogVideoX-5b", transformers=5.6, text_encoders=4.8, vae=0.22),
    Published(name="HunyuanVideo-1.5", transformers=8.3, text_encoders=7.9, vae=1.3),
    Published(name="HunyuanVideo", transformers=12.8, text_encoders=8.1, vae=0.25),
    Published(name="LTX-2", transformers=19.0, text_encoders=12.2, vae=1.3),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One published model on this machine."""

    model: str
    needs_bytes: int
    fits: bool


def fits(memory_bytes: int, bytes_per_weight: int) -> list[Fit]:
    """Estimate for every published model whether it fits into so much memory."""
    return [
        Fit(model=model.name, needs_bytes=needs, fits=needs <= memory_bytes)
        for model in PUBLISHED
        for needs in (model.needs_bytes(bytes_per_weight),)
    ]
