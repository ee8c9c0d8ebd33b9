#!/bin/sh
# The completions for bash, zsh and fish have every option and choice. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh

# completes WORD...: what bash offers for the last word, on one line.
completes() {
    bash -c '
        . "$1/completions/bash/$2" || exit
        shift
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        "_${1//-/_}"
        echo "${COMPREPLY[*]}"' bash "$BUILD" "$@"
}
is 'bash: an option by its beginning' "$(completes dit-train --resu)" --resume
is 'bash: all options that begin so' "$(completes dit-train --valid)" '--valid --valid-every --valid-count'
is 'bash: the choices of an option' "$(completes dit-train --recompute '')" 'none light block'
is 'bash: a choice by its beginning' "$(completes dit-train --recompute li)" light
is 'bash: a choice after =' "$(completes dit-train --recompute = b)" block
is 'bash: all choices after =' "$(completes dit-sample --schedule =)" 'linear karras'
is 'bash: --no-NAME where the help has it' "$(completes vae-encode --no-)" '--no-pg --no-progress'
is 'bash: a value without choices is left to file names' "$(completes dit-train --run '')" ''
is 'bash: so is an operand' "$(completes dit-train sh)" ''

# The file of completions for SHELL and PROGRAM, and how an option stands in it.
file_of() {
    case $1 in
    bash) echo "$BUILD/completions/bash/$2" ;;
    zsh) echo "$BUILD/completions/zsh/_$2" ;;
    fish) echo "$BUILD/completions/fish/$2.fish" ;;
    esac
}
option_in() {
    case $1 in
    bash) echo "[' ]--$2[' ]" ;;
    zsh) echo "[',]--$2[]=[}]" ;;
    fish) echo " -l $2 " ;;
    esac
}
lacking() { # lacking SHELL PROGRAM: the options of the help that its completions don't have
    sed -n 's/^  \(-., \|    \)--\([a-z0-9-]*\).*/\2/p' "$tmp/help" | while read -r option; do
        grep -q -e "$(option_in "$1" "$option")" "$(file_of "$1" "$2")" || echo "$option"
    done
}
for program in bin/* bin/decode; do
    program=${program#bin/}
    program=${program%.c}
    "$program" --help >"$tmp/help"
    for shell in bash zsh fish; do
        is "$program: $shell has every option of --help" "$(lacking $shell "$program")" ''
        if command -v $shell >/dev/null; then
            ok "$program: $shell reads its completions" $shell -n "$(file_of $shell "$program")"
        else
            skip "$program: $shell reads its completions" "no $shell here"
        fi
    done
done

done_testing
