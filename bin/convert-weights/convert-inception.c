// Converts the Inception network that FID compares by. SPDX-License-Identifier: MIT
#include "bin/convert-weights/convert.h"
#include "formats/weights/inception-file.h"
#include "lib/base/error.h"

static int write_inception(const struct write_list *list, struct output *output, void *user)
{
    return *(const bool *)user ? convert_write_state_dict(list, NULL, output)
                               : write_list_safetensors(list, NULL, output);
}

int convert_inception(const char *in, const char *out, const struct convert_options *options)
{
    struct inception_file file;
    if (options->names > CONVERT_PUBLISHED || options->which)
        return error_set(STATUS_USAGE,
                         "%s is an Inception network: it has one set of weights under one set of "
                         "names, so neither --names nor --which applies",
                         in);
    if (inception_file_open(&file, in) < 0)
        return -1;
    struct write_list list = {.path = in, .dtype = options->dtype};
    bool torch = convert_is_torch(out);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < file.layout.n_params; i++)
        rc = write_list_add(&list, "", file.layout.params[i].name, file.tensors[i]);
    if (rc == 0 && file.fc_weight)
        rc = write_list_add(&list, "", "fc.weight", file.fc_weight);
    if (rc == 0 && file.fc_bias)
        rc = write_list_add(&list, "", "fc.bias", file.fc_bias);
    if (rc == 0)
        rc = convert_write(out, &list, weights_file_size(&file.weights), write_inception, &torch);
    write_list_free(&list);
    inception_file_close(&file);
    return rc;
}
