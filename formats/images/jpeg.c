// Reads JPEG files by libjpeg-turbo, of a crop only what it needs, and writes them.
// SPDX-License-Identifier: MIT
#include "formats/images/jpeg.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "formats/images/decoders.h"
#include "formats/images/resample.h"
#include "lib/base/error.h"

// A progressive file of a few bytes can ask for any number of passes over the whole image, so its
// scans are limited.
#define SCANS_MAX 64
// The densest file has a bit for each block of 8 x 8 pixels. So that a small header does not count,
// this holds beyond a million pixels.
#define PIXELS_PER_BYTE 512
#define PIXELS_FREE     ((size_t)1 << 20)

struct jpeg {
    struct jpeg_decompress_struct info; // first, so that the callbacks can cast it to the whole
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    struct image *image;
    bool strict;
    uint8_t *row; // one row of CMYK, or NULL; freed by image_decode_jpeg
};

static void on_jpeg_error(j_common_ptr info)
{
    char text[JMSG_LENGTH_MAX];
    int code = info->err->msg_code;
    info->err->format_message(info, text);
    if (code == JERR_NO_BACKING_STORE) // of memory within max_memory_to_use
        error_set(STATUS_DATA, "a progressive JPEG that takes more memory than the limit of pixels "
                               "allows (--max-pixels)");
    else
        error_set(code == JERR_OUT_OF_MEMORY ? STATUS_INTERNAL : STATUS_DATA, "%s", text);
    longjmp(((struct jpeg *)info)->failed, 1);
}

// Of the warnings (level -1) two say that pixels are wrong. Where the file ends early the rest of
// them is missing: an error, as with Pillow. A marker within the data has spoilt a part of them:
// Pillow takes the image all the same.
static void on_jpeg_message(j_common_ptr info, int level)
{
    struct jpeg *jpeg = (struct jpeg *)info;
    int code = info->err->msg_code;
    if (level >= 0 || (code != JWRN_JPEG_EOF && code != JWRN_HIT_MARKER))
        return;
    if (code == JWRN_JPEG_EOF || jpeg->strict)
        on_jpeg_error(info);
    jpeg->image->damaged = true;
}

static void on_jpeg_progress(j_common_ptr info)
{
    struct jpeg *jpeg = (struct jpeg *)info;
    if (jpeg->info.input_scan_number > SCANS_MAX) {
        error_set(STATUS_DATA, "more than %d scans", SCANS_MAX);
        longjmp(jpeg->failed, 1);
    }
}

// Reads the orientation from a marker APP1 in place: libjpeg would keep a copy of each.
static boolean on_jpeg_exif(j_decompress_ptr info)
{
    struct jpeg *jpeg = (struct jpeg *)info;
    struct jpeg_source_mgr *source = info->src;
    const uint8_t *marker = source->next_input_byte; // and so all of the file that is left
    size_t size = 2;
    if (source->bytes_in_buffer >= 2)
        size = (size_t)marker[0] << 8 | marker[1];
    if (size < 2)
        ERREXIT(info, JERR_BAD_LENGTH);
    if (jpeg->image->orientation == 1 && size <= source->bytes_in_buffer)
        jpeg->image->orientation = exif_orientation(marker + 2, size - 2);
    source->skip_input_data(info, (long)size);
    return TRUE;
}

// Adobe's programs store CMYK inverted, and so all readers, Pillow too, take it as inverted.
static void rgb_from_cmyk(uint8_t *rgb, const uint8_t *cmyk, size_t width)
{
    for (size_t x = 0; x < width; x++)
        for (size_t c = 0; c < 3; c++) {
            int black = cmyk[4 * x + 3];
            rgb[3 * x + c] = (uint8_t)(black - image_div_255((255 - cmyk[4 * x + c]) * black));
        }
}

// Reads rows up to `end`, each into the image from column x on.
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

// Decodes the window's pixels. Rows before and after it are skipped: libjpeg still reads their
// data, so that a file that is cut short behind the window is noticed.
static void read_window(struct jpeg *jpeg, struct image *image, struct resample_window window)
{
    struct jpeg_decompress_struct *info = &jpeg->info;
    // Upsampling blends neighbouring pixels but treats the edge of the decoded part as the edge of
    // the image, so a margin is decoded too.
    size_t margin = (size_t)(info->max_h_samp_factor * DCTSIZE);
    size_t left = window.x < margin ? 0 : window.x - margin;
    size_t right = window.x + window.width;
    right = image->width - right < margin ? image->width : right + margin;
    JDIMENSION x = (JDIMENSION)left, width = (JDIMENSION)(right - left);
    jpeg_crop_scanline(info, &x, &width);
    if (window.y > 0)
        jpeg_skip_scanlines(info, (JDIMENSION)window.y);
    read_rows(jpeg, image, x, window.y + window.height);
    // Skipping the last row too would finish the image before the end of its data is checked.
    if (info->output_height - info->output_scanline > 1)
        jpeg_skip_scanlines(info, info->output_height - info->output_scanline - 1);
    read_rows(jpeg, image, x, image->height);
}

