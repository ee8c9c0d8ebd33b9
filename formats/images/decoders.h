// The decoders of the kinds of image files, for image-file.c. SPDX-License-Identifier: MIT
#ifndef DIT_DECODERS_H
#define DIT_DECODERS_H

#include "formats/images/image.h"

// Each decodes a file whose first bytes are of its kind, as image_decode does, but leaves the image
// as it is stored and only notes its orientation. The image, empty before and of orientation 1, is
// to be freed also after -1.
int image_decode_jpeg(struct image *image, const struct image_source *file);
int image_decode_png(struct image *image, const struct image_source *file);
int image_decode_bmp(struct image *image, const struct image_source *file);
// These are there if the Makefile found the library (HAVE_webp and so on).
int image_decode_webp(struct image *image, const struct image_source *file);
int image_decode_gif(struct image *image, const struct image_source *file);
int image_decode_tiff(struct image *image, const struct image_source *file);

#endif
