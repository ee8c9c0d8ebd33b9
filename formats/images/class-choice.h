// Chooses the class of each sample. SPDX-License-Identifier: MIT
#ifndef DIT_CLASS_CHOICE_H
#define DIT_CLASS_CHOICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct class_choice {
    enum { CLASSES_BALANCED, CLASSES_RANDOM, CLASSES_LISTED } kind;
    size_t classes; // classes of the model
    size_t n;
    int32_t *list; // (n), with CLASSES_LISTED
};

// spec: "balanced" (sample i has class i mod K), "random" (uniform), or a comma-separated list that
// the samples cycle through. Its items are numbers, names from `names` (a JSON list as in a
// stream's metadata, or NULL), or "none" for the null class, K. A name that holds a comma, or
// begins with a blank, stands in double quotes, and a quote in it is doubled. A model without
// classes, K = 0, has the null class alone; others may lack it. -1 with an error (64).
int class_choice_parse(struct class_choice *choice, const char *spec, const char *names,
                       size_t classes, bool null_class);
void class_choice_free(struct class_choice *choice);
// The class of sample number i.
int32_t class_choice_get(const struct class_choice *choice, uint64_t seed, uint64_t i);

#endif
