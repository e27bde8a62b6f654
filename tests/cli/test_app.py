from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys

import pytest
import typer

import vitascope as package
from vitascope.card import WISH_FIELDS
from vitascope.cli.app import app
from vitascope.config import Settings
from vitascope.media.provenance import read_provenance

COMMANDS = typer.main.get_command(app).commands


def start(*args, **options):
    return subprocess.Popen([sys.executable, "-m", "vitascope", *map(str, args)], **options)


@pytest.mark.parametrize("spelling", ["version", "--version"])
def test_the_version_is_printed(vitascope, spelling):
    ran = vitascope(spelling)
    assert (ran.status, ran.out) == (0, f"vitascope {package.__version__}\n")


@pytest.mark.parametrize(
    "args",
    [["--help"], ["-h"], ["jobs", "watch", "-h"], *([name, "--help"] for name in COMMANDS)],
    ids=" ".join,
)
def test_help_is_there_for_every_command(vitascope, args):
    ran = vitascope(*args)
    assert ran.status == 0
    assert "Usage: vitascope" in ran.out


def test_help_and_usage_errors_come_at_once_as_nothing_heavy_is_loaded():
    script = (
        "import sys; from vitascope.cli.app import run\n"
        "run(['generate', '--help']); run(['serve', '--help']); run(['generate', '--oops'])\n"
        "heavy = 'torch diffusers transformers fastapi sqlalchemy numpy PIL av httpx'.split()\n"
        "sys.exit(', '.join({*heavy} & {*sys.modules}) or None)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=600, capture_output=True)


def test_every_setting_is_a_flag_of_serve():
    flags = {parameter.name: parameter for parameter in COMMANDS["serve"].params}
    assert {*Settings.model_fields} == {*flags} - {"model", "config", "help"}
    assert all(flags[name].help == field.description for name, field in Settings.model_fields.items())


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("vitascope jo", ["jobs"]),
        ("vitascope jobs wa", ["watch"]),
        ("vitascope generate --num-o", ["--num-outputs-per-prompt"]),
        ("vitascope serve --model-c", ["--model-cache-dir"]),
    ],
)
def test_the_shell_completes_commands_and_flags(vitascope, monkeypatch, line, completions):
    monkeypatch.setenv("_VITASCOPE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    ran = vitascope()
    assert (ran.status, ran.out.split()) == (0, completions)


def test_every_wish_is_a_flag_of_generate():
    flags = {parameter.name for parameter in COMMANDS["generate"].params}
    elsewhere = {
        "first_frame": "image_path",
        "last_frame": "last_image_path",
        "video": "video_path",
        "continues": "extend",
        "loras": "lora",
        "num_outputs": "num_outputs_per_prompt",
    }
    assert {elsewhere.get(name, name) for name in WISH_FIELDS} < flags


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["generate"], "Missing option '--prompt'"),
        (["generate", "--prompt", "a", "--num-framez", "3"], "No such option: --num-framez"),
        (["generate", "--prompt", "a", "--height", "tall"], "Invalid value for '--height'"),
        (["generate", "--prompt", "a", "--size", "64"], "'64' is not WIDTHxHEIGHT, for example 832x480."),
        (
            ["generate", "--prompt", "a", "--num-gpus", "8"],
            "This version has nothing for num_gpus 8 (several devices for one clip); leave it out.",
        ),
        (["frobnicate"], "No such command 'frobnicate'"),
    ],
)
def test_a_wrong_use_is_told_on_stderr_with_status_2(vitascope, args, message):
    ran = vitascope(*args)
    assert (ran.status, ran.out) == (2, "")
    assert message in ran.message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["generate", "--prompt", "a", "--config", "c.yaml"],
            "Cannot read c.yaml: No such file or directory.",
        ),
        (["generate", "--prompt", "a", "--image-path", "x.png"], "There is no picture 'x.png'."),
        (
            ["generate", "--prompt", "a", "--last-image-path", "x.png"],
            "--last-image-path needs --image-path beside it.",
        ),
        (
            ["generate", "--prompt", "a", "--image-path", "1", "--image-path", "2", "--image-path", "3"],
            "3 pictures are given; a clip takes a first and a last frame.",
        ),
        (
            ["generate", "--prompt", "a", "--resize-mode", "squash"],
            "resize_mode is 'squash'; use error, crop, pad.",
        ),
        (["reproduce", "no.mp4"], "There is no clip 'no.mp4'."),
        (
            ["generate", "--prompt", "a", "--size", "64x64", "--width", "64"],
            "size is given beside width or height; leave one or the other out.",
        ),
        (
            ["generate", "--prompt", "a", "--seconds", "1.5", "--num-frames", "9"],
            "seconds is 1.5 and num_frames 9; give one of them.",
        ),
        (
            ["generate", "--prompt", "a", "--size", "63x64", "--num-threads", "1"],
            "width is 63; it must be a multiple of 16, for example 48 or 64.",
        ),
        (
            ["serve", "--host", "0.0.0.0"],
            (
                "0.0.0.0 can be reached from other machines and no API key is set; set --api-key (or "
                "VITASCOPE_API_KEY), listen on 127.0.0.1, or insist with --insecure."
            ),
        ),
        (
            ["serve", "--log-level", "loud"],
            "log_level is 'loud'; the levels are debug, info, warning, error.",
        ),
    ],
)
def test_an_error_is_one_clear_line_on_stderr_with_status_1(vitascope, args, message):
    ran = vitascope(*args)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == f"error: {message}\n"


