"""Transformers in one file, compared with the same weights in a folder."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from diffusers import CogVideoXTransformer3DModel, GGUFQuantizationConfig, WanTransformer3DModel
from safetensors.torch import load_file, save_file

import tiny_families  # noqa: F401  (adds every family's cases)
from tiny_models import tiny
from vitascope.config.model_source import ModelSource
from vitascope.config.named_paths import parse_adapter
from vitascope.engine.engine import Engine
from vitascope.engine.events import Completed
from vitascope.engine.load import describe_model, load_family
from vitascope.engine.plan import estimate
from vitascope.errors import CheckpointError, ConfigurationError
from vitascope.weights.checkpoint import Checkpoint
from vitascope.weights.single_files import describe_single, read_single

Tensors = dict[str, torch.Tensor]
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def weights(case: str, part: str = "transformer") -> Tensors:
    return load_file(tiny(case).folder / part / "diffusion_pytorch_model.safetensors")


# What diffusers' converters undo: names as the authors of Wan and ComfyUI write them.
_WAN = (
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("attn2", "cross_attn"),
    ("attn1", "self_attn"),
    ("to_out.0.", "o."),
    ("to_q.", "q."),
    ("to_k.", "k."),
    ("to_v.", "v."),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    ("norm3", "norm__"),
    ("norm2", "norm3"),
    ("norm__", "norm2"),
    ("proj_out", "head.head"),
)


def authors(tensors: Tensors, prefix: str = "") -> Tensors:
    """Rename Wan's tensors as its authors do."""
    renamed = {}
    for name, tensor in tensors.items():
        if name == "scale_shift_table":
            new = "head.modulation"
        else:
            new = name.replace("scale_shift_table", "modulation")
        for ours, theirs in _WAN:
            new = new.replace(ours, theirs)
        renamed[prefix + new] = tensor
    return renamed


