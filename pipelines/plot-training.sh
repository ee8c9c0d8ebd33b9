#!/bin/sh
# Draws the curves of one or more trainings from their logs, as a PNG or in the terminal.
# SPDX-License-Identifier: MIT
set -eu

usage() {
    cat <<'END'
Usage: plot-training.sh [-o FILE | --text] [--follow] [RUN]...
Draws the curves of trainings as a PNG: loss (also on held-out latents, where the log has it), its
two parts, gradient norm, learning rate, speed, and FID, where the log has it. Each RUN is the run
folder of a dit-train (default: run). Needs gnuplot.

  -o, --output=FILE  write the picture to FILE (default: training.png)
  -t, --text         draw the loss alone, as text on standard output
  -f, --follow       draw again whenever a log has grown, until Ctrl-C
  -h, --help         show this help
END
}
fail() { # fail STATUS MESSAGE
    echo "plot-training.sh: $2" >&2
    exit "$1"
}

output=training.png text='' follow=''
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) usage; exit 0 ;;
    -o | --output)
        [ $# -gt 1 ] || fail 64 "$1 needs a value: FILE"
        output=$2
        shift ;;
    --output=*) output=${1#*=} ;;
    -o*) output=${1#-o} ;;
    -t | --text) text=1 ;;
    -f | --follow) follow=1 ;;
    --) shift; break ;;
    -*) fail 64 "unknown option '$1'; try --help" ;;
    *) break ;;
    esac
    shift
done
[ $# -gt 0 ] || set -- run
command -v gnuplot >/dev/null || fail 64 'gnuplot is not installed'
if [ -n "$follow" ]; then
    drawn=
    while :; do
        grown=$(for run; do wc -c <"$run/log.jsonl"; done 2>/dev/null || :)
        if [ -n "$grown" ] && [ "$grown" != "$drawn" ]; then
            picture=$("$0" ${text:+--text} -o "$output" -- "$@") || [ $? = 65 ] || exit # 65: no loss yet
            [ -z "$text" ] || [ ! -t 1 ] || printf '\033[H\033[2J'
            [ -z "$text" ] || printf '%s\n' "$picture"
            drawn=$grown
        fi
        sleep 1
    done
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

# Prints "step value" for each line that has the key.
pick() { # pick LOG KEY
    sed -n "s/.*\"step\":\([0-9]*\).*\"$2\":\([-+0-9.e]*\).*/\1 \2/p" "$1"
}
# Prints a name for a string in single quotes, the only one in which gnuplot runs no `command`.
quote() { # quote NAME
    printf %s "$1" | LC_ALL=C tr '\000-\037\177' '?' | LC_ALL=C sed "s/'/''/g"
}
# Prints gnuplot arguments for the curve of KEY of each run. Runs without values are left out.
curves() { # curves KEY STYLE TITLE-SUFFIX [KIND]
    for n in $(seq "$runs"); do
        pick "$tmp/log$n" "$1" >"$tmp/$1$n"
        [ -s "$tmp/$1$n" ] || continue
        printf '"%s" using (column(1)/%d):2 with %s linecolor %d %s title (titles[%d] . "%s"), ' \
            "$1$n" "$unit" "${4:-lines}" "$n" "$2" "$n" "$3"
    done
}
panel() { # panel TITLE SETTINGS CURVES
    [ -z "$text" ] || [ "$1" = loss ] || return 0
    [ -z "$3" ] || printf 'set title "%s"\n%s\nplot %s\nunset logscale\nunset key\n' "$1" "$2" "${3%, }"
}

runs=0
for run; do
    [ -r "$run/log.jsonl" ] || fail 66 "$run/log.jsonl: cannot read"
    grep -q '"loss":' -- "$run/log.jsonl" || fail 65 "$run/log.jsonl: expected a line with a loss, found none"
    runs=$((runs + 1))
    cp -- "$run/log.jsonl" "$tmp/log$runs"
done
# Steps are shown in thousands where there are many.
unit=1 steps=step
if sed -n 's/.*"step":\([0-9]*\).*/\1/p' "$tmp"/log* | grep -q '.....'; then
    unit=1000 steps='thousand steps'
fi
{
    if [ -n "$text" ]; then
        size=$({ stty size </dev/tty; } 2>/dev/null) || size=
        [ "${size:-0 0}" != '0 0' ] || size='24 80'
        printf 'set terminal dumb %d %d\n' "$((${size#* } - 1))" "$((${size% *} - 2))"
    else
        printf 'set terminal pngcairo size 1500,840 font "sans,10" linewidth 1.3\n'
        printf 'set output "picture.png"\n'
    fi
    printf 'array titles[%d]\n' $runs
    n=0
    for run; do
        n=$((n + 1))
        printf "titles[%d] = '%s'\n" $n "$(quote "$run")"
    done
    fid=$(curves fid '' '' linespoints)
    [ -n "$text" ] || printf 'set multiplot layout 2,%d\n' "$([ -n "$fid" ] && echo 4 || echo 3)"
    printf 'set grid linecolor "#dddddd"\nset border 3\n'
    printf 'set tics nomirror\nset xlabel "%s"\nunset key\n' "$steps"
    key='set key top right noenhanced'
    [ -z "$text" ] || key='set key below maxcols 1 noenhanced'
    panel loss "$key" "$(curves loss '' '')$(curves valid_loss 'dashtype 2 linewidth 2' ', held out')"
    panel 'mean squared error of the noise' '' "$(curves mse '' '')"
    panel 'variational bound, bits per dimension' 'set logscale y' "$(curves vb '' '')"
    panel 'norm of the gradient' 'set logscale y' "$(curves grad_norm '' '')"
    panel 'learning rate' 'set yrange [0:*]' "$(curves lr '' '')"
    panel 'images per second' 'set yrange [0:*]' "$(curves images_per_second '' '')"
    panel FID 'set yrange [0:*]' "$fid"
    [ -n "$text" ] || printf 'unset multiplot\n'
} >"$tmp/script"
(cd "$tmp" && gnuplot script) || fail 70 'gnuplot failed'
[ -n "$text" ] || mv -- "$tmp/picture.png" "$output" || fail 74 "$output: cannot be written"
