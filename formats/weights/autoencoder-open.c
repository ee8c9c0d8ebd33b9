// Chooses the autoencoder: --vae, the latents' own, $DIT_VAE, or the built-in one.
// SPDX-License-Identifier: MIT
#include "formats/weights/autoencoder-open.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/weights/kl-file.h"
#include "formats/weights/weights-home.h"
#include "lib/base/error.h"

#define BLOCK 64 // coefficients of an 8x8 block

// Parses the "N" of dct:N or the "Y,C" of dct:Y,C.
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
    // Each chroma gets three sixteenths, and more once luma has all its coefficients.
    size_t share = (a * 3 + 8) / 16, least = a > BLOCK ? (a - BLOCK + 1) / 2 : 0;
    *n_c = share > least ? share : least;
    *n_y = a - 2 * *n_c;
    return true;
}

static bool is_builtin(const char *spec)
{
    return strcmp(spec, "dct") == 0 || strncmp(spec, "dct:", 4) == 0;
}

// malformed: the status if the name itself is wrong.
static struct autoencoder *open_spec(struct device *device, const char *spec, enum kl_half half,
                                     enum status malformed)
{
    size_t n_y = 10, n_c = 3;
    if (!is_builtin(spec)) {
        struct autoencoder *ae = kl_file_load(device, spec, half);
        if (!ae)
            error_prefix("autoencoder");
        return ae;
    }
    if (strcmp(spec, "dct") != 0 && !parse_dct(spec + 4, &n_y, &n_c)) {
        error_set(malformed,
                  "autoencoder '%s': expected dct:N with N from 1 to 192, or dct:Y,C with Y from 1 "
                  "and C from 0 to 64",
                  spec);
        return NULL;
    }
    return autoencoder_new_dct(device, n_y, n_c);
}

// $DIT_VAE, or NULL.
static const char *from_environment(void)
{
    const char *spec = getenv("DIT_VAE");
    return spec && *spec ? spec : NULL;
}

struct autoencoder *autoencoder_open(struct device *device, const char *spec, enum kl_half half)
{
    if (!spec)
        spec = from_environment();
    return open_spec(device, spec ? spec : "dct", half, STATUS_USAGE);
}

// Whether the last parts of a path are this name, which may hold slashes itself.
static bool path_ends_with(const char *path, const char *name)
{
    size_t end = strlen(path), n = strlen(name);
    while (end > 1 && path[end - 1] == '/')
        end--;
    return end >= n && strncmp(path + end - n, name, n) == 0 &&
           (end == n || path[end - n - 1] == '/');
}

// Whether the name is of a file in the current folder, or among the downloaded weights. Who wrote
// the latents or weights may have recorded any path; what is elsewhere is opened only for a user
// who gives it.
static bool is_near(const char *name)
{
    if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    char *path = weights_home_find(name);
    free(path);
    return path;
}

// Opens the autoencoder that latents or weights record: of a file only the last part of its path.
static struct autoencoder *open_recorded(struct device *device, const char *recorded,
                                         enum kl_half half, const char *what)
{
    const char *other = from_environment();
    if (!is_builtin(recorded) && other && path_ends_with(other, recorded))
        recorded = other;
    if (recorded != other && !is_builtin(recorded) && !is_near(recorded)) {
        char shown[ERROR_SHOWN_SIZE];
        error_set(STATUS_NO_INPUT,
                  "%s: its latents were made by the autoencoder %s, which is not in this folder; "
                  "give its path with --vae",
                  what, error_shown(recorded, strlen(recorded), shown));
        return NULL;
    }
    struct autoencoder *ae = open_spec(device, recorded, half, STATUS_DATA);
    if (!ae)
        error_prefix("%s names this autoencoder (--vae overrides it)", what);
    return ae;
}

// -1 with an error if these latents can't be the autoencoder's.
static int check_latents(const struct autoencoder *ae, const char *recorded, const char *scale,
                         size_t channels, const char *what)
{
    if (ae->channels != channels)
        return error_set(
            STATUS_DATA,
            "%s: latents%s%s have %zu channels, but those of the autoencoder %s have %zu", what,
            recorded ? " made by " : "", recorded ? recorded : "", channels, ae->name,
            ae->channels);
    if (scale && !(fabs(strtod(scale, NULL) - ae->scale) <= 1e-5 * fabs(ae->scale)))
        return error_set(
            STATUS_DATA,
            "%s: latents%s%s are scaled by %.40s, but the autoencoder %s scales them by %.9g", what,
            recorded ? " made by " : "", recorded ? recorded : "", scale, ae->name, ae->scale);
    return 0;
}

static const char *metadata_text(const json_t *metadata, const char *key)
{
    return json_string_value(json_object_get(metadata, key));
}

struct autoencoder *autoencoder_open_for(struct device *device, const char *spec,
                                         const json_t *metadata, size_t channels, enum kl_half half,
                                         const char *what)
{
    const char *recorded = metadata_text(metadata, "autoencoder");
    if (!spec && !recorded && !from_environment() && channels == KL_PUBLISHED.latent_channels) {
        error_set(STATUS_DATA,
                  "%s: no autoencoder is named; latents of %zu channels are those of Stable "
                  "Diffusion's: --vae sd-vae-ft-ema.safetensors",
                  what, channels);
        return NULL;
    }
    struct autoencoder *ae = spec || !recorded ? autoencoder_open(device, spec, half)
                                               : open_recorded(device, recorded, half, what);
    if (ae &&
        check_latents(ae, recorded, metadata_text(metadata, "latent_scale"), channels, what) < 0) {
        autoencoder_close(ae);
        return NULL;
    }
    return ae;
}
