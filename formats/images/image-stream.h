// A stream of RGB images, to be read. SPDX-License-Identifier: MIT
#ifndef DIT_IMAGE_STREAM_H
#define DIT_IMAGE_STREAM_H

#include "formats/tstream/tstream.h"

struct image_stream {
    struct tstream_reader *reader; // tstream_close it
    const char *name;
    int image, label; // indices of the tensors; label -1 if it wasn't asked for
    size_t height, width;
    size_t image_size; // bytes of an image
    uint64_t count;    // as the stream states it
    bool counted;      // it does
};

// As tstream_open. Checks that there is `image`, U8 [N,H,W,3], and `label` if it is asked for.
int image_stream_open(struct image_stream *in, const char *path, size_t threads, bool with_labels);

#endif
