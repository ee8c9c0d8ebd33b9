#!/bin/sh
# run.sh [PART]... runs the checks and measurements that `make gpu-bundle` packed, on a machine with a
# GPU: check (tests/gpu/check.sh), memcheck and racecheck (the same under compute-sanitizer), and the
# parts of tests/bench/gpu.sh. By default it runs check and all parts of the latter. Results go to $OUT,
# by default the folder results beside this file. It ends within 9 minutes, or at $END, in seconds since
# 1970. SPDX-License-Identifier: MIT
set -u
case ${OUT:-/} in
/) OUT=$(dirname "$0")/results ;;
/*) ;;
*) OUT=$PWD/$OUT ;;
esac
mkdir -p "$OUT" || exit 73
OUT=$(cd "$OUT" && pwd)
cd "$(dirname "$0")" || exit 70
END=${END:-$(($(date +%s) + 540))}
export B=build OUT END PATH="$PWD/build/bin:$PATH" PYTHON="${PYTHON:-python3}"

# The bundle does not contain NVIDIA's libraries: cuBLASLt, and NCCL for several GPUs. If the system does
# not find them, the toolkit or PyTorch's packages may have them.
libraries=$(ldd build/lib/dit-tools/dit-cuda.so | sed -n 's/^[[:space:]]*\(libcublasLt[^ ]*\) => not found.*/\1/p')
/sbin/ldconfig -p 2>/dev/null | grep -q 'libnccl\.so\.2' || libraries="$libraries libnccl.so.2"
for library in $libraries; do
    found=$("$PYTHON" - "$library" 2>/dev/null <<'PYTHON'
import glob, os, sys
places = ['/usr/local/cuda*/lib64', '/usr/local/cuda*/targets/*/lib', '/opt/cuda/lib64']
places += [path + '/nvidia/*/lib' for path in sys.path]
found = [f for p in places for f in glob.glob(p + '/' + sys.argv[1])]
print(os.path.dirname(found[0]) if found else '')
PYTHON
    )
    if [ "$found" ]; then
        export LD_LIBRARY_PATH="$found${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
        echo "$library is in $found"
    else
        echo "$library is nowhere to be found: $(find / -name "$library" 2>/dev/null | head -n 3)"
    fi
done

[ $# -gt 0 ] || set -- check ops train sample vae torch
status=0
benches=
for part; do
    case $part in
    check) tests/gpu/check.sh || status=1 ;;
    memcheck | racecheck)
        echo "== $part"
        WRAP="compute-sanitizer --tool $part --report-api-errors no --error-exitcode 99" \
            TESTS="${TESTS:-ops-bf16 primitives}" tests/gpu/check.sh || status=1
        ;;
    *) benches="$benches $part" ;;
    esac
done
# shellcheck disable=SC2086
[ -z "$benches" ] || tests/bench/gpu.sh $benches || status=1
exit $status
