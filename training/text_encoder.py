"""Train the word-level tokenizer and the text encoder, alone and first.

The tokenizer puts one role token per slot before every caption; the encoder learns to write each slot's
value at its role token, which is what the transformer then reads. What the words' own positions hold is
pulled to a constant.

    python -m training.text_encoder --out training/runs/text
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from training.captions import ROLE_TOKENS, SLOTS, default_background, describe, labels
from training.clips import Scene, sample_scene
from training.optim import learning_rate_factor

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
ROLES = len(ROLE_TOKENS)
OFFSETS = np.cumsum([0, *(len(values) for values in SLOTS.values())])
CLASSES = int(OFFSETS[-1])
CLASS_OF = [{v: int(OFFSETS[i]) + k for k, v in enumerate(values)} for i, values in enumerate(SLOTS.values())]


def words(seed: int = 7, captions: int = 12_000) -> list[str]:
    """Every word and sign of the caption grammar, found by sampling it."""
    rng = np.random.default_rng(seed)
    found: set[str] = set()
    for _ in range(captions):
        found.update(re.findall(r"\w+|[^\w\s]", describe(rng, sample_scene(rng, 0.4))))
    return sorted(found)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build a word-level tokenizer that writes the role tokens before every text, the end after it."""
    vocabulary = {t: i for i, t in enumerate([PAD, END, UNKNOWN, *ROLE_TOKENS, *words()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [(t, vocabulary[t]) for t in (*ROLE_TOKENS, END)]
    template = f"{' '.join(ROLE_TOKENS)} $A {END}"
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN,
        additional_special_tokens=list(ROLE_TOKENS), model_max_length=512,
    )  # fmt: skip


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save with a class name that older transformers know as well."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2) + "\n")


def build_encoder(vocabulary: int) -> UMT5EncoderModel:
    """Build an untrained encoder; attention sees all roles and words."""
    config = UMT5Config(
        vocab_size=vocabulary, d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4, dropout_rate=0.0,
        relative_attention_num_buckets=32, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    return UMT5EncoderModel(config)


def text_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene for a caption alone: backgrounds that need no words come up more often than in clips."""
    scene = sample_scene(rng, 0.35)
    if rng.random() < 0.12:
        plain = default_background([t.colour for t in scene.things])
        scene = Scene(plain, scene.rgb, scene.things, scene.layout)
    return scene


def draw_batch(
    rng: np.random.Generator, tokenizer: PreTrainedTokenizerFast, size: int
) -> tuple[Tensor, Tensor]:
    """Token ids (B, L), zero where padded, and the class of every slot (B, slots)."""
    scenes: list[Scene | None] = [None if rng.random() < 0.02 else text_scene(rng) for _ in range(size)]
    rows = tokenizer([describe(rng, s) if s else "" for s in scenes]).input_ids
    for row in rows:
        if rng.random() < 0.1:
            for _ in range(int(rng.integers(1, 3))):
                row.insert(int(rng.integers(ROLES, len(row))), 2)
    ids = torch.zeros(size, max(map(len, rows)), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    targets = [[CLASS_OF[k][v] for k, v in enumerate(labels(s))] for s in scenes]
    return ids, torch.tensor(targets)


class SlotReader(nn.Module):
    """The encoder with its training heads: one linear map over all (slot, value) classes, at each role."""

    def __init__(self, encoder: UMT5EncoderModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.at_role = nn.Linear(128, CLASSES)
        self.pooled = nn.Linear(128, CLASSES)
        self.constant = nn.Parameter(torch.zeros(128))

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Role logits (B, slots, classes), pooled logits (B, classes), words' distance to the constant."""
        mask = (ids != 0).float()
        states = self.encoder(ids, mask).last_hidden_state
        word_mask = mask.clone()
        word_mask[:, :ROLES] = 0
        off = ((states - self.constant).square().mean(-1) * word_mask).sum() / word_mask.sum()
        pooled = self.pooled(states[:, :ROLES].mean(1))
        return self.at_role(states[:, :ROLES]), pooled, off

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy at the roles, a little from their mean, and the pull of the words."""
        logits, pooled, off = self(ids)
        main = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        share = sum(
            F.cross_entropy(pooled[:, OFFSETS[k] : OFFSETS[k + 1]], targets[:, k] - int(OFFSETS[k]))
            for k in range(ROLES)
        )
        return main + 0.3 * share / ROLES + 0.2 * off


@torch.no_grad()
def accuracy(model: SlotReader, ids: Tensor, targets: Tensor) -> dict[str, float]:
    """Share of right values per slot, and of captions with every slot right."""
    hit = torch.cat([model(part)[0].argmax(-1) for part in ids.split(250)]) == targets
    per_slot = {slot: float(hit[:, k].float().mean()) for k, slot in enumerate(SLOTS)}
    return {k: round(v, 4) for k, v in {**per_slot, "all": float(hit.all(1).float().mean())}.items()}


def train(args: argparse.Namespace) -> None:
    """Train on fresh captions and write `tokenizer/` and `text_encoder/`."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    tokenizer = build_tokenizer()
    model = SlotReader(build_encoder(len(tokenizer)))
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.01)
    held_back = draw_batch(np.random.default_rng((args.seed, 10**9)), tokenizer, 2000)
    began = time.process_time()
    for step in range(args.steps):
        for group in optimiser.param_groups:
            group["lr"] = args.rate * learning_rate_factor(step, args.steps, warmup=50)
        ids, targets = draw_batch(np.random.default_rng((args.seed, step)), tokenizer, args.batch)
        optimiser.zero_grad()
        loss = model.loss(ids, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            line = {
                "step": step + 1,
                "core_s": round(time.process_time() - began),
                "loss": round(float(loss), 4),
            }
            print(json.dumps(line | accuracy(model, *held_back)), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    save_tokenizer(tokenizer, args.out / "tokenizer")
    model.encoder.save_pretrained(args.out / "text_encoder")
    heads = {k: v for k, v in model.state_dict().items() if not k.startswith("encoder.")}
    torch.save(heads, args.out / "heads.pt")


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("training/runs/text"))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
