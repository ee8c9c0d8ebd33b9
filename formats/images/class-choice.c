// Parses the words of a choice of classes: names, numbers, "none". SPDX-License-Identifier: MIT
#include "formats/images/class-choice.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/images/class-names.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"

static int unknown_class(const char *word, const json_t *names, size_t classes)
{
    char list[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < json_array_size(names) && i < classes && used < sizeof list; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : ": ",
                                 name ? name : "?");
    }
    return error_set(STATUS_USAGE, "no class is called \"%s\"; the model has %zu classes%s%s", word,
                     classes,
                     *list     ? list
                     : classes ? ", known by number only"
                               : "",
                     used < sizeof list ? "" : "...");
}

// Reads a name or, if it is not quoted, "none" or a number. Names come first, as a class may be
// called "7".
static int parse_class(const char *word, bool quoted, const json_t *names, size_t classes,
                       int32_t *class)
{
    for (size_t i = 0; i < json_array_size(names) && i < classes; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (name && strcmp(name, word) == 0) {
            *class = (int32_t)i;
            return 0;
        }
    }
    if (!quoted && strcmp(word, "none") == 0) {
        *class = (int32_t)classes;
        return 0;
    }
    char *end;
    errno = 0;
    unsigned long long number = strtoull(word, &end, 10);
    if (quoted || word[0] < '0' || word[0] > '9' || *end || errno)
        return unknown_class(word, names, classes);
    if (classes == 0)
        return error_set(STATUS_USAGE, "class %llu: the model has no classes", number);
    if (number >= classes)
        return error_set(STATUS_USAGE, "class %llu: the model has classes 0 to %zu", number,
                         classes - 1);
    *class = (int32_t)number;
    return 0;
}

// Takes the next item off *rest: up to a comma, without the blanks before it, or between double
// quotes, of which two stand for one in the name. word: room for it. -1 with an error.
static int take_item(const char **rest, char *word, bool *quoted)
{
    const char *p = *rest + strspn(*rest, " ");
    *quoted = *p == '"';
    if (!*quoted) {
        size_t length = strcspn(p, ",");
        memcpy(word, p, length);
        word[length] = 0;
        *rest = p + length;
        return 0;
    }
    for (p++; *p && (*p != '"' || p[1] == '"'); p++) {
        p += *p == '"';
        *word++ = *p;
    }
    *word = 0;
    if (*p != '"' || (p[1] && p[1] != ','))
        return error_set(STATUS_USAGE,
                         "expected a closing quote, and then a comma or the end, in %s", *rest);
    *rest = p + 1;
    return 0;
}

static int parse_list(struct class_choice *choice, const char *spec, const json_t *names)
{
    size_t room = 1;
    for (const char *p = spec; *p; p++)
        room += *p == ',';
    char *word = mem_strdup(spec);
    choice->list = mem_new(room, sizeof *choice->list);
    int rc = word && choice->list ? 0 : -1;
    for (bool more = true, quoted; rc == 0 && more; spec++) {
        rc = take_item(&spec, word, &quoted);
        if (rc == 0)
            rc = parse_class(word, quoted, names, choice->classes, &choice->list[choice->n++]);
        more = *spec;
    }
    free(word);
    return rc;
}

int class_choice_parse(struct class_choice *choice, const char *spec, const char *names,
                       size_t classes, bool null_class)
{
    *choice = (struct class_choice){.classes = classes};
    if (strcmp(spec, "balanced") == 0)
        return 0;
    if (strcmp(spec, "random") == 0) {
        choice->kind = CLASSES_RANDOM;
        return 0;
    }
    choice->kind = CLASSES_LISTED;
    json_t *list;
    if (class_names_parse(names, &list) < 0)
        return -1;
    int rc = parse_list(choice, spec, list);
    json_decref(list);
    for (size_t i = 0; rc == 0 && !null_class && i < choice->n; i++)
        if (choice->list[i] == (int32_t)classes)
            rc = error_set(STATUS_USAGE, "class none: the model was trained without a null class");
    if (rc < 0)
        class_choice_free(choice);
    return rc;
}

void class_choice_free(struct class_choice *choice)
{
    free(choice->list);
    choice->list = NULL;
}

int32_t class_choice_get(const struct class_choice *choice, uint64_t seed, uint64_t i)
{
    struct rng rng = {.seed = seed, .purpose = RNG_SAMPLE_CLASS, .sample = i};
    if (choice->classes == 0)
        return 0;
    switch (choice->kind) {
    case CLASSES_LISTED:
        return choice->list[i % choice->n];
    case CLASSES_RANDOM:
        return (int32_t)rng_below(&rng, 0, choice->classes);
    default:
        return (int32_t)(i % choice->classes);
    }
}
