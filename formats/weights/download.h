// Tells what a download left in the place of the file that was meant. SPDX-License-Identifier: MIT
#ifndef DIT_DOWNLOAD_H
#define DIT_DOWNLOAD_H

#include <stddef.h>
#include <stdint.h>

// What the bytes are, for a message: "a git-lfs pointer (...)", "an HTML page (...)". NULL if they
// are neither.
const char *download_found_instead(const uint8_t *bytes, size_t size);

#endif
