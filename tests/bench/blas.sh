#!/bin/sh
# blas.sh: measures the matrix products of DiT's shapes with OpenBLAS, BLIS and oneDNN, as far as
# they are installed (libopenblas-dev, libblis-dev, libdnnl-dev), and with our own.
# SPDX-License-Identifier: MIT
set -eu
build=${B:-build}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
try() { # try NAME FLAG...
    name=$1
    shift
    if ${CC:-gcc} -O2 tests/bench/blas/sgemm.c -o "$tmp/sgemm" "$@" 2>"$tmp/log"; then
        echo "== $name"
        "$tmp/sgemm"
    else
        echo "== $name: not installed ($(head -n 1 "$tmp/log"))"
    fi
}
lib=/usr/lib/$(gcc -print-multiarch)
include=/usr/include/$(gcc -print-multiarch)
try OpenBLAS -I"$include/openblas-pthread" -L"$lib/openblas-pthread" -Wl,-rpath,"$lib/openblas-pthread" \
    -lopenblas
BLIS_NUM_THREADS=$(nproc)
export BLIS_NUM_THREADS
try BLIS -I"$include/blis-openmp" -L"$lib/blis-openmp" -Wl,-rpath,"$lib/blis-openmp" -lblis
try oneDNN -DONEDNN -ldnnl
echo '== our own'
for op in linear linear_backward_input linear_backward_weight; do
    "$build/tests/check-ops" --bench --only $op
done
