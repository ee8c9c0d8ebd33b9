#!/bin/sh
# install-deps.sh build|check: installs missing Debian packages that dit-tools needs to build (and to
# be tested). Without apt, or without root and sudo, it prints their names.
# SPDX-License-Identifier: MIT
set -eu

build='gcc make pkg-config libjpeg-dev libpng-dev zlib1g-dev libzstd-dev libjansson-dev'
pictures='libwebp-dev libgif-dev libtiff-dev' # optional: kinds of pictures besides JPEG, PNG and BMP
check='g++ mandoc shellcheck clang-format valgrind zstd perl python3 python3-numpy openmpi-bin libopenmpi-dev'
demo='gnuplot-nox'
case ${1:-build} in
build) want="$build $pictures $demo" ;;
check) want="$build $pictures $check $demo" ;;
*) echo 'usage: install-deps.sh build|check' >&2; exit 64 ;;
esac

command -v dpkg-query >/dev/null || exit 0 # not Debian; make reports the missing libraries
missing=
for package in $want; do
    # A name such as libjpeg-dev may be provided by another package, so several lines may come back.
    status=$(dpkg-query -W -f '${db:Status-Status} ' "$package" 2>/dev/null || true)
    case " $status" in *' installed '*) ;; *) missing="$missing $package" ;; esac
done
[ -n "$missing" ] || exit 0

as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
if ! command -v apt-get >/dev/null || { [ -n "$as_root" ] && ! command -v sudo >/dev/null; }; then
    echo "install-deps.sh: please install:$missing" >&2
    exit 1
fi
echo "Installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words
install() { $as_root apt-get install -qq -y --no-install-recommends $missing >&2; }
install || { $as_root apt-get update -qq >&2 && install; }
