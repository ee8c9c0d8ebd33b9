// Names, comparison and defaults of objectives. SPDX-License-Identifier: MIT
#include "lib/model/objective.h"

#include <string.h>

#include "lib/base/error.h"

static const struct {
    const char *name, *choices[5]; // of the values from 1
} fields[OBJECTIVE_FIELDS] = {
    {"objective", {"diffusion", "flow"}},
    {"path", {"linear", "gvp", "vp"}},
    {"prediction", {"velocity", "noise", "score"}},
    {"time", {"data", "noise"}},
};

static unsigned get_field(const struct objective *o, size_t field)
{
    return field == 0 ? o->kind : field == 1 ? o->path : field == 2 ? o->prediction : o->time;
}

static void set_field(struct objective *o, size_t field, unsigned value)
{
    if (field == 0)
        o->kind = value;
    else if (field == 1)
        o->path = value;
    else if (field == 2)
        o->prediction = value;
    else
        o->time = value;
}

int objective_set(struct objective *objective, const char *field, const char *text)
{
    for (size_t f = 0; f < OBJECTIVE_FIELDS; f++) {
        if (strcmp(field, fields[f].name) != 0)
            continue;
        const char *const *choice = fields[f].choices;
        for (unsigned i = 0; choice[i]; i++)
            if (strcmp(text, choice[i]) == 0) {
                set_field(objective, f, i + 1);
                return 0;
            }
        return error_set(STATUS_DATA, "%s is \"%.40s\", expected %s, %s%s%s", field, text,
                         choice[0], choice[1], choice[2] ? " or " : "", choice[2] ? choice[2] : "");
    }
    return error_set(STATUS_INTERNAL, "an objective has no %s", field);
}

const char *objective_text(const struct objective *objective, size_t field, const char **name)
{
    *name = fields[field].name;
    unsigned value = get_field(objective, field);
    return value ? fields[field].choices[value - 1] : NULL;
}

int objective_join(struct objective *objective, const char *name, const struct objective *from,
                   const char *from_name)
{
    for (size_t f = 0; f < OBJECTIVE_FIELDS; f++) {
        unsigned here = get_field(objective, f), there = get_field(from, f);
        if (here && there && here != there)
            return error_set(STATUS_DATA, "the %s is %s in %s, but %s in %s", fields[f].name,
                             fields[f].choices[here - 1], name, fields[f].choices[there - 1],
                             from_name);
        if (there)
            set_field(objective, f, there);
    }
    return 0;
}

int objective_complete(struct objective *objective)
{
    static const struct objective usual = {OBJECTIVE_DIFFUSION, FLOW_LINEAR, FLOW_VELOCITY,
                                           FLOW_TIME_DATA};
    if (!objective->kind)
        objective->kind = usual.kind;
    if (objective->kind == OBJECTIVE_DIFFUSION)
        return !objective->path && !objective->prediction
                   ? 0
                   : error_set(STATUS_USAGE,
                               "--path and --prediction apply only to flow matching: add "
                               "--objective flow");
    for (size_t f = 0; f < OBJECTIVE_FIELDS; f++)
        if (!get_field(objective, f))
            set_field(objective, f, get_field(&usual, f));
    return 0;
}
