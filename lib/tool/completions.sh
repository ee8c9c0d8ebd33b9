#!/bin/sh
# Prints a program's completions for a shell, made from its --help, so from its table of options:
#     lib/tool/completions.sh bash|zsh|fish PROGRAM
# A value is completed by its choices, or by file names where the help calls it FILE, SHARD or FOLDER;
# so are operands. SPDX-License-Identifier: MIT
shell=$1
program=$2
help=$("$program" --help) || exit

# The options on lines of NAME, LETTER, ARGUMENT and HELP, with tabs between. --no-NAME is an option
# where the help of NAME mentions it.
options() {
    printf '%s\n' "$help" | awk -v OFS='\t' '
        function flush() {
            if (name != "") print name, letter, argument, help
            if (match(help, /--no-[a-z-]+/)) print substr(help, RSTART + 2, RLENGTH - 2), "", "", help
            name = ""
        }
        /^  (-., |    )--/ {
            flush()
            letter = substr($0, 3, 1) == "-" && substr($0, 4, 1) != "-" ? substr($0, 4, 1) : ""
            rest = substr($0, 9)
            help = match(rest, /  +/) ? substr(rest, RSTART + RLENGTH) : ""
            name = help == "" ? rest : substr(rest, 1, RSTART - 1)
            argument = ""
            if (i = index(name, "=")) {
                argument = substr(name, i + 1)
                name = substr(name, 1, i - 1)
            }
            next
        }
        /^ +[^ ]/ && name != "" && help == "" { sub(/^ +/, ""); help = $0; next }
        { flush() }
        END { flush() }'
}

# Words that are not options and have no choices are completed as file names, by -o default.
bash_completions() {
    options | awk -F'\t' -v program="$program" '
        { words = words " --" $1 ($2 == "" ? "" : " -" $2) }
        $3 ~ /\|/ {
            gsub(/\|/, " ", $3)
            cases = cases "    " ($2 == "" ? "" : "-" $2 " | ") "--" $1 ") words=\047" $3 "\047 ;;\n"
            next
        }
        $3 != "" { values = values (values == "" ? "" : " | ") ($2 == "" ? "" : "-" $2 " | ") "--" $1 }
        END {
            name = "_" program
            gsub(/-/, "_", name)
            print "# bash completion for " program "."
            print name "()\n{"
            print "    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} words"
            print "    if [[ $word == = ]]; then # readline takes --NAME=VALUE for three words"
            print "        word="
            print "    elif [[ $previous == = ]]; then"
            print "        previous=${COMP_WORDS[COMP_CWORD - 2]}"
            print "    fi"
            print "    COMPREPLY=()"
            print "    case $previous in"
            printf "%s", cases
            if (values != "")
                print "    " values ") return ;;"
            print "    *)"
            print "        [[ $word == -* ]] || return"
            print "        words=\047" substr(words, 2) "\047"
            print "        ;;"
            print "    esac"
            print "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")"
            print "}"
            print "complete -o default -F " name " " program
        }'
}

zsh_completions() {
    options | awk -F'\t' -v program="$program" '
        function quoted(text) { gsub(/\047/, "\047\\\047\047", text); return text }
        function described(text) { gsub(/[][\\:]/, "\\\\&", text); return "[" quoted(text) "]" }
        BEGIN { print "#compdef " program "\n_arguments -s -S \\" }
        {
            action = ""
            if ($3 ~ /\|/) { gsub(/\|/, " ", $3); action = ":" $1 ":(" $3 ")" }
            else if ($3 ~ /FILE|SHARD/) action = ":" $3 ":_files"
            else if ($3 ~ /FOLDER/) action = ":" $3 ":_files -/"
            else if ($3 != "") { gsub(/:/, "\\:", $3); action = ":" $3 ": " }
            equals = action == "" ? "" : "="
            if ($2 != "")
                print "    \047(-" $2 " --" $1 ")\047{-" $2 (action == "" ? "" : "+") ",--" $1 equals "}\047" described($4) action "\047 \\"
            else
                print "    \047--" $1 equals described($4) action "\047 \\"
        }
        END { print "    \047*:file:_files\047" }'
}

fish_completions() {
    options | awk -F'\t' -v program="$program" '
        function quoted(text) { gsub(/[\\\047]/, "\\\\&", text); return "\047" text "\047" }
        {
            values = ""
            if ($3 ~ /\|/) { gsub(/\|/, " ", $3); values = " -x -a " quoted($3) }
            else if ($3 ~ /FILE|SHARD/) values = " -r -F"
            else if ($3 ~ /FOLDER/) values = " -x -a \047(__fish_complete_directories)\047"
            else if ($3 != "") values = " -x"
            print "complete -c " program ($2 == "" ? "" : " -s " quoted($2)) " -l " $1 values " -d " quoted($4)
        }'
}

case $shell in
bash | zsh | fish) "${shell}_completions" ;;
*)
    echo 'usage: lib/tool/completions.sh bash|zsh|fish PROGRAM' >&2
    exit 64
    ;;
esac
