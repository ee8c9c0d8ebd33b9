// A stream of images to a NumPy archive. SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>

#include "formats/images/image-stream.h"
#include "formats/images/npz.h"
#include "formats/tstream/tstream.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

// The labels of all images: 8 bytes each wait in memory, as they follow the images.
struct labels {
    size_t n;
    int64_t *values;
};

static int labels_append(struct labels *labels, const uint8_t *data, size_t n)
{
    if (mem_grow(&labels->values, labels->n, n, sizeof *labels->values) < 0)
        return -1;
    memcpy(labels->values + labels->n, data, n * sizeof *labels->values);
    labels->n += n;
    return 0;
}

int main(int argc, char **argv)
{
    bool with_labels = false;
    const struct option options[] = {
        {"labels", 'l', OPTION_FLAG, &with_labels, NULL, "also pack the labels, as arr_1", 0, 0,
         NULL},
        TOOL_OPTION_THREADS,
        TOOL_OPTION_OUTPUT,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **inputs =
        tool_start(argc, argv,
                   &(struct tool_info){"npz-pack", "[OPTION]... [FILE]",
                                       "Pack a stream of images into a NumPy archive.", options});
    if (tool_count(inputs) > 1)
        tool_usage_error("one input at most; tstream-cat joins several");

    struct output *output = output_open(tool.output);
    struct image_stream in;
    if (!output || image_stream_open(&in, inputs[0], (size_t)tool.threads, with_labels))
        tool_fail();
    struct npz_writer *npz =
        npz_create(output, in.height, in.width, in.counted ? in.count : NPZ_COUNT_UNKNOWN);
    if (!npz)
        tool_fail();

    struct labels labels = {0};
    struct batch *batch;
    int rc;
    progress_start("images", in.count);
    while ((rc = tstream_read(in.reader, &batch)) > 0) {
        if (npz_write(npz, batch->data[in.image], batch->rows) ||
            (with_labels && labels_append(&labels, batch->data[in.label], batch->rows)))
            tool_fail();
        progress_add(batch->rows);
        batch_free(batch);
    }
    progress_finish();
    if (rc < 0 || npz_finish(npz, labels.values, with_labels))
        tool_fail();
    tstream_close(in.reader);
    free(labels.values);
    return tool_finish();
}
