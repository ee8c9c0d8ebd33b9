// Reads the labels that stand in a dataset.json, as the tools of EDM2 and REPA write it.
// SPDX-License-Identifier: MIT
#ifndef DIT_DATASET_JSON_H
#define DIT_DATASET_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// {0} has no labels.
struct dataset_labels {
    bool known; // there are labels
    size_t n, names_size;
    struct dataset_label *sorted; // (n), by name
    char *names;
};

// Reads {"labels": [[NAME, NUMBER], ...], ...}; "labels": null means that there are none. Takes not
// much more memory than the text. -1 with an error (65); the labels are to be freed also then.
int dataset_labels_parse(struct dataset_labels *labels, const char *text, size_t size);
// The label of a file. False if it has none.
bool dataset_labels_find(const struct dataset_labels *labels, const char *name, int64_t *label);
void dataset_labels_free(struct dataset_labels *labels);

#endif
