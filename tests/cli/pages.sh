#!/bin/sh
# The pages of view.sh and serve.sh: complete in themselves, harmless whatever a run holds, and served
# to one reader at a time. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317,SC2016 # functions are arguments of others; the inner shell expands
. tests/tap.sh
unset DIT_VAE
top=$PWD
"$BUILD/tests/tools/make-stream" latents 32 4 8 'classes=["cat","dog, big","<b>","d","e","f","g","h","i","j"]' >"$tmp/latents"
train() {
    cd "$tmp" && dit-train -q -@ 1 --depth 1 --hidden 64 --heads 1 --patch 2 --batch 8 --steps 30 --log-every 2 \
        --sample-every 10 --sample-count 3 --vae dct:4 --valid latents --valid-every 10 --valid-count 8 latents
}
(train)

# look NAME ADDRESS: writes the elements of a page as a browser has them to $tmp/dom, and a picture of
# it to $PICTURES/NAME.png where PICTURES names a folder.
look() {
    browse --dump-dom "$2" >"$tmp/dom"
    [ -z "${PICTURES:-}" ] || browse --screenshot="$PICTURES/$1.png" "$2" >/dev/null
}
browse() {
    timeout 60 chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$tmp/chromium" \
        --window-size=1100,900 "$@" 2>"$tmp/browser"
}
elements() { # elements NAME HTML
    grep -o "<$1[ >]" "$2" | wc -l
}
view() {
    "$top/pipelines/view.sh" -o "$tmp/page.html" "$@"
}
exits 'view.sh' 0 view "$tmp/run"
ok '... writes a page that needs nothing from elsewhere' sh -c \
    '! grep -oE "(src|href)=\"?[^\"> ]*|https?://[^\"'"'"' ]*" "$1" | grep -v www.w3.org/2000/svg' - "$tmp/page.html"
is '... shows every sheet' "$(grep -o 'data-step="[0-9]*"' "$tmp/page.html" | tr -dc '0-9\n' | tr '\n' ' ')" \
    '0000010 0000020 0000030 '
ok '... has the sheet itself' sh -c \
    'sed -n "/data-step=\"0000020\"/{n;p;}" "$1" | base64 -d | cmp - "$2"' - "$tmp/page.html" "$tmp/run/samples/0000020.png"
exits 'view.sh --sheets 2' 0 view --sheets 2 "$tmp/run"
is '... shows some, with the last one' "$(elements 'script type="image\/png"' "$tmp/page.html") $(grep -c 'data-step="0000030"' \
    "$tmp/page.html")" '2 1'
cp -r "$tmp/run" "$tmp/<i>&\"run"
sed -i '2s,{,{"</script><script>document.title=1</script>": "<img src=x>",' "$tmp/<i>&\"run/config.json"
sed -i '1s,^{,{"note": "</script><script>document.title=1</script>"\,,' "$tmp/<i>&\"run/log.jsonl"
printf '{"step": 31, "lo' >>"$tmp/<i>&\"run/log.jsonl"
exits 'view.sh of a run that tries to write into the page' 0 view "$tmp/<i>&\"run"
is '... adds no element to it' "$(elements script "$tmp/page.html") $(elements img "$tmp/page.html") $(elements i "$tmp/page.html")" \
    '7 1 0'
if command -v chromium >/dev/null; then
    look view "file://$tmp/page.html"
    is 'a browser shows the curves, the sheet and the name of a run that goes on' "$(elements svg "$tmp/dom") \
$(grep -c 'src="data:image/png;base64' "$tmp/dom") $(grep -o '<h1>.*</h1>' "$tmp/dom" | sed "s,$tmp/,,")" \
        '6 1 <h1>&lt;i&gt;&amp;"run</h1>'
else
    skip 'a browser shows the curves, the sheet and the name of a run that goes on' 'no chromium here'
