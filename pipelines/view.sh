#!/bin/sh
# Writes a training's curves, sheets and settings as one page for a browser. SPDX-License-Identifier: MIT
set -eu

usage() {
    cat <<'END'
Usage: view.sh [-o FILE] [--sheets N] [RUN]
Writes one HTML file that shows a training: its curves, its sheets of samples with a slider for the
step, and its settings. The file needs nothing else, no server and no network. RUN is the run folder of a
dit-train (default: run).

  -o, --output=FILE  write to FILE (default: training.html)
      --sheets=N     show at most N sheets, evenly spread, with the last one (default: 40)
  -h, --help         show this help
END
}
fail() { # fail STATUS MESSAGE
    echo "view.sh: $2" >&2
    exit "$1"
}

output=training.html most=40 run=
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) usage; exit 0 ;;
    -o | --output | --sheets)
        [ $# -gt 1 ] || fail 64 "$1 needs a value; see --help"
        case $1 in --sheets) most=$2 ;; *) output=$2 ;; esac
        shift ;;
    --output=*) output=${1#*=} ;;
    -o*) output=${1#-o} ;;
    --sheets=*) most=${1#*=} ;;
    -*) fail 64 "unknown option '$1'; see --help" ;;
    *)
        [ -z "$run" ] || fail 64 "expected one run, found $run and $1"
        run=$1 ;;
    esac
    shift
done
case $most in
'' | 0* | *[!0-9]* | ??????*) fail 64 "--sheets: expected a number from 1 to 99999, found '$most'" ;;
esac
run=${run:-run}
template=$(dirname "$0")/view.html
for file in log.jsonl config.json; do
    [ -r "$run/$file" ] || fail 66 "$run/$file: cannot read"
done

# Prints data as the content of an element. Where JSON has a "<", it is in a string, and its escape
# keeps a "</script>" there from ending the element.
data() { # data ID < JSON
    printf '<script type="application/json" id="%s">\n' "$1"
    sed 's/</\\u003c/g'
    printf '</script>\n'
}
# Prints a name as a string of JSON.
quote() { # quote NAME
    printf '"%s"' "$(printf %s "$1" | LC_ALL=C tr '\000-\037\177' '?' | sed 's/["\\]/\\&/g')"
}
# Prints the names of the sheets, at most $most of them: the last one, and others in even steps.
sheets() {
    find "$run/samples/" -name '*.png' 2>/dev/null | sort | awk -v most="$most" '
        { name[NR] = $0 }
        END {
            n = NR < most ? NR : most
            for (i = 1; i <= n; i++) print name[int(i * NR / n + 1e-9)]
        }'
}
page() {
    sed '/^<!-- DATA -->$/,$d' "$template"
    quote "$run" | data name
    data log <"$run/log.jsonl"
    data config <"$run/config.json"
    sheets | while IFS= read -r sheet; do
        step=${sheet##*/}
        step=${step%.png}
        case $step in *[!0-9]*) continue ;; esac
        printf '<script type="image/png" data-step="%s">\n' "$step"
        base64 -w 0 <"$sheet"
        printf '\n</script>\n'
    done
    sed '1,/^<!-- DATA -->$/d' "$template"
}
new=$output.new$$
trap 'rm -f "$new"' EXIT
trap 'exit 75' INT TERM
if ! page >"$new" || ! mv "$new" "$output"; then
    fail 74 "$output: cannot be written"
fi
