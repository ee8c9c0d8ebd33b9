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
# Runs SCRIPT, which lies beside this one, on the numbers 1 to PARTS, JOBS of them at once; in a
# process group of its own, so that all of them can be stopped.
run_parts() { # run_parts SCRIPT PARTS JOBS
    seq 1 "$2" >"$WORK/parts.list"
    setsid xargs -n 1 -P "$3" "$(dirname "$0")/$1" <"$WORK/parts.list" &
    stage_pid=-$!
    wait "$!" || exit 1
    stage_pid=
}
stop() {
    trap '' INT TERM
    [ -z "$stage_pid" ] || kill -- "$stage_pid" 2>/dev/null || :
    wait
    echo "${0##*/}: stopped; the same command goes on" >&2
    exit 75
}
trap stop INT TERM

# What encode-part.sh and sample-part.sh are told by the environment, with the defaults.
encode_settings() {
    : "${WORK:=imagenet256}" "${SIZE:=256}" "${PARTS:=64}" "${FLIP=--flip}" "${JOBS:=1}"
    check_number PARTS "$PARTS"
    check_number JOBS "$JOBS"
    export WORK SIZE PARTS FLIP JOBS DIT_VAE
}
sample_settings() {
    : "${WORK:=samples}" "${WEIGHTS:=run/latest.safetensors}" "${COUNT:=50000}" "${PARTS:=100}" \
        "${CLASSES:=random}" "${CFG_SCALE:=1.5}" "${SAMPLE_STEPS:=250}" "${SEED:=0}" \
        "${SAMPLE_OPTIONS=}" "${JOBS:=1}"
    check_number PARTS "$PARTS"
    check_number JOBS "$JOBS"
    export WORK WEIGHTS COUNT PARTS CLASSES CFG_SCALE SAMPLE_STEPS SEED SAMPLE_OPTIONS JOBS
}
# The I-th part's file.
part_file() { # part_file FOLDER I
    printf '%s/%06d.tstream' "$1" "$2"
}
# Threads for each of JOBS processes of this machine.
threads() {
    echo $((($(nproc) + JOBS - 1) / JOBS))
}
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
