// Which classes to sample. SPDX-License-Identifier: MIT
#ifndef DIT_CLASS_CHOICE_H
#define DIT_CLASS_CHOICE_H

#include <stddef.h>
#include <stdint.h>

struct class_choice {
    enum { CLASSES_BALANCED, CLASSES_RANDOM, CLASSES_LISTED } kind;
    size_t classes; // of the model
    size_t n;
    int32_t *list; // (n), of CLASSES_LISTED
};

// spec: "balanced" (sample i is of class i mod K), "random" (uniform), or a list with commas that
// the samples go through again and again: numbers, or names from `names` (a JSON list, as in a
// stream's metadata, or NULL); "none" is the null class. -1 with an error (64).
int class_choice_parse(struct class_choice *choice, const char *spec, const char *names,
                       size_t classes);
void class_choice_free(struct class_choice *choice);
// The class of sample number i.
int32_t class_choice_get(const struct class_choice *choice, uint64_t seed, uint64_t i);

#endif
