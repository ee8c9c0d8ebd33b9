#!/bin/sh
# scale.sh [FOLDER]: shuffles as many records as ImageNet has by shard-latents in little memory,
# reads two epochs as training does, and checks that the orders are random. Takes 1 GB in FOLDER
# (default: $TMPDIR or /tmp) and a minute. SPDX-License-Identifier: MIT
# Run from the top of the tree: PATH=build/bin:$PATH tests/bench/scale.sh
# $N (records), $CHANNELS, $SIDE, $MEMORY, $SHARDS and $LEVEL change the sizes.
set -eu
records=${N:-1281167} channels=${CHANNELS:-4} side=${SIDE:-4} memory=${MEMORY:-256M}
tmp=$(mktemp -d -p "${1:-${TMPDIR:-/tmp}}")
trap 'rm -rf "$tmp"' EXIT
export TMPDIR="$tmp"
latents="${B:-build}/tests/bench/latents"
[ -x "$latents" ] || { echo "scale.sh: $latents is not there: make tests" >&2; exit 1; }

# measure COMMAND...: runs it, and prints its time and peak memory on standard error.
measure() {
    /usr/bin/python3 -c '
import resource, subprocess, sys, time
start = time.time()
rc = subprocess.call(sys.argv[1:])
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print("%s: %.1f s, %.1f s of processors, peak memory %.0f MiB" % (sys.argv[1].split("/")[-1],
      time.time() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024), file=sys.stderr)
sys.exit(rc)' "$@"
}

echo "== $records records of 2 float16 [$channels, $side, $side] into ${SHARDS:-64} shards, --memory $memory"
"$latents" write "$records" "$channels" "$side" >"$tmp/latents"
measure shard-latents -q --memory "$memory" --shards "${SHARDS:-64}" -z "${LEVEL:-1}" \
    -o "$tmp/shards" "$tmp/latents" >"$tmp/paths"
rm "$tmp/latents"
du -sh "$tmp/shards" | cut -f 1

echo '== the order of the shards'
xargs tstream-cat -q -t label <"$tmp/paths" >"$tmp/labels"
PYTHONPATH=tests/tools PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 - "$records" "$tmp/labels" <<'END'
import sys
from stream import read
read(sys.argv[2])[0]['label'].tofile(sys.argv[2] + '.order')
END
cat >"$tmp/order.py" <<'END'
# order.py N FILE: checks that every N numbers of FILE are a random permutation of 0 .. N-1.
import sys
import numpy as np
n, cells = int(sys.argv[1]), 100
epochs = np.fromfile(sys.argv[2], '<i8').reshape(-1, n)
for i, order in enumerate(epochs):
    once = (np.bincount(order, minlength=n) == 1).all()
    counts = np.histogram2d(np.arange(n), order, cells, [[0, n], [0, n]])[0]
    chi = ((counts - n / cells ** 2) ** 2 / (n / cells ** 2)).sum()
    freedom = (cells - 1) ** 2
    follow = (np.diff(order) == 1).sum()
    print('epoch %d: each record once: %s; chi square of position against index %.1f, expected %d +- %.0f '
          '(%+.1f deviations); neighbours that stayed so: %d' % (i, once, chi, freedom, (2 * freedom) ** 0.5,
          (chi - freedom) / (2 * freedom) ** 0.5, follow))
    assert once and len(order) == n and abs(chi - freedom) < 5 * (2 * freedom) ** 0.5
for a, b in zip(epochs, epochs[1:]):
    print('the same record at the same position in two epochs: %d times, expected 1; correlation of the '
          'positions %+.4f' % ((a == b).sum(), np.corrcoef(np.argsort(a), np.argsort(b))[0, 1]))
    assert (a == b).sum() < 20
END
/usr/bin/python3 "$tmp/order.py" "$records" "$tmp/labels.order"

for reading in 16777216 1073741824; do
    echo "== two epochs of the reader in $((reading >> 20)) MiB"
    xargs "$latents" read $reading 2 <"$tmp/paths" >"$tmp/order"
    /usr/bin/python3 "$tmp/order.py" "$records" "$tmp/order"
done
