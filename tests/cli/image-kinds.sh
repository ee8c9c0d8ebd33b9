#!/bin/sh
# decode-images: kinds of pictures besides JPEG and PNG, and those that are not read.
# SPDX-License-Identifier: MIT
. tests/tap.sh
pictures=tests/data/pictures

# pixels FILE [OPTION]...: the SHA-256 of its pixels at 64.
pixels() {
    decode -q --no-labels -s 64 -o "$tmp/stream" "$@" 2>>"$tmp/log" || return
    python '
import hashlib
print(hashlib.sha256(read(tmp + "stream")[0]["image"].tobytes()).hexdigest())'
}
# lacks LIBRARY FILE: this build leaves it out.
lacks() {
    decode --no-labels --strict -s 8 "$2" 2>&1 >/dev/null | grep -q "cannot read.*$1"
}

# As Pillow decodes them.
is 'a PNG whose header states too small a window is decoded' "$(pixels $pictures/small-window.png)" \
    e06b022744e7913aff24712aee5c4fb6831a84c910d172f9ab864514fa24fc85
is 'a JPEG that is rotated by an EXIF of type LONG is decoded' "$(pixels $pictures/exif-long.jpg)" \
    98af31415af854c7761339e42913400825a672d71c7e388721c2a720fca50178
is 'a JPEG with damage in its data is decoded' "$(pixels $pictures/damaged.jpg)" \
    2ef5b2b0d35f7d703640dc6ea6d36570a2159c184753f2c652b9ff899441cbc6
exits 'a JPEG with damage in its data, with --strict,' 65 decode --strict --no-labels $pictures/damaged.jpg
says 'is refused' 'damaged.jpg: Corrupt JPEG data: premature end of data segment'
about 'a tall image'
is '... is resized as by Pillow before 13' "$(pixels $pictures/tall.png)" \
    54b1288999b24d945f3fd4c1fb0545760725b02d819d83f4f4645bc8a567e397
is '... with --resample-order pillow13 is resized as by Pillow 13' \
    "$(pixels $pictures/tall.png --resample-order pillow13)" \
    2cbb49fbb47f901b8a99e629d411924b26e7bec8317c962ba6bdc5e477d4e861
if lacks libwebp $pictures/webp-named.jpg; then
    skip 'a WebP under another name is decoded' 'built without libwebp'
else
    is 'a WebP under another name is decoded' "$(pixels $pictures/webp-named.jpg)" \
        788934ca7b739b32a89952372ef0b53d8ec0bf5aab68794fec014fe5730daba6
    is 'of an animated WebP the first picture is decoded' "$(pixels $pictures/animated.webp)" \
        26a65c0dac46dd78ded2c1a3cec34f1e3f15925642b1a62832dbaaee7e709759
    exits 'a WebP with an EXIF orientation' 0 decode --no-labels -s 64 $pictures/animated.webp
    says 'is noted' '1 image is stored rotated'
    head -c 500 $pictures/webp-named.jpg >"$tmp/cut.webp"
    exits 'a WebP that is cut short' 65 decode --no-labels --strict "$tmp/cut.webp"
    says 'is refused' 'cut.webp: WebP: the file is broken or ends early'
fi
if lacks giflib $pictures/gif-named.jpg; then
    skip 'a GIF under another name is decoded' 'built without giflib'
else
    is 'a GIF under another name is decoded' "$(pixels $pictures/gif-named.jpg)" \
        42d3db2d31a7f83a652d38b38e3791dbec3bcb62c326a88fb1a990d479c1109f
    head -c 3000 $pictures/gif-named.jpg >"$tmp/cut.gif"
    exits 'a GIF that is cut short' 65 decode --no-labels --strict "$tmp/cut.gif"
    says 'is refused' 'cut.gif: GIF: '
fi

# One picture of 5 x 3 pixels as PNG, BMP and TIFF of several kinds.
"$python3" - "$tmp" <<'EOF'
import struct, sys, zlib
folder, width, height = sys.argv[1], 5, 3
rows = [[(50 * x, 80 * y, 7 * x * y) for x in range(width)] for y in range(height)]
flat = [pixel for row in rows for pixel in row]
def write(name, *parts):
    with open(folder + '/' + name, 'wb') as f:
        f.write(b''.join(parts))
def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
write('picture.png', b'\x89PNG\r\n\x1a\n', chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)),
      chunk(b'IDAT', zlib.compress(b''.join(b'\0' + bytes(sum(row, ())) for row in rows))), chunk(b'IEND', b''))
