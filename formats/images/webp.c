// Decodes still WebP files by libwebp. SPDX-License-Identifier: MIT
#include <webp/decode.h>

#include "formats/images/decoders.h"
#include "lib/base/error.h"

static int webp_error(VP8StatusCode code)
{
    static const char *const texts[] = {
        [VP8_STATUS_INVALID_PARAM] = "bad values",
        [VP8_STATUS_BITSTREAM_ERROR] = "the data is broken",
        [VP8_STATUS_UNSUPPORTED_FEATURE] = "a feature that libwebp does not know",
        [VP8_STATUS_SUSPENDED] = "the file ends early",
        [VP8_STATUS_NOT_ENOUGH_DATA] = "the file ends early",
    };
    if (code == VP8_STATUS_OUT_OF_MEMORY)
        return error_set(STATUS_INTERNAL, "out of memory for a WebP");
    const char *text = (size_t)code < sizeof texts / sizeof *texts ? texts[code] : NULL;
    return error_set(STATUS_DATA, "WebP: %s", text ? text : "unknown error");
}

int image_decode_webp(struct image *image, const struct image_source *file)
{
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return error_set(STATUS_INTERNAL, "libwebp is of another version than its header");
    VP8StatusCode code = WebPGetFeatures(file->data, file->size, &config.input);
    if (code != VP8_STATUS_OK)
        return webp_error(code);
    if (config.input.has_animation)
        return error_set(STATUS_DATA, "an animated WebP, which is not read; convert it to PNG, as "
                                      "with \"magick 'FILE[0]' FILE.png\"");
    const size_t width = (size_t)config.input.width, height = (size_t)config.input.height;
    struct image_claim claim = {.width = width, .height = height, .channels = 3};
    claim.channels += config.input.has_alpha;
    // Beside the output the lossless decoder keeps 4 bytes a pixel, the other one those of alpha.
    claim.extra = width * height * (config.input.format == 1 ? config.input.has_alpha : 4);
    if (image_init(image, file, &claim) < 0)
        return -1;
    config.output.colorspace = config.input.has_alpha ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = image->rgb;
    config.output.u.RGBA.stride = (int)(claim.channels * width);
    config.output.u.RGBA.size = claim.channels * width * height;
    code = WebPDecode(file->data, file->size, &config);
    if (code != VP8_STATUS_OK)
        return webp_error(code);
    if (config.input.has_alpha)
        image_flatten(image, file->options);
    return 0;
}
