#!/bin/sh
# Serves a page in which one asks a model for pictures and sees them come. SPDX-License-Identifier: MIT
set -eu

usage() {
    cat <<'END'
Usage: serve.sh [OPTION]... [-- OPTION OF DIT-SAMPLE...]
Serves a page, on this machine alone unless told otherwise, where one chooses classes, guidance, steps,
sampler and seed, and sees the pictures of a model come. One job runs at a time, others wait in a line,
and a job ends when its reader goes. Stop the server with ^C. Needs lighttpd; the server that Debian's
package starts on port 80 may be off (systemctl disable --now lighttpd).

  -w, --weights=FILE   weights of the model, as for dit-sample (default: run/latest.safetensors)
      --port=N         listen on this port (default: 8080)
      --address=A      listen on this address (default: 127.0.0.1); all who reach it can use the page
      --waiting=N      jobs that may wait in line; more are turned away (default: 8)
  -h, --help           show this help

Options after -- go to dit-sample, such as --vae sd-vae-ft-ema or --device cpu.
END
}
fail() { # fail STATUS MESSAGE
    echo "serve.sh: $2" >&2
    exit "$1"
}
number() { # number OPTION VALUE MOST
    case $2 in
    '' | 0* | *[!0-9]* | ??????*) fail 64 "$1: expected a number from 1 to $3, found '$2'" ;;
    esac
    [ "$2" -le "$3" ] || fail 64 "$1: expected a number from 1 to $3, found '$2'"
}

weights=run/latest.safetensors port=8080 address=127.0.0.1 waiting=8
while [ $# -gt 0 ]; do
    value=${1#*=}
    case $1 in
    -w | --weights | --port | --address | --waiting)
        [ $# -gt 1 ] || fail 64 "$1 needs a value; see --help"
        value=$2 ;;
    esac
    case $1 in
    -h | --help) usage; exit 0 ;;
    -w | --weights | --weights=*) weights=$value ;;
    --port | --port=*) port=$value ;;
    --address | --address=*) address=$value ;;
    --waiting | --waiting=*) waiting=$value ;;
    --) shift; break ;;
    *) fail 64 "unknown option '$1'; see --help" ;;
    esac
    case $1 in -w | --weights | --port | --address | --waiting) shift ;; esac
    shift
done
number --port "$port" 65535
number --waiting "$waiting" 99
case $address in
'' | *[!0-9a-zA-Z.:-]*) fail 64 "--address: expected an address, found '$address'" ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
command -v dit-sample >/dev/null || PATH=$here/../build/bin:$PATH
PATH=$PATH:/usr/sbin # where Debian has lighttpd
command -v lighttpd >/dev/null || fail 64 'lighttpd is not installed'

folder=$(mktemp -d)
server=
finish() {
    trap '' INT TERM
    [ -z "$server" ] || kill "$server" 2>/dev/null || :
    wait
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 0' INT TERM
mkdir "$folder/www" "$folder/line"

# What draw-job.sh needs: the options of dit-sample, a word a line, the environment and the folder, as the
# server gives it neither, and the length of the line.
case $weights in
*/*) [ ! -e "$weights" ] || weights=$(realpath "$weights") ;;
*) [ ! -e "$weights" ] || weights=$PWD/$weights ;;
esac
for word in --weights "$weights" "$@"; do
    case $word in
    *"
"*) fail 64 'an option has more than one line' ;;
    esac
    printf '%s\n' "$word"
done >"$folder/options"
export PATH
export -p >"$folder/environment"
printf '%s\n' "$PWD" >"$folder/cwd"
echo "$waiting" >"$folder/waiting"

# One latent tells whether the model works, the names of its classes, and which samplers it knows.
try() { # try OPTION...
    dit-sample --quiet --weights "$weights" --count 1 --steps 1 --latents "$@" >"$folder/try" 2>"$folder/errors"
}
objective=flow
try "$@" --sampler euler || {
    objective=diffusion
    try "$@" || {
        cat "$folder/errors" >&2
        fail 65 "$weights cannot be drawn from"
    }
}
{
    sed '/^<!-- DATA -->$/,$d' "$here/serve.html"
    printf '<script type="application/json" id="model">\n'
    printf '{"objective": "%s", "latent": %s}\n' "$objective" "$(dit-info --json "$folder/try" | sed 's/</\\u003c/g')"
    printf '</script>\n'
    sed '1,/^<!-- DATA -->$/d' "$here/serve.html"
} >"$folder/www/index.html"
cp "$here/draw-job.sh" "$folder/www/draw.cgi"

# On the loopback address only requests that name it are answered, so that no foreign name can be made
# to mean it.
cat >"$folder/lighttpd.conf" <<END
server.modules = ("mod_access", "mod_cgi")
server.document-root = "$folder/www"
server.bind = "$address"
server.port = $port
server.upload-dirs = ("$folder")
server.max-connections = 128
server.max-request-size = 4
server.stream-response-body = 2
server.errorlog = "/dev/stderr"
index-file.names = ("index.html")
mimetype.assign = (".html" => "text/html; charset=utf-8")
static-file.exclude-extensions = (".cgi")
cgi.assign = (".cgi" => "/bin/sh")
END
case $address in
127.* | localhost | ::1)
    cat >>"$folder/lighttpd.conf" <<'END'
$HTTP["host"] !~ "^(127(\.[0-9]+){3}|localhost|\[::1\])(:[0-9]+)?$" { url.access-deny = ("") }
END
    ;;
esac
lighttpd -D -f "$folder/lighttpd.conf" &
server=$!
case $address in *:*) address="[$address]" ;; esac
echo "serve.sh: http://$address:$port/" >&2
wait "$server" || fail 70 'lighttpd has ended'