fi
exits 'view.sh without a run' 66 view "$tmp/no"
says 'names the missing log' "view.sh: $tmp/no/log.jsonl: cannot read"
exits 'view.sh --sheets 0' 64 view --sheets 0 "$tmp/run"
not_written() { view "$tmp/run" -o "$tmp/none/page.html"; }
exits 'view.sh into a folder that is not there' 74 not_written

PATH=$PATH:/usr/sbin
if ! command -v lighttpd >/dev/null || ! command -v curl >/dev/null; then
    skip 'serve.sh' 'no lighttpd or curl here'
    done_testing
fi
# A dit-sample that notes when another one is at work, and takes its time where there are many steps.
mkdir "$tmp/bin" "$tmp/server"
cat >"$tmp/bin/dit-sample" <<END
#!/bin/sh
exec 7>"$tmp/at-work"
flock -n 7 || echo two at once >>"$tmp/overlap"
case "\$*" in *'--steps 1000'*) sleep 60 ;; esac
exec "$(command -v dit-sample)" "\$@"
END
chmod +x "$tmp/bin/dit-sample"
port=$("$python3" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
serve() { # serve OPTION...
    PATH=$tmp/bin:$PATH TMPDIR=$tmp/server exec pipelines/serve.sh --port "$port" "$@"
}
export DIT_VAE=dct:4
serve -w "$tmp/run" --waiting 3 -- -@ 1 2>"$tmp/serve.log" &
server=$!
trap 'kill $server 2>/dev/null; wait; rm -rf "$tmp"' EXIT
address=http://127.0.0.1:$port
until curl -s -o "$tmp/index.html" "$address/" || ! kill -0 $server 2>/dev/null; do sleep 0.1; done
ask() { # ask QUERY [OPTION...]
    ask_query=$1
    shift
    ${replace-} curl -sgN -m 60 -H 'X-Dit-Tools: 1' "$@" "$address/draw.cgi?$ask_query"
}
ask 'classes=1,0&count=3&scale=1.5&steps=3&sampler=ddim&seed=7' >"$tmp/answer"
for class in 1 0; do
    sed -n "s/^row $class //p" "$tmp/answer" | base64 -d >"$tmp/row.png"
    dit-sample -q -@ 1 -w "$tmp/run" -n 3 -s 1.5 --steps 3 --sampler ddim --seed 7 -c $class |
        tile-images -q -o "$tmp/expected.png"
    ok "the page gets the pictures of class $class that dit-sample draws" cmp "$tmp/row.png" "$tmp/expected.png"
done
is 'a job ends by saying so' "$(tail -n 1 "$tmp/answer")" end
is 'what dit-sample refuses is told' "$(ask 'classes=10' | tail -n 1)" \
    'error dit-sample: class 10: the model has classes 0 to 9'
is 'the page holds the names of the classes as text' "$(elements b "$tmp/index.html") $(grep -c u003cb "$tmp/index.html")" '0 1'

about 'a request'
code() { # code OPTION...: the status of an answer
    curl -sg -m 20 -o "$tmp/body" -w '%{http_code}' "$@"
}
while IFS= read -r query; do
    is "... of \"$query\" is refused" "$(code -H 'X-Dit-Tools: 1' "$address/draw.cgi?$query")" 400
done <<'END'

classes=
classes=1,,2
classes=-1
classes=$(touch$IFS/tmp/x)
classes=1;id
classes=1%0a2
classes=1&classes=`id`
classes=1&count=0
classes=1&count=17
classes=1&count=4%26
classes=1&scale=1e9
classes=1&scale=nan
classes=1&steps=1001
classes=1&steps=--output=x
classes=1&sampler=--weights=/etc/passwd
classes=1&sampler=ddim;id
classes=1&seed=-1
classes=1&seed=1234567890
classes=1&weights=/etc/passwd
classes=1,2,3,4,5,6,7,8,9
classes=*
END
long=$(printf '%2000s' '' | tr ' ' 1)
is '... of 2,000 characters is refused' "$(code -H 'X-Dit-Tools: 1' "$address/draw.cgi?classes=$long")" 400
is '... of 20,000 characters is refused' "$(code -H 'X-Dit-Tools: 1' "$address/draw.cgi?classes=$long$long$long$long$long$long$long$long$long$long" |
    sed 's/4[0-9][0-9]/4xx/')" 4xx
