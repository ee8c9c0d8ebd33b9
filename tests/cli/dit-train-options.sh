#!/bin/sh
# dit-train: every option of the optimizer changes the update as AdamW, computed here with numpy, says.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
. tests/training.sh

data=$tmp/data
"$BUILD/tests/tools/make-stream" latents 64 8 10 >"$data"
# From weights that are trained a little: DiT's first ones have no gradient but at the end.
exits 'weights to start from' 0 tiny base --steps 20 --class-dropout 0.5 --lr 1e-2 --ema-decay 0.5 \
    "$data"
start() { # start FOLDER OPTION...: two steps from there, each saved
    start_run=$1
    shift
    tiny "$start_run" --init "$tmp/base/latest.safetensors" --steps 2 --save-every 1 --log-every 1 \
        --no-ema-warmup "$@" "$data"
}
# follows FOLDER SETTING=VALUE...: both steps are AdamW's with these settings, others by default.
follows() {
    follows_run=$1
    shift
    python "
from types import SimpleNamespace
s = SimpleNamespace(lr=1e-3, warmup=0, beta1=0.9, beta2=0.999, eps=1e-8, decay=0, clip=0, ema=0.9999,
                    ramp=0)
vars(s).update((k, float(v)) for k, v in (pair.split('=') for pair in '$*'.split()))
first = tensors(tmp + 'base/latest.safetensors')
names = [n for n in first if not n.startswith(('model.', 'opt.')) and n != 'pos_embed']
def flat(t, prefix):
    return np.concatenate([t[prefix + n].ravel() for n in names]).astype('f8')
w = ema = flat(first, '')
m = v = np.zeros_like(w)
left = 1 # the share of the first weights in the averaged ones
def near(got, expected, what, relative, absolute=0):
    error = np.abs(got - expected) - relative * np.abs(expected)
    assert error.max() <= absolute, (what, step, error.max())
for step, line in enumerate(log(tmp + '$follows_run'), 1):
    t = tensors(tmp + '$follows_run/%07d.safetensors' % step)
    lr = s.lr * min(1, step / s.warmup) if s.warmup else s.lr
    near(line['lr'], lr, 'lr', 1e-6)
    m_before, v_before, w_before = m, v, w
    m, v, w = flat(t, 'opt.exp_avg.'), flat(t, 'opt.exp_avg_sq.'), flat(t, 'model.')
    g = (m - s.beta1 * m_before) / (1 - s.beta1) # the gradient that was used
    norm = np.sqrt((g * g).sum())
    near(norm, min(line['grad_norm'], s.clip or np.inf), 'norm', 1e-4)
    near(v, s.beta2 * v_before + (1 - s.beta2) * g * g, 'v', 1e-3, 1e-6 * v.max())
    direction = m / (1 - s.beta1**step) / (np.sqrt(v / (1 - s.beta2**step)) + s.eps)
    near(w, w_before - lr * (direction + s.decay * w_before), 'w', 2e-7, 3e-5 * s.lr) # betas have 32 bits
    ema_decay = min(s.ema, step / (step + 9)) if s.ramp else s.ema
    ema, left = ema_decay * ema + (1 - ema_decay) * w, left * ema_decay
    near(flat(t, ''), ema, 'ema', 3e-7, 1e-8)
    said = float(metadata(tmp + '$follows_run/%07d.safetensors' % step)['ema_start'])
    assert abs(said - left) < 1e-12, (said, left)
assert step == 2
" 2>"$tmp/follows" && return
    tail -n 1 "$tmp/follows" | sed 's/^/# /'
    return 1
}
differs() { # differs FOLDER: it does not follow the defaults
    ! follows "$@" >/dev/null && grep -q AssertionError "$tmp/follows"
}

