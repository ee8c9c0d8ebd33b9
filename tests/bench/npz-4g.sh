#!/bin/sh
# npz-4g.sh [FOLDER]: checks that NumPy and unzip read archives of more than 4 GiB that npz-pack has
# written into a file and into a pipe. Takes 10 GB in FOLDER (default: $TMPDIR or /tmp) and a few
# minutes. SPDX-License-Identifier: MIT
# Run from the top of the tree: PATH=build/bin:$PATH tests/bench/npz-4g.sh
set -eu
tmp=$(mktemp -d -p "${1:-${TMPDIR:-/tmp}}")
trap 'rm -rf "$tmp"' EXIT
export TMPDIR="$tmp"
"${B:-build}/tests/tools/draw-shapes" -q -o "$tmp/shapes" -n 100
find "$tmp/shapes" -type f >"$tmp/list"
decode-images -q -s 512 -o "$tmp/one" <"$tmp/list"
i=0
while [ $i -lt 60 ]; do # 100 images of 512 x 512, 60 times: 4.4 GiB
    cat "$tmp/one"
    i=$((i + 1))
done >"$tmp/stream"

check() {
    /usr/bin/python3 - "$tmp/npz" <<'END'
import sys, zipfile, numpy as np
with zipfile.ZipFile(sys.argv[1]) as z:
    assert z.testzip() is None
    assert z.getinfo('arr_0.npy').file_size == 6000 * 512 * 512 * 3 + 128
    with z.open('arr_0.npy') as f:
        np.lib.format.read_magic(f)
        shape = np.lib.format.read_array_header_1_0(f)[0]
    assert shape == (6000, 512, 512, 3), shape
    labels = np.load(sys.argv[1])['arr_1']
    assert labels.shape == (6000,) and (labels[:100] == labels[-100:]).all()
    print('arr_0', shape)
END
    if command -v unzip >/dev/null; then unzip -tqq "$tmp/npz" && echo 'unzip -t: no errors'; fi
}
echo 'into a file:'
npz-pack -q --labels "$tmp/stream" -o "$tmp/npz"
check
rm "$tmp/npz"
echo 'into a pipe:'
npz-pack -q --labels "$tmp/stream" | cat >"$tmp/npz"
check
