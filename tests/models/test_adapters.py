"""LoRAs: the reference's results, one adapter not mixed with another, and files that do not fit."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline
from safetensors.torch import save_file

import tiny_families  # noqa: F401  (adds every family's cases)
from tiny_models import CASES, Tiny, aligned, tiny
from vitascope.config.model_source import ModelSource
from vitascope.config.named_paths import parse_adapter
from vitascope.engine.engine import Engine
from vitascope.engine.events import Completed
from vitascope.engine.load import load_family
from vitascope.errors import CheckpointError, InvalidRequest
from vitascope.models.family import Family
from vitascope.request import GenerationRequest

RANK = 4
# The authors' names of a block's layers beside diffusers'.
LAYERS = {
    "self_attn.q": "attn1.to_q",
    "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out.0",
    "cross_attn.q": "attn2.to_q",
    "cross_attn.k": "attn2.to_k",
    "cross_attn.v": "attn2.to_v",
    "cross_attn.o": "attn2.to_out.0",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
TEXT = "condition_embedder.text_embedder.linear_1"  # kept between steps, as keys and values are


def matrices(seed: int) -> dict[str, torch.Tensor]:
    """Return both matrices of every layer, by the authors' names, as (layer, "A" or "B")."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"ffn.0": (24, 32), "ffn.2": (32, 24)}
    found = {}
    for block in range(2):
        for layer in LAYERS:
            columns, rows = sizes.get(layer, (24, 24))
            name = f"blocks.{block}.{layer}"
            found[f"{name} A"] = torch.randn(RANK, columns, generator=generator) * 0.3
            found[f"{name} B"] = torch.randn(rows, RANK, generator=generator) * 0.3
    return found


def in_diffusers(seed: int) -> dict[str, torch.Tensor]:
    named = {}
    for key, tensor in matrices(seed).items():
        name, half = key.split()
        _, block, layer = name.split(".", 2)
        named[f"blocks.{block}.{LAYERS[layer]}.lora_{half}.weight"] = tensor
    generator = torch.Generator().manual_seed(seed + 100)
    named[f"{TEXT}.lora_A.weight"] = torch.randn(RANK, 32, generator=generator) * 0.3
    named[f"{TEXT}.lora_B.weight"] = torch.randn(24, RANK, generator=generator) * 0.3
    return named


def write(file: Path, weights: dict[str, torch.Tensor], header: dict[str, str] | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous().clone() for k, v in weights.items()}, file, metadata=header)
    return file


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("adapters")
    for name, seed in (("ink", 1), ("oil", 2)):
        named = {f"transformer.{key}": tensor for key, tensor in in_diffusers(seed).items()}
        write(home / f"{name}.safetensors", named)
    return home


def register(family: Family, *specs: str) -> Family:
    for spec in specs:
        family.adapters.register(parse_adapter(spec))
    family.card = replace(family.card, adapters=family.adapters.names)
    return family


@dataclass
class Adapted:
    """A model whose family has adapters, and a reference of its own."""

    family: Family
    reference: Any
    plain: Tiny

    def request(self, **wishes: Any) -> GenerationRequest:
        return replace(self.plain, family=self.family).request(**wishes)

    def asked(self, request: GenerationRequest) -> torch.Tensor:
        return CASES[self.plain.case.name].ask(self.reference, request, self.plain.case.media, "latent")


def adapted(case: str, *specs: str) -> Adapted:
    plain = tiny(case)
    reference = aligned(type(plain.pipeline).from_pretrained(plain.folder))
    reference.set_progress_bar_config(disable=True)
    return Adapted(register(load_family(ModelSource(plain.folder), device="cpu"), *specs), reference, plain)


