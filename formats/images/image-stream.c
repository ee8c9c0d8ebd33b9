// Opens a stream and finds its image and label tensors. SPDX-License-Identifier: MIT
#include "formats/images/image-stream.h"

#include "lib/base/error.h"

static int find_fields(struct image_stream *in, const struct schema *schema, bool with_labels)
{
    in->image = schema_expect(schema, "image", DTYPE_U8, 3);
    in->label = with_labels ? schema_expect(schema, "label", DTYPE_I64, 0) : -1;
    if (in->image < 0 || (with_labels && in->label < 0))
        return -1;
    const struct field *field = &schema->fields[in->image];
    if (field->shape[0] == 0 || field->shape[1] == 0 || field->shape[2] != 3)
        return error_set(STATUS_DATA, "expected images of [H, W, 3], found [%zu, %zu, %zu]",
                         field->shape[0], field->shape[1], field->shape[2]);
    in->height = field->shape[0];
    in->width = field->shape[1];
    in->image_size = field->size;
    in->counted = schema_count(schema, &in->count);
    return 0;
}

int image_stream_open(struct image_stream *in, const char *path, size_t threads, bool with_labels)
{
    *in = (struct image_stream){.reader = tstream_open(path, threads)};
    if (!in->reader)
        return -1;
    in->name = tstream_name(in->reader);
    if (find_fields(in, tstream_schema(in->reader), with_labels) < 0) {
        error_prefix("%s", in->name);
        tstream_close(in->reader);
        return -1;
    }
    return 0;
}
