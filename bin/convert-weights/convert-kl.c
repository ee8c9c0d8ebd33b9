// Converts the autoencoder of Stable Diffusion. SPDX-License-Identifier: MIT
#include "bin/convert-weights/convert.h"
#include "formats/weights/kl-file.h"
#include "lib/base/error.h"

struct kl_output {
    bool torch, ldm;
    double scale;
};

static int write_kl(const struct write_list *list, struct output *output, void *user)
{
    const struct kl_output *to = user;
    if (to->torch)
        return convert_write_state_dict(list, to->ldm ? "state_dict" : NULL, output);
    json_t *metadata = json_pack("{ss}", "format", "pt"); // what PyTorch's readers ask for
    if (to->scale != KL_SCALE)
        json_object_set_new(metadata, "scaling_factor", json_sprintf("%.17g", to->scale));
    int rc = write_list_safetensors(list, metadata, output);
    json_decref(metadata);
    return rc;
}

int convert_kl(const char *in, const char *out, const struct convert_options *options)
{
    struct kl_file file;
    if (options->names == CONVERT_PUBLISHED)
        return error_set(STATUS_USAGE, "%s is an autoencoder: its --names are diffusers or ldm",
                         in);
    if (options->which >= 0)
        return error_set(
            STATUS_USAGE,
            "%s is an autoencoder: it has one set of weights, so --which does not apply", in);
    if (kl_file_open(&file, in) < 0)
        return -1;
    struct kl_output to = {.torch = convert_is_torch(out),
                           .ldm = options->names == CONVERT_LDM,
                           .scale = file.config.scale};
    struct write_list list = {.path = file.path, .dtype = options->dtype};
    struct naming naming;
    int rc =
        naming_make(&naming, &file.layout, to.ldm ? NAMING_KL_LDM : NAMING_OWN, file.config.levels);
    for (size_t i = 0; rc == 0 && i < file.layout.n_params; i++)
        rc = write_list_add_param(&list, to.ldm ? "first_stage_model." : "", &naming, &file.binding,
                                  i);
    if (rc == 0)
        rc = convert_write(out, &list, write_kl, &to);
    write_list_free(&list);
    naming_free(&naming);
    kl_file_close(&file);
    return rc;
}
