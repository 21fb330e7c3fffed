#!/usr/bin/env python3
"""Small pictures of every kind that the engine reads, and what the reference sees in them.

    pictures.py OUT

needs Pillow. Writes OUT/NAME.EXT, OUT/want.rgb (the pictures one behind the other as RGB bytes, turned
upright, alpha dropped: convert("RGB") after exif_transpose) and OUT/index.txt with a line for each:
name, width, height, most that a byte may differ. The same files are where fuzzing begins.

Pillow clips 16-bit grey at 255 when it makes RGB of it, which no camera means; the upper byte is
wanted here.
"""
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

W, H = 13, 9


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path, a, color, depth, interlaced):
    """For what Pillow cannot write: 16 bits a channel, Adam7."""
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    raw = b""
    for x0, y0, dx, dy in steps if interlaced else ((0, 0, 1, 1),):
        for row in a[y0::dy, x0::dx]:
            if row.size:
                raw += b"\0" + (row.astype(">u2").tobytes() if depth == 16 else row.tobytes())
    head = struct.pack(">IIBBBBB", a.shape[1], a.shape[0], depth, color, 0, 0, int(interlaced))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def main():
    out = Path(sys.argv[1])
    out.mkdir(exist_ok=True)
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:H, 0:W]
    a = np.stack([x * 255 // (W - 1), y * 255 // (H - 1), (x * 11 + y * 23) % 256], -1).astype(np.uint8)
    a[2:5, 3:6] = (250, 20, 30)
    p = Image.fromarray(a)
    alpha = Image.fromarray(rng.integers(0, 256, (H, W)).astype(np.uint8))
    items = []

    def add(name, image, tolerance=0, **options):
        image.save(out / name, **options)
        items.append((name, tolerance))

    rgba, la, pal = p.copy(), p.convert("L"), p.quantize(17)
    rgba.putalpha(alpha)
    la.putalpha(alpha)
    add("rgb.png", p)
    add("grey.png", p.convert("L"))
    add("bit.png", p.convert("1"))
    add("rgba.png", rgba)
    add("la.png", la)
    add("palette.png", pal)
    add("palette_clear.png", pal, transparency=3)
    add("palette2.png", p.quantize(4), bits=2)
    add("rgb_clear.png", p, transparency=(250, 20, 30))
    add("palette.gif", pal)
    add("palette_clear.gif", pal, transparency=3)
    add("animated.gif", pal, save_all=True, append_images=[p.rotate(90 * i).quantize(9) for i in (1, 2)])
    add("rgb.bmp", p)
    add("palette.bmp", pal)
    add("bit.bmp", p.convert("1"))
    add("rgb.tiff", p)
    add("lzw.tiff", p, compression="tiff_lzw")
    add("deflate.tiff", rgba, compression="tiff_deflate")
    add("fax.tiff", p.convert("1"), compression="group4")
    add("lossless.webp", p, lossless=True)
    add("rgba.webp", rgba, lossless=True, exact=True)
    add("animated.webp", p, save_all=True, append_images=[p.rotate(180)], lossless=True)
    smooth = p.resize((4, 3), Image.BOX).resize((W, H), Image.BICUBIC)
    # The cosine transforms of JPEG decoders differ by a few steps.
    add("lossy.webp", smooth, 0, quality=95)
    add("444.jpg", smooth, 4, quality=95, subsampling=0)
    add("420.jpg", smooth, 4, quality=95)
    add("progressive.jpg", smooth, 4, quality=95, subsampling=0, progressive=True)
    add("grey.jpg", smooth.convert("L"), 4, quality=95)
    add("cmyk.jpg", smooth.convert("CMYK"), 6, quality=95)
    for o in range(1, 9):
        exif = Image.Exif()
        exif[274] = o
        add(f"exif{o}.png", p, exif=exif)
    for ext, options in (("webp", {"lossless": True}), ("tiff", {}), ("jpg", {"quality": 95, "subsampling": 0})):
        exif = Image.Exif()
        exif[274] = 6
        add(f"exif6.{ext}", p if ext != "jpg" else smooth, 0 if ext != "jpg" else 4, exif=exif, **options)
    write_png(out / "interlaced.png", a, 2, 8, True)
    write_png(out / "rgb16.png", a.astype(np.uint16) * 257, 2, 16, False)
    write_png(out / "grey16.png", a[..., 0].astype(np.uint16) * 257, 0, 16, True)
    items += [("interlaced.png", 0), ("rgb16.png", 1), ("grey16.png", 1)]

    lines, pixels = [], b""
    for name, tolerance in items:
        image = ImageOps.exif_transpose(Image.open(out / name))
        rgb = np.asarray(image.convert("RGB"))
        if name == "grey16.png":
            rgb = np.repeat(a[..., :1], 3, -1)
        lines.append(f"{name} {rgb.shape[1]} {rgb.shape[0]} {tolerance}\n")
        pixels += rgb.tobytes()
    (out / "want.rgb").write_bytes(pixels)
    (out / "index.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