exits 'the defaults' 0 start plain
ok 'the defaults: AdamW with 0.9, 0.999, 1e-8, no decay, no clipping, no warm-up' follows plain
while read -r option value setting; do
    run=${option#--}
    exits "$option $value" 0 start "$run" "$option" "$value"
    ok "$option $value: the update is AdamW's with it" follows "$run" "$setting"
    ok "$option $value: and not AdamW's without it" differs "$run"
done <<'END'
--lr 1e-2 lr=1e-2
--lr-warmup 4 warmup=4
--beta1 0.5 beta1=0.5
--beta2 0.9 beta2=0.9
--eps 1e-2 eps=1e-2
--weight-decay 0.5 decay=0.5
--clip 0.05 clip=0.05
--ema-decay 0.5 ema=0.5
END
ok '--clip: the log has the norm before clipping' python '
a, b = (log(tmp + run)[0]["grad_norm"] for run in ("plain", "clip"))
assert a == b > 0.05, (a, b)
'
exits '--clip over the norm' 0 start loose --clip 1e6
ok '--clip over the norm changes nothing' same_tensors plain loose

exits '--ema-warmup' 0 start ramp --ema-warmup
ok '--ema-warmup: after n updates the decay is (1 + n) / (10 + n)' follows ramp ramp=1
ok '--ema-warmup: and not that of --ema-decay' differs ramp
exits '--ema-warmup --ema-decay 0.15' 0 start least --ema-warmup --ema-decay 0.15
ok '--ema-warmup: it rises to --ema-decay' follows least ramp=1 ema=0.15
exits 'no option' 0 tiny default --init "$tmp/base/latest.safetensors" --steps 2 "$data"
ok '--ema-warmup is the default' same_tensors ramp default

# A checkpoint of before --ema-warmup: without that setting, and what it would need else.
exits 'a run without a warm-up' 0 start old --steps 3
cp -r "$tmp/plain" "$tmp/older"
sed -i 's/"setting.ema-warmup"/"setting.ema-wormup"/; s/"ema_start"/"ema_stert"/; s/"crc32"/"crc99"/' \
    "$tmp/older/0000002.safetensors"
resume() {
    dit-train -q -@ 1 --resume --run "$tmp/$1" --steps 3 "$data"
}
exits 'a checkpoint that does not know the warm-up' 0 resume older
ok 'goes on without it' same_tensors old older
ok 'and knows how much of the first weights is left' python '
a, b = (float(metadata(tmp + n + "/latest.safetensors")["ema_start"]) for n in ("old", "older"))
assert abs(a - b) < 1e-12 and abs(a - 0.9999 ** 3) < 1e-12, (a, b)
'
exits 'a run with a warm-up' 0 start longer --steps 3 --ema-warmup
exits 'one that is resumed' 0 resume ramp
ok 'goes on with it, to the last bit' same_tensors longer ramp

# dit-sample and sheets say how much of the first weights they show.
sample() {
    dit-sample -q -@ 1 -w "$tmp/$1" -n 1 --steps 1 --latents "$2" "$3"
}
exits 'samples of weights that are hardly averaged' 0 sample old --which ema
says 'come with a warning' '100% of the averaged weights are still those that training began with'
exits 'samples of the last weights' 0 sample old --which model
is 'come without' "$(cat "$tmp/err")" ''
exits 'a run of a few steps' 0 tiny few --steps 4 "$data"
exits 'samples of it' 0 sample few --which ema
is 'come without a warning, too' "$(cat "$tmp/err")" ''
exits 'a sheet of weights that are hardly averaged' 0 start sheet --sample-every 2 \
    --sample-count 1 --vae dct:4
says 'comes with one' '100% of the averaged weights, which these pictures show, are still those'

# Only the class table's rows that were used have a gradient. The last is the null class's.
for rate in 0 0.5 1; do
    exits "--class-dropout $rate" 0 start "dropout$rate" --class-dropout $rate --steps 1 --batch 64
done
ok '--class-dropout: 0 drops no label, 1 all, 0.5 some' python '
def used(run):
    table = tensors(tmp + run + "/latest.safetensors")["opt.exp_avg.y_embedder.embedding_table.weight"]
    return [bool(row.any()) for row in table]
none, some, every = used("dropout0"), used("dropout0.5"), used("dropout1")
assert not none[10] and any(none[:10]), none
assert some[10] and any(some[:10]), some
assert every[10] and not any(every[:10]), every
'
done_testing
