#!/bin/sh
# more.sh [PART]...: runs the tests in the ways that make check has no time for, as far as this
# machine allows: examples, slurm, sanitizers, mutants, resources, clang, locale, arm64, trixie, sid.
# Exits 1 if a part fails. SPDX-License-Identifier: MIT
# A part needs: slurm, root and what tests/slurm-cluster.sh says; resources, nvcc; clang, its compiler;
# locale, the locale de_DE.UTF-8; arm64, the packages gcc-aarch64-linux-gnu and qemu-user-static; arm64
# and the releases of Debian, root and mmdebstrap, which makes their systems below build/systems once.
set -u
jobs=$(nproc)
systems=$PWD/build/systems
packages='libjpeg-dev,libpng-dev,zlib1g-dev,libzstd-dev,libjansson-dev'
failed=''

have() { # have PROGRAM...
    for program; do
        command -v "$program" >/dev/null || { echo "$part: SKIP: no $program here"; return 1; }
    done
}
can_make_systems() {
    have mmdebstrap unshare chroot || return
    [ "$(id -u)" = 0 ] || { echo "$part: SKIP: needs root"; return 1; }
}
# make_system NAME SUITE OPTION...: unless it is there.
make_system() {
    [ ! -e "$systems/$1.made" ] || return 0
    name=$1 suite=$2
    shift 2
    mkdir -p "$systems" && rm -rf "${systems:?}/$name" &&
        mmdebstrap "$@" "$suite" "$systems/$name" >"$systems/$name.log" 2>&1 && touch "$systems/$name.made"
}
run_make() { make -j"$jobs" --no-print-directory "$@"; }

check_sanitizers() { run_make SAN=address,undefined run-tests; }
check_mutants() { run_make CUDA=0 tests && tests/cudasim/mutants.sh; }
check_resources() {
    have nvcc || return 0
    run_make cuda-resources
}
check_clang() {
    have clang clang++ || return 0
    run_make B=build/clang CC=clang CXX=clang++ CUDA=0 run-tests
}
check_locale() {
    locale -a 2>/dev/null | grep -qi '^de_DE\.utf-\?8$' ||
        { echo 'locale: SKIP: no de_DE.UTF-8 here'; return 0; }
    run_make TEST_LOCALE=de_DE.UTF-8 run-tests
}
check_examples() { EXAMPLES=all run_make run-tests T=examples; }
check_slurm() {
    run_make CUDA=0 programs build/tests/tools/draw-shapes || return
    B=build PATH=$PWD/build/bin:$PATH sh tests/slurm-cluster.sh
}
check_arm64() {
    have aarch64-linux-gnu-gcc qemu-aarch64-static || return 0
    can_make_systems || return 0
    make_system arm64 "$(. /etc/os-release && echo "$VERSION_CODENAME")" --arch=arm64 --variant=extract \
        --include=libc6-dev,"$packages" || return
    root=$systems/arm64 tests='' arm_failed=0
    for test in tests/unit/*.c; do
        test=${test##*/}
        tests="$tests build/arm64/tests/${test%.c}"
    done
    # shellcheck disable=SC2086 # a list of words
    PKG_CONFIG_LIBDIR=$root/usr/lib/aarch64-linux-gnu/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root run_make \
        B=build/arm64 CC="aarch64-linux-gnu-gcc --sysroot=$root" CUDA=0 MPI=0 build/arm64/tests/check-ops $tests || return
    for test in build/arm64/tests/check-ops $tests; do
        echo "arm64: ${test##*/}"
        timeout 3600 qemu-aarch64-static -L "$root" "$test" >"$test.log" 2>&1 ||
            { grep '^not ok' "$test.log" || tail -n 3 "$test.log"; arm_failed=1; }
    done
    return $arm_failed
}
# check_debian SUITE: make check of what is committed, in a system of its own.
check_debian() {
    can_make_systems || return 0
    make_system "$1" "$1" --variant=apt --include=git,make,ca-certificates --aptopt='Acquire::Check-Valid-Until "false"' || return
    rm -rf "$systems/$1/src" && git clone -q . "$systems/$1/src" || return
    # shellcheck disable=SC2016 # the inner shell expands it
    unshare --mount sh -c 'for dir in dev sys; do mount --rbind /$dir "$1/$dir"; done
        mount -t proc proc "$1/proc"
        exec chroot "$1" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "cd /src && make check"' \
        sh "$systems/$1"
}

[ $# -gt 0 ] || set -- examples slurm sanitizers mutants resources clang locale arm64 trixie sid
for part; do
    echo "== $part"
    case $part in
    examples | slurm | sanitizers | mutants | resources | clang | locale | arm64) "check_$part" ;;
    trixie | sid) check_debian "$part" ;;
    *) echo "more.sh: unknown part $part" >&2; exit 64 ;;
    esac || failed="$failed $part"
done
[ -z "$failed" ] || { echo "more.sh: failed:$failed" >&2; exit 1; }
