// What a model is trained to predict: the noise of diffusion, or the flow along a path.
// SPDX-License-Identifier: MIT
#ifndef DIT_OBJECTIVE_H
#define DIT_OBJECTIVE_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/flow-terms.h"

enum objective_kind { OBJECTIVE_UNSAID, OBJECTIVE_DIFFUSION, OBJECTIVE_FLOW };
// How time runs for a model of flow: to 1 at data, as in SiT, or to 1 at noise, as in REPA, where
// the velocity, too, points to noise.
enum flow_time { FLOW_TIME_UNSAID, FLOW_TIME_DATA, FLOW_TIME_NOISE };

// Each is 0 where it isn't said. The last three hold for flow alone.
struct objective {
    enum objective_kind kind;
    enum flow_path path;
    enum flow_prediction prediction;
    enum flow_time time;
};

// The fields have names: "objective", "path", "prediction", "time". Sets one from its text. -1 with
// an error that lists the choices.
int objective_set(struct objective *objective, const char *field, const char *text);
// The text of a field that is said, else NULL; NULL past the last. *name becomes its name.
#define OBJECTIVE_FIELDS 4
const char *objective_text(const struct objective *objective, size_t field, const char **name);
// Takes what `from` says beyond `objective`. -1 with an error (65) if both say a thing differently:
// "the path is gvp in RUN, but linear in OPTIONS", where the last two are `name` and `from_name`.
int objective_join(struct objective *objective, const char *name, const struct objective *from,
                   const char *from_name);
// Fills in what isn't said: diffusion; of a flow a linear path, velocity, time to data. -1 with an
// error (64) if diffusion has a path or a prediction.
int objective_complete(struct objective *objective);

#endif
