// convert-weights: a file of weights -> another. SPDX-License-Identifier: MIT
#include "bin/convert-weights/convert.h"
#include "lib/tool/tool.h"

int main(int argc, char **argv)
{
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    int64_t heads = 0, image_size = 0;
    int names = -1, which = -1, dtype = -1;
    const struct option options[] = {
        {"names", 0, OPTION_CHOICE, &names, "published|diffusers|ldm",
         "names of the tensors (default: published; of an autoencoder diffusers)", 0, 0,
         (const char *const[]){"published", "diffusers", "ldm", NULL}},
        {"which", 0, OPTION_CHOICE, &which, "ema|model|all",
         "of a training (default: all; with --names diffusers ema)", 0, 0,
         (const char *const[]){"ema", "model", "all", NULL}},
        {"dtype", 0, OPTION_CHOICE, &dtype, "f32|f16|bf16", "type of the weights (default: theirs)",
         0, 0, (const char *const[]){"f32", "f16", "bf16", NULL}},
        {"heads", 0, OPTION_INT, &heads, "N", "heads of the attention, where IN does not say", 1,
         1024, NULL},
        {"image-size", 0, OPTION_INT, &image_size, "N", "side of the images, where IN does not say",
         8, 32768, NULL},
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **files = tool_start(
        argc, argv,
        &(struct tool_info){"convert-weights", "[OPTION]... IN OUT",
                            "Convert weights between safetensors and PyTorch's files, and between "
                            "the names that programs give them.",
                            options});
    if (tool_count(files) != 2)
        tool_usage_error("expected two files, IN and OUT");
    if (convert_file(files[0], files[1],
                     &(struct convert_options){
                         .names = names,
                         .which = which,
                         .dtype = dtype < 0 ? DTYPE_COUNT : dtypes[dtype],
                         .hints = {.heads = (size_t)heads, .image_size = (size_t)image_size}}) < 0)
        tool_fail();
    return tool_finish();
}
