"""What the clips of one run shall show: one prompt or several, each made once or with several seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from vitascope.errors import InvalidRequest

Take = dict[str, Any]  # one clip's `prompt`, and `seed` if there is one


def _in(text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Clip", **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The prompts, from the command line or a file."""

    prompt: Annotated[
        list[str] | None,
        _in(
            "What the clip should show; several make several clips.",
            "--prompt",
            "-p",
            metavar="TEXT...",
            show_default=False,
        ),
    ] = None
    prompt_path: Annotated[
        Path | None, _in("Text file with a prompt a line; each makes a clip.", show_default=False)
    ] = None
    num_outputs_per_prompt: Annotated[
        int, _in("Clips of each prompt, with --seed and the seeds after it.", metavar="N", min=1, max=1000)
    ] = 1

    def takes(self, seed: int | None) -> list[Take]:
        """Return what to make, in order.

        Raises:
            typer.BadParameter: there is no prompt.
            InvalidRequest: there are prompts and a file, or the file holds none.

        """
        seeds = range(self.num_outputs_per_prompt)
        return [
            {"prompt": prompt} if seed is None else {"prompt": prompt, "seed": seed + more}
            for prompt in self._read()
            for more in seeds
        ]

    def _read(self) -> list[str]:
        if self.prompt_path is None:
            if not self.prompt:
                raise typer.BadParameter("Missing option '--prompt' / '-p' (or '--prompt-path').")
            return self.prompt
        if self.prompt:
            raise InvalidRequest("There is --prompt and --prompt-path; give one of them.", param="prompt")
        lines = [line.strip() for line in _text(self.prompt_path).splitlines()]
        if not any(lines):
            raise InvalidRequest(f"{self.prompt_path} holds no prompt.", param="prompt_path")
        return [line for line in lines if line]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"Cannot read {path}: {error.strerror}.", param="prompt_path") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is no UTF-8 text.", param="prompt_path") from None
