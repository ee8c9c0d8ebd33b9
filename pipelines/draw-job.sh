#!/bin/sh
# What serve.sh's web server runs for a job: checks what is asked for, waits in line, draws, and ends
# when the reader goes. SPDX-License-Identifier: MIT
#
# It answers in lines of plain text, which serve.html reads: "line N" (place in the line), "work N"
# (seconds), "row CLASS PNG" (in base64), "error TEXT", "end". As they are written several times a
# second, a reader who has gone is noticed at once.
set -u
set -f
refuse() { # refuse STATUS TEXT
    printf 'Status: %s\r\nContent-Type: text/plain\r\n\r\nerror %s\n' "$1" "$2"
    exit
}
folder=$(cd .. && pwd) # the server starts it in www

# Other sites' pages cannot send this header, so they cannot make a browser ask.
[ "${HTTP_X_DIT_TOOLS:-}" = 1 ] || refuse '403 Forbidden' 'this is for the page of serve.sh alone'
[ "${REQUEST_METHOD:-}" = GET ] || refuse '405 Method Not Allowed' 'expected GET'
query=${QUERY_STRING:-}
[ ${#query} -le 300 ] || refuse '400 Bad Request' 'the request is too long'
classes='' count=4 scale='' steps='' sampler='' seed=0
IFS='&'
for pair in $query; do
    value=${pair#*=}
    case $pair in
    classes=*)
        case $value in
        '' | *[!0-9,]* | *,,* | ,* | *, | *[0-9][0-9][0-9][0-9][0-9][0-9]* | *,*,*,*,*,*,*,*,*)
            refuse '400 Bad Request' 'classes: expected one to eight numbers' ;;
        esac
        classes=$value ;;
    count=*)
        case $value in
        [1-9] | 1[0-6]) count=$value ;;
        *) refuse '400 Bad Request' 'count: expected a number from 1 to 16' ;;
        esac ;;
    scale=*)
        case $value in
        [0-9] | [0-9].[0-9] | [0-9].[0-9][0-9] | [1-9][0-9] | [1-9][0-9].[0-9]) scale=$value ;;
        *) refuse '400 Bad Request' 'scale: expected a number from 0 to 99' ;;
        esac ;;
    steps=*)
        case $value in
        [1-9] | [1-9][0-9] | [1-9][0-9][0-9] | 1000) steps=$value ;;
        *) refuse '400 Bad Request' 'steps: expected a number from 1 to 1000' ;;
        esac ;;
    sampler=*)
        case $value in
        '' | [!a-z]* | *[!a-z0-9+-]* | ????????????????*) refuse '400 Bad Request' 'sampler: expected a name' ;;
        esac
        sampler=$value ;;
    seed=*)
        case $value in
        '' | *[!0-9]* | ??????????*) refuse '400 Bad Request' 'seed: expected a number of at most nine digits' ;;
        esac
        seed=$value ;;
    *) refuse '400 Bad Request' 'an unknown setting' ;;
    esac
done
[ -n "$classes" ] || refuse '400 Bad Request' 'classes: expected one to eight numbers'

IFS=' '
# shellcheck source=/dev/null # the environment of serve.sh
. "$folder/environment"
job='' work=
finish() {
    trap '' TERM HUP INT
    [ -z "$job" ] || kill -- "-$job" 2>/dev/null
    wait
    [ -z "$work" ] || rm -rf "$work"
}
trap finish EXIT
trap exit TERM HUP INT
trap '' PIPE # a write fails instead, and the job is ended

# The line is a row of locks: a job holds that of its place, and steps forward when the next one is free.
# At place 0 it draws.
read -r place <"$folder/waiting"
exec 8>"$folder/line/$place"
flock -w 2 8 || refuse '503 Service Unavailable' 'too many are waiting; try again later'
printf 'Content-Type: text/plain\r\nCache-Control: no-store\r\n\r\n' || exit
held=8
while [ "$place" -gt 0 ]; do
    if [ $held = 8 ]; then
        exec 9>"$folder/line/$((place - 1))"
        flock -n 9 && exec 8>&- && held=9 place=$((place - 1)) && continue
    else
        exec 8>"$folder/line/$((place - 1))"
        flock -n 8 && exec 9>&- && held=8 place=$((place - 1)) && continue
    fi
    printf 'line %d\n' "$place" 2>/dev/null || exit
    sleep 0.2
done

work=$(mktemp -d "$folder/job.XXXXXX") || exit
set --
while IFS= read -r word; do
    set -- "$@" "$word"
done <"$folder/options"
IFS= read -r cwd <"$folder/cwd"
cd "$cwd" || exit
set -- "$@" --count "$count" --seed "$seed" ${scale:+--cfg-scale "$scale"} ${steps:+--steps "$steps"} \
    ${sampler:+--sampler "$sampler"}
began=$(date +%s)
IFS=,
for class in $classes; do
    # shellcheck disable=SC2016 # the inner shell expands it
    setsid sh -c 'out=$1; shift; dit-sample --quiet "$@" | tile-images --quiet --columns 16 -o "$out"' \
        sh "$work/row.png" "$@" --classes "$class" 2>"$work/errors" &
    job=$!
    while kill -0 "$job" 2>/dev/null; do
        printf 'work %d\n' $(($(date +%s) - began)) 2>/dev/null || exit
        sleep 0.2
    done
    wait "$job" || {
        printf 'error %s\n' "$(sed -n '/^dit-sample: /{p;q;}' "$work/errors" | LC_ALL=C tr -cd '\040-\176' | cut -c 1-300)"
        exit
    }
    job=
    printf 'row %s %s\n' "$class" "$(base64 -w 0 "$work/row.png")" 2>/dev/null || exit
done
printf 'end\n'
