// What dit-info tells of a file. SPDX-License-Identifier: MIT
//
// The facts of a file are a JSON object, which is printed as it is by --json, and else as text, in
// its order. All have "kind"; the rest depends on it.
#ifndef DIT_FACTS_H
#define DIT_FACTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "lib/base/tensor.h"

// Recognises what the path names, a file, a folder or "-", and tells of it. `check`: also reads all
// of it, and compares it with its checksums. NULL with an error.
json_t *facts_of(const char *path, bool check);

// These know what the path names.
json_t *facts_of_stream(const char *path, bool check);
json_t *facts_of_weights(const char *path, bool check);
json_t *facts_of_arrays(const char *path, bool check);
json_t *facts_of_run(const char *folder, bool check);

// The same for the parts that they share: a tensor or array; the metadata, without the history,
// which becomes "history", the names of the classes, which become "classes", and what `known` says.
json_t *facts_tensor(const char *name, enum dtype dtype, const size_t *shape, size_t rank);
void facts_add_metadata(json_t *facts, const json_t *metadata, bool (*known)(const char *key));

// Prints the facts of the file of this name. No text from a file can drive a terminal.
void facts_print_text(FILE *out, const char *name, const json_t *facts);
void facts_print_json(FILE *out, const char *name, const json_t *facts);
// Prints the classes, NUMBER<TAB>NAME a line. -1 with an error (65) if their names are not known.
int facts_print_classes(FILE *out, const char *name, const json_t *facts);

#endif
