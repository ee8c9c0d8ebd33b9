// Opens autoencoders by name or file. SPDX-License-Identifier: MIT
#include "formats/autoencoder-open.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/error.h"

#define BLOCK 64 // coefficients of an 8x8 block

// "N" or "Y,C" of dct:N and dct:Y,C.
static bool parse_dct(const char *text, size_t *n_y, size_t *n_c)
{
    unsigned a, b;
    int end = 0;
    if (strspn(text, "0123456789,") != strlen(text) || strlen(text) > 6)
        return false;
    if (sscanf(text, "%u,%u%n", &a, &b, &end) == 2 && !text[end]) {
        *n_y = a;
        *n_c = b;
        return a >= 1 && a <= BLOCK && b <= BLOCK;
    }
    if (sscanf(text, "%u%n", &a, &end) != 1 || text[end] || a < 1 || a > 3 * BLOCK)
        return false;
    // Three in sixteen to each chroma, more where luma has no more to give.
    size_t share = (a * 3 + 8) / 16, least = a > BLOCK ? (a - BLOCK + 1) / 2 : 0;
    *n_c = share > least ? share : least;
    *n_y = a - 2 * *n_c;
    return true;
}

static struct autoencoder *open_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        error_set_errno(STATUS_NO_INPUT, "autoencoder %s", path);
        return NULL;
    }
    close(fd);
    error_set(STATUS_DATA,
              "autoencoder %s: not a known autoencoder; expected dct, dct:N or dct:Y,C", path);
    return NULL;
}

// malformed: the status where the name itself is wrong.
static struct autoencoder *open_spec(struct device *device, const char *spec, enum status malformed)
{
    size_t n_y = 10, n_c = 3;
    if (strncmp(spec, "dct:", 4) == 0 && !parse_dct(spec + 4, &n_y, &n_c)) {
        error_set(malformed,
                  "autoencoder '%s': expected dct:N with N from 1 to 192, or dct:Y,C with Y from 1 "
                  "and C from 0 to 64",
                  spec);
        return NULL;
    }
    if (strcmp(spec, "dct") == 0 || strncmp(spec, "dct:", 4) == 0)
        return autoencoder_new_dct(device, n_y, n_c);
    return open_file(spec);
}

struct autoencoder *autoencoder_open(struct device *device, const char *spec)
{
    if (!spec)
        spec = getenv("DIT_VAE");
    return open_spec(device, spec && *spec ? spec : "dct", STATUS_USAGE);
}

struct autoencoder *autoencoder_open_for(struct device *device, const char *spec, const char *named,
                                         size_t channels, const char *what)
{
    struct autoencoder *ae;
    if (spec || !named) {
        ae = autoencoder_open(device, spec);
    } else {
        ae = open_spec(device, named, STATUS_DATA);
        if (!ae)
            error_prefix("%s names its autoencoder (--vae takes another)", what);
    }
    if (ae && ae->channels != channels) {
        error_set(STATUS_DATA,
                  "%s: its latents have %zu channels%s%s, but those of the autoencoder %s have %zu",
                  what, channels, named ? ", made by " : "", named ? named : "", ae->name,
                  ae->channels);
        autoencoder_close(ae);
        return NULL;
    }
    return ae;
}
