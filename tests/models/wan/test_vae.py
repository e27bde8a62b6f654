import torch

from tiny_models import tiny
from vitascope.models.wan.vae import WanVae


def reference_vae(name: str) -> WanVae:
    return WanVae(tiny(name).pipeline.vae)


@torch.inference_mode()
def test_chunks_joined_are_the_whole_decode_to_the_bit() -> None:
    for name in ("wan21_t2v", "wan22_5b_t2v"):
        vae = reference_vae(name)
        latents = torch.randn(1, vae.channels, 3, 4, 4)
        mean, inverse = (x.view(1, -1, 1, 1, 1) for x in (vae._mean, vae._inverse_std))
        whole = vae.vae.decode(latents / inverse + mean).sample
        chunks = list(vae.decode(latents))
        assert [c.shape[2] for c in chunks] == [1, 4, 4]
        assert torch.equal(torch.cat(chunks, dim=2), whole)


@torch.inference_mode()
def test_two_clips_decoded_in_turns_do_not_mix() -> None:
    vae = reference_vae("wan21_t2v")
    a, b = torch.randn(2, 1, 16, 3, 4, 4)
    mixed = [(x.clone(), y.clone()) for x, y in zip(vae.decode(a), vae.decode(b), strict=True)]
    for i, alone in enumerate((a, b)):
        joined = torch.cat([pair[i] for pair in mixed], dim=2)
        assert torch.equal(joined, torch.cat(list(vae.decode(alone)), dim=2))


@torch.inference_mode()
def test_the_fast_convolutions_differ_by_rounding_alone() -> None:
    latents = torch.randn(1, 16, 3, 4, 4)
    ours = torch.cat(list(tiny("wan21_t2v").family._parts.vae.decode(latents)), dim=2)
    theirs = torch.cat(list(reference_vae("wan21_t2v").decode(latents)), dim=2)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_normalised_latents_decode_back_to_their_own_scale() -> None:
    vae = reference_vae("wan22_5b_t2v")
    assert vae.latent_shape(9, 64, 32) == (1, 48, 3, 4, 2)
    assert vae.encode(torch.zeros(1, 3, 9, 64, 32)).shape == vae.latent_shape(9, 64, 32)
