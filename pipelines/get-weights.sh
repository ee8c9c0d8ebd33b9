#!/bin/sh
# Fetches published weights by their names, for all programs to find them. SPDX-License-Identifier: MIT
set -eu

usage() {
    cat <<'END'
Usage: get-weights.sh [--list] NAME...
Fetches published weights into the folder $DIT_HOME (default: ~/.cache/dit-tools). There the programs
find them by their names: dit-sample --weights DiT-XL-2-256x256 --vae sd-vae-ft-ema. A download that
was stopped goes on where it stopped. A file gets its name when its size and checksums are right and it
has been read to its end. Needs curl.

      --list    print the names, sizes and addresses
  -h, --help    show this help

DIT_MIRROR=ADDRESS takes NAME and its ending from the folder at this address instead.
END
}
# Name, ending, size, address, and the SHA-256 where it is published beside the server.
weights='
DiT-XL-2-256x256 pt          2.7GB https://dl.fbaipublicfiles.com/DiT/models/DiT-XL-2-256x256.pt
DiT-XL-2-512x512 pt          2.7GB https://dl.fbaipublicfiles.com/DiT/models/DiT-XL-2-512x512.pt
SiT-XL-2-256x256 pt          2.7GB https://www.dl.dropboxusercontent.com/scl/fi/as9oeomcbub47de5g4be0/SiT-XL-2-256.pt?rlkey=uxzxmpicu46coq3msb17b9ofa&dl=0
sd-vae-ft-ema    safetensors 335MB https://huggingface.co/stabilityai/sd-vae-ft-ema/resolve/main/diffusion_pytorch_model.safetensors
sd-vae-ft-mse    safetensors 335MB https://huggingface.co/stabilityai/sd-vae-ft-mse/resolve/main/diffusion_pytorch_model.safetensors a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815
inception        pth         96MB  https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth 6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2
'
fail() { # fail STATUS MESSAGE
    echo "get-weights.sh: $2" >&2
    exit "$1"
}
names() {
    echo "$weights" | sed -n 's/ .*//p' | tr '\n' ' '
}
# The checks by the programs themselves.
command -v convert-weights >/dev/null || PATH=$(cd "$(dirname "$0")/.." && pwd)/build/bin:$PATH

# Prints the value of a header, the last one if redirections bring several.
header() { # header NAME
    tr -d '\r' <"$headers" | sed -n "s/^$1: *//Ip" | tail -n 1
}
# Prints the size that the server gives the whole file; nothing if it gives none.
expected_size() {
    size=$(header content-range | sed -n 's,.*/\([0-9][0-9]*\)$,\1,p')
    echo "${size:-$(header content-length)}"
}
# Brings $part to its end. If the connection breaks, it goes on as long as any attempt of three brings
# something.
download() { # download ADDRESS
    quiet=-sS
    [ ! -t 2 ] || quiet=-#
    tries=0
    while [ $tries -lt 3 ]; do
        [ $tries = 0 ] || sleep 1
        code=0 before=$(wc -c <"$part")
        curl $quiet -fL -C - --connect-timeout 30 --speed-limit 1000 --speed-time 60 \
            -D "$headers" -o "$part" "$1" || code=$?
        # 416: nothing comes after what was kept, which is not the file.
        [ "$(sed -n 's,^HTTP/[0-9.]* \([0-9]*\).*,\1,p' "$headers" | tail -n 1)" != 416 ] || code=33
        case $code in
        0)
            size=$(expected_size) found=$(wc -c <"$part")
            [ "${size:-$found}" = "$found" ] && return
            rm -f "$part"
            fail 66 "$name: expected $size bytes, as its server says, found $((found)); nothing was kept" ;;
        33)
            echo "get-weights.sh: $name: the server cannot continue this download; beginning anew" >&2
            : >"$part"
            continue ;;
        18 | 28 | 52 | 55 | 56 | 92) ;; # the connection broke
        23) fail 74 "$part: cannot be written" ;;
        *) fail 66 "$1: cannot be fetched" ;;
        esac
        [ "$(wc -c <"$part")" -le "$before" ] || tries=-1
        tries=$((tries + 1))
    done
    fail 66 "$name: incomplete, with $(($(wc -c <"$part"))) bytes; run the same command again to continue"
}
# Compares $part with the SHA-256 of the table, or that which Hugging Face sends.
check_sum() { # check_sum SUM
    sum=${1:-$(header x-linked-etag | tr -cd 0-9a-f)}
    [ ${#sum} = 64 ] || return 0
    [ "$(sha256sum <"$part")" = "$sum  -" ] || {
        rm -f "$part"
        fail 65 "$name: its SHA-256 is not $sum, as published; nothing was kept"
    }
}
get() { # get NAME ENDING SIZE ADDRESS [SUM]
    name=$1
    file=$home/$1.$2
    part=$file.part
    if [ -e "$file" ]; then
        echo "get-weights.sh: $file is there" >&2
        return
    fi
    address=${DIT_MIRROR:+$DIT_MIRROR/$1.$2}
    mkdir -p "$home"
    exec 9>>"$part"
    flock -n 9 || fail 64 "$part: another get-weights.sh writes it"
    # Stopped between the download and its check, the part is whole.
    convert-weights --quiet --check "$part" 2>/dev/null || {
        echo "get-weights.sh: fetching $1, $3" >&2
        download "${address:-$4}"
    }
    check_sum "${5:-}"
    convert-weights --quiet --check "$part" || {
        rm -f "$part"
        fail 65 "$name: what came is not the weights; nothing was kept"
    }
    mv "$part" "$file"
    exec 9>&-
    echo "$file"
}

case ${1:-} in
-h | --help) usage; exit 0 ;;
--list) echo "$weights" | sed '/^$/d'; exit 0 ;;
-*) fail 64 "unknown option '$1'; see --help" ;;
'') fail 64 "expected names, of $(names)" ;;
esac
home=${DIT_HOME:-$HOME/.cache/dit-tools}
for name; do
    case " $(names)" in
    *" $name "*) ;;
    *) fail 64 "no weights are known as '$name', but $(names)" ;;
    esac
done
command -v curl >/dev/null || fail 64 'curl is not installed'
headers=$(mktemp)
part=
finish() {
    rm -f "$headers"
    [ -s "$part" ] || rm -f "$part"
}
trap finish EXIT
trap 'exit 75' INT TERM
for name; do
    # shellcheck disable=SC2046,SC2086 # the words of a row
    set -f && get $(echo "$weights" | grep "^$name ")
done
