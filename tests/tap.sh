# The Test Anything Protocol for tests in sh: `. tests/tap.sh`. SPDX-License-Identifier: MIT
#     exits 'a stream cut short' 65 npz-pack "$tmp/cut" -o "$tmp/cut.npz"
#     says 'is named' "$tmp/cut: "
#     ok '... leaves no file' test ! -e "$tmp/cut.npz"
# In the file npz-pack.sh these cases are called
#     npz-pack: a stream cut short (exit 65)
#     npz-pack: a stream cut short is named
#     npz-pack: a stream cut short leaves no file
# as a name that begins with "... " continues the last name that doesn't, and `says` always
# continues that of `exits`. No two cases of a file may have one name.
# Run from the top of the tree with build/bin on the PATH (make run-tests does).
# $tmp is a folder that goes when the test ends; $BUILD is the build folder.
# shellcheck shell=sh disable=SC2034
set -u # a misspelt variable must not turn a check into one that always passes
BUILD=${B:-build}
python3=${PYTHON:-/usr/bin/python3} # with NumPy
tap_test=${0##*/}
tap_test=${tap_test%.sh}
tap_subject=
tap_command=
tap_n=0
tap_failed=0
python_prelude=
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

# tap_result NAME STATUS: reports a case, which passes if STATUS is 0; returns STATUS.
tap_result() {
    case $1 in
    '... '*) tap_name="$tap_subject ${1#... }" ;;
    *) tap_name=$1 tap_subject=${1% (exit*} ;;
    esac
    case $1 in *' (exit '*) tap_command=${tap_name% (exit*} ;; esac
    tap_n=$((tap_n + 1))
    if [ "$2" = 0 ]; then
        echo "ok $tap_n - $tap_test: $tap_name"
    else
        echo "not ok $tap_n - $tap_test: $tap_name"
        tap_failed=$((tap_failed + 1))
    fi
    return "$2"
}
# about NAME: what the names of the next cases continue, where no case is called so.
about() {
    tap_subject=$1
    tap_command=$1
}
# Shows lines of standard input under the last case.
tap_comment() {
    sed 's/^/# /'
}
# ok NAME COMMAND...: passes if the command succeeds.
ok() {
    tap_case=$1
    shift
    [ $# -gt 0 ] && "$@"
    tap_result "$tap_case" $?
}
# is NAME GOT EXPECTED: passes if they are the same text.
is() {
    [ "$2" = "$3" ]
    tap_result "$1" $? || printf '%s\n' "got: $2" "expected: $3" | tap_comment
}
# exits NAME STATUS COMMAND...: passes if the command ends with STATUS. Its standard output goes to
# $tmp/out, its standard error to $tmp/err.
exits() {
    tap_case=$1
    tap_status=$2
    shift 2
    "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    tap_got=$?
    is "$tap_case (exit $tap_status)" $tap_got "$tap_status"
    [ $tap_got = "$tap_status" ] || tap_comment <"$tmp/err"
}
# says NAME TEXT: passes if the last command of `exits` wrote TEXT to standard error.
says() {
    [ -n "$2" ] && grep -qF -- "$2" "$tmp/err"
    tap_result "$tap_command ${1#... }" $? || {
        echo "expected: $2"
        cat "$tmp/err"
    } | tap_comment
}
# skip NAME WHY: a case that can't run here.
skip() {
    tap_result "$1 # SKIP $2" 0
}
# draws SEED: sets $seed for random numbers, and says which: SEED=N in the environment sets another.
draws() {
    seed=${SEED:-$1}
    echo "# $tap_test: SEED=$seed"
}
# python CODE [ARGUMENT...]: runs Python code, after that in $python_prelude.
python() {
    python_code=$1
    shift
    PYTHONPATH=tests/tools PYTHONDONTWRITEBYTECODE=1 "$python3" -c "
import glob, json, os, subprocess, sys, zipfile, zlib
import numpy as np
from checkpoint import header, log, metadata, tensors
from stream import read
tmp = '$tmp/'
$python_prelude
$python_code" "$@"
}
# The end of every test. One without a case fails.
done_testing() {
    [ $tap_n -gt 0 ] || ok 'has a case' false
    echo "1..$tap_n"
    exit $((tap_failed != 0))
}
