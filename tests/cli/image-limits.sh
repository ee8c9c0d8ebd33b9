#!/bin/sh
# decode-images: no file takes more memory or time than the limit of pixels stands for.
# SPDX-License-Identifier: MIT
. tests/tap.sh
pictures=tests/data/pictures

# png NAME WIDTH HEIGHT COLOUR_TYPE BITS [ROWS [CHUNK]]: a PNG, all of zeros, with so many rows of
# data, and CHUNK (Python) before them.
png() {
    "$python3" - "$tmp/$1" "$2" "$3" "$4" "$5" "${6:-$3}" "${7:-}" <<'EOF'
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
# peak COMMAND...: runs it; $tmp/peak gets the most memory that it took, in MiB.
peak() {
    "$python3" -c '
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10))
sys.exit(code)' "$tmp/peak" "$@"
}
# takes MIB: the last command of `peak` took no more memory.
takes() {
    ok "... takes at most $1 MiB" test "$(cat "$tmp/peak")" -le "$1"
}

for claim in arithmetic progressive; do
    file=$pictures/claims-$claim.jpg
    exits "a small $claim JPEG that claims 2^28 pixels" 65 \
        peak decode --no-labels -@ 1 --strict "$file"
    says 'is refused by the limit' "$file: an image of 16384 x 16384 pixels; the limit is 67108864"
    takes 40
    exits "a small $claim JPEG that claims 2^28 pixels, with a greater limit," 65 \
        peak decode --no-labels -@ 1 --strict --max-pixels 268435456 "$file"
    says 'is refused for its size' 'bytes are too few for its 16384 x 16384 pixels'
    takes 40
done
png tall.png 1 268435456 0 1 16
exits 'a small PNG of one column that claims 2^28 pixels' 65 \
    peak decode --no-labels -@ 1 --strict --max-pixels 268435456 "$tmp/tall.png"
says 'is refused for its size' 'bytes are too few for its 1 x 268435456 pixels'
takes 40
png column.png 1 4000000 0 1
exits 'a PNG of one column that holds all its pixels' 0 \
    peak decode --no-labels -q -@ 1 -s 32 "$tmp/column.png"
takes 60
png row.png 4000000 1 6 16
exits 'a PNG of one row' 0 peak decode --no-labels -q -@ 1 -s 32 "$tmp/row.png"
takes 300

png large.png 8192 8192 6 8
exits 'the largest transparent PNG' 0 peak decode --no-labels -q -@ 1 "$tmp/large.png"
takes 300
exits 'the largest transparent PNG, with a smaller limit,' 65 \
    decode --no-labels --strict --max-pixels 67108863 "$tmp/large.png"
says 'is refused' 'an image of 8192 x 8192 pixels; the limit is 67108863 (--max-pixels)'
png text.png 8 8 2 8 8 "50 * chunk(b'zTXt', b'name\0\0' + deflate(7 << 20, b'A'))"
exits 'a PNG with compressed text of 350 MiB' 0 peak decode --no-labels -q -@ 1 -s 8 "$tmp/text.png"
takes 40

# By default images take up to 288 MiB, and 96 MiB more with each further thread; these take 256 MiB each.
png bits.png 8192 8192 0 1 8192 "chunk(b'tRNS', b'\0\0')"
# shellcheck disable=SC3045 # the shells of Linux have -v
decode_within() ( # decode_within KIB ARGUMENT...
    ulimit -v "$1"
    shift
    decode "$@"
)
large="four of the largest images on four threads, in the memory of three,"
if decode_within 1000000 --version >/dev/null 2>&1; then
    exits "$large" 0 decode_within 1000000 --no-labels -q --strict -s 8 -@ 4 \
        "$tmp/bits.png" "$tmp/bits.png" "$tmp/bits.png" "$tmp/bits.png"
else
    skip "$large" 'no limit of memory here, or a sanitizer'
fi

# repeat_scan N SIDE: a progressive JPEG of SIDE x SIDE pixels whose last scan comes N times.
repeat_scan() {
    "$python3" - "$pictures/claims-progressive.jpg" "$tmp/scans.jpg" "$@" <<'EOF'
import struct, sys
data, n, side = open(sys.argv[1], 'rb').read(), int(sys.argv[3]), int(sys.argv[4])
at = data.index(b'\xff\xc2') + 5
data = data[:at] + struct.pack('>HH', side, side) + data[at + 4:]
last = data.rindex(b'\xff\xda')
open(sys.argv[2], 'wb').write(data[:last] + n * data[last:-2] + b'\xff\xd9' + bytes(side * side // 512))
EOF
}
repeat_scan 500 16
exits 'a JPEG of hundreds of scans' 65 decode --no-labels --strict -s 8 "$tmp/scans.jpg"
says 'is refused' 'scans.jpg: more than 64 scans'
repeat_scan 1 8192
exits 'a progressive JPEG of as many pixels as the limit' 65 \
    peak decode --no-labels --strict -@ 1 "$tmp/scans.jpg"
says 'is refused for its memory' 'takes more memory than the limit of pixels allows'
takes 240

printf 'GARBAGE' >"$tmp/huge"
truncate -s 20G "$tmp/huge"
exits 'a huge file that is no image' 65 peak decode --no-labels --strict -@ 1 "$tmp/huge"
says 'is refused for its first bytes' 'expected an image file, found one that starts with 47 41 52'
takes 40
cp "$tmp/large.png" "$tmp/huge" && truncate -s 20G "$tmp/huge"
exits 'a huge file that begins as an image' 65 peak decode --no-labels --strict -@ 1 "$tmp/huge"
says 'is refused for its size' \
    'a file of 21474836480 bytes, more than the limit of pixels allows (--max-pixels)'
takes 40
done_testing
