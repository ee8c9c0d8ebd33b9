# Functions for scripts that can be stopped and run again: each stage gives its output the final
# name only when it is complete, and is skipped if that exists. SPDX-License-Identifier: MIT
# shellcheck shell=sh
command -v dit-train >/dev/null || PATH=$(cd "$(dirname "$0")/.." && pwd)/build/bin:$PATH

fail() {
    echo "${0##*/}: $*" >&2
    exit 64
}
say() {
    printf '\n== %s\n' "$*" >&2
}
# Waits for the last background command. Stages run in the background because the shell handles a
# signal only after a foreground command has ended.
stage_pid=
wait_for_last() {
    stage_pid=$!
    wait "$stage_pid"
    stage_pid=
}
# Runs SCRIPT, from the calling script's folder, with each number from 1 to PARTS, JOBS at once. They
# get a process group of their own so that all can be stopped together.
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
    echo "${0##*/}: stopped; run the same command again to continue" >&2
    exit 75
}
trap stop INT TERM

# Sets and exports the environment variables that encode-part.sh and sample-part.sh read.
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
# Sets WEIGHTS to the script's only operand, or to what is set or usual.
choose_weights() { # choose_weights ARGUMENT...
    case ${1:-} in
    -h | --help) usage && exit 0 ;;
    -*) fail "unknown option '$1'; see --help" ;;
    esac
    [ $# -le 1 ] || fail "expected one file of weights, found $*"
    WEIGHTS=${1:-${WEIGHTS:-run/latest.safetensors}}
    [ -f "$WEIGHTS" ] || fail "$WEIGHTS: no such file"
}
# Prints the path of the I-th part.
part_file() { # part_file FOLDER I
    printf '%s/%06d.tstream' "$1" "$2"
}
# Prints the number of threads for each of JOBS processes on this machine.
threads() {
    echo $((($(nproc) + JOBS - 1) / JOBS))
}
check_number() { # check_number VARIABLE VALUE
    case $2 in
    '' | 0* | *[!0-9]*) fail "$1: expected a whole number, found '$2'" ;;
    esac
}
# Records in FILE the settings that a folder's contents depend on. Fails if FILE has other ones.
check_recipe() { # check_recipe FILE RECIPE MESSAGE
    [ -e "$1" ] || printf '%s\n' "$2" >"$1"
    [ "$(cat "$1")" = "$2" ] || fail "$3; choose another WORK"
}
