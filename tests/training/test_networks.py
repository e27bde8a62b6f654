import argparse
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from training.export import without_condition
from training.optim import Muon, orthogonalise
from training.transformer import (
    GIVEN_WEIGHT,
    Batch,
    Captioner,
    Training,
    build_transformer,
    condition_mask,
    flow_loss,
    specialised,
    stage,
)
from training.transformer_forward import Text, run_block, velocity
from training.vae import (
    CONFIG,
    FRAMES,
    LONG,
    draw_batch,
    frames_at,
    local_sharpness,
    loss_terms,
    optimisers,
    total,
)
from training.vae_parallel import decode, encode_moments

from training import transformer

BUNDLED = Path(__file__).parents[2] / "src/vitascope/bundled/vitascope-tiny"


@pytest.fixture(autouse=True)
def micro(monkeypatch):
    monkeypatch.setitem(transformer.CONFIG, "num_layers", 1)
    monkeypatch.setitem(transformer.CONFIG, "ffn_dim", 64)
    torch.manual_seed(0)


def micro_vae() -> AutoencoderKLWan:
    return AutoencoderKLWan(**(CONFIG | {"base_dim": 8, "decoder_base_dim": 8}))


def text(batch: int, pads: int) -> Text:
    states = torch.cat((torch.randn(batch, 6, 128), torch.zeros(batch, 1, 128)), 1)
    count = torch.zeros(batch, 7)
    count[:, -1] = torch.tensor(float(pads)).log()
    return Text(states, count)


def moved(net: torch.nn.Module) -> torch.nn.Module:
    """A network whose zero-initialised parts carry something."""
    with torch.no_grad():
        for p in net.parameters():
            if p.requires_grad:
                p.add_(0.02 * torch.randn_like(p))
    return net


def test_the_autoencoder_in_one_pass_equals_the_chunked_one():
    vae, video = micro_vae(), torch.rand(1, 3, 9, 16, 16) * 2 - 1
    with torch.no_grad():
        reference = vae.encode(video).latent_dist.mean
        assert torch.allclose(encode_moments(vae, video)[0], reference, atol=1e-5)
        assert torch.allclose(decode(vae, reference).clamp(-1, 1), vae.decode(reference).sample, atol=1e-5)


def test_the_training_forward_equals_the_shipped_one_with_all_its_padding():
    net, given = moved(build_transformer(0)), text(2, 505)
    latents, time = torch.randn(2, 36, 3, 8, 8), torch.tensor([900.0, 300.0])
    padded = torch.cat((given.states, torch.zeros(2, 504, 128)), 1)
    with torch.no_grad():
        reference = net(latents, time, padded, return_dict=False)[0]
        assert torch.allclose(velocity(net, latents, time, given), reference, atol=2e-4)


def test_every_block_goes_through_the_given_runner():
    net, given, seen = moved(build_transformer(0)), text(1, 1), []

    def runner(block, *rest):
        seen.append(block)
        return run_block(block, *rest)

    latents, time = torch.randn(1, 36, 3, 8, 8), torch.tensor([500.0])
    with torch.no_grad():
        plain = velocity(net, latents, time, given)
        assert torch.equal(velocity(net, latents, time, given, runner), plain)
    assert seen == list(net.blocks)


def test_a_caption_means_the_same_beside_a_longer_one(monkeypatch):
    captioner, net = Captioner(BUNDLED, "cpu"), moved(build_transformer(0))
    captions = [
        "a red ring on white",
        "a small green star drifts slowly up to the left of a blue square on pink",
    ]
    latents, time = torch.randn(1, 36, 1, 4, 4), torch.tensor([900.0])
    made = []
    for multiple, row in ((1, captions[:1]), (64, captions)):
        monkeypatch.setattr(transformer, "TEXT_MULTIPLE", multiple)
        given = captioner.encode(row, [3] * len(row))
        with torch.no_grad():
            made.append(velocity(net, latents, time, Text(given.states[:1], given.log_count[:1])))
    assert given.states.shape[1] == 64
    assert torch.allclose(made[0], made[1], atol=1e-4)


def test_the_text_network_is_the_conditioned_one_without_a_condition():
    net, given = moved(build_transformer(0)), text(1, 1)
    latents, time = torch.randn(1, 16, 3, 8, 8), torch.tensor([500.0])
    with torch.no_grad():
        wide = net(
            torch.cat((latents, torch.zeros(1, 20, 3, 8, 8)), 1), time, given.states, return_dict=False
        )[0]
        assert torch.equal(without_condition(net)(latents, time, given.states, return_dict=False)[0], wide)