is '... from the page of another site is refused' "$(code "$address/draw.cgi?classes=1")" 403
is '... by another name than this machine has is refused' "$(code -H 'Host: evil.example' "$address/")" 403
is '... that sends a form is refused' "$(code -H 'X-Dit-Tools: 1' -d classes=1 "$address/draw.cgi")" 405
is '... that sends far too much is refused' "$(head -c 100000 /dev/zero | code -H 'X-Dit-Tools: 1' --data-binary @- \
    "$address/draw.cgi?classes=1")" 413
for path in /../options /%2e%2e/options /draw.cgi/../../options /../line/0; do
    is "... for $path is refused" "$(code --path-as-is "$address$path" | sed 's/40[0-9]/40x/')" 40x
done
ok '... has touched nothing' [ ! -e /tmp/x ]

for i in $(seq 12); do
    ask "classes=0&count=1&steps=40&seed=$i" >"$tmp/many$i" &
    many="${many:-} $!"
done
# shellcheck disable=SC2086 # a list of words
wait $many
served=$(cat "$tmp"/many* | grep -c '^end$') turned=$(cat "$tmp"/many* | grep -c '^error too many are waiting')
is 'of twelve requests at once each is served or turned away' $((served + turned)) 12
ok '... and some are served' [ "$served" -ge 4 ]
ok '... one at a time' [ ! -e "$tmp/overlap" ]
ok '... with their place in the line' grep -q '^line [123]$' "$tmp"/many*

(replace='exec' && ask 'classes=0,1,2&count=16&steps=1000' >"$tmp/long") &
reader=$!
until grep -q work "$tmp/long" || ! kill -0 $reader 2>/dev/null; do sleep 0.05; done
ask 'classes=0&count=1&steps=2' >"$tmp/next" &
next=$!
until grep -q line "$tmp/next" || ! kill -0 $next 2>/dev/null; do sleep 0.05; done
kill $reader
began=$(date +%s)
wait $next
ok 'a job ends when its reader goes, and the next one begins' grep -q '^end$' "$tmp/next"
ok '... at once' [ $(($(date +%s) - began)) -le 20 ]

if command -v chromium >/dev/null; then
    # The page, with the button pressed, and with something that loads until the job is done.
    www=$(echo "$tmp"/server/*/www)
    printf 'sleep 1\nflock ../line/0 sleep 0.5\nprintf "Status: 204 No Content\\r\\n\\r\\n"\n' >"$www/slow.cgi"
    {
        sed '/Content-Security-Policy/,/content=/d' "$www/index.html"
        echo '<script>form.steps.value = 4; form.classes.value = "dog, big, 0, <b>"; form.requestSubmit()</script>'
        echo '<img src=slow.cgi hidden alt="">'
    } >"$www/test.html"
    look serve "$address/test.html"
    is 'a browser shows the pictures of the classes that are asked for by name' "$(grep -o '<figcaption>[^/]*</figcaption><img src="data:image/png;base64,[A-Za-z0-9+/]*' \
        "$tmp/dom" | sed 's/<figcaption>//; s,</.*,,' | tr '\n' ' ')" 'dog, big cat &lt;b&gt; '
else
    skip 'a browser shows the pictures of the classes that are asked for by name' 'no chromium here'
fi
kill $server
wait $server
is 'serve.sh is stopped (exit 0)' $? 0
is '... and leaves nothing' "$(ls "$tmp/server")" ''
broken() { (serve "$@"); }
exits 'serve.sh with no weights' 65 broken -w "$tmp/no"
says 'names them' "$tmp/no cannot be drawn from"
exits 'serve.sh --port 0' 64 broken --port 0
exits 'serve.sh --address with something else' 64 broken --address '"'
done_testing
