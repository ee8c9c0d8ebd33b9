// Chooses the decoder by the first bytes and turns the image upright. SPDX-License-Identifier: MIT
#include "formats/images/image-file.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/images/decoders.h"
#include "lib/base/error.h"
#include "lib/base/io.h"

// Decoders whose libraries the Makefile did not find.
#ifndef HAVE_webp
#define image_decode_webp NULL
#endif
#ifndef HAVE_gif
#define image_decode_gif NULL
#endif
#ifndef HAVE_tiff
#define image_decode_tiff NULL
#endif

struct image_kind {
    const char *name; // with its article
    const char *head; // the first bytes; '?' stands for any
    int (*decode)(struct image *image, const struct image_source *file);
    const char *library; // without which there is no decoder
};

// The first that fits is taken.
static const struct image_kind image_kinds[] = {
    {"a JPEG", "\xFF\xD8\xFF", image_decode_jpeg, NULL},
    {"a PNG", "\x89PNG\r\n\x1A\n", image_decode_png, NULL},
    {"a WebP", "RIFF????WEBP", image_decode_webp, "libwebp"},
    {"a GIF", "GIF8", image_decode_gif, "giflib"},
    {"a TIFF", "II*?", image_decode_tiff, "libtiff"},
    {"a TIFF", "MM?*", image_decode_tiff, "libtiff"},
    {"a BMP", "BM", image_decode_bmp, NULL},
    {"an AVIF picture", "????ftypavif", NULL, NULL},
    {"an AVIF picture", "????ftypavis", NULL, NULL},
    {"an HEIF picture", "????ftyphei", NULL, NULL},
    {"an HEIF picture", "????ftyphev", NULL, NULL},
    {"an HEIF picture", "????ftypmif1", NULL, NULL},
    {"an HEIF picture", "????ftypmsf1", NULL, NULL},
    {"a video", "????ftyp", NULL, NULL},
    {"a JPEG XL picture", "\xFF\x0A", NULL, NULL},
    {"a JPEG XL picture", "???\x0CJXL ", NULL, NULL},
    {"a JPEG 2000 picture", "???\x0CjP  ", NULL, NULL},
    {"a JPEG 2000 picture", "\xFF\x4F\xFF\x51", NULL, NULL},
    {"a Photoshop document", "8BPS", NULL, NULL},
    {"a PDF document", "%PDF", NULL, NULL},
    {"an SVG drawing", "<svg", NULL, NULL},
    {"a PNM picture", "P1\n", NULL, NULL},
    {"a PNM picture", "P2\n", NULL, NULL},
    {"a PNM picture", "P3\n", NULL, NULL},
    {"a PNM picture", "P4\n", NULL, NULL},
    {"a PNM picture", "P5\n", NULL, NULL},
    {"a PNM picture", "P6\n", NULL, NULL},
    {"an OpenEXR picture", "\x76\x2F\x31\x01", NULL, NULL},
    {"a QOI picture", "qoif", NULL, NULL},
};

static bool head_fits(const char *head, const uint8_t *file, size_t size)
{
    size_t length = strlen(head);
    for (size_t i = 0; i < length; i++)
        if (i >= size || (head[i] != '?' && (uint8_t)head[i] != file[i]))
            return false;
    return true;
}

static const struct image_kind *look_up_kind(const uint8_t *file, size_t size)
{
    for (size_t i = 0; i < sizeof image_kinds / sizeof *image_kinds; i++)
        if (head_fits(image_kinds[i].head, file, size))
            return &image_kinds[i];
    return NULL;
}

bool image_is_known(const uint8_t *head, size_t size)
{
    return look_up_kind(head, size);
}

static const struct image_kind *find_kind(const uint8_t *file, size_t size)
{
    if (size == 0) {
        error_set(STATUS_DATA, "an empty file");
        return NULL;
    }
    const struct image_kind *kind = look_up_kind(file, size);
    if (kind) {
        if (kind->decode)
            return kind;
        if (kind->library)
            error_set(STATUS_DATA,
                      "%s, which this build cannot read: rebuild dit-tools with %s installed, or "
                      "convert the file to PNG, as with \"magick FILE FILE.png\"",
                      kind->name, kind->library);
        else
            error_set(
                STATUS_DATA,
                "%s, which is not supported; convert it to PNG, as with \"magick FILE FILE.png\"",
                kind->name);
        return NULL;
    }
    error_set(STATUS_DATA, "expected an image file, found one that starts with %02X %02X %02X",
              file[0], size > 1 ? file[1] : 0, size > 2 ? file[2] : 0);
    return NULL;
}

int image_decode(struct image *image, const uint8_t *file, size_t size,
                 const struct image_options *options)
{
    *image = (struct image){.orientation = 1};
    const struct image_kind *kind = find_kind(file, size);
    if (!kind)
        return -1;
    const struct image_source source = {file, size, options};
    int rc = kind->decode(image, &source);
    if (rc == 0 && options->exif)
        rc = image_orient(image, &source);
    if (rc < 0)
        image_free(image);
    return rc;
}

// Reads a whole file whose first bytes look like an image, into *data; malloc'd, also after -1.
static int read_image_file(int fd, const struct image_options *options, uint8_t **data,
                           size_t *size)
{
    struct stat st;
    uint8_t head[IMAGE_HEAD_SIZE];
    if (fstat(fd, &st) < 0 ||
        (S_ISREG(st.st_mode) && fd_pread_full(fd, head, IMAGE_HEAD_SIZE, 0, size)))
        return error_set_errno(STATUS_NO_INPUT, "cannot read");
    if (!S_ISREG(st.st_mode))
        return error_set(STATUS_NO_INPUT, "expected a regular file");
    if (!find_kind(head, *size))
        return -1;
    const size_t whole = (size_t)st.st_size;
    if (image_memory_left(&(struct image_source){.size = whole, .options = options}, 0) == 0)
        return error_set(STATUS_DATA,
                         "a file of %zu bytes, more than the limit of pixels allows (--max-pixels)",
                         whole);
    *data = malloc(whole + 1);
    if (!*data)
        return error_set(STATUS_INTERNAL, "out of memory for %zu bytes", whole);
    return fd_pread_full(fd, *data, whole, 0, size)
               ? error_set_errno(STATUS_NO_INPUT, "cannot read")
               : 0;
}

int image_read(struct image *image, const char *path, const struct image_options *options)
{
    uint8_t *data = NULL;
    size_t size = 0;
    *image = (struct image){.orientation = 1};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO is not waited for
    if (fd < 0)
        return error_set_errno(STATUS_NO_INPUT, "%s: cannot open", path);
    int rc = read_image_file(fd, options, &data, &size);
    close(fd);
    if (rc == 0)
        rc = image_decode(image, data, size, options);
    free(data);
    return rc < 0 ? error_prefix("%s", path) : 0;
}
