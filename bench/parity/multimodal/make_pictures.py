"""Makes small picture files and what Pillow makes of them.

python make_pictures.py             makes crates/satisfice-multimodal/tests/fixtures/pictures.safetensors anew
python make_pictures.py --check     makes it elsewhere and compares

A case is a file, keys of `preprocess` in model.toml, the tensor's shape, and the bytes that Pillow gives, as torchvision's
transforms use it: Resize and CenterCrop for `cover`, ImageOps.pad for `contain`, convert for colours, exif_transpose.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import fixtures
import numpy as np
from PIL import Image, ImageDraw, ImageOps
from PIL.PngImagePlugin import PngInfo
from safetensors.numpy import load_file, save_file

FIXTURE = Path(__file__).resolve().parents[3] / "crates/satisfice-multimodal/tests/fixtures/pictures.safetensors"
FILTERS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}
ORIENTATION = 0x0112


@dataclass
class Fixture:
    """Files, cases and expected bytes that grow into one file."""

    files: dict[str, bytes] = field(default_factory=dict)
    cases: list[dict] = field(default_factory=list)
    expected: list[np.ndarray] = field(default_factory=list)

    def add(self, name: str, file: bytes, picture: Image.Image, keys: str = "", off: int = 0) -> None:
        """`picture`, in mode L or RGB, is what the tensor has to be, but for `off`."""
        self.files[name] = file
        pixels = np.asarray(picture, np.uint8)
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        self.cases.append({"file": name, "keys": keys, "shape": list(pixels.shape), "off": off})
        self.expected.append(np.ascontiguousarray(pixels))

    def save(self, path: Path) -> None:
        tensors = {f"file {name}": np.frombuffer(file, np.uint8) for name, file in self.files.items()}
        tensors |= {f"case {i}": pixels for i, pixels in enumerate(self.expected)}
        save_file(tensors, path, {"cases": json.dumps(self.cases)})


def scene(width: int, height: int) -> Image.Image:
    """Slopes, noise and sharp edges."""
    rng = np.random.default_rng(width * 1000 + height)
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x / width, y / height, 1 - x * y / width / height], -1) * 200 + 30
    pixels += rng.integers(-6, 7, (height, width, 1))
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for i in range(8):
        x, y = (int(v) for v in rng.integers(0, (width, height)))
        size = int(rng.integers(2, max(3, min(width, height) // 3)))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        [draw.ellipse, draw.rectangle][i % 2]([x, y, x + size, y + size], fill=colour)
    return picture


def png(picture: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


def jpeg(picture: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


def opened(file: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(file))
    picture.load()
    return picture


def on_background(picture: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    rgba = picture.convert("RGBA")
    ground = Image.new("RGB", rgba.size, colour)
    ground.paste(rgba, mask=rgba.getchannel("A"))
    return ground


def raw_png(
    size: tuple[int, int], depth: int, colour: int, rows: list[bytes], *chunks: tuple, interlaced: bool = False
) -> bytes:
    """A PNG file of kinds that Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlaced)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    middle = b"".join(chunk(*c) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def adam7(picture: Image.Image) -> bytes:
    """An RGB picture in seven passes."""
    pixels = np.asarray(picture)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [pixels[y::down, x::across] for y, x, down, across in passes]
    rows = [row.tobytes() for part in parts if part.size for row in part]
    return raw_png(picture.size, 8, 2, rows, interlaced=True)


def png_kinds(fixture: Fixture) -> None:
    """Every kind of PNG pixel, as RGB and as grey."""
    rng = np.random.default_rng(7)
    rgb = scene(7, 5)
    alpha = Image.fromarray(rng.integers(0, 256, (5, 7), np.uint8))
    rgba, grey = rgb.copy(), rgb.convert("L")
    rgba.putalpha(alpha)
    grey_alpha = Image.merge("LA", [grey, alpha])
    wide = [rng.integers(0, 65536, n, np.uint16).astype(">u2").tobytes() for n in (21, 21)]
    wide_alpha = [rng.integers(0, 65536, 28, np.uint16).astype(">u2").tobytes() for _ in range(2)]
    key = tuple(int(v) for v in np.asarray(rgb)[2, 3])
    indices = [bytes([0, 1, 2, 3, 3, 1, 0]), bytes([2] * 7)]
    palette = (b"PLTE", bytes([9, 200, 30, 250, 1, 2, 3, 4, 255]))
    files = {
        "grey": png(grey),
        "rgb": png(rgb),
        "rgba": png(rgba),
        "grey with alpha": png(grey_alpha),
        "one bit": png(grey.convert("1")),
        "two bits": raw_png((7, 2), 2, 0, [b"\x1b\xe4", b"\x00\xfc"]),
        "four bits": raw_png((7, 2), 4, 0, [b"\x01\x23\x45\x60", b"\xfe\xdc\xba\x90"]),
        "palette": png(rgb.convert("P", palette=Image.ADAPTIVE, colors=16), bits=4),
        "palette with alpha": raw_png((7, 2), 8, 3, indices, palette, (b"tRNS", bytes([0, 128]))),
        "16 bits": raw_png((7, 2), 16, 2, wide),
        "16 bits with alpha": raw_png((7, 2), 16, 6, wide_alpha),
        "interlaced": adam7(rgb),
        "transparent colour": png(rgb, transparency=key),
        "transparent grey": png(grey, transparency=int(np.asarray(grey)[1, 1])),
    }
    for name, file in files.items():
        picture = opened(file)
        shown = on_background(picture, (40, 90, 230))
        ground = "background = [40, 90, 230]"
        fixture.add(name, file, shown, ground)
        fixture.add(name, file, shown.convert("L"), ground)
        fixture.add(name, file, picture.convert("RGB"), 'transparent = "ignore"')
    fixture.add("rgb", files["rgb"], rgb)
    red, green, blue = (np.asarray(rgb, np.int64)[..., i] for i in range(3))
    by_709 = (red * 13933 + green * 46871 + blue * 4732 + 0x8000) >> 16
    fixture.add("rgb", files["rgb"], Image.fromarray(by_709.astype(np.uint8)), 'luma = "709"')
    bgr = Image.fromarray(np.ascontiguousarray(np.asarray(rgb)[..., ::-1]))
    fixture.add("rgb", files["rgb"], bgr, 'colours = "bgr"')


def orientations(fixture: Fixture) -> None:
    drawing = scene(9, 6)
    for number in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = number
        file = png(drawing, exif=exif)
        fixture.add(f"png {number}", file, ImageOps.exif_transpose(opened(file)))
        file = jpeg(drawing, exif=exif, quality=95, subsampling=0)
        fixture.add(f"jpeg {number}", file, ImageOps.exif_transpose(opened(file)).convert("RGB"), off=4)
    fixture.add("png 6", fixture.files["png 6"], drawing, "exif_orientation = false")
    xmp = '<x:xmpmeta><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
    texts = PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", xmp)
    packed = PngInfo()
    packed.add_itxt("XML:com.adobe.xmp", xmp, zip=True)
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    data = exif.tobytes()
    profile = f"\nexif\n{len(data):8}\n{data.hex()}\n"
    raw = PngInfo()
    raw.add_text("Raw profile type exif", profile)
    raw_packed = PngInfo()
    raw_packed.add_text("Raw profile type exif", profile, zip=True)
    for name, info in {"xmp": texts, "packed xmp": packed, "raw": raw, "packed raw": raw_packed}.items():
        file = png(drawing, pnginfo=info)
        fixture.add(name, file, ImageOps.exif_transpose(opened(file)))
    file = jpeg(drawing, xmp=xmp.encode(), quality=95, subsampling=0)
    fixture.add("jpeg xmp", file, ImageOps.exif_transpose(opened(file)).convert("RGB"), off=4)


def cover(picture: Image.Image, whole: tuple[int, int], size: tuple[int, int], method: int) -> Image.Image:
    """torchvision's Resize of what is short for `whole` (width, height), and its CenterCrop of `size`."""
    (w, h), (across, down) = picture.size, whole
    # int(a * b / c), as torchvision has it.
    scaled = (across, int(across * h / w)) if across * h >= down * w else (int(down * w / h), down)
    picture = picture.resize(scaled, method)
    x, y = (int(round((have - want) / 2.0)) for have, want in zip(scaled, size))
    return picture.crop((x, y, x + size[0], y + size[1]))


def sizes(fixture: Fixture) -> None:
    for name, picture in {"wide": scene(61, 47), "high": scene(37, 66)}.items():
        file = png(picture)
        for filter_name, method in FILTERS.items():
            chosen = f'filter = "{filter_name}"'
            for size in ((24, 24), (70, 20), (61, 9)):
                fixture.add(name, file, picture.resize(size, method), chosen)
            fixture.add(name, file, picture.convert("L").resize((24, 24), method), chosen)
            for size in ((24, 24), (20, 33)):
                covered = cover(picture, size, size, method)
                fixture.add(name, file, covered, f'resize = "cover"\n{chosen}')
                padded = ImageOps.pad(picture, size, method, (9, 8, 7))
                keys = f'resize = "contain"\nbackground = [9, 8, 7]\n{chosen}'
                fixture.add(name, file, padded, keys)
            # 24 of 28 and 24 of 32 pixels.
            for crop, side in ((0.857, 28), (0.75, 32)):
                cut = cover(picture, (side, side), (24, 24), method)
                fixture.add(name, file, cut, f'resize = "cover"\ncrop = {crop}\n{chosen}')


def jpeg_kinds(fixture: Fixture) -> None:
    """Decoders round differently, and most where colours have fewer pixels: `off` is what was found, and 1."""
    picture = scene(37, 29)
    kinds = {
        "444": ({"subsampling": "4:4:4"}, 4),
        "422": ({"subsampling": "4:2:2"}, 4),
        "420": ({"subsampling": "4:2:0"}, 4),
        "progressive": ({"subsampling": "4:4:4", "progressive": True}, 4),
        "progressive 420": ({"subsampling": "4:2:0", "progressive": True}, 4),
        "restarts": ({"subsampling": "4:2:0", "restart_marker_blocks": 3}, 4),
        "rgb": ({"keep_rgb": True}, 4),
    }
    for name, (options, off) in kinds.items():
        file = jpeg(picture, quality=85, **options)
        fixture.add(f"jpeg {name}", file, opened(file).convert("RGB"), off=off)
    file = jpeg(picture.convert("L"), quality=85)
    fixture.add("jpeg grey", file, opened(file).convert("L"), off=2)
    fixture.add("jpeg grey", file, opened(file).convert("RGB"), off=4)
    file = jpeg(picture.convert("CMYK"), quality=85)
    fixture.add("jpeg cmyk", file, opened(file).convert("RGB"), off=4)


def made() -> Fixture:
    fixture = Fixture()
    for part in (png_kinds, orientations, sizes, jpeg_kinds):
        part(fixture)
    return fixture


def make(out: Path) -> None:
    made().save(out / FIXTURE.name)


def differing(kept: Path, made: Path) -> list[str]:
    old, new = (load_file(d / FIXTURE.name) for d in (kept, made))
    return [n for n in sorted({*old, *new}) if n not in old or n not in new or not np.array_equal(old[n], new[n])]


if __name__ == "__main__":
    sys.exit(fixtures.main(__doc__, make, FIXTURE.parent, differing))
