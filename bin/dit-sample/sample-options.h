// What dit-sample is asked for. SPDX-License-Identifier: MIT
#ifndef DIT_SAMPLE_OPTIONS_H
#define DIT_SAMPLE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "formats/weights/dit-file.h"
#include "lib/base/part.h"
#include "lib/model/sampler.h"

// Each member is the value of the option of its name. Choices are -1 where they are not given;
// those of enums that begin with "unsaid" or "usual" are one less.
struct sample_options {
    const char *weights, *classes, *which;
    const char *steps, *vae, *guide_weights; // NULL: not given
    const char *cfg_interval;
    int64_t count, batch;
    int64_t heads, image_size; // 0: not given
    int objective, path, prediction;
    int method, schedule, form, last_step, guided; // of --sampler to --cfg-channels
    double eta, cfg_scale, cfg_rescale;            // cfg_scale -1: not given
    double last_step_size, time_shift;             // 0: not given
    bool want_latents;
    struct part part;
};

// Parses the command line over the defaults.
const struct sample_options *sample_options_parse(int argc, char **argv);
struct dit_hints sample_options_hints(const struct sample_options *options);
// The sampler's settings for a file, and NULL or the file of the model to guide away from. Ends the
// program where the options don't fit.
struct sampler_settings sample_options_settings(const struct sample_options *options,
                                                const struct dit_file *file,
                                                const struct dit_file *guide);

#endif
