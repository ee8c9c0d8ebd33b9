// convert-weights: a file of weights -> another. SPDX-License-Identifier: MIT
#include "bin/convert-weights/convert.h"
#include "lib/tool/tool.h"

int main(int argc, char **argv)
{
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    int64_t heads = 0, image_size = 0;
    int names = -1, which = -1, dtype = -1;
    const struct option options[] = {
        OPTION_CHOICE("names", 0, &names,
                      "names of the tensors (default: published, or diffusers for an autoencoder)",
                      "published", "diffusers", "ldm"),
        OPTION_CHOICE("which", 0, &which,
                      "part of a training (default: all, or ema with --names diffusers)", "ema",
                      "model", "all"),
        OPTION_CHOICE("dtype", 0, &dtype, "type of the weights (default: as in IN)", "f32", "f16",
                      "bf16"),
        OPTION_INT("heads", 0, &heads, 1, 1024, "attention heads of the model, if IN does not say"),
        OPTION_INT("image-size", 0, &image_size, 8, 32768,
                   "side of the images in pixels, if IN does not say"),
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
