from __future__ import annotations

import random
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from vitascope.errors import InvalidMedia, NotFound
from vitascope.media.artifacts import FolderArtifacts
from vitascope.media.inputs import Pictures, decode, fit, load_picture

LIMIT = 1_000_000


def noise(height=40, width=60, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encode(picture, kind="PNG", **options):
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_bomb(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))


@pytest.fixture
def pictures(tmp_path):
    return Pictures(FolderArtifacts(tmp_path / "store"), max_pixels=LIMIT)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_a_lossless_picture_is_decoded_to_the_pixel(kind, options):
    assert np.array_equal(np.asarray(decode(encode(noise(), kind, **options), LIMIT)), noise())


def test_a_jpeg_is_decoded():
    flat = np.full((40, 60, 3), (200, 30, 60), np.uint8)
    assert abs(np.asarray(decode(encode(flat, "JPEG"), LIMIT)).astype(int) - flat).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_pixel_becomes_rgb(mode):
    gray = Image.new("L", (8, 6), 200)
    if mode == "I;16":
        picture, kind = Image.fromarray(np.full((6, 8), 200 * 257, np.uint16)), "PNG"
    else:
        picture, kind = gray.convert(mode), "JPEG" if mode == "CMYK" else "PNG"
    decoded = np.asarray(decode(encode(picture, kind), LIMIT))
    assert decoded.shape == (6, 8, 3)
    expected = 255 if mode == "1" else 200
    assert abs(decoded.astype(int).mean() - expected) < (60 if mode == "1" else 4)


def test_transparent_parts_become_white():
    picture = np.zeros((4, 4, 4), np.uint8)
    picture[:2] = (255, 0, 0, 255)
    decoded = np.asarray(decode(encode(picture), LIMIT))
    assert (decoded[:2] == (255, 0, 0)).all()
    assert (decoded[2:] == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_taken_sideways_is_turned_upright(kind):
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :30] = (255, 255, 255)  # the left half, which orientation 6 turns to the top
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.asarray(decode(encode(picture, kind, exif=exif), LIMIT))
    assert upright.shape == (60, 40, 3)
    assert upright[:25].min() > 200
    assert upright[35:].max() < 50


