// A set is found by the tensor that every DiT has. SPDX-License-Identifier: MIT
#include "formats/weights/dit-sets.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/error.h"

static const struct {
    enum naming_style style;
    const char *name;
} markers[] = {{NAMING_OWN, "x_embedder.proj.weight"},
               {NAMING_DIT_DIFFUSERS, "pos_embed.proj.weight"}};
#define N_MARKERS (sizeof markers / sizeof *markers)

// If the name is a beginning, which is empty or ends with a dot, and then this end, returns the
// beginning's length; else -1.
static int match_end(const char *name, const char *end)
{
    size_t length = strlen(name), n = strlen(end);
    if (length < n || strcmp(name + length - n, end) != 0)
        return -1;
    return length == n || name[length - n - 1] == '.' ? (int)(length - n) : -1;
}

static bool is_word(const char *text, size_t size, const char *word)
{
    return strlen(word) == size && memcmp(text, word, size) == 0;
}

// Whether a name speaks of averaged weights: the last key does that says "ema" among its words, or
// that it is the model beside them.
static bool is_averaged(const char *name, size_t size)
{
    bool averaged = false;
    for (size_t at = 0; at < size;) {
        const char *key = name + at;
        size_t n = 0, from = 0;
        while (at + n < size && key[n] != '.')
            n++;
        if (is_word(key, n, "online_model"))
            averaged = false;
        for (size_t i = 0; i <= n; i++)
            if (i == n || key[i] == '_') {
                averaged = averaged || is_word(key + from, i - from, "ema");
                from = i + 1;
            }
        at += n + 1;
    }
    return averaged;
}

// Collects the beginnings of all sets, but not those of an optimizer's state. Returns their number,
// or -1 with an error.
static int collect_sets(struct dit_sets *sets, const struct weights *weights, const char *marker)
{
    int found =
        weights_find_prefixes(weights, marker, DIT_PREFIX_SIZE, DIT_SETS_MAX, *sets->prefixes);
    int n = 0;
    for (int i = 0; i < found; i++)
        if (strncmp(sets->prefixes[i], "opt.", 4) != 0)
            memmove(sets->prefixes[n++], sets->prefixes[i], DIT_PREFIX_SIZE);
    for (int i = 0; i < n; i++)
        sets->others[i] = sets->prefixes[i];
    return found < 0 ? -1 : n;
}

static int refuse_several(const struct weights *weights, const char *kind, const char *a,
                          const char *b)
{
    return error_set(STATUS_DATA,
                     "%s: several sets of %sweights, %s* and %s*; nothing tells which to use",
                     weights->path, kind, a, b);
}

static int set_prefix(char *to, bool *has, const char *prefix)
{
    *has = true;
    snprintf(to, DIT_PREFIX_SIZE, "%s", prefix);
    return 0;
}

// In a checkpoint of dit-train the averaged weights have bare names, and no others replace them. -1
// without an error if there are none. convert-weights writes such names without the training, too.
static int choose_bare(struct dit_sets *sets, int n)
{
    for (int i = 0; i < n; i++) {
        if (!*sets->prefixes[i])
            set_prefix(sets->ema, &sets->has_ema, "");
        if (strcmp(sets->prefixes[i], "model.") == 0)
            set_prefix(sets->model, &sets->has_model, "model.");
    }
    return sets->has_ema ? 0 : -1;
}

// Looks for averaged weights that are no set by their names.
static void find_unread(struct dit_sets *sets, const struct weights *weights)
{
    for (size_t i = 0; i < weights->n_weights; i++) {
        const struct weight *weight = &weights->all[i];
        if (weight->rank == 0 || strncmp(weight->name, "opt.", 4) == 0 ||
            !is_averaged(weight->name, strlen(weight->name)))
            continue;
        if (!sets->unread)
            sets->unread = weight->name;
        int length = match_end(weight->name, "shadow_params.0");
        if (length >= 0 && length + sizeof "shadow_params." <= DIT_PREFIX_SIZE)
            snprintf(sets->list, sizeof sets->list, "%.*sshadow_params.", length, weight->name);
    }
}

static int choose_sets(struct dit_sets *sets, const struct weights *weights, int n)
{
    const char *ema[2] = {NULL}, *plain[2] = {NULL};
    int n_ema = 0, n_plain = 0;
    for (int i = 0; i < n; i++) {
        const char *prefix = sets->prefixes[i];
        if (is_averaged(prefix, strlen(prefix)))
            ema[n_ema++ > 0] = prefix;
        else if (n_plain++ == 0 || strcmp(prefix, "model.") != 0)
            plain[n_plain > 1] = prefix;
        else {
            plain[1] = plain[0];
            plain[0] = prefix;
        }
    }
    if (n_ema > 1)
        return refuse_several(weights, "averaged ", ema[0], ema[1]);
    if (n_ema == 0 && n_plain == 2 && strcmp(plain[0], "model.") == 0 && !*plain[1])
        return choose_bare(sets, n);
    if (n_ema == 0 && n_plain > 1)
        return refuse_several(weights, "", plain[0], plain[1]);
    if (n_plain == 1 || (n_plain > 1 && strcmp(plain[0], "model.") == 0))
        set_prefix(sets->model, &sets->has_model, plain[0]);
    if (n_ema == 1)
        return set_prefix(sets->ema, &sets->has_ema, ema[0]);
    find_unread(sets, weights);
    return sets->unread ? 0 : set_prefix(sets->ema, &sets->has_ema, plain[0]);
}

int dit_sets_find(struct dit_sets *sets, const struct weights *weights)
{
    const char *kind = weights_get(weights, "kind");
    char shown[ERROR_SHOWN_SIZE];
    int n = 0;
    *sets = (struct dit_sets){0};
    for (size_t m = 0; n == 0 && m < N_MARKERS; m++) {
        sets->style = markers[m].style;
        n = collect_sets(sets, weights, markers[m].name);
        const char *type = weights_unsupported(weights, markers[m].name);
        if (n == 0 && type)
            return error_set(STATUS_DATA, "%s: tensor %s is of type %s, which is not supported",
                             weights->path, markers[m].name, type);
    }
    if (n < 0)
        return -1;
    bool ours = kind && strcmp(kind, "dit-checkpoint") == 0;
    if (ours && choose_bare(sets, n) == 0)
        return 0;
    for (int i = 0; i < n; i++) // in PyTorch's format it has them as "ema."
        ours = ours && !is_averaged(sets->prefixes[i], strlen(sets->prefixes[i]));
    if (n > 0 && !ours)
        return choose_sets(sets, weights, n);
    const char *first = weights->all[0].name;
    return error_set(STATUS_DATA,
                     "%s: not the weights of a DiT: no name of its %zu tensors ends in %s or %s; "
                     "the first is %s",
                     weights->path, weights->n_weights, markers[0].name, markers[1].name,
                     error_shown(first, strlen(first), shown));
}
