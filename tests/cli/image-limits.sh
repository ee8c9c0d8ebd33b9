#!/bin/sh
# decode-images: no file takes more memory or time than the limit of pixels stands for.
# SPDX-License-Identifier: MIT
. tests/tap.sh
pictures=tests/data/pictures
export PYTHONDONTWRITEBYTECODE=1

# png NAME WIDTH HEIGHT COLOUR_TYPE BITS [ROWS [CHUNK]]: a PNG, all of zeros, with so many rows of
# data, and CHUNK (Python) before them.
png() {
    /usr/bin/python3 - "$tmp/$1" "$2" "$3" "$4" "$5" "${6:-$3}" "${7:-}" <<'EOF'
import struct, sys, zlib
path, (width, height, colour, bits, rows), more = sys.argv[1], map(int, sys.argv[2:7]), sys.argv[7]
def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
def deflate(size, fill=b'\0'):
    z, block = zlib.compressobj(9), fill * (1 << 20)
    return b''.join(z.compress(block[:size - i]) for i in range(0, size, len(block))) + z.flush()
row = 1 + (width * bits * {0: 1, 2: 3, 6: 4}[colour] + 7) // 8
with open(path, 'wb') as f:
    f.write(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, bits, colour, 0, 0, 0)))
    f.write(eval(more) if more else b'')
    f.write(chunk(b'IDAT', deflate(row * rows)) + chunk(b'IEND', b''))
EOF
}
# peak COMMAND...: its exit status, in $tmp/err what it says, in $peak its memory in MiB.
peak() {
    /usr/bin/python3 -c '
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10))
sys.exit(code)' "$tmp/peak" "$@"
}
# within NAME MIB: the last command of `peak` took no more.
within() {
    ok "$1: $(cat "$tmp/peak") MiB, at most $2" test "$(cat "$tmp/peak")" -le "$2"
}

for claim in arithmetic progressive; do
    file=$pictures/claims-$claim.jpg
    exits "a small $claim JPEG that claims 2^28 pixels is refused" 65 \
        peak decode --no-labels -@ 1 --strict "$file"
    says 'by the limit of pixels' "$file: an image of 16384 x 16384 pixels; the limit is 67108864"
    within 'before memory is taken' 40
    exits 'beyond the limit too' 65 peak decode --no-labels -@ 1 --strict --max-pixels 268435456 "$file"
    says 'for its size' 'bytes are too few for its 16384 x 16384 pixels'
    within 'before memory is taken' 40
done
png tall.png 1 268435456 0 1 16
exits 'a small PNG of one column that claims 2^28 pixels is refused' 65 \
    peak decode --no-labels -@ 1 --strict --max-pixels 268435456 "$tmp/tall.png"
says 'for its size' 'bytes are too few for its 1 x 268435456 pixels'
within 'before memory is taken' 40
png column.png 1 4000000 0 1
exits 'a PNG of one column that holds all its pixels is decoded' 0 \
    peak decode --no-labels -q -@ 1 -s 32 "$tmp/column.png"
within 'without a list of its rows' 60
png row.png 4000000 1 6 16
exits 'a PNG of one row is decoded' 0 peak decode --no-labels -q -@ 1 -s 32 "$tmp/row.png"
within 'in bounded memory' 300

png large.png 8192 8192 6 8
exits 'the largest transparent PNG is decoded' 0 \
    peak decode --no-labels -q -@ 1 "$tmp/large.png"
within 'in the memory that the page states' 300
exits 'and refused by a smaller limit' 65 \
    decode --no-labels --strict --max-pixels 67108863 "$tmp/large.png"
says 'which is named' 'an image of 8192 x 8192 pixels; the limit is 67108863 (--max-pixels)'
png text.png 8 8 2 8 8 "50 * chunk(b'zTXt', b'name\0\0' + deflate(7 << 20, b'A'))"
exits 'a PNG with compressed text of 350 MiB is decoded' 0 \
    peak decode --no-labels -q -@ 1 -s 8 "$tmp/text.png"
within 'without the text' 40

# repeat_scan N SIDE: a progressive JPEG of SIDE x SIDE pixels whose last scan comes N times.
repeat_scan() {
    /usr/bin/python3 - "$pictures/claims-progressive.jpg" "$tmp/scans.jpg" "$@" <<'EOF'
import struct, sys
data, n, side = open(sys.argv[1], 'rb').read(), int(sys.argv[3]), int(sys.argv[4])
at = data.index(b'\xff\xc2') + 5
data = data[:at] + struct.pack('>HH', side, side) + data[at + 4:]
last = data.rindex(b'\xff\xda')
open(sys.argv[2], 'wb').write(data[:last] + n * data[last:-2] + b'\xff\xd9' + bytes(side * side // 512))
EOF
}
repeat_scan 500 16
exits 'a JPEG of hundreds of scans is refused' 65 decode --no-labels --strict -s 8 "$tmp/scans.jpg"
says 'by the limit of scans' 'scans.jpg: more than 64 scans'
repeat_scan 1 8192
exits 'a progressive JPEG that takes more memory than the limit is refused' 65 \
    peak decode --no-labels --strict -@ 1 "$tmp/scans.jpg"
says 'by the memory that the limit of pixels allows' 'takes more memory than the limit of pixels allows'
within 'before that memory is taken' 240

printf 'GARBAGE' >"$tmp/huge"
truncate -s 20G "$tmp/huge"
exits 'a huge file that is no image is not read' 65 \
    peak decode --no-labels --strict -@ 1 "$tmp/huge"
says 'its first bytes say so' 'expected an image file, found one that starts with 47 41 52'
within 'without memory' 40
cp "$tmp/large.png" "$tmp/huge" && truncate -s 20G "$tmp/huge"
exits 'nor one that begins as an image' 65 peak decode --no-labels --strict -@ 1 "$tmp/huge"
says 'its size says so' 'a file of 21474836480 bytes, more than the limit of pixels allows (--max-pixels)'
within 'without memory' 40
done_testing