@pytest.mark.parametrize("turn", range(10))
def test_a_picture_is_turned_as_pillow_would_turn_it(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encode(noise(6, 8), "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(BytesIO(data)))
    assert (np.asarray(decode(data, LIMIT)) == np.asarray(expected)).all()


def test_nonsense_beside_the_orientation_is_not_looked_at():
    date_as_a_fraction = struct.pack("<HHII", 0x0132, 5, 1, 38)
    sideways = struct.pack("<HHII", 0x0112, 3, 1, 6)
    entries = struct.pack("<H", 2) + sideways + date_as_a_fraction + struct.pack("<I", 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + entries + struct.pack("<II", 72, 1)
    assert decode(encode(noise(), "JPEG", exif=exif), LIMIT).size == (40, 60)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "ICO", "PPM"])
def test_other_formats_are_refused_whatever_they_are_called(kind):
    with pytest.raises(InvalidMedia, match="no JPEG, PNG or WebP"):
        decode(encode(noise(), kind), LIMIT)


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg/>", b"\xff\xd8", b"RIFF1234WEBX"])
def test_bytes_that_are_no_picture_are_refused(data):
    with pytest.raises(InvalidMedia, match="no JPEG, PNG or WebP"):
        decode(data, LIMIT)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animated_picture_is_refused(kind):
    first, second = (Image.fromarray(noise(seed=seed)) for seed in (1, 2))
    with pytest.raises(InvalidMedia, match="animated"):
        decode(encode(first, kind, save_all=True, append_images=[second]), LIMIT)


def test_a_bomb_is_refused_by_its_header_alone():
    with pytest.raises(InvalidMedia, match=r"60000x60000 \(3600000000 pixels\); at most 1000000"):
        decode(png_bomb(60_000, 60_000), LIMIT)


def test_a_webp_bomb_is_refused_by_its_header_alone():
    data = bytearray(encode(Image.new("RGBA", (16, 16)), "WEBP", lossless=True, exif=b"Exif\0\0x"))
    canvas = data.index(b"VP8X") + 12
    data[canvas : canvas + 6] = (16_382).to_bytes(3, "little") * 2
    with pytest.raises(InvalidMedia, match="too large; at most 1000000"):
        decode(bytes(data), LIMIT)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_limit_is_exact(kind):
    data = encode(noise(), kind)
    decode(data, 40 * 60)
    with pytest.raises(InvalidMedia, match="60x40"):
        decode(data, 40 * 60 - 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_picture_cut_short_is_refused(kind, share):
    data = encode(noise(), kind)
    with pytest.raises(InvalidMedia, match="damaged or cut short"):
        decode(data[: int(len(data) * share)], LIMIT)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow tells of broken EXIF blocks that it skips
def test_damaged_pictures_are_decoded_or_refused_in_our_words_and_never_crash():
    chance = random.Random(20)
    samples = [encode(noise(), kind) for kind in ("PNG", "JPEG", "WEBP")]
    samples.append(encode(Image.fromarray(noise()).convert("P")))
    for _ in range(1500):
        data = bytearray(chance.choice(samples))
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(chance.choice((64, len(data))))] = chance.randrange(256)
        try:
            assert decode(bytes(data), LIMIT).mode == "RGB"
        except InvalidMedia as error:
            assert str(error).startswith(("The picture is", "The picture has"))  # noqa: PT017


def test_a_picture_of_the_right_size_is_left_as_it_is():
    picture = Image.fromarray(noise())
    assert fit(picture, 60, 40, "error") is picture


def test_another_size_is_an_error_that_says_what_would_do():
    with pytest.raises(InvalidMedia, match=r"60x40 and the clip 64x64.*'crop' or 'pad'"):
        fit(Image.fromarray(noise()), 64, 64, "error")


def test_crop_fills_the_clip_and_cuts_both_sides_evenly():
    picture = np.zeros((32, 96, 3), np.uint8)
    picture[:, 32:64] = 255
    assert np.asarray(fit(Image.fromarray(picture), 32, 32, "crop")).min() == 255


def test_pad_shows_the_whole_picture_on_black():
    picture = Image.new("RGB", (96, 32), (255, 255, 255))
    padded = np.asarray(fit(picture, 48, 48, "pad"))
    assert (padded[16:32] == 255).all()
    assert (padded[:16] == 0).all()
    assert (padded[32:] == 0).all()


@pytest.mark.parametrize("mode", ["crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2), (200, 333)])
def test_any_shape_fits(mode, size):
    assert fit(Image.new("RGB", size, (9, 9, 9)), 64, 48, mode).size == (64, 48)


def test_a_kept_picture_comes_back_to_the_pixel(pictures):
    key = pictures.keep(encode(noise(48, 64)), width=64, height=48)
    assert np.array_equal(load_picture(pictures.artifacts, key), noise(48, 64))


def test_equal_pixels_are_kept_once_whatever_file_they_came_in(pictures):
    tagged = encode(noise(48, 64), pnginfo=None, dpi=(300, 300))
    keys = {
        pictures.keep(data, width=64, height=48)
        for data in (encode(noise(48, 64)), tagged, encode(noise(48, 64), "WEBP", lossless=True))
    }
    assert len(keys) == 1


def test_a_kept_picture_holds_no_metadata(pictures):
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    key = pictures.keep(encode(noise(48, 64), "WEBP", lossless=True, exif=exif), width=64, height=48)
    assert b"where I live" not in pictures.artifacts.path(key).read_bytes()


def test_a_picture_is_measured_as_it_is_shown(pictures):
    sideways = Image.Exif()
    sideways[0x0112] = 6
    assert pictures.measure(encode(noise(40, 60), "JPEG", exif=sideways)) == (40, 60)
    with pytest.raises(InvalidMedia) as refusal:
        pictures.measure(b"x", param="image")
    assert refusal.value.param == "image"


def test_the_field_to_blame_is_named(pictures):
    with pytest.raises(InvalidMedia) as caught:
        pictures.keep(b"nothing", width=64, height=48, param="input_reference")
    assert caught.value.param == "input_reference"
    assert list(pictures.artifacts.keys()) == []


def test_a_picture_that_is_not_kept_is_not_found(pictures):
    with pytest.raises(NotFound):
        load_picture(pictures.artifacts, "0" * 64 + ".png")
