#!/bin/sh
# What all programs do alike: --help, --version, refusals, a standard output that fails.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh

# The long options that the help on stdin lists, and those that the page's lists have as items;
# --no-NAME in a page is NAME's.
help_options() {
    sed -n 's/^  \(-., \|    \)--\([a-z0-9-]*\).*/\2/p' | sort -u
}
page_options() {
    sed -n '/^\.It.* Fl -/p' "$1" | tr ' ' '\n' | sed -n 's/^-\([a-z][a-z0-9-]*\)=\{0,1\}$/\1/p' |
        sed 's/^no-//' | sort -u
}
closed() { # closed COMMAND...: with standard output closed
    "$@" >&-
}
full() {
    "$@" >/dev/full
}
silent_when_reader_leaves() {
    { "$@" 2>"$tmp/err" || :; } | :
    [ ! -s "$tmp/err" ]
}

version=$(sed -n 's/^#define DIT_TOOLS_VERSION "\(.*\)".*/\1/p' lib/tool/tool.h)
is 'the changelog begins with the version' \
    "$(sed -n 's/^## \([0-9.]*\).*/\1/p' CHANGELOG.md | head -n 1)" "$version"

with_threads=0
with_numbers=0
for source in bin/*; do
    name=${source#bin/}
    name=${name%.c}
    exits "$name --help" 0 "$name" --help
    is '... prints nothing on standard error' "$(cat "$tmp/err")" ''
    cp "$tmp/out" "$tmp/help"
    is '... begins with the usage' \
        "$(sed -n '1s/^\(Usage: [a-z-]*\).*/\1/p' "$tmp/help")" "Usage: $name"
    is '... ends with the name of the manual' "$(tail -n 1 "$tmp/help")" "Full manual: man $name"
    help_options <"$tmp/help" >"$tmp/in_help"
    page_options "man/$name.1" >"$tmp/in_page"
    ok '... lists options' [ -s "$tmp/in_help" ]
    is '... (<) and the page (>) have the same options' \
        "$(diff "$tmp/in_help" "$tmp/in_page" | grep '^[<>]')" ''
    exits "$name -h" 0 "$name" -h
    ok '... prints what --help does' cmp -s "$tmp/help" "$tmp/out"

    exits "$name --version" 0 "$name" --version
    is '... prints the name and the version' "$(cat "$tmp/out")" "$name (dit-tools) $version"
    exits "$name -V" 0 "$name" -V

    exits "$name --hepl" 64 "$name" --hepl
    says 'is refused with the nearest option' "$name: unknown option '--hepl'; did you mean '--help'?"
    is '... prints nothing on standard output' "$(cat "$tmp/out")" ''
    if grep -q -e ' --threads=' "$tmp/help"; then
        with_threads=$((with_threads + 1))
        exits "$name --thread 1" 64 "$name" --thread 1
        says 'is refused with the nearest option' "did you mean '--threads'?"
        exits "$name -@ 1x" 64 "$name" -@ 1x
        says 'is refused with the range' \
            "option --threads: expected a whole number from 0 to 1024, found '1x'"
    fi
    if grep -q -e ' --output=FILE' "$tmp/help"; then
        set -- "$tmp/missing"
        [ "$name" != dit-sample ] || set -- --weights="$1"
        [ "$name" != average-weights ] || set -- --length=0.1 "$1"
        exits "$name opens its output before its input" 73 "$name" -o "$tmp/none/out" "$@"
        says 'names the output' "$name: $tmp/none/out: cannot create"
    fi
    number=$(sed -n 's/^  .*--\([a-z0-9-]*\)=N .*/\1/p' "$tmp/help" | head -n 1)
    if [ -n "$number" ]; then
        with_numbers=$((with_numbers + 1))
        exits "$name --$number=abc" 64 "$name" "--$number=abc"
        says 'is refused by name' "option --$number: expected"
    fi

    exits "$name --help >&-" 74 closed "$name" --help
    says 'tells of it' "$name: standard output: cannot write"
    exits "$name --help >/dev/full" 74 full "$name" --help
    says 'tells of it' "$name: standard output: cannot write: No space left on device"
    ok "$name --help ends quietly when its reader leaves" silent_when_reader_leaves "$name" --help
done

ok 'most programs have --threads' [ $with_threads -ge 8 ]
ok 'most programs have an option that takes a number' [ $with_numbers -ge 8 ]
is 'decode is decode-images' "$(decode --version)" "$(decode-images --version)"

# refuses COMMAND WHAT: with a terminal wherever the command does not redirect.
refuses() {
    if ! script -qec true /dev/null >/dev/null 2>&1; then
        skip "a terminal for '$1' is refused" 'no script(1) or no pseudo-terminal here'
        return
    fi
    exits "a terminal for '$1'" 64 script -qec "cd $tmp && $1" /dev/null
    ok "... is refused as its $2" grep -q "^${1%% *}: $2 is a terminal; " "$tmp/out"
    is '... gets one line and no data' "$(grep -c '' <"$tmp/out")" 1
}
echo iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg== |
    base64 -d >"$tmp/dot.png"
ok 'a picture becomes a stream of images' decode-images -q --size 8 -o "$tmp/images" "$tmp/dot.png"
ok 'the images become a stream of latents' vae-encode -q -o "$tmp/latents" <"$tmp/images"
refuses 'decode-images dot.png' 'standard output'
refuses 'vae-encode <images' 'standard output'
refuses 'vae-decode <latents' 'standard output'
refuses 'tstream-cat images' 'standard output'
refuses 'npz-pack <images' 'standard output'
npz-pack -q -o "$tmp/x.npz" "$tmp/images"
refuses 'npz-unpack x.npz' 'standard output'
refuses 'tile-images <images' 'standard output'
refuses 'dit-sample' 'standard output'
refuses 'import-features .' 'standard output'
refuses 'decode-images >sink' 'standard input'
refuses 'vae-encode >sink' 'standard input'
refuses 'vae-decode >sink' 'standard input'
refuses 'shard-latents >sink' 'standard input'
refuses 'npz-pack >sink' 'standard input'
refuses 'encode-images pictures' 'standard input'
refuses 'tile-images >sink' 'standard input'
refuses 'dit-info' 'standard input'
refuses 'tstream-cat >sink' 'standard input'
refuses 'dit-train' 'standard input'

# The overview names every option of lib/tool/tool.h that programs share.
for option in help version quiet verbose progress output threads level device seed pg; do
    ok "dit-tools(7) has --$option" grep -q "^\.It.* Fl -\(no-\)\{0,1\}$option\( \|$\)" \
        man/dit-tools.7
done

done_testing
