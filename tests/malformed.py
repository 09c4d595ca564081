"""Writes 200 files and more that no face can be edited in: damaged, odd, of other kinds, too large, without a face.

python tests/malformed.py FOLDER writes them to look at.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ENDINGS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "tif": "TIFF", "bmp": "BMP", "ppm": "PPM"}


def smooth(height: int = 60, width: int = 80) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, 255 - x * 255 // width], -1).astype(np.uint8))


def encoded(form: str, image: Image.Image | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    (image or smooth()).save(file, form, **options)
    return file.getvalue()


def png(width: int, height: int, data: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG with this header and these pixel bytes, whether they fit it or not."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def unreadable() -> dict[str, bytes]:
    """Files that are no photograph: cut off, garbled, too small, or of another kind altogether."""
    random = np.random.default_rng(0)
    files = dict(OTHER_KINDS)
    noisy = Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for ending, form in ENDINGS.items():
        data = encoded(form, noisy)
        for part in (0.02, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9):
            files[f"cut{part}{ending}.{ending}"] = data[: max(3, int(part * len(data)))]
        for side in (1, 2, 8, 15):
            files[f"small{side}{ending}.{ending}"] = encoded(form, Image.new("RGB", (side, side)))
        for number in range(3):
            files[f"random{number}{ending}.{ending}"] = random.bytes(int(random.integers(1, 3000)))
        for number in range(4):
            files[f"head{number}{ending}.{ending}"] = data[: 6 + 6 * number] + random.bytes(2000)
    files["cutavif.avif"] = encoded("AVIF", noisy)[:600]
    files["cutjp2.jp2"] = encoded("JPEG2000", noisy)[:600]
    good = bytearray(encoded("PNG", noisy))
    good[20] ^= 1  # the header's checksum no longer fits
    files["checksum.png"] = bytes(good)
    tiff = bytearray(encoded("TIFF"))
    place = tiff.index(struct.pack("<HHI", 259, 3, 1))  # the tag "compression", of type short, one value
    tiff[place + 8 : place + 10] = struct.pack("<H", 65000)
    files["compression.tif"] = bytes(tiff)
    for name, value in (("nan", np.nan), ("infinite", np.inf), ("negative", -1.0), ("bright", 1e9)):
        files[f"{name}.tif"] = encoded("TIFF", Image.fromarray(np.full((40, 40), value, np.float32)))
    return files


OTHER_KINDS = {
    "empty.jpg": b"",
    "one.png": b"\x89",
    "text.png": b"This is no picture.\n",
    "utf16.jpg": "This is no picture.\n".encode("utf-16"),
    "base64.png": b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
    "zeros.webp": bytes(1000),
    "ones.jpg": b"\xff" * 1000,
    "page.jpg": b"<html><body>404 Not Found</body></html>",
    "json.jpg": b'{"error": "not found"}',
    "table.png": b"file,identity,emotion\na.jpg,ann,happy\n",
    "pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "paper.pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n",
    "phone.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
    "video.jpg": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(200),
    "sound.png": b"ID3\x04\0\0\0\0\0\0" + bytes(200),
    "archive.zip": b"PK\x03\x04" + bytes(100),
    "packed.jpg": b"\x1f\x8b\x08\0\0\0\0\0" + bytes(100),
    "program.png": b"\x7fELF\x02\x01\x01" + bytes(100),
    "icon.png": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0" + bytes(100),
    "layers.tif": b"8BPS\0\1" + bytes(100),
    "nopixels.png": png(100, 100, b""),
    "fewpixels.png": png(100, 100, bytes(301 * 50)),
    "zero.png": png(0, 0, b""),
    "notiff.tif": b"II*\0\x08\0\0\0" + b"\xff" * 40,
    "looptiff.tif": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "noframes.gif": b"GIF89a\x40\0\x40\0\0\0\0;",
    "noscan.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xd9",
}


def bombs() -> dict[str, bytes]:
    """Small files that say they are huge pictures."""
    files = {f"bomb{width}x{height}.png": png(width, height, b"") for width, height in BOMBS}
    bmp, gif, jpeg = (bytearray(encoded(form)) for form in ("BMP", "GIF", "JPEG"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    files |= {"bombbmp.bmp": bytes(bmp), "bombgif.gif": bytes(gif), "bombjpg.jpg": bytes(jpeg)}
    files["bombppm.ppm"] = b"P6 100000 100000 255\n"
    files["honest.png"] = encoded("PNG", Image.new("1", (9_500, 9_500)))
    return files


BOMBS = ((20_000, 20_000), (80_001, 1_000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1), (9_000, 9_001))


def faceless() -> dict[str, bytes]:
    """Pictures that open, with nobody in them: odd shapes, modes, damaged metadata and wrong endings among them."""
    random = np.random.default_rng(1)
    noise = Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    files = {
        "grey.png": encoded("PNG", Image.new("RGB", (32, 32), "grey")),
        "noise.png": encoded("PNG", noise),
        "wide.png": encoded("PNG", Image.new("L", (20_000, 16))),
        "high.png": encoded("PNG", Image.new("L", (16, 20_000))),
        "strip.jpg": encoded("JPEG", Image.new("RGB", (20_000, 40), "tan")),
        "clear.png": encoded("PNG", Image.new("RGBA", (32, 32), (0, 0, 0, 0))),
        "bits.png": encoded("PNG", Image.new("1", (32, 32))),
        "deep.png": encoded("PNG", Image.fromarray(np.full((32, 32), 40_000, np.uint16))),
        "cmyk.jpg": encoded("JPEG", smooth().convert("CMYK")),
        "cmykprofile.jpg": encoded("JPEG", smooth().convert("CMYK"), icc_profile=random.bytes(500)),
        "profile.png": encoded("PNG", icc_profile=random.bytes(500)),
        "exif.jpg": encoded("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff junk"),
        "jpegnamed.png": encoded("JPEG"),
        "webpnamed.gif": encoded("WEBP"),
        "moving.gif": encoded("GIF", smooth(), save_all=True, append_images=[noise.resize((80, 60))]),
    }
    face = Image.new("RGB", (120, 120), "tan")
    draw = ImageDraw.Draw(face)
    for place in ((35, 40), (75, 40), (55, 85)):
        draw.ellipse((*place, place[0] + 10, place[1] + 10), "black")
    files["drawn.png"] = encoded("PNG", face)
    return files


def write_malformed(folder: Path) -> list[Path]:
    """Write all of them, and what is no file at all; their paths."""
    paths = []
    for name, data in (unreadable() | bombs() | faceless()).items():
        paths.append(folder / name)
        paths[-1].write_bytes(data)
    for name in ("folder.png", "folder.jpg"):
        paths.append(folder / name)
        paths[-1].mkdir()
    (folder / "folder.jpg/notes.txt").write_text("not a photograph")
    links = {"broken.png": "nowhere.png", "loop.png": "loop.png", "zero.jpg": "/dev/zero", "null.png": "/dev/null"}
    for name, target in links.items():
        paths.append(folder / name)
        paths[-1].symlink_to(target)
    paths.append(folder / "absent.jpg")
    paths.append(folder / f"{'long' * 100}.jpg")
    for name in ("with spaces & [bold].png", "ünïcödé-😀.jpg", "--help.jpg"):
        paths.append(folder / name)
        paths[-1].write_bytes(b"no picture")
    return paths


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True)
    print(len(write_malformed(Path(sys.argv[1]))))
