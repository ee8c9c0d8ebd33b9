#!/bin/sh
# The rules of the house hold in the whole tree. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh

# none NAME COMMAND...: passes if the command succeeds and prints nothing; what it prints is shown.
none() {
    none_name=$1
    shift
    if "$@" >"$tmp/found" 2>&1 && [ ! -s "$tmp/found" ]; then
        ok "$none_name" true
    else
        ok "$none_name" false
        sed 's/^/# /' "$tmp/found"
    fi
}
# needs NAME PROGRAM COMMAND...: none, where PROGRAM is there.
needs() {
    if command -v "$2" >/dev/null; then
        needs_name=$1
        shift 2
        none "$needs_name" "$@"
    else
        skip "$1" "no $2 here"
    fi
}
# The sources that end in one of the given ways.
sources() {
    for ending; do
        find bin formats kernels lib man pipelines tests -type f -name "*$ending"
    done | sort
}

# Includes of LAYER that are not of the layers named after it.
upward() {
    upward_layer=$1
    shift
    find "$upward_layer" -type f -name '*.[chd]*' -exec grep -Hn '^ *# *include *"' {} + |
        awk -F'"' -v allowed=" $* " '{
            n = split($2, part, "/")
            if (n < 2 || !index(allowed, " " part[1] " ") || $2 ~ /\.\./) print
        }'
}
none 'kernels include only kernels and lib/base' upward kernels kernels lib
none 'lib includes only lib and kernels' upward lib lib kernels
none 'formats include no programs' upward formats formats lib kernels
none 'programs include no tests' upward bin bin formats lib kernels

long() { # long MOST FILE...
    long_most=$1
    shift
    wc -l "$@" | awk -v most="$long_most" '$2 != "total" && $1 > most'
}
# shellcheck disable=SC2046 # names without blanks
none 'no source is longer than 800 lines' long 800 $(sources .c .h .cc .cu .def .sh .py)
none 'no program is much longer than 250 lines' long 275 bin/*.c

impure() {
    grep -nE '^ *# *(if|ifdef|ifndef|pragma)|omp_|cuda|pthread' lib/model/dit*.c lib/model/autoencoder*.c
    [ $? = 1 ]
}
none 'model code has no conditions, threads or CUDA' impure

unmarked() { # shellcheck disable=SC2046
    grep -L 'SPDX-License-Identifier: MIT' Makefile tests/run \
        $(sources .c .h .cc .cu .def .sh .py .1 .5 .7) || true
}
none 'every source names its licence' unmarked

scripts() {
    # shellcheck disable=SC2046
    shellcheck -x -s sh -e SC2317 $(sources .sh) .ci/run
}
needs 'scripts pass shellcheck' shellcheck scripts

unformatted() {
    # shellcheck disable=SC2046
    clang-format --dry-run -Werror $(sources .c .h .cc .cu)
}
needs 'sources are formatted' clang-format unformatted

without_page() {
    for page in bin/*; do
        page=${page#bin/}
        page=${page%.c}
        [ -f "man/$page.1" ] || echo "man/$page.1 is missing"
        grep -q "^\.It Xr $page 1" man/dit-tools.7 || echo "man/dit-tools.7 does not name $page"
    done
    sed -n 's/^\.It Xr \([a-z-]*\) 1$/\1/p' man/dit-tools.7 | while read -r page; do
        [ -e "bin/$page.c" ] || [ -d "bin/$page" ] || echo "man/dit-tools.7 names $page, which is not in bin/"
    done
}
none 'every program has its page' without_page
for page in man/*.[157]; do
    needs "$page passes mandoc" mandoc mandoc -T lint -W warning "$page"
done

# The items of EXIT STATUS of every page are statuses that lib/base/error.h lists.
odd_statuses() {
    known=$(sed -n 's/^ *STATUS_[A-Z_]* = \([0-9]*\),.*/\1/p' lib/base/error.h | tr '\n' ' ')
    awk -v known=" $known" '
        FNR == 1 || /^\.Sh / { inside = /^\.Sh EXIT STATUS/ }
        inside && /^\.It / && $2 ~ /^[0-9]+$/ && !index(known, " " $2 " ") {
            print FILENAME ":" FNR ": exit status " $2 " is not in lib/base/error.h"
        }' man/*.[17]
}
none 'the pages promise only statuses that exist' odd_statuses

done_testing