def test_masks_follow_the_image_to_video_convention():
    both = condition_mask(2, (5, 2, 2))
    assert both[:, 0].eq(1).all()
    assert both[3, -1].eq(1).all()
    assert both.sum() == 5 * 4
    assert condition_mask(1, (5, 2, 2)).sum() == 4 * 4
    assert condition_mask(0, (5, 2, 2)).sum() == 0


def test_latent_frames_that_hold_a_given_one_weigh_more():
    def loss(kind: int) -> float:
        condition = torch.cat((condition_mask(kind, (5, 4, 4)), torch.zeros(16, 5, 4, 4)))[None]
        batch = Batch(torch.ones(1, 16, 5, 4, 4), condition, text(1, 1))
        loss = flow_loss(build_transformer(0), batch, torch.ones(1), torch.zeros(1, 16, 5, 4, 4))
        return float(loss.detach())

    assert [loss(kind) for kind in (0, 1, 2)] == pytest.approx(
        [1, (4 + GIVEN_WEIGHT) / 5, (3 + 2 * GIVEN_WEIGHT) / 5]
    )


@pytest.mark.parametrize(("only", "share"), [("text", 0.0), ("frames", 1.0)])
def test_each_network_ends_with_what_it_is_for(only, share):
    plan = specialised(stage(0.9), only)
    assert plan.conditioned == share
    assert set(plan.pools) == set(stage(0.9).pools)


def arguments() -> argparse.Namespace:
    return argparse.Namespace(seed=0, device="cpu", rank=0, world=1, steps=40, muon_rate=0.01, adam_rate=1e-3,
                              average=0.9, compile=False)  # fmt: skip


def advance(run: Training, steps: int) -> None:
    for _ in range(steps):
        generator = torch.Generator().manual_seed(run.step)
        latents = torch.randn(2, 16, 2, 4, 4, generator=generator)
        torch.manual_seed(run.step)
        batch = Batch(latents, torch.zeros(2, 20, 2, 4, 4), text(2, 3))
        run.advance(batch, torch.tensor([0.3, 0.9]), torch.randn(latents.shape, generator=generator))


def test_a_resumed_training_takes_the_same_step_to_the_bit(tmp_path):
    straight = Training(arguments())
    advance(straight, 2)
    straight.save(tmp_path, 0.0)
    advance(straight, 1)
    resumed = Training(arguments())
    resumed.load(tmp_path / "state.pt")
    advance(resumed, 1)
    for (name, a), b in zip(straight.net.named_parameters(), resumed.net.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert all(torch.equal(v, resumed.average[k]) for k, v in straight.average.items())


def test_a_step_of_the_autoencoder_lowers_the_loss_on_its_batch():
    vae, video = micro_vae(), draw_batch(np.random.default_rng(0), 1, 32)
    muon, adam = optimisers(vae)
    losses = []
    for _ in range(4):
        loss = total(loss_terms(vae, video, torch.zeros(1, 16, 5, 4, 4)))
        vae.zero_grad()
        loss.backward()
        muon.step()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_the_decoder_alone_is_trained_on_long_clips_too():
    assert {frames_at(step, decoder_only=True) for step in range(3)} == {FRAMES, LONG}
    assert {frames_at(step, decoder_only=False) for step in range(3)} == {FRAMES}
    assert draw_batch(np.random.default_rng(0), 1, 32, LONG).shape == (1, 3, LONG, 32, 32)


def test_sharpness_falls_with_blur_and_asks_not_where_the_edge_is():
    clip = torch.zeros(1, 3, 1, 32, 32)
    clip[..., 16:] = 1
    soft = torch.nn.functional.avg_pool2d(clip[:, :, 0], 3, 1, 1).unsqueeze(2)
    moved_on = clip.roll(4, -1)
    moved_on[..., :4] = 0
    crisp = local_sharpness(clip)[..., 3:-3]
    assert local_sharpness(soft)[..., 3:-3].mean() < 0.7 * crisp.mean()
    assert torch.allclose(local_sharpness(moved_on)[..., 3:-3].mean(), crisp.mean())


def test_muon_orthogonalises_and_leaves_parameters_without_gradient_alone():
    update = orthogonalise(torch.randn(2, 8, 12))
    gram = update @ update.mT
    assert torch.allclose(gram.diagonal(dim1=1, dim2=2), torch.ones(2, 8), atol=0.45)
    moved_one, still = torch.nn.Parameter(torch.randn(4, 4)), torch.nn.Parameter(torch.randn(4, 4))
    before = copy.deepcopy((moved_one.data, still.data))
    moved_one.grad = torch.randn(4, 4)
    Muon([moved_one, still], lr=0.1).step()
    assert not torch.equal(moved_one.data, before[0])
    assert torch.equal(still.data, before[1])
