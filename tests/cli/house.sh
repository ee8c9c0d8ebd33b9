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

# Each room, and the rooms that its files may include, itself apart.
rooms='
bin:                formats/containers formats/tstream formats/images formats/latents formats/weights
                    lib/tool lib/evaluation lib/model lib/base kernels
formats/latents:    formats/tstream formats/containers lib/base
formats/images:     formats/tstream formats/containers lib/base
formats/weights:    formats/containers lib/model lib/base kernels
formats/tstream:    formats/containers lib/base
formats/containers: lib/base
lib/tool:           kernels lib/base
lib/evaluation:     kernels lib/base
lib/model:          kernels lib/base
kernels:            lib/base
lib/base:
'
# "FILE INCLUDED" for each include of a file of the tree.
includes() {
    find bin formats kernels lib -type f -name '*.[chd]*' -exec \
        grep -H '^ *# *include *"' {} + | sed 's/:.*"\(.*\)".*/ \1/'
}
# Includes that lead from a room to one that it may not see.
upward() {
    includes | awk -v rooms="$rooms" '
        function room(path, part) {
            split(path, part, "/")
            if (part[1] == "bin" || part[1] == "kernels") return part[1]
            return part[1] "/" part[2]
        }
        BEGIN {
            n = split(rooms, word)
            for (i = 1; i <= n; i++) {
                if (sub(/:$/, "", word[i])) from = word[i]
                allowed[from, word[i]]
            }
        }
        !((room($1), room($2)) in allowed) || $2 ~ /\.\./'
}
none 'includes go from each room only to those below it' upward

# A module is a source and its header; no two include each other, nor in a round of several.
circles() {
    includes | grep -v kernels/cuda/ | sed 's/\.[a-z]*\b//g' | awk '$1 != $2' | tsort >/dev/null
}
none 'no modules include each other' circles

# Only programs and lib/tool end the process, print, or read the options of the tool.
outspoken() {
    grep -nE '(^|[^.>_a-z])(_?exit|abort|v?printf|f?puts|putchar|perror)\(|\b(stdout|stderr)\b|\btool[._]' \
        formats/*/*.[ch] lib/base/*.[ch] lib/evaluation/*.[ch] lib/model/*.[ch] | grep -vE '^[^:]*:[0-9]+: *//'
    [ $? = 1 ]
}
none 'the library neither exits nor prints nor reads options' outspoken

loose() {
    find formats lib -maxdepth 1 -name '*.[ch]'
}
none 'every file of formats and lib has a room' loose

# Struct tags and static functions that stand in more than one file. kernels/cuda is apart: a plug-in
# of another language.
repeated() {
    find bin formats lib kernels -name '*.[ch]' ! -path 'kernels/cuda/*' -exec awk '
        function note(name) {
            if (!seen[name, FILENAME]++) where[name] = where[name] " " FILENAME
            if (where[name] ~ / .* /) twice[name]
        }
        match($0, /^ *(static |const )*struct [a-z0-9_]+ \{/) {
            sub(/^.*struct /, "struct "); sub(/ *\{.*/, ""); note($0)
        }
        /^static [^=;]*\([^=;]*$/ { sub(/\(.*/, ""); sub(/.*[ *]/, ""); note($0 "()") }
        END { for (name in twice) print name ":" where[name] }' {} +
}
none 'a struct or static function has a name of its own' repeated

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

# knows PROGRAM VERSION...: whether one of these versions is there. Another version has other rules.
knows() {
    knows_program=$1
    shift
    for version; do
        "$knows_program" --version 2>/dev/null | grep -q "version:* $version\\." && return
    done
    return 1
}
scripts() {
    # SC2317 and, since 0.11, SC2329: functions that are arguments of others
    # shellcheck disable=SC2046
    shellcheck -x -s sh -e SC2317,SC2329 $(sources .sh) .ci/run
}
if knows shellcheck 0.9 0.10 0.11; then
    none 'scripts pass shellcheck' scripts
else
    skip 'scripts pass shellcheck' 'no shellcheck 0.9 to 0.11 here'
fi

clang_format=$(command -v clang-format-14 || echo clang-format)
unformatted() {
    # shellcheck disable=SC2046
    "$clang_format" --dry-run -Werror $(sources .c .h .cc .cu)
}
if knows "$clang_format" 14; then
    none 'sources are formatted' unformatted
else
    skip 'sources are formatted' 'no clang-format 14 here'
fi

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
