// SPDX-License-Identifier: MIT
#include "bin/dit-train/settings.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/tool/options.h"

static void make_key(const struct option *option, char key[80])
{
    snprintf(key, 80, "setting.%s", option->name);
}

// A number that may not be 0 and is 0 has not been given, nor has a choice below the first.
static bool is_unset(const struct option *option)
{
    if (option->type == OPTION_TYPE_CHOICE)
        return *option->value.choice < 0;
    return option->type == OPTION_TYPE_INT && option->min > 0 && *option->value.integer == 0;
}

int settings_write(const struct option *options, json_t *metadata)
{
    for (const struct option *o = options; o->type != OPTION_TYPE_END; o++) {
        char key[80], *text;
        make_key(o, key);
        if (is_unset(o))
            continue;
        if (options_value_text(o, &text) < 0)
            return -1;
        if (text && json_object_set_new(metadata, key, json_string(text)) < 0) {
            free(text);
            return error_set(STATUS_INTERNAL, "no memory for the metadata's %s", key);
        }
        free(text);
    }
    return 0;
}

int settings_read(const struct option *options, const json_t *metadata)
{
    for (const struct option *o = options; o->type != OPTION_TYPE_END; o++) {
        char key[80];
        make_key(o, key);
        const char *text = json_string_value(json_object_get(metadata, key));
        if (text && options_set_value(o, text) < 0)
            return error_set(STATUS_DATA, "metadata %s is \"%s\", which no dit-train wrote", key,
                             text);
    }
    return 0;
}
