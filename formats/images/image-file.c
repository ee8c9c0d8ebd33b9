// Chooses the decoder by the first bytes and turns the image upright. SPDX-License-Identifier: MIT
#include "formats/images/image-file.h"

#include <string.h>

#include "formats/images/jpeg.h"
#include "formats/images/png.h"
#include "lib/base/error.h"

int image_decode(struct image *image, const uint8_t *file, size_t size, bool exif, size_t crop)
{
    static const uint8_t jpeg[] = {0xFF, 0xD8, 0xFF};
    static const uint8_t png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    *image = (struct image){0};
    int orientation = 1, rc;
    if (size == 0)
        return error_set(STATUS_DATA, "an empty file");
    if (size >= sizeof jpeg && memcmp(file, jpeg, sizeof jpeg) == 0)
        rc = image_decode_jpeg(image, file, size, exif ? 0 : crop, &orientation);
    else if (size >= sizeof png && memcmp(file, png, sizeof png) == 0)
        rc = image_decode_png(image, file, size, &orientation);
    else
        return error_set(STATUS_DATA,
                         "expected a JPEG or PNG file, found one that starts with "
                         "%02X %02X %02X",
                         file[0], size > 1 ? file[1] : 0, size > 2 ? file[2] : 0);
    if (rc == 0 && exif)
        rc = image_orient(image, orientation);
    if (rc < 0)
        image_free(image);
    return rc;
}