def bmp(name, bits, pixels, palette=b'', masks=b'', down=False):
    start = 54 + len(masks) + len(palette)
    stride = (width * bits + 31) // 32 * 4
    data = b''.join(row.ljust(stride, b'\0') for row in (pixels if down else pixels[::-1]))
    write(name, b'BM', struct.pack('<IIIIiiHHIIiiII', start + len(data), 0, start, 40, width,
          -height if down else height, 1, bits, 3 if masks else 0, 0, 0, 0, len(palette) // 4, 0), masks, palette, data)
bgr = [[pixel[::-1] for pixel in row] for row in rows]
bmp('rgb.bmp', 24, [bytes(sum(row, ())) for row in bgr])
bmp('down.bmp', 24, [bytes(sum(row, ())) for row in bgr], down=True)
bmp('rgbx.bmp', 32, [bytes(sum(((*p, 9) for p in row), ())) for row in bgr])
bmp('masks.bmp', 32, [bytes(sum(((*p, 9) for p in row), ())) for row in bgr],
    masks=struct.pack('<III', 0xFF0000, 0xFF00, 0xFF))
palette = b''.join(bytes((*p[::-1], 0)) for p in flat)
bmp('palette8.bmp', 8, [bytes(range(y * width, y * width + width)) for y in range(height)], palette)
bmp('palette4.bmp', 4, [bytes((y * width + x) << 4 | (y * width + x + 1) % 16 * (x < 4) for x in (0, 2, 4))
                        for y in range(height)], palette)
def tiff(name, order):
    end = '<' if order == b'II' else '>'
    def tag(number, kind, count, value):
        return struct.pack(end + 'HHI', number, kind, count) + struct.pack(
            end + ('I' if kind == 4 or count > 2 else 'HH'), *([value] if kind == 4 or count > 2 else [value, 0]))
    tags = [tag(256, 3, 1, width), tag(257, 3, 1, height), tag(258, 3, 3, 8 + 2 + 9 * 12 + 4), tag(259, 3, 1, 1),
            tag(262, 3, 1, 2), tag(273, 4, 1, 8 + 2 + 9 * 12 + 4 + 6), tag(277, 3, 1, 3), tag(278, 3, 1, height),
            tag(279, 4, 1, 3 * width * height)]
    write(name, order, struct.pack(end + 'HIH', 42, 8, len(tags)), *tags, struct.pack(end + 'I', 0),
          struct.pack(end + 'HHH', 8, 8, 8), bytes(sum(flat, ())))
tiff('little.tif', b'II')
tiff('big.tif', b'MM')
EOF
expected=$(pixels "$tmp/picture.png")
for kind in rgb down rgbx masks palette8 palette4; do
    is "a BMP, $kind, has the pixels of the same PNG" "$(pixels "$tmp/$kind.bmp")" "$expected"
done
head -c 90 "$tmp/rgb.bmp" >"$tmp/cut.bmp"
exits 'a BMP that is cut short' 65 decode --no-labels --strict "$tmp/cut.bmp"
says 'is refused' 'cut.bmp: BMP: the file ends early'
for order in little big; do
    if lacks libtiff "$tmp/$order.tif"; then
        skip "a TIFF, $order-endian, has the pixels of the same PNG" 'built without libtiff'
    else
        is "a TIFF, $order-endian, has the pixels of the same PNG" "$(pixels "$tmp/$order.tif")" "$expected"
        head -c 170 "$tmp/$order.tif" >"$tmp/cut.tif"
        exits "a TIFF, $order-endian, that is cut short" 65 \
            decode --no-labels --strict "$tmp/cut.tif"
        says 'is refused' 'cut.tif: TIFF: '
    fi
done

# foreign NAME HEAD: a file with this head is named so, with the way to convert it.
foreign() {
    printf '%b' "$2" >"$tmp/foreign"
    exits "$1" 65 decode --no-labels --strict "$tmp/foreign"
    says 'is named, with the way to convert it' "foreign: $1, which is not supported; convert it to PNG"
}
foreign 'an AVIF picture' '\0\0\0\034ftypavif\0\0\0\0'
foreign 'an HEIF picture' '\0\0\0\030ftypheic\0\0\0\0'
foreign 'a JPEG XL picture' '\377\012\0\0\0'
foreign 'a PDF document' '%PDF-1.7\n'
done_testing
