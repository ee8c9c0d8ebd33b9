// What the fuzz targets share. SPDX-License-Identifier: MIT
//
// A target gives any bytes to the part of the project that its name tells. That must give a result,
// or fail with a status and a message for the user; and a result must keep what its header
// promises. Whatever else happens is a bug and ends the process.
#ifndef DIT_FUZZ_H
#define DIT_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUZZ_TARGETS(X) \
    X(archives)         \
    X(arrays)           \
    X(convert)          \
    X(documents)        \
    X(image)            \
    X(latents) X(lists) X(npy) X(options) X(pickle) X(resume) X(safetensors) X(tstream) X(weights)

#define FUZZ_DECLARE(name) void fuzz_##name(const uint8_t *data, size_t size);
FUZZ_TARGETS(FUZZ_DECLARE)
#undef FUZZ_DECLARE

// Names the target to run. -1 if there is none of this name.
int fuzz_choose(const char *name);
// Runs it. Always 0, as libFuzzer wants it.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Ends the process if `kept` is false.
void fuzz_promise(bool kept, const char *promise);
// Checks the error of a call that failed.
void fuzz_check_error(void);
// Checks the error if rc is negative. Returns whether it isn't.
bool fuzz_succeeded(int rc);

// The folder for files, which goes when the process ends.
const char *fuzz_folder(void);
// FOLDER/NAME, malloc'd.
char *fuzz_path(const char *name);
// Writes FOLDER/NAME.
void fuzz_write(const char *name, const uint8_t *data, size_t size);

// Takes an input apart from its front.
struct fuzz_bytes {
    const uint8_t *data;
    size_t size;
};
// `size` bytes, or what is left.
struct fuzz_bytes fuzz_take(struct fuzz_bytes *from, size_t size);
// A little-endian number of `size` bytes; those that are missing are 0.
size_t fuzz_number(struct fuzz_bytes *from, size_t size);

#endif
