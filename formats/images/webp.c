// Decodes WebP files by libwebp, of an animation the first picture. SPDX-License-Identifier: MIT
#include <stdbool.h>
#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

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

static int decode_frame(struct image *image, const struct image_source *file, WebPDemuxer *demux,
                        const WebPIterator *frame)
{
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return error_set(STATUS_INTERNAL, "libwebp is of another version than its header");
    VP8StatusCode code =
        WebPGetFeatures(frame->fragment.bytes, frame->fragment.size, &config.input);
    if (code != VP8_STATUS_OK)
        return webp_error(code);
    struct image_claim claim = {.width = WebPDemuxGetI(demux, WEBP_FF_CANVAS_WIDTH),
                                .height = WebPDemuxGetI(demux, WEBP_FF_CANVAS_HEIGHT)};
    const size_t x = (size_t)frame->x_offset, y = (size_t)frame->y_offset;
    const size_t width = (size_t)config.input.width, height = (size_t)config.input.height;
    if (x + width > claim.width || y + height > claim.height)
        return error_set(STATUS_DATA, "WebP: the first picture is larger than the canvas");
    // Around the first picture of an animation the canvas is transparent.
    bool alpha = config.input.has_alpha || width < claim.width || height < claim.height;
    claim.channels = alpha ? 4 : 3;
    // Beside the output the lossless decoder keeps 4 bytes a pixel, the other one those of alpha.
    claim.extra = width * height * (config.input.format == 1 ? config.input.has_alpha : 4);
    if (image_init(image, file, &claim) < 0)
        return -1;
    const size_t stride = claim.channels * claim.width, start = y * stride + claim.channels * x;
    if (alpha)
        memset(image->rgb, 0, stride * claim.height);
    config.output.colorspace = alpha ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = image->rgb + start;
    config.output.u.RGBA.stride = (int)stride;
    config.output.u.RGBA.size = stride * claim.height - start;
    code = WebPDecode(frame->fragment.bytes, frame->fragment.size, &config);
    if (code != VP8_STATUS_OK)
        return webp_error(code);
    if (alpha)
        image_flatten(image, file->options);
    return 0;
}

int image_decode_webp(struct image *image, const struct image_source *file)
{
    WebPDemuxer *demux = WebPDemux(&(WebPData){file->data, file->size});
    if (!demux)
        return error_set(STATUS_DATA, "WebP: the file is broken or ends early");
    WebPIterator frame;
    WebPChunkIterator exif;
    int rc = -1;
    if (WebPDemuxGetFrame(demux, 1, &frame)) {
        rc = decode_frame(image, file, demux, &frame);
        WebPDemuxReleaseIterator(&frame);
    } else {
        error_set(STATUS_DATA, "WebP: no picture in the file");
    }
    if (rc == 0 && WebPDemuxGetChunk(demux, "EXIF", 1, &exif)) {
        image->orientation = exif_orientation(exif.chunk.bytes, exif.chunk.size);
        WebPDemuxReleaseChunkIterator(&exif);
    }
    WebPDemuxDelete(demux);
    return rc;
}
