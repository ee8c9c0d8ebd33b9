// Decodes the first picture of TIFF files by libtiff. SPDX-License-Identifier: MIT
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <tiffio.h>

#include "formats/images/decoders.h"
#include "lib/base/error.h"

// The file as libtiff reads it.
struct tiff_input {
    const struct image_source *file;
    uint64_t at;
};

static tmsize_t read_tiff_bytes(thandle_t user, void *bytes, tmsize_t size)
{
    struct tiff_input *in = user;
    uint64_t left = in->at < in->file->size ? in->file->size - in->at : 0;
    size_t n = (uint64_t)size < left ? (size_t)size : (size_t)left;
    memcpy(bytes, in->file->data + in->at, n);
    in->at += n;
    return (tmsize_t)n;
}

static tmsize_t write_tiff_bytes(thandle_t user, void *bytes, tmsize_t size)
{
    (void)user, (void)bytes, (void)size;
    return -1;
}

static toff_t seek_tiff(thandle_t user, toff_t offset, int whence)
{
    struct tiff_input *in = user;
    in->at = offset + (whence == SEEK_CUR ? in->at : whence == SEEK_END ? in->file->size : 0);
    return in->at;
}

static int close_tiff(thandle_t user)
{
    (void)user;
    return 0;
}

static toff_t tiff_size(thandle_t user)
{
    return ((struct tiff_input *)user)->file->size;
}

// libtiff's own handlers would print; the messages of one thread are kept as its error.
static void on_tiff_error(const char *module, const char *format, va_list ap)
{
    char text[256];
    (void)module;
    vsnprintf(text, sizeof text, format, ap);
    error_set(STATUS_DATA, "TIFF: %s", text);
}

static void set_tiff_handlers(void)
{
    TIFFSetErrorHandler(on_tiff_error);
    TIFFSetWarningHandler(NULL);
}

// libtiff gives the colours of a transparent pixel times its alpha.
static void divide_by_alpha(uint8_t *rgba, size_t n)
{
    for (size_t i = 0; i < n; i++, rgba += 4)
        for (size_t c = 0; c < 3 && rgba[3] != 0 && rgba[3] != 255; c++) {
            int value = (rgba[c] * 255 + rgba[3] / 2) / rgba[3];
            rgba[c] = value > 255 ? 255 : (uint8_t)value;
        }
}

static int decode_tiff(TIFF *tiff, struct image *image, const struct image_source *file)
{
    uint32_t width = 0, height = 0;
    uint16_t orientation = 1;
    char text[1024] = "";
    if (!TIFFRGBAImageOK(tiff, text))
        return error_set(STATUS_DATA, "TIFF: %s", text);
    TIFFGetField(tiff, TIFFTAG_IMAGEWIDTH, &width);
    TIFFGetField(tiff, TIFFTAG_IMAGELENGTH, &height);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_ORIENTATION, &orientation);
    struct image_claim claim = {.width = width, .height = height, .channels = 4};
    // A strip or tile is read whole; of separate channels four at once.
    uint64_t unit = TIFFIsTiled(tiff) ? TIFFTileSize64(tiff) : TIFFStripSize64(tiff);
    claim.extra = unit < SIZE_MAX / 8 ? 4 * (size_t)unit : SIZE_MAX;
    if (image_init(image, file, &claim) < 0)
        return -1;
    image->orientation = orientation >= 1 && orientation <= 8 ? orientation : 1;
    error_set(STATUS_DATA, "TIFF: broken"); // for a failure without a message
    // The orientation as which the picture is stored leaves it as it is.
    if (!TIFFReadRGBAImageOriented(tiff, width, height, (uint32_t *)(void *)image->rgb, orientation,
                                   1))
        return -1;
    divide_by_alpha(image->rgb, image->width * image->height);
    image_flatten(image, file->options);
    return 0;
}

// "m": don't map the file, which is in memory; "O": read tables of strips as they are needed.
#define TIFF_MODE "rmO"

// libtiff would try to allocate whatever a file claims, and then find no memory.
static TIFF *open_tiff(struct tiff_input *in)
{
#if TIFFLIB_VERSION >= 20221213
    TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
    if (!options) {
        error_set(STATUS_INTERNAL, "out of memory for a TIFF");
        return NULL;
    }
    const size_t most = image_memory_left(in->file, 0);
    TIFFOpenOptionsSetMaxSingleMemAlloc(options, most < PTRDIFF_MAX ? (tmsize_t)most : 0);
    TIFF *tiff = TIFFClientOpenExt("TIFF", TIFF_MODE, in, read_tiff_bytes, write_tiff_bytes,
                                   seek_tiff, close_tiff, tiff_size, NULL, NULL, options);
    TIFFOpenOptionsFree(options);
    return tiff;
#else
    return TIFFClientOpen("TIFF", TIFF_MODE, in, read_tiff_bytes, write_tiff_bytes, seek_tiff,
                          close_tiff, tiff_size, NULL, NULL);
#endif
}

int image_decode_tiff(struct image *image, const struct image_source *file)
{
    struct tiff_input in = {.file = file};
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_tiff_handlers);
    error_set(STATUS_DATA, "TIFF: broken");
    errno = 0;
    TIFF *tiff = open_tiff(&in);
    int rc = tiff ? decode_tiff(tiff, image, file) : -1;
    // Where memory ends, libtiff says so, or something else, or leaves out pixels; but malloc()
    // leaves this.
    if (errno == ENOMEM)
        rc = error_set(STATUS_INTERNAL, "out of memory for a TIFF");
    if (tiff)
        TIFFClose(tiff);
    return rc;
}
