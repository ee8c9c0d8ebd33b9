# The Test Anything Protocol for tests in sh: `. tests/tap.sh`. SPDX-License-Identifier: MIT
# Run from the top of the tree with build/bin on the PATH (make run-tests does).
# $tmp is a folder that goes when the test ends; $BUILD is the build folder.
# shellcheck shell=sh disable=SC2034
BUILD=${B:-build}
tap_n=0
tap_failed=0
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

# ok NAME COMMAND...: passes if the command succeeds.
ok() {
    tap_name=$1
    shift
    tap_n=$((tap_n + 1))
    if "$@"; then
        echo "ok $tap_n - $tap_name"
    else
        echo "not ok $tap_n - $tap_name"
        tap_failed=$((tap_failed + 1))
    fi
}
# is NAME GOT EXPECTED
is() {
    if [ "$2" = "$3" ]; then
        ok "$1" true
    else
        ok "$1" false
        printf '%s\n' "got: $2" "expected: $3" | sed 's/^/# /'
    fi
}
# exits NAME STATUS COMMAND...: stdout goes to $tmp/out, stderr to $tmp/err.
exits() {
    tap_what=$1
    tap_want=$2
    shift 2
    "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    tap_got=$?
    is "$tap_what (exit $tap_want)" $tap_got "$tap_want"
    [ $tap_got = "$tap_want" ] || sed 's/^/# /' "$tmp/err"
}
# says NAME TEXT: the last command of `exits` said TEXT on stderr.
says() {
    ok "$1" grep -qF -- "$2" "$tmp/err"
    grep -qF -- "$2" "$tmp/err" || sed 's/^/# /' "$tmp/err"
}
skip() {
    tap_n=$((tap_n + 1))
    echo "ok $tap_n - $1 # SKIP $2"
}
# The end of every test.
done_testing() {
    echo "1..$tap_n"
    exit $((tap_failed != 0))
}
