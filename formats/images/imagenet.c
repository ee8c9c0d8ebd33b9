// The published models know their classes by number only. SPDX-License-Identifier: MIT
#include "formats/images/imagenet.h"

#include <string.h>

#include "formats/images/class-names.h"

char *imagenet_classes_json(void)
{
    static const char *const names[IMAGENET_CLASSES] = {
#include "formats/images/imagenet-classes.inc" // which the Makefile makes
    };
    struct class_names list = {0};
    char *json = NULL;
    size_t n = 0;
    while (n < IMAGENET_CLASSES && class_names_add(&list, names[n], strlen(names[n])) >= 0)
        n++;
    if (n == IMAGENET_CLASSES)
        json = class_names_json(&list);
    class_names_free(&list);
    return json;
}
