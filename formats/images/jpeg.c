// JPEG by libjpeg-turbo. SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "formats/images/image-file.h"
#include "formats/images/resample.h"
#include "lib/base/error.h"

// A progressive file of a few bytes can ask for any number of passes over the whole image.
#define SCANS_MAX 500
#define EXIF_NAME "Exif\0" // and one more 0

struct jpeg {
    struct jpeg_decompress_struct info; // first: its address is the object's
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    uint8_t *row; // of CMYK; freed by image_decode_jpeg
};

static void fail(j_common_ptr info)
{
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    error_set(STATUS_DATA, "%s", text);
    longjmp(((struct jpeg *)info)->failed, 1);
}

// Of the warnings, those of data that ends too early mean that a part of the picture is missing.
static void on_message(j_common_ptr info, int level)
{
    int code = info->err->msg_code;
    if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER))
        fail(info);
}

static void on_progress(j_common_ptr info)
{
    struct jpeg *jpeg = (struct jpeg *)info;
    if (jpeg->info.input_scan_number > SCANS_MAX) {
        error_set(STATUS_DATA, "more than %d scans", SCANS_MAX);
        longjmp(jpeg->failed, 1);
    }
}

static int find_orientation(const struct jpeg_decompress_struct *info)
{
    const size_t name = sizeof EXIF_NAME;
    for (const struct jpeg_marker_struct *m = info->marker_list; m; m = m->next)
        if (m->marker == JPEG_APP0 + 1 && m->data_length > name &&
            memcmp(m->data, EXIF_NAME, name) == 0)
            return exif_orientation(m->data + name, m->data_length - name);
    return 1;
}

// x * y / 255, rounded, as Pillow computes it.
static int mul_255(int x, int y)
{
    int product = x * y + 128;
    return ((product >> 8) + product) >> 8;
}

// Adobe's programs store CMYK inverted, and everybody reads it so.
static void rgb_from_cmyk(uint8_t *rgb, const uint8_t *cmyk, size_t width)
{
    for (size_t x = 0; x < width; x++)
        for (size_t c = 0; c < 3; c++) {
            int black = cmyk[4 * x + 3];
            rgb[3 * x + c] = (uint8_t)(black - mul_255(255 - cmyk[4 * x + c], black));
        }
}

// Reads rows up to `end`; a row's pixels from x on.
static void read_rows(struct jpeg *jpeg, struct image *image, size_t x, size_t end)
{
    struct jpeg_decompress_struct *info = &jpeg->info;
    while (info->output_scanline < end) {
        uint8_t *rgb = image->rgb + 3 * (image->width * info->output_scanline + x);
        JSAMPROW row = jpeg->row ? jpeg->row : rgb;
        jpeg_read_scanlines(info, &row, 1);
        if (jpeg->row)
            rgb_from_cmyk(rgb, jpeg->row, info->output_width);
    }
}

// Makes the window's pixels. What stands before them is passed over, which still takes reading it,
// and so is what stands behind, to see that it is there.
static void read_window(struct jpeg *jpeg, struct image *image, struct resample_window window)
{
    struct jpeg_decompress_struct *info = &jpeg->info;
    // Upsampling looks at the neighbours, and takes the edge of what is decoded for the image's.
    size_t margin = (size_t)(info->max_h_samp_factor * DCTSIZE);
    size_t left = window.x < margin ? 0 : window.x - margin;
    size_t right = window.x + window.width;
    right = image->width - right < margin ? image->width : right + margin;
    JDIMENSION x = (JDIMENSION)left, width = (JDIMENSION)(right - left);
    jpeg_crop_scanline(info, &x, &width);
    if (window.y > 0)
        jpeg_skip_scanlines(info, (JDIMENSION)window.y);
    read_rows(jpeg, image, x, window.y + window.height);
    // Skipping the last row, too, would end it there.
    if (info->output_height - info->output_scanline > 1)
        jpeg_skip_scanlines(info, info->output_height - info->output_scanline - 1);
    read_rows(jpeg, image, x, image->height);
}

static int decode(struct jpeg *jpeg, struct image *image, const uint8_t *file, size_t size,
                  size_t crop, int *orientation)
{
    struct jpeg_decompress_struct *info = &jpeg->info;
    if (setjmp(jpeg->failed))
        return -1;
    jpeg_create_decompress(info);
    info->progress = &jpeg->progress;
    jpeg_mem_src(info, file, size);
    jpeg_save_markers(info, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(info, TRUE);
    *orientation = find_orientation(info);
    bool cmyk = info->num_components == 4;
    info->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    if (image_init(image, info->image_width, info->image_height))
        return -1;
    if (cmyk && !(jpeg->row = malloc(4 * image->width)))
        return error_set(STATUS_INTERNAL, "out of memory");
    jpeg_start_decompress(info);
    // Where scans are missing, smoothing takes their place, and doesn't respect the window.
    if (crop && !info->progressive_mode)
        read_window(jpeg, image, resample_crop_window(image->width, image->height, crop));
    else
        read_rows(jpeg, image, 0, image->height);
    return 0;
}

int image_decode_jpeg(struct image *image, const uint8_t *file, size_t size, size_t crop,
                      int *orientation)
{
    struct jpeg jpeg = {0};
    jpeg.info.err = jpeg_std_error(&jpeg.errors);
    jpeg.errors.error_exit = fail;
    jpeg.errors.emit_message = on_message;
    jpeg.progress.progress_monitor = on_progress;
    int rc = decode(&jpeg, image, file, size, crop, orientation);
    jpeg_destroy_decompress(&jpeg.info);
    free(jpeg.row);
    return rc;
}
