// Opens files of the Inception network that FID compares by. SPDX-License-Identifier: MIT
#ifndef DIT_INCEPTION_FILE_H
#define DIT_INCEPTION_FILE_H

#include "formats/weights/weights.h"
#include "lib/model/inception.h"

// A convolution of the network, whose name tells a file of it.
#define INCEPTION_MARKER "Mixed_5b.branch5x5_1.conv.weight"

// The file that is given, or else that of $DIT_INCEPTION, or else what get-weights.sh fetched.
// NULL if there is none.
const char *inception_file_choose(const char *given);

struct inception_file {
    char *path; // of the file itself; owned
    struct weights weights;
    char prefix[64]; // of the tensors' names
    size_t width;    // channels of the first layer
    struct layout layout;
    const struct weight **tensors;            // of each parameter of the layout
    const struct weight *fc_weight, *fc_bias; // the last layer; NULL if the file lacks it
};

// Opens what a path means (weights-home.h) in any format of weights_open:
// pt_inception-2015-12-05-6726825d.pth, which pytorch-fid downloads, the same as safetensors, or
// one without the last layer. The names may have any words before them. -1 with an error: 66 if the
// file can't be opened, 65 for everything else, also for torchvision's Inception, which is another
// network.
int inception_file_open(struct inception_file *file, const char *path);
void inception_file_close(struct inception_file *file);

// Loads the network, and the weights of its last layer, *fc (INCEPTION_CLASSES,features), malloc'd;
// NULL if the file lacks it. *hash is that of the file's bytes. NULL with an error.
struct inception *inception_file_load(struct device *device, const char *path, float **fc,
                                      uint64_t *hash);

#endif
