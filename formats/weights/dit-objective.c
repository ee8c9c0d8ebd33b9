// What a model was trained for, as dit-train's checkpoints, SiT and REPA say it.
// SPDX-License-Identifier: MIT
#include "formats/weights/dit-objective.h"

#include <string.h>

#include "lib/base/error.h"

// A file may hold its arguments as "args.NAME" (a checkpoint) or as NAME.
static const char *find_argument(const struct weights *weights, const char *name)
{
    const char *value = weights_get(weights, name);
    return value ? value : weights_get(weights, name + strlen("args."));
}

// What SiT and REPA call the choices of path and prediction. REPA's time runs to noise.
static int read_arguments(struct objective *said, const struct weights *weights)
{
    static const struct {
        const char *theirs;
        enum flow_path path;
    } paths[] = {{"Linear", FLOW_LINEAR},
                 {"linear", FLOW_LINEAR},
                 {"GVP", FLOW_GVP},
                 {"cosine", FLOW_GVP},
                 {"VP", FLOW_VP}};
    static const struct {
        const char *theirs;
        enum flow_prediction prediction;
        enum flow_time time;
    } predictions[] = {{"velocity", FLOW_VELOCITY, FLOW_TIME_DATA},
                       {"noise", FLOW_NOISE, FLOW_TIME_DATA},
                       {"score", FLOW_SCORE, FLOW_TIME_DATA},
                       {"v", FLOW_VELOCITY, FLOW_TIME_NOISE}};
    const char *path = find_argument(weights, "args.path_type");
    const char *prediction = find_argument(weights, "args.prediction");
    if (!path)
        return 0;
    said->kind = OBJECTIVE_FLOW;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (strcmp(path, paths[i].theirs) == 0)
            said->path = paths[i].path;
    for (size_t i = 0; prediction && i < sizeof predictions / sizeof *predictions; i++)
        if (strcmp(prediction, predictions[i].theirs) == 0) {
            said->prediction = predictions[i].prediction;
            said->time = predictions[i].time;
        }
    if (!said->path)
        return error_set(STATUS_DATA, "path_type \"%.40s\" is not supported", path);
    if (prediction && !said->prediction)
        return error_set(STATUS_DATA, "prediction \"%.40s\" is not supported", prediction);
    return 0;
}

// REPA trains projections beside the model, which sampling does not use.
static bool has_projectors(const struct weights *weights)
{
    for (size_t i = 0; i < weights->n_weights; i++) {
        const char *at = strstr(weights->all[i].name, "projectors.");
        if (at && (at == weights->all[i].name || at[-1] == '.'))
            return true;
    }
    return false;
}

static int read_said(struct objective *said, const struct weights *weights)
{
    const char *name, *kind = weights_get(weights, "kind");
    const struct objective none = {0};
    // Without the first field the others' names may stand for something else.
    for (size_t f = 0; f < OBJECTIVE_FIELDS && (f == 0 || said->kind); f++) {
        objective_text(&none, f, &name);
        const char *text = weights_get(weights, name);
        if (text && objective_set(said, name, text) < 0)
            return -1;
    }
    if (said->kind)
        return 0;
    if (kind && strcmp(kind, "dit-checkpoint") == 0) { // before it had another objective
        said->kind = OBJECTIVE_DIFFUSION;
        return 0;
    }
    if (has_projectors(weights))
        *said = (struct objective){OBJECTIVE_FLOW, 0, FLOW_VELOCITY, FLOW_TIME_NOISE};
    return read_arguments(said, weights);
}

int dit_objective_read(struct objective *objective, const struct weights *weights, bool learn_sigma,
                       const struct objective *asked)
{
    struct objective said = {0};
    if (read_said(&said, weights) < 0)
        return error_prefix("%s", weights->path);
    if (objective_join(&said, weights->path, asked, "the options") < 0)
        return -1;
    if (!said.kind && !learn_sigma)
        return error_set(STATUS_DATA,
                         "%s predicts no variance, as models of flow matching do, but does not say "
                         "what it was trained for; give --objective",
                         weights->path);
    if (objective_complete(&said) < 0)
        return error_prefix("%s", weights->path);
    *objective = said;
    return 0;
}

int dit_objective_save(const struct objective *objective, json_t *metadata)
{
    size_t fields = objective->kind == OBJECTIVE_FLOW ? OBJECTIVE_FIELDS : 1;
    const char *name;
    for (size_t f = 0; f < OBJECTIVE_FIELDS; f++) {
        const char *text = objective_text(objective, f, &name);
        if (f >= fields)
            json_object_del(metadata, name);
        else if (text && json_object_set_new(metadata, name, json_string(text)) < 0)
            return error_set(STATUS_INTERNAL, "no memory for a checkpoint's metadata");
    }
    return 0;
}