// Bytes of the coefficients, which a file of several scans has in memory all at once.
static size_t size_of_coefficients(j_decompress_ptr info)
{
    size_t blocks = 0;
    for (int i = 0; i < info->num_components && jpeg_has_multiple_scans(info); i++)
        blocks += (size_t)info->comp_info[i].width_in_blocks * info->comp_info[i].height_in_blocks;
    return blocks * DCTSIZE2 * sizeof(JCOEF);
}

static int decode_jpeg(struct jpeg *jpeg, struct image *image, const struct image_source *file)
{
    struct jpeg_decompress_struct *info = &jpeg->info;
    if (setjmp(jpeg->failed))
        return -1;
    jpeg_create_decompress(info);
    info->progress = &jpeg->progress;
    jpeg_mem_src(info, file->data, file->size);
    jpeg_set_marker_processor(info, JPEG_APP0 + 1, on_jpeg_exif);
    jpeg_read_header(info, TRUE);
    bool cmyk = info->num_components == 4;
    info->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    const size_t width = info->image_width, height = info->image_height, n = width * height;
    struct image_claim claim = {.width = width, .height = height, .channels = 3};
    claim.working = size_of_coefficients(info);
    claim.data_min = n > PIXELS_FREE ? n / PIXELS_PER_BYTE : 0;
    if (image_init(image, file, &claim) < 0)
        return -1;
    info->mem->max_memory_to_use = (long)image_memory_left(file, 3 * n);
    if (cmyk && !(jpeg->row = malloc(4 * image->width)))
        return error_set(STATUS_INTERNAL, "out of memory");
    jpeg_start_decompress(info);
    // libjpeg smooths over missing scans of progressive files, and doesn't respect the window
    // there.
    const size_t crop = file->options->exif && image->orientation != 1 ? 0 : file->options->crop;
    if (crop && !info->progressive_mode)
        read_window(jpeg, image, resample_crop_window(image->width, image->height, crop));
    else
        read_rows(jpeg, image, 0, image->height);
    return 0;
}

int image_decode_jpeg(struct image *image, const struct image_source *file)
{
    struct jpeg jpeg = {.image = image, .strict = file->options->strict};
    jpeg.info.err = jpeg_std_error(&jpeg.errors);
    jpeg.errors.error_exit = on_jpeg_error;
    jpeg.errors.emit_message = on_jpeg_message;
    jpeg.progress.progress_monitor = on_jpeg_progress;
    int rc = decode_jpeg(&jpeg, image, file);
    jpeg_destroy_decompress(&jpeg.info);
    free(jpeg.row);
    return rc;
}

struct jpeg_writer {
    struct jpeg_compress_struct info; // first, so that the callback can cast it to the whole
    struct jpeg_error_mgr errors;
    jmp_buf failed;
    unsigned char *file; // malloc'd by libjpeg
    unsigned long size;
};

static void on_jpeg_write_error(j_common_ptr info)
{
    char text[JMSG_LENGTH_MAX];
    const bool memory = info->err->msg_code == JERR_OUT_OF_MEMORY;
    info->err->format_message(info, text);
    error_set(memory ? STATUS_INTERNAL : STATUS_IO, "%s", text);
    longjmp(((struct jpeg_writer *)info)->failed, 1);
}

static int encode_jpeg(struct jpeg_writer *jpeg, const uint8_t *rgb, size_t width, size_t height,
                       int quality)
{
    struct jpeg_compress_struct *info = &jpeg->info;
    if (setjmp(jpeg->failed))
        return -1;
    jpeg_create_compress(info);
    jpeg_mem_dest(info, &jpeg->file, &jpeg->size);
    info->image_width = (JDIMENSION)width;
    info->image_height = (JDIMENSION)height;
    info->input_components = 3;
    info->in_color_space = JCS_RGB;
    jpeg_set_defaults(info);
    jpeg_set_quality(info, quality, TRUE);
    jpeg_start_compress(info, TRUE);
    while (info->next_scanline < info->image_height) {
        JSAMPROW row = (JSAMPROW)rgb + 3 * width * info->next_scanline;
        jpeg_write_scanlines(info, &row, 1);
    }
    jpeg_finish_compress(info);
    return 0;
}

int image_write_jpeg(struct output *output, const uint8_t *rgb, size_t width, size_t height,
                     int quality)
{
    if (width > JPEG_MAX_DIMENSION || height > JPEG_MAX_DIMENSION)
        return error_set(STATUS_IO, "a JPEG file can't hold %zu x %zu pixels", width, height);
    struct jpeg_writer jpeg = {.file = NULL};
    jpeg.info.err = jpeg_std_error(&jpeg.errors);
    jpeg.errors.error_exit = on_jpeg_write_error;
    int rc = encode_jpeg(&jpeg, rgb, width, height, quality);
    jpeg_destroy_compress(&jpeg.info);
    if (rc == 0)
        rc = output_write(output, jpeg.file, jpeg.size);
    free(jpeg.file);
    return rc;
}
