// Parses the words of a choice of classes: names, numbers, "none". SPDX-License-Identifier: MIT
#include "formats/images/class-choice.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/containers/safetensors.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"

static int unknown_class(const char *word, size_t length, const json_t *names, size_t classes)
{
    char list[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < json_array_size(names) && i < classes && used < sizeof list; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : ": ",
                                 name ? name : "?");
    }
    return error_set(STATUS_USAGE, "no class is called \"%.*s\"; the model has %zu classes%s%s",
                     (int)length, word, classes, *list ? list : ", known by number only",
                     used < sizeof list ? "" : "...");
}

// Reads a name, "none" or a number. Names come first, as a class may be called "7".
static int parse_class(const char *word, size_t length, const json_t *names, size_t classes,
                       int32_t *class)
{
    for (size_t i = 0; i < json_array_size(names) && i < classes; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (name && strlen(name) == length && strncmp(name, word, length) == 0) {
            *class = (int32_t)i;
            return 0;
        }
    }
    if (length == 4 && strncmp(word, "none", 4) == 0) {
        *class = (int32_t)classes;
        return 0;
    }
    char *end;
    errno = 0;
    unsigned long long number = strtoull(word, &end, 10);
    if (word[0] < '0' || word[0] > '9' || end != word + length || errno)
        return unknown_class(word, length, names, classes);
    if (number >= classes)
        return error_set(STATUS_USAGE, "class %llu: the model has classes 0 to %zu", number,
                         classes - 1);
    *class = (int32_t)number;
    return 0;
}

static int parse_list(struct class_choice *choice, const char *spec, const json_t *names)
{
    size_t room = 1;
    for (const char *p = spec; *p; p++)
        room += *p == ',';
    if (!(choice->list = mem_new(room, sizeof *choice->list)))
        return -1;
    for (const char *word = spec;; word++) {
        size_t length = strcspn(word, ",");
        if (parse_class(word, length, names, choice->classes, &choice->list[choice->n++]) < 0)
            return -1;
        word += length;
        if (!*word)
            return 0;
    }
}

int class_choice_parse(struct class_choice *choice, const char *spec, const char *names,
                       size_t classes)
{
    *choice = (struct class_choice){.classes = classes};
    if (strcmp(spec, "balanced") == 0)
        return 0;
    if (strcmp(spec, "random") == 0) {
        choice->kind = CLASSES_RANDOM;
        return 0;
    }
    choice->kind = CLASSES_LISTED;
    if (names && safetensors_check_values((const uint8_t *)names, strlen(names)) < 0)
        return error_prefix("the names of the classes");
    json_t *list = names ? json_loads(names, 0, NULL) : NULL;
    int rc = parse_list(choice, spec, list);
    json_decref(list);
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
    switch (choice->kind) {
    case CLASSES_LISTED:
        return choice->list[i % choice->n];
    case CLASSES_RANDOM:
        return (int32_t)rng_below(&rng, 0, choice->classes);
    default:
        return (int32_t)(i % choice->classes);
    }
}