def write_gguf(path: Path, tensors: Tensors, kind: Callable[[str, torch.Tensor], str]) -> Path:
    writer = gguf.GGUFWriter(str(path), "wan")
    writer.add_array("some.words", ["a", "bc"])
    writer.add_array("some.numbers", [1, 2, 3])
    for name, tensor in tensors.items():
        quant = gguf.GGMLQuantizationType[kind(name, tensor)]
        writer.add_tensor(name, gguf.quantize(tensor.float().numpy(), quant), raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def blocks(quant: str) -> Callable[[str, torch.Tensor], str]:
    """Quantise what a linear layer multiplies by and what has whole blocks, as converters do."""
    return lambda name, tensor: quant if tensor.ndim == 2 and tensor.shape[-1] % 32 == 0 else "F32"


def latents(case: str, folder: Path | None = None, lora: Path | None = None, **replaced: Path) -> Any:
    model = tiny(case)
    adapters = [] if lora is None else [parse_adapter(f"ink={lora}")]
    family = load_family(
        ModelSource(folder or model.folder, replaced=replaced), device="cpu", adapters=adapters
    )
    chosen = {} if lora is None else {"loras": (("ink", 1.0),)}
    model = replace(model, family=family)
    engine = Engine(family)
    engine.start("job", model.request(num_inference_steps=2, **chosen), model.case.media)
    (done,) = [e for _ in range(40) if engine.busy for e in engine.tick() if isinstance(e, Completed)]
    return done.latents


@pytest.mark.parametrize("prefix", ["", "diffusion_model.", "model.diffusion_model."])
@pytest.mark.parametrize("rename", [dict, authors])
def test_a_safetensors_file_makes_the_folders_latents(tmp_path: Path, rename: Any, prefix: str) -> None:
    file = tmp_path / "wan.safetensors"
    save_file({prefix + name: tensor for name, tensor in rename(weights("wan21_t2v")).items()}, file)
    assert torch.equal(latents("wan21_t2v", transformer=file), latents("wan21_t2v"))


@pytest.mark.parametrize("rename", [dict, authors])
def test_a_gguf_file_of_floats_makes_the_folders_latents(tmp_path: Path, rename: Any) -> None:
    file = write_gguf(tmp_path / "wan.gguf", rename(weights("wan21_t2v")), lambda *_: "F32")
    assert torch.equal(latents("wan21_t2v", transformer=file), latents("wan21_t2v"))


@pytest.mark.parametrize(("quant", "dtype"), [("F16", torch.float16), ("BF16", torch.bfloat16)])
def test_a_gguf_file_of_half_floats_is_a_folder_of_the_same(
    tmp_path: Path, quant: str, dtype: torch.dtype
) -> None:
    rounded = {name: tensor.to(dtype) for name, tensor in weights("wan21_t2v").items()}
    save_file(rounded, tmp_path / "wan.safetensors")
    write_gguf(tmp_path / "wan.gguf", authors(weights("wan21_t2v")), lambda *_: quant)
    expected = latents("wan21_t2v", transformer=tmp_path / "wan.safetensors")
    assert torch.equal(latents("wan21_t2v", transformer=tmp_path / "wan.gguf"), expected)
    assert not torch.equal(expected, latents("wan21_t2v"))


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Wan folder whose linear layers have whole blocks of 32."""
    folder = tmp_path_factory.mktemp("wide") / "model"
    shutil.copytree(tiny("wan21_t2v").folder, folder)
    config = WanTransformer3DModel.load_config(folder / "transformer") | {"attention_head_dim": 16}
    torch.manual_seed(0)
    WanTransformer3DModel.from_config(config).save_pretrained(folder / "transformer")
    return folder


@pytest.mark.parametrize(("quant", "error"), [("Q8_0", 0.02), ("Q5_1", 0.2), ("Q4_0", 0.5)])
def test_quantised_blocks_stay_blocks_and_make_nearly_the_same(
    tmp_path: Path, wide: Path, quant: str, error: float
) -> None:
    file = write_gguf(tmp_path / "wan.gguf", authors(load_file(wide / WEIGHTS)), blocks(quant))
    got, expected = latents("wan21_t2v", wide, transformer=file), latents("wan21_t2v", wide)
    assert 0 < (got - expected).abs().max() < error * expected.abs().max()
    network = load_family(
        ModelSource(wide, replaced={"transformer": file}), device="cpu"
    )._parts.expert.network
    for block in network.blocks:
        assert {block.attn1.to_q.weight.dtype, block.attn2.to_k.weight.dtype} == {torch.uint8}
    assert network.condition_embedder.time_embedder.linear_1.weight.dtype == torch.float32


def test_a_quantised_file_is_what_diffusers_makes_of_it(tmp_path: Path, wide: Path) -> None:
    file = write_gguf(tmp_path / "wan.gguf", authors(load_file(wide / WEIGHTS)), blocks("Q8_0"))
    theirs = WanTransformer3DModel.from_single_file(
        str(file),
        config=str(wide / "transformer"),
        quantization_config=GGUFQuantizationConfig(compute_dtype=torch.float32),
        dtype=torch.float32,
    )
    ours = load_family(ModelSource(wide, replaced={"transformer": file}), device="cpu")._parts.expert.network
    reference = theirs.state_dict()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(torch.as_tensor(tensor), torch.as_tensor(reference[name])), name


def test_blocks_outside_linear_layers_are_unpacked_at_once(tmp_path: Path, wide: Path) -> None:
    def kind(name: str, tensor: torch.Tensor) -> str:
        return "Q8_0" if tensor.shape[-1] % 32 == 0 else "F32"  # vectors and tables too

    file = write_gguf(tmp_path / "wan.gguf", load_file(wide / WEIGHTS), kind)
    network = load_family(
        ModelSource(wide, replaced={"transformer": file}), device="cpu"
    )._parts.expert.network
    assert network.blocks[0].norm2.weight.dtype == torch.float32
    assert network.blocks[0].attn1.to_q.bias.dtype == torch.float32
    assert torch.isfinite(latents("wan21_t2v", wide, transformer=file)).all()


def test_an_adapter_lies_beside_quantised_layers_too(tmp_path: Path, wide: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    lora = {
        f"transformer.blocks.0.attn1.to_q.lora_{half}.weight": torch.randn(shape, generator=generator)
        for half, shape in (("A", (4, 32)), ("B", (32, 4)))
    }
    save_file(lora, tmp_path / "ink.safetensors")
    file = write_gguf(tmp_path / "wan.gguf", authors(load_file(wide / WEIGHTS)), blocks("Q8_0"))
    plain = latents("wan21_t2v", wide, transformer=file)
    inked = latents("wan21_t2v", wide, tmp_path / "ink.safetensors", transformer=file)
    expected = latents("wan21_t2v", wide, tmp_path / "ink.safetensors")
    off = (inked - expected).abs().max()
    assert 0 < off < (plain - expected).abs().max() / 2


@pytest.mark.parametrize("case", ["hunyuan_t2v", "ltx2_t2v"])
def test_other_families_take_quantised_files_too(tmp_path: Path, case: str) -> None:
    file = write_gguf(tmp_path / "it.gguf", weights(case), blocks("Q8_0"))
    got, expected = latents(case, transformer=file), latents(case)
    if not isinstance(got, torch.Tensor):
        got, expected = got["video"], expected["video"]
    assert 0 < (got - expected).abs().max() < 0.05 * expected.abs().max()


def test_each_of_two_experts_has_its_own_file(tmp_path: Path) -> None:
    for part in ("transformer", "transformer_2"):
        save_file(authors(weights("wan22_t2v", part)), tmp_path / f"{part}.safetensors")
    high, low = (tmp_path / f"{part}.safetensors" for part in ("transformer", "transformer_2"))
    expected = latents("wan22_t2v")
    assert torch.equal(latents("wan22_t2v", transformer=high, transformer_2=low), expected)
    assert not torch.equal(latents("wan22_t2v", transformer=low, transformer_2=high), expected)


def test_the_folders_own_weights_of_a_replaced_part_need_not_be_there(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny("wan21_t2v").folder, tmp_path / "model"))
    file = (folder / WEIGHTS).rename(tmp_path / "mine.safetensors")
    assert torch.equal(latents("wan21_t2v", folder, transformer=file), latents("wan21_t2v"))


def test_the_identity_is_that_of_the_weights_that_are_used(tmp_path: Path) -> None:
    folder = tiny("wan21_t2v").folder
    own = load_family(ModelSource(folder), device="cpu").card
    file = Path(shutil.copy(folder / WEIGHTS, tmp_path / "diffusion_pytorch_model.safetensors"))
    other = ModelSource(folder, replaced={"transformer": file})
    assert load_family(other, device="cpu").card.identity == own.identity
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    assert load_family(other, device="cpu").card.identity != own.identity


def test_a_card_is_made_of_headers_and_knows_the_files_size(tmp_path: Path, wide: Path) -> None:
    file = write_gguf(tmp_path / "wan.gguf", authors(load_file(wide / WEIGHTS)), blocks("Q8_0"))
    card = describe_model(ModelSource(wide, replaced={"transformer": file}))
    assert card.components["transformer"] == file.stat().st_size
    checkpoint = Checkpoint.open(wide, replaced={"transformer": file})
    needs, plain = (estimate(c, card, torch.float32) for c in (checkpoint, Checkpoint.open(wide)))
    assert needs.flops_per_step == plain.flops_per_step
    assert needs.weights_bytes < plain.weights_bytes
    assert describe_single(read_single(file)) == "wan.gguf: 43 tensors float32, 26 tensors Q8_0"


# ---- what is refused


def refusal(*, error: type[Exception] = CheckpointError, folder: Path | None = None, **replaced: Path) -> str:
    """Refused by headers alone, and by loading, in one line each."""
    folder = folder or tiny("wan21_t2v").folder
    with pytest.raises(error) as caught:
        describe_model(ModelSource(folder, replaced=replaced))
    with pytest.raises(error) as again:
        load_family(ModelSource(folder, replaced=replaced), device="cpu")
    assert str(caught.value) == str(again.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "There is no file" in refusal(transformer=tmp_path / "no.gguf")


@pytest.mark.parametrize("name", ["wan.ckpt", "wan.pt", "wan.bin", "wan"])
def test_other_formats_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    torch.save({}, tmp_path / name)
    assert "can run code when they are read" in refusal(transformer=tmp_path / name)


def test_a_part_that_the_model_lacks_is_named(tmp_path: Path) -> None:
    save_file(weights("wan21_t2v"), tmp_path / "wan.safetensors")
    message = refusal(transformer_2=tmp_path / "wan.safetensors")
    assert "no transformer_2/config.json for wan.safetensors" in message
    assert "its transformers are transformer." in message


def test_a_file_of_another_size_of_model_names_the_tensor_and_both_shapes(tmp_path: Path, wide: Path) -> None:
    save_file(authors(load_file(wide / WEIGHTS)), tmp_path / "wan.safetensors")
    message = refusal(transformer=tmp_path / "wan.safetensors")
    assert message.startswith("wan.safetensors: tensor '")
    assert "is (1, 2, 32) in the file and (1, 2, 24) by transformer/config.json" in message
    write_gguf(tmp_path / "wan.gguf", authors(load_file(wide / WEIGHTS)), blocks("Q8_0"))
    assert refusal(transformer=tmp_path / "wan.gguf") == message.replace(".safetensors", ".gguf")


@pytest.mark.parametrize("rename", [dict, authors])
def test_a_missing_and_an_unknown_tensor_are_named(tmp_path: Path, rename: Any) -> None:
    file, tensors = tmp_path / "wan.safetensors", weights("wan21_t2v")
    gone = tensors.pop("blocks.1.attn1.to_v.weight")
    save_file(rename(tensors), file)
    assert refusal(transformer=file) == "wan.safetensors: tensor 'blocks.1.attn1.to_v.weight' is missing."
    save_file(rename(tensors | {"blocks.1.attn1.to_v.weight": gone, "scaled_fp8": torch.zeros(2)}), file)
    assert "transformer/config.json has no tensor 'scaled_fp8'" in refusal(transformer=file)


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    save_file(weights("hunyuan_t2v"), tmp_path / "hunyuan.safetensors")
    assert "has no tensor" in refusal(transformer=tmp_path / "hunyuan.safetensors")


def test_plain_gguf_tensors_do_for_a_class_without_support_for_blocks(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "cog.gguf", weights("cogvideox_2b"), lambda *_: "F32")
    checkpoint = Checkpoint.open(tiny("cogvideox_2b").folder, replaced={"transformer": file})
    network = checkpoint.network(
        "transformer", CogVideoXTransformer3DModel, torch.device("cpu"), torch.float32
    )
    for name, tensor in weights("cogvideox_2b").items():
        assert torch.equal(network.state_dict()[name], tensor)


def test_blocks_for_a_class_without_support_are_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "cog.gguf", weights("cogvideox_2b"), blocks("Q8_0"))
    message = refusal(folder=tiny("cogvideox_2b").folder, transformer=file)
    assert "which diffusers cannot put into a CogVideoXTransformer3DModel" in message


def test_a_missing_package_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gguf(tmp_path / "wan.gguf", weights("wan21_t2v"), lambda *_: "F32")
    monkeypatch.setitem(sys.modules, "gguf", None)
    message = refusal(error=ConfigurationError, transformer=file)
    assert message == "Reading wan.gguf needs the gguf package: pip install 'vitascope[gguf]'."
