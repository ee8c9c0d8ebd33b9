// Reads the index of weights that lie in several files. SPDX-License-Identifier: MIT
#ifndef DIT_WEIGHTS_INDEX_H
#define DIT_WEIGHTS_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Looks at the first bytes.
bool weights_index_matches(const uint8_t *bytes, size_t size);
// The paths of the files that the index at `path` names, NULL-terminated; weights_index_free frees
// them. NULL with an error (65) if it is no index, or names a file in another folder.
char **weights_index_paths(const char *path, const uint8_t *bytes, size_t size);
void weights_index_free(char **paths); // NULL is fine

#endif
