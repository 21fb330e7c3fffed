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
from PIL import Image, ImageOps, PngImagePlugin

W, H = 13, 9


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def paeth(a, b, c):
    near = lambda v: abs(a + b - c - v)
    return min((near(a), 0, a), (near(b), 1, b), (near(c), 2, c))[2]


def apply_filter(kind, row, above, pixel):
    """A row of bytes as the five filters of PNG store it."""
    left = bytes(pixel) + row
    corner = bytes(pixel) + above
    guess = (lambda a, b, c: 0, lambda a, b, c: a, lambda a, b, c: b, lambda a, b, c: (a + b) // 2, paeth)[kind]
    return bytes((v - guess(a, b, c)) & 255 for v, a, b, c in zip(row, left, above, corner))


def write_png(path, a, color, depth, interlaced, filters=(0,), palette=None, level=-1, strategy=0, cut=1 << 30):
    """For what Pillow cannot write: 16 bits a channel, Adam7, every filter, several IDAT chunks."""
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    raw = b""
    for x0, y0, dx, dy in steps if interlaced else ((0, 0, 1, 1),):
        above = None
        for y, row in enumerate(a[y0::dy, x0::dx]):
            if not row.size:
                continue
            if depth < 8:
                bits = (row[:, None] >> np.arange(depth - 1, -1, -1)) & 1
                row = np.packbits(bits.astype(np.uint8).ravel())
            row = row.astype(">u2").tobytes() if depth == 16 else row.astype(np.uint8).tobytes()
            kind = filters[y % len(filters)]
            pixel = max(1, {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color] * depth // 8)
            raw += bytes([kind]) + apply_filter(kind, row, above or bytes(len(row)), pixel)
            above = row
    head = struct.pack(">IIBBBBB", a.shape[1], a.shape[0], depth, color, 0, 0, int(interlaced))
    packer = zlib.compressobj(level, zlib.DEFLATED, 15, 8, strategy)
    data = packer.compress(raw) + packer.flush()
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    if palette is not None:
        out += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    for i in range(0, len(data), cut):
        out += chunk(b"IDAT", data[i : i + cut])
    path.write_bytes(out + chunk(b"IEND", b""))


def upper_byte(a, color, depth, palette):
    """What the reference's reader makes of the pixels of write_png."""
    if color == 3:
        return palette[a]
    v = a >> 8 if depth == 16 else a * 255 // ((1 << depth) - 1) if depth < 8 else a
    return v[..., :3] if color in (2, 6) else np.repeat((v if v.ndim == 2 else v[..., 0])[..., None], 3, -1)


def depth_of(name):
    return int(name.split("_")[1].split(".")[0].rstrip("i"))


def write_ycck(path, ycc, k):
    """A JPEG of four colours with Adobe's transform 2, which Pillow reads and does not write."""
    planes = [ImageOps.invert(p) for p in (*ycc.split(), k)]  # saving inverts them
    Image.merge("CMYK", planes).save(path, "JPEG", quality=95, subsampling=0)
    data = bytearray(path.read_bytes())
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    data[at] = 2
    sof, sos = data.index(b"\xff\xc0") + 10, data.index(b"\xff\xda") + 5
    for i in range(4):  # Pillow's are the letters of CMYK, which FFmpeg believes more than the transform
        data[sof + 3 * i] = data[sos + 2 * i] = i + 1
    path.write_bytes(data)


def move_gif(source, path, size, at):
    """Its first picture at a place of a canvas, whose own background is told to be another colour."""
    data = bytearray(source.read_bytes())
    data[6:12] = struct.pack("<HHBB", *size, data[10], 5)
    i = 13 + (6 << (data[10] & 7))
    if data[i] == 0x21:  # which colour is transparent
        i += 8
    assert data[i] == 0x2C
    data[i + 1 : i + 5] = struct.pack("<HH", *at)
    path.write_bytes(data)


def write_sampled(path, image, before, after):
    """A JPEG with its blocks of luma in another order, which Pillow cannot write: the picture is jumbled,
    but there are as many blocks as before, so it is a whole file."""
    image.save(path, quality=95, subsampling=before[0])
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xc0") + 11
    assert data[at] == before[1]
    data[at] = after
    path.write_bytes(data)


def exif_of(order, kind, value):
    """Exif with an orientation of a TIFF type: 1 BYTE, 3 SHORT, 4 LONG."""
    number = {1: "B", 3: "H", 4: "I"}[kind]
    value = struct.pack(order + number, value).ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return b"Exif\0\0" + head + struct.pack(order + "HHHI", 1, 274, kind, 1) + value + bytes(4)


def add_turned(out, p, smooth, add):
    """Pictures whose orientation stands elsewhere than most write it: in other numbers, in XMP, in both."""
    jpeg = {"quality": 95, "subsampling": 0}
    for order, name in (("<", "little"), (">", "big")):
        for kind, number in ((1, "byte"), (4, "long")):
            add(f"exif_{number}_{name}.jpg", smooth, 4, exif=exif_of(order, kind, 6), **jpeg)
    attribute, element = (b'<x:xmpmeta><rdf:Description tiff:Orientation="8"/></x:xmpmeta>',
                          b"<x:xmpmeta><tiff:Orientation>5</tiff:Orientation></x:xmpmeta>")
    add("xmp.jpg", smooth, 4, xmp=attribute, **jpeg)
    add("xmp_and_exif.jpg", smooth, 4, xmp=element, exif=exif_of(">", 3, 3), **jpeg)
    add("xmp.webp", p, xmp=element, lossless=True)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", attribute.decode())
    add("xmp.png", p, pnginfo=info)


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
    items += [("interlaced.png", 0), ("rgb16.png", 0), ("grey16.png", 0)]
    # Every colour type and depth of PNG, with every filter, in all three kinds of DEFLATE blocks.
    known = {}
    for k, (color, depth) in enumerate([(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2),
                                        (3, 4), (3, 8), (4, 8), (4, 16), (6, 8), (6, 16)]):
        for interlaced in (False, True):
            channels = {0: (), 2: (3,), 3: (), 4: (2,), 6: (4,)}[color]
            noise = rng.integers(0, 1 << depth, (37, 29, *channels))
            ramp = (np.mgrid[0:37, 0:29].sum(0) * (1 << depth) // 66).astype(int)
            b = np.where(rng.random((37, 29, *(1 for _ in channels))) < 0.3, noise,
                         ramp.reshape(37, 29, *(1 for _ in channels)))
            palette = rng.integers(0, 256, (1 << depth, 3)) if color == 3 else None
            name = f"kind{color}_{depth}{'i' if interlaced else ''}.png"
            level, strategy = ((9, 0), (6, zlib.Z_FIXED), (0, 0), (1, zlib.Z_HUFFMAN_ONLY), (6, zlib.Z_RLE))[k % 5]
            write_png(out / name, b, color, depth, interlaced, (4, 1, 3, 2, 0, 4, 3), palette, level, strategy,
                      (1 << 30, 97)[interlaced])
            known[name] = upper_byte(b, color, depth, palette).astype(np.uint8)
            items.append((name, 0))
    # Luma and colour instead of RGB, of the full range: what a CMYK JPEG of Photoshop holds, and TIFFs.
    ycc = smooth.convert("YCbCr")
    add("ycc.tiff", ycc, 1, compression="tiff_deflate")
    write_ycck(out / "ycck.jpg", ycc, Image.fromarray((255 - x * 8).astype(np.uint8)))
    items.append(("ycck.jpg", 4))
    # Saved as a first picture of 5 x 4 at (6, 2), and a second one.
    part, other = Image.new("RGBA", (W, H)), Image.new("RGBA", (W, H), (9, 9, 9, 255))
    part.paste(p.crop((0, 0, 5, 4)), (6, 2))
    add("animated_part.webp", part, save_all=True, append_images=[other], lossless=True)

    add_turned(out, p, smooth, add)

    for name, source, size, at in (("part.gif", "palette.gif", (W + 5, H + 7), (4, 3)),
                                   ("part_clear.gif", "palette_clear.gif", (W + 5, H + 7), (4, 3)),
                                   ("part_large.gif", "palette.gif", (6, 5), (2, 1))):
        move_gif(out / source, out / name, size, at)
        items.append((name, 0))

    # Colour that is halved downwards, as when a camera's picture is turned; and a quarter of it.
    write_sampled(out / "440.jpg", smooth, (1, 0x21), 0x12)
    write_sampled(out / "411.jpg", smooth.resize((32, 16)), (2, 0x22), 0x41)
    items += [("440.jpg", 4), ("411.jpg", 4)]

    # Four colours without Adobe's mark.
    data = (out / "ycck.jpg").read_bytes()
    assert b"\xff\xee\0\x0eAdobe" in data
    (out / "cmyk_plain.jpg").write_bytes(data.replace(b"\xff\xee\0\x0eAdobe", b"\xff\xef\0\x0eOther"))
    items.append(("cmyk_plain.jpg", 6))

    lines, pixels = [], b""
    for name, tolerance in items:
        image = ImageOps.exif_transpose(Image.open(out / name))
        rgb = np.asarray(image.convert("RGB"))
        if name == "grey16.png":
            rgb = np.repeat(a[..., :1], 3, -1)
        if name in known:
            if depth_of(name) != 16 or "kind2" in name or "kind6" in name:
                assert np.array_equal(rgb, known[name]), name
            rgb = known[name]
        lines.append(f"{name} {rgb.shape[1]} {rgb.shape[0]} {tolerance}\n")
        pixels += rgb.tobytes()
    (out / "want.rgb").write_bytes(pixels)
    (out / "index.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
