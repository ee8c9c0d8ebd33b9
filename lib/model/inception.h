// The Inception-v3 network of 2015-12-05, whose features FID compares: Szegedy et al., "Rethinking
// the Inception architecture for computer vision", 2016. SPDX-License-Identifier: MIT
#ifndef DIT_INCEPTION_H
#define DIT_INCEPTION_H

#include <stdint.h>

#include "kernels/device.h"
#include "lib/model/layout.h"

#define INCEPTION_WIDTH   32  // channels of the first layer in the published weights
#define INCEPTION_SIDE    299 // images are resized to this
#define INCEPTION_SPATIAL 7   // channels of the spatial features, of 17 x 17 places
#define INCEPTION_CLASSES 1008
#define INCEPTION_PARAMS  5  // of a convolution; see inception_layout_init
#define INCEPTION_BATCH   16 // images at a time, for inception_features

// Lists the parameters, with the names and shapes of pytorch-fid: for each convolution in turn
// NAME.conv.weight (O,I,kernel), NAME.bn.weight, .bias, .running_mean and .running_var (O). `width`
// is that of the first layer, of which the other layers' are multiples, a multiple of 4. -1 with an
// error.
int inception_layout_init(struct layout *layout, size_t width);

struct inception {
    struct device *device;
    size_t width;
    size_t features;         // of an image: 2048 for the published width
    size_t spatial_features; // 17 x 17 x INCEPTION_SPATIAL
    size_t n_convs;
    // Private: the parameters; weights (O,kernel,I) and biases, with the batch norms folded into
    // them; their offsets, of each convolution; the memory of a run.
    struct layout layout, folded;
    act *weights;
    void *memory;
    size_t memory_size;
};

// Makes a network whose weights are zero until inception_set_conv. NULL with an error.
struct inception *inception_new(struct device *device, size_t width);
void inception_free(struct inception *net);           // NULL is fine
size_t inception_memory(const struct inception *net); // bytes on the device, as of now
// Sets convolution i from its parameters in the layout's order and shapes, in host memory. -1 with
// an error.
int inception_set_conv(struct inception *net, size_t i,
                       const float *const params[INCEPTION_PARAMS]);
// Computes the features of images (B,H,W,3), all in host memory: pool (B,features), the means of
// the last block, and spatial (B,spatial_features), as (row, column, channel). -1 with an error,
// also if a feature is not finite.
int inception_features(struct inception *net, const uint8_t *images, size_t B, size_t H, size_t W,
                       float *pool, float *spatial);

#endif
