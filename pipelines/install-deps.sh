#!/bin/sh
# install-deps.sh build|demo|check: installs missing Debian packages that dit-tools needs to build (and
# for its demo, or to be tested). Without apt, or without root and sudo, it prints their names.
# SPDX-License-Identifier: MIT
set -eu

need='gcc make pkg-config libjpeg-dev libpng-dev zlib1g-dev libzstd-dev libjansson-dev'
# What is made with these is left out where they are missing, and a message says so.
want='gnuplot-nox libwebp-dev libgif-dev libtiff-dev libsixel-dev libarchive-dev'
case ${1:-build} in
build) ;;
demo) want="$want libfreetype-dev libharfbuzz-bin fonts-noto-color-emoji unicode-data" ;;
check)
    need="$need g++ zstd zip perl python3 python3-numpy"
    want="$want mandoc shellcheck clang-format valgrind openmpi-bin libopenmpi-dev"
    ;;
*) echo 'usage: install-deps.sh build|demo|check' >&2; exit 64 ;;
esac

missing() {
    for package; do
        # A name such as libjpeg-dev may be provided by another package, so several lines may come back.
        status=$(dpkg-query -W -f '${db:Status-Status} ' "$package" 2>/dev/null || true)
        case " $status" in *' installed '*) ;; *) printf ' %s' "$package" ;; esac
    done
}
command -v dpkg-query >/dev/null || exit 0 # not Debian; make reports the missing libraries
# shellcheck disable=SC2086 # lists of words
need=$(missing $need) want=$(missing $want)
[ -n "$need$want" ] || exit 0

as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { $as_root apt-get "$@" -qq >>"$log" 2>&1; }
install() { # install PACKAGE...
    [ $# = 0 ] && return
    apt install -y --no-install-recommends "$@"
}
if command -v apt-get >/dev/null && { [ -z "$as_root" ] || command -v sudo >/dev/null; }; then
    echo "Installing:$need$want" >&2
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # lists of words
    install $need $want || { apt update && install $need $want; } || install $need && need=
    # shellcheck disable=SC2086 # a list of words
    want=$(missing $want)
    [ -z "$need$want" ] || cat "$log" >&2 # apt's own words, which few want to read when all went well
fi
[ -z "$want" ] || echo "install-deps.sh: optional, and not installed:$want" >&2
[ -z "$need" ] || { echo "install-deps.sh: please install:$need" >&2; exit 1; }