def test_an_error_of_the_machine_is_one_line_too(vitascope):
    ran = vitascope("serve", "--data-dir", "/proc/nowhere")
    assert (ran.status, ran.err.count("\n")) == (1, 1)


def test_settings_come_from_the_file_named_by_config(vitascope, tmp_path):
    (tmp_path / "s.toml").write_text('host = "0.0.0.0"\n')
    assert "0.0.0.0 can be reached" in vitascope("serve", "--config", "s.toml").err
    (tmp_path / "s.toml").write_text("hots = 1\n")
    assert "unknown setting 'hots'; did you mean 'host'?" in vitascope("serve", "--config", "s.toml").err


def test_debug_shows_where_an_error_came_from():
    args = [sys.executable, "-m", "vitascope", "reproduce", "no.mp4"]
    told = subprocess.run(args, capture_output=True, text=True, timeout=600, check=False)
    shown = subprocess.run([*args, "--debug"], capture_output=True, text=True, timeout=600, check=False)
    assert (told.returncode, shown.returncode) == (1, 1)
    assert told.stderr == "error: There is no clip 'no.mp4'.\n"
    assert "Traceback" in shown.stderr


def test_serve_prints_its_address_and_ends_well_on_sigterm(tmp_path):
    with start(
        "serve", "--port", 0, "--data-dir", tmp_path, "--num-threads", 1,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        line = server.stdout.readline()
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=600)
    assert line.startswith(f"Vitascope {package.__version__} listens on http://127.0.0.1:")
    assert server.returncode == 0, log
    assert "Traceback" not in log


def heed_interrupts():
    """Undo a shell's `&`: tests that run in the background ignore Ctrl-C, and so would their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_shows_no_traceback_leaves_no_half_made_file_and_exits_with_130(tmp_path):
    ours, theirs = pty.openpty()
    generate = start(
        "generate", "--prompt", "a red circle", "--num-inference-steps", 200, "--num-threads", 1,
        "--num-outputs-per-prompt", 10,
        cwd=tmp_path, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        preexec_fn=heed_interrupts,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while not re.search(rb"/200.*\d (it/s|s/it)", shown, re.DOTALL):  # at work, minutes away from its end
        shown += os.read(ours, 4096)
    generate.send_signal(signal.SIGINT)
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # the other end is closed: the process is gone
            break
    os.close(ours)
    assert generate.wait(timeout=600) == 130
    assert b"Traceback" not in shown
    for whole in (tmp_path / "outputs").iterdir():  # a clip that was done before, on a fast machine
        assert read_provenance(whole).request.num_inference_steps == 200