def load_reference(model: Adapted, file: Path, name: str, **more: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")
        model.reference.load_lora_weights(str(file), adapter_name=name, **more)


@pytest.fixture(scope="module")
def one(home: Path) -> Adapted:
    model = adapted("wan21_t2v", f"ink={home}/ink.safetensors", f"oil={home}/oil.safetensors:0.5")
    for name in ("ink", "oil"):
        load_reference(model, home / f"{name}.safetensors", name)
    return model


@pytest.fixture(scope="module")
def two(home: Path) -> Adapted:
    """Two experts: `ink` for both, `oil` for one, `mix` of two files."""
    ink, oil = home / "ink.safetensors", home / "oil.safetensors"
    return adapted("wan22_t2v", f"ink={ink}", f"oil.low={oil}", f"mix.high={ink}", f"mix.low={oil}:0.5")


def latents(model: Adapted, *requests: GenerationRequest, max_batch: int = 1) -> list[torch.Tensor]:
    """Run all of them in flight together."""
    engine, found = Engine(model.family, max_batch=max_batch), {}
    for index, request in enumerate(requests):
        engine.start(str(index), request, model.plain.case.media)
    while engine.busy:
        found |= {e.job_id: e.latents for e in engine.tick() if isinstance(e, Completed)}
    return [found[str(index)] for index in range(len(requests))]


@pytest.mark.parametrize(
    ("loras", "names", "weights"),
    [
        ((("ink", 1.0),), ["ink"], [1.0]),
        ((("oil", 1.0),), ["oil"], [0.5]),
        ((("ink", -0.75), ("oil", 2.0)), ["ink", "oil"], [-0.75, 1.0]),
    ],
)
def test_an_adapter_gives_the_references_latents(
    one: Adapted, loras: Any, names: list[str], weights: list[float]
) -> None:
    request = one.request(loras=loras)
    one.reference.set_adapters(names, weights)
    (ours,) = latents(one, request)
    assert torch.equal(ours, one.asked(request))
    assert not torch.equal(ours, latents(one, one.request())[0])


def test_without_an_adapter_results_are_those_of_the_plain_model_to_the_bit(one: Adapted) -> None:
    latents(one, one.request(loras=(("ink", 1.0),)))
    request = one.request()
    assert torch.equal(latents(one, request)[0], one.plain.reference(request))


@pytest.mark.parametrize("max_batch", [1, 2])
def test_generations_with_other_adapters_in_flight_together_equal_each_alone(
    one: Adapted, max_batch: int
) -> None:
    choices = [(("ink", 1.0),), (("oil", 1.0),), (), (("ink", 0.5),)]
    requests = [one.request(loras=loras, seed=seed) for seed, loras in enumerate(choices)]
    together = latents(one, *requests, max_batch=max_batch)
    for request, ours in zip(requests, together, strict=True):
        assert torch.equal(ours, latents(one, request)[0])


def test_generations_with_the_same_adapters_may_share_a_forward_pass(one: Adapted) -> None:
    requests = [one.request(loras=(("ink", 1.0),), seed=seed) for seed in (1, 2)]
    engine, shared = Engine(one.family, max_batch=2), 0
    for index, request in enumerate(requests):
        engine.start(str(index), request, one.plain.case.media)
    while engine.busy:
        shared += len(engine.tick()) == 2
    assert shared == requests[0].num_inference_steps


def test_a_resumed_generation_keeps_its_adapters(one: Adapted) -> None:
    request = one.request(loras=(("ink", 1.0),))
    engine = Engine(one.family)
    engine.start("job", request, one.plain.case.media)
    engine.tick()
    engine.tick()
    parked = engine.park("job")
    assert parked is not None
    latents(one, one.request(loras=(("oil", 1.0),)))
    engine.start("job", request, one.plain.case.media, resume=parked.state)
    (done,) = [e for _ in range(20) if engine.busy for e in engine.tick() if isinstance(e, Completed)]
    assert torch.equal(done.latents, latents(one, request)[0])


def test_both_experts_take_an_adapter_and_each_may_have_its_own(two: Adapted, home: Path) -> None:
    ink, oil = home / "ink.safetensors", home / "oil.safetensors"
    load_reference(two, ink, "high")
    load_reference(two, oil, "low", load_into_transformer_2=True)
    load_reference(two, ink, "ink", load_into_transformer_2=True)
    expected = {
        (("mix", 1.0),): (["high"], [1.0], ["low"], [0.5]),
        (("ink", 0.8),): (["high"], [0.8], ["ink"], [0.8]),
        (("oil", 1.0), ("ink", 1.0)): (["high"], [1.0], ["low", "ink"], [1.0, 1.0]),
    }
    for loras, (high, high_weights, low, low_weights) in expected.items():
        two.reference.transformer.set_adapters(high, high_weights)
        two.reference.transformer_2.set_adapters(low, low_weights)
        request = two.request(loras=loras)
        assert torch.equal(latents(two, request)[0], two.asked(request)), loras


def test_an_expert_without_an_adapter_stays_as_it_is(two: Adapted) -> None:
    """Above the boundary `oil`, which is for the other expert, changes nothing."""
    request, plain = two.request(loras=(("oil", 1.0),)), two.request()
    engine = Engine(two.family)
    states = []
    for asked in (request, plain):
        engine.start("job", asked, two.plain.case.media)
        engine.tick()
        engine.tick()
        parked = engine.park("job")
        assert parked is not None
        states.append(parked.state[parked.state.index(b"}}") + 2 :][-1000:])
    assert states[0] == states[1]
    assert not torch.equal(latents(two, request)[0], latents(two, plain)[0])


# ---- layouts


def peft_file(folder: Path) -> Path:
    weights = {
        f"base_model.model.{k}": v * (0.5 if "lora_B" in k else 1.0) for k, v in in_diffusers(1).items()
    }
    write(folder / "adapter_model.safetensors", weights)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": ["to_q"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def kohya_file(folder: Path) -> Path:
    named = {}
    for key, tensor in matrices(1).items():
        name, half = key.split()
        module = "lora_unet_" + name.replace(".", "_")
        factor = 4.0 if half == "A" else 1.0
        named[f"{module}.lora_{'down' if half == 'A' else 'up'}.weight"] = tensor * factor
        named[f"{module}.alpha"] = torch.tensor(RANK / 4)
    return write(folder / "kohya.safetensors", named)


def lightx2v_file(folder: Path) -> Path:
    words = {"A": "lora_down", "B": "lora_up"}
    named = {f"diffusion_model.{k[:-2]}.{words[k[-1]]}.weight": t for k, t in matrices(1).items()}
    named["diffusion_model.blocks.0.norm3.diff"] = torch.zeros(24)
    return write(folder / "lightx2v.safetensors", named)


def original_file(folder: Path) -> Path:
    named = {f"{k[:-2]}.lora_{k[-1]}.default.weight": t for k, t in matrices(1).items()}
    return write(folder / "original.safetensors", named)


def diffusers_file_with_alpha(folder: Path) -> Path:
    weights = {f"transformer.{k}": v * (0.5 if "lora_B" in k else 1.0) for k, v in in_diffusers(1).items()}
    told = {"transformer.r": RANK, "transformer.lora_alpha": 2 * RANK}
    return write(
        folder / "alpha.safetensors", weights, {"format": "pt", "lora_adapter_metadata": json.dumps(told)}
    )


@pytest.mark.parametrize(
    ("make", "has_text"),
    [
        (peft_file, True),
        (diffusers_file_with_alpha, True),
        (kohya_file, False),
        (lightx2v_file, False),
        (original_file, False),
    ],
)
def test_every_layout_of_one_adapter_is_the_same_adapter(tmp_path: Path, make: Any, has_text: bool) -> None:
    blocks = {k: v for k, v in in_diffusers(1).items() if has_text or TEXT not in k}
    plain = write(tmp_path / "plain.safetensors", {f"transformer.{k}": v for k, v in blocks.items()})
    other = make(tmp_path / "other")
    family = register(
        load_family(ModelSource(tiny("wan21_t2v").folder), device="cpu"), f"a={plain}", f"b={other}"
    )
    model = Adapted(family, None, tiny("wan21_t2v"))
    ours, theirs = (latents(model, model.request(loras=((name, 1.0),)))[0] for name in "ab")
    assert torch.equal(ours, theirs)


def test_the_diffusers_converters_agree_about_lightx2v(tmp_path: Path) -> None:
    file = lightx2v_file(tmp_path)
    model = adapted("wan21_t2v", f"fast={file}")
    load_reference(model, file, "fast")
    request = model.request(loras=(("fast", 1.0),), guidance_scale=1.0)
    assert torch.equal(latents(model, request)[0], model.asked(request))


@pytest.mark.parametrize("which", ["", "self_attn.q"])
def test_biases_of_all_layers_or_of_some_are_added_too(tmp_path: Path, which: str) -> None:
    """LightX2V's `diff_b`; where only some layers have one, the others have none."""
    words = {"A": "lora_down", "B": "lora_up"}
    named = {f"diffusion_model.{k[:-2]}.{words[k[-1]]}.weight": t for k, t in matrices(1).items()}
    for name in {key[:-2] for key in matrices(1)}:
        bias = 0.1 * torch.arange(32 if name.endswith("ffn.0") else 24) * (which in name)
        named[f"diffusion_model.{name}.diff_b"] = bias
    whole = write(tmp_path / "whole.safetensors", named)
    some = {key: t for key, t in named.items() if not key.endswith("diff_b") or which in key}
    model = adapted("wan21_t2v", f"some={write(tmp_path / 'some.safetensors', some)}")
    load_reference(model, whole, "whole")
    request = model.request(loras=(("some", 1.0),), guidance_scale=1.0)
    assert torch.equal(latents(model, request)[0], model.asked(request))


def test_a_scale_of_nothing_changes_nothing_and_ranks_may_differ_by_layer(tmp_path: Path) -> None:
    named = {f"transformer.{key}": t for key, t in in_diffusers(1).items()}
    for key in [key for key in named if "ffn" in key]:
        named[key] = (named[key][:2] if "lora_A" in key else named[key][:, :2]).contiguous()
    file = write(tmp_path / "ranks.safetensors", named)
    model = adapted("wan21_t2v", f"ranks={file}")
    load_reference(model, file, "ranks")
    request = model.request(loras=(("ranks", 1.0),), guidance_scale=1.0)
    assert torch.equal(latents(model, request)[0], model.asked(request))
    nothing, plain = (model.request(loras=loras, guidance_scale=1.0) for loras in ((("ranks", 0.0),), ()))
    assert torch.equal(latents(model, nothing)[0], latents(model, plain)[0])


# ---- refusals


def broken(change: Any) -> dict[str, torch.Tensor]:
    weights = {f"transformer.{k}": v for k, v in in_diffusers(1).items()}
    change(weights)
    return weights


FIRST = "transformer.blocks.0.attn1.to_q.lora_"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.update({f"{FIRST}A.weight": torch.zeros(RANK, 7)}), "to_q.lora_A.weight' is (4, 7)"),
        (lambda w: w.update({f"{FIRST}B.weight": torch.zeros(24, 9)}), "to_q.lora_B.weight' is (24, 9)"),
        (lambda w: w.pop(f"{FIRST}B.weight"), "'blocks.0.attn1.to_q.lora_A.weight' stands without"),
        (
            lambda w: w.update({"transformer.blocks.9.x.lora_A.weight": torch.zeros(4, 4)}),
            "'blocks.9.x.lora_A",
        ),
        (lambda w: w.update({"text_encoder.q.lora_A.weight": torch.zeros(4, 4)}), "'text_encoder.q.lora_A"),
        (lambda w: w.update({f"{FIRST}magnitude.dora_scale": torch.zeros(4)}), "DoRA"),
        (dict.clear, "is empty"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_by_its_first_wrong_key(
    tmp_path: Path, change: Any, said: str
) -> None:
    file = write(tmp_path / "bad.safetensors", broken(change))
    family = tiny("wan21_t2v").family
    with pytest.raises(CheckpointError) as refused:
        family.adapters.register(parse_adapter(f"bad={file}"))
    assert said in refused.value.message
    assert str(tmp_path) not in refused.value.message
    assert family.adapters.names == ()


def test_kohyas_missing_half_is_named(tmp_path: Path) -> None:
    named = {"lora_unet_blocks_0_self_attn_q.lora_down.weight": torch.zeros(4, 24)}
    file = write(tmp_path / "bad.safetensors", named)
    with pytest.raises(CheckpointError, match=r"lacks 'blocks_0_self_attn_q\.lora_up\.weight'"):
        tiny("wan21_t2v").family.adapters.register(parse_adapter(f"bad={file}"))


def test_files_that_are_no_adapter_are_refused(tmp_path: Path) -> None:
    adapters = tiny("wan21_t2v").family.adapters
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    (tmp_path / "pickle.bin").write_bytes(b"anything")
    (tmp_path / "empty").mkdir()
    for path, said in {
        "cut.safetensors": "is damaged or cut short",
        "absent.safetensors": "There is no adapter absent.safetensors",
        "pickle.bin": "is no .safetensors file",
        "empty": "must hold one .safetensors file; found: none",
    }.items():
        with pytest.raises(CheckpointError, match=said.replace(".", r"\.")):
            adapters.register(parse_adapter(f"bad={tmp_path}/{path}"))


def test_an_expert_that_a_model_does_not_have_and_a_name_given_twice_are_refused(home: Path) -> None:
    family = load_family(ModelSource(tiny("wan21_t2v").folder), device="cpu")
    with pytest.raises(CheckpointError, match="this model has no two"):
        family.adapters.register(parse_adapter(f"ink.low={home}/ink.safetensors"))
    family.adapters.register(parse_adapter(f"ink={home}/ink.safetensors"))
    with pytest.raises(CheckpointError, match="The adapter ink is given twice"):
        family.adapters.register(parse_adapter(f"ink={home}/oil.safetensors"))


def test_the_reference_saves_what_is_read_here(tmp_path: Path) -> None:
    WanPipeline.save_lora_weights(tmp_path, transformer_lora_layers=in_diffusers(1))
    family = load_family(ModelSource(tiny("wan21_t2v").folder), device="cpu")
    family.adapters.register(parse_adapter(f"saved={tmp_path}"))
    assert family.adapters.names == ("saved",)


# ---- from Python and from the command line


def test_the_library_offers_what_it_was_given_and_refuses_other_names(home: Path) -> None:
    import vitascope

    files = {"ink": home / "ink.safetensors", "oil": f"{home}/oil.safetensors:0.5"}
    model = vitascope.load(tiny("wan21_t2v").folder, device="cpu", loras=files)
    assert model.card.adapters == ("ink", "oil")
    small = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 2, "seed": 1}
    clip = model.generate("a cat", loras={"ink": 0.5}, **small)
    assert clip.request.loras == (("ink", 0.5),)
    assert not torch.equal(clip.latents, model.generate("a cat", **small).latents)
    with pytest.raises(InvalidRequest, match="'sepia' is not registered here; the adapters of"):
        model.generate("a cat", loras={"sepia": 1.0}, **small)


