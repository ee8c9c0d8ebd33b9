// Converts the autoencoder of Stable Diffusion. SPDX-License-Identifier: MIT
#include "bin/convert-weights/convert.h"
#include "formats/weights/kl-file.h"
#include "lib/base/error.h"

#define KL_CLASS "AutoencoderKL"

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

// What diffusers' from_pretrained needs beside the weights. NULL without an error if memory is out.
static json_t *kl_config_json(const struct kl_config *config)
{
    json_t *widths = json_array(), *down = json_array(), *up = json_array();
    for (size_t i = 0; i < config->levels; i++) {
        json_array_append_new(widths, json_integer((json_int_t)config->channels[i]));
        json_array_append_new(down, json_string("DownEncoderBlock2D"));
        json_array_append_new(up, json_string("UpDecoderBlock2D"));
    }
    return json_pack("{ss ss sI sI sI sI sI sf so so so}", "_class_name", KL_CLASS, "act_fn",
                     "silu", "in_channels", (json_int_t)3, "out_channels", (json_int_t)3,
                     "latent_channels", (json_int_t)config->latent_channels, "layers_per_block",
                     (json_int_t)config->resnets, "norm_num_groups", (json_int_t)32,
                     "scaling_factor", config->scale, "block_out_channels", widths,
                     "down_block_types", down, "up_block_types", up);
}

int convert_kl(const char *in, const char *out, const struct convert_options *options)
{
    struct kl_file file;
    if (options->names == CONVERT_PUBLISHED)
        return error_set(STATUS_USAGE,
                         "%s is an autoencoder, for which --names is diffusers or ldm", in);
    if (options->which)
        return error_set(
            STATUS_USAGE,
            "%s is an autoencoder: it has one set of weights, so --which does not apply", in);
    bool with_config = options->names == CONVERT_DIFFUSERS;
    if ((with_config && convert_check_config(out, KL_CLASS) < 0) || kl_file_open(&file, in) < 0)
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
        rc = convert_write(out, &list, weights_file_size(&file.weights), write_kl, &to);
    if (rc == 0 && with_config)
        rc = convert_write_config(out, kl_config_json(&file.config));
    write_list_free(&list);
    naming_free(&naming);
    kl_file_close(&file);
    return rc;
}
