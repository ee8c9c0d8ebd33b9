# For scripts whose stages leave their output under its final name only when it is complete: a
# script that is stopped is called again and goes on. SPDX-License-Identifier: MIT
# shellcheck shell=sh
command -v dit-train >/dev/null || PATH=$(cd "$(dirname "$0")/.." && pwd)/build/bin:$PATH

fail() {
    echo "${0##*/}: $*" >&2
    exit 64
}
say() {
    printf '\n== %s\n' "$*" >&2
}
# Waits for the command just put into the background, so that a signal need not wait for its end.
stage_pid=
finish() {
    stage_pid=$!
    wait "$stage_pid"
    stage_pid=
}
stop() {
    trap '' INT TERM
    [ -z "$stage_pid" ] || kill "$stage_pid" 2>/dev/null || :
    wait
    echo "${0##*/}: stopped; the same command goes on" >&2
    exit 75
}
trap stop INT TERM

check_number() { # check_number VARIABLE VALUE
    case $2 in
    '' | 0* | *[!0-9]*) fail "$1: expected a whole number, found '$2'" ;;
    esac
}
# Keeps in a file what a folder is made of, and refuses to mix it with something else.
check_kind() { # check_kind FILE KIND MESSAGE
    [ -e "$1" ] || printf '%s\n' "$2" >"$1"
    [ "$(cat "$1")" = "$2" ] || fail "$3; take another WORK"
}