def test_the_command_line_adds_what_it_is_given_and_makes_the_clip_again(home: Path, tmp_path: Path) -> None:
    from vitascope.cli.app import run
    from vitascope.media.provenance import read_provenance

    clip, folder = str(tmp_path / "c.mp4"), str(tiny("wan21_t2v").folder)
    lora = ["--lora", f"ink={home}/ink.safetensors:0.5", "--model-path", folder, "--num-threads", "1"]
    wishes = ["--prompt=cat", "--seed=1", "--height=32", "--width=32", "--num-frames=5"]
    wishes += ["--num-inference-steps=2"]
    assert run(["generate", *wishes, *lora, "--output-file-path", clip]) == 0
    assert read_provenance(Path(clip)).request.loras == (("ink", 1.0),)
    assert run(["reproduce", clip, *lora]) == 0
    assert run(["reproduce", clip, *lora[2:]]) != 0


# ---- the other families


@pytest.mark.parametrize("case", ["cogvideox_5b", "hunyuan_t2v", "hunyuan15_t2v", "ltx2_t2v"])
def test_every_family_takes_adapters_and_is_itself_without(tmp_path: Path, case: str) -> None:
    plain = tiny(case)
    family = load_family(ModelSource(plain.folder), device="cpu")
    linear = {
        name: layer
        for name, layer in family._parts.transformer.named_modules()
        if isinstance(layer, torch.nn.Linear) and "attn" in name
    }
    generator = torch.Generator().manual_seed(3)
    weights = {}
    for name, layer in linear.items():
        for half, shape in (("A", (2, layer.in_features)), ("B", (layer.out_features, 2))):
            weights[f"transformer.{name}.lora_{half}.weight"] = torch.randn(shape, generator=generator) * 0.3
    file = write(tmp_path / "ink.safetensors", weights)
    model = Adapted(register(family, f"ink={file}"), None, plain)
    inked, without = latents(model, model.request(loras=(("ink", 1.0),)), model.request())
    assert equal(without, latents(replace(model, family=plain.family), plain.request())[0])
    assert not equal(without, inked)


def equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict):
        return all(torch.equal(ours[stream], theirs[stream]) for stream in ours)
    return torch.equal(ours, theirs)
