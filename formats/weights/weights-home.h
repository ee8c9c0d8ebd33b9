// Finds downloaded weights by their names. SPDX-License-Identifier: MIT
#ifndef DIT_WEIGHTS_HOME_H
#define DIT_WEIGHTS_HOME_H

// The path of the weights that `name` means, malloc'd: `name` itself if it exists or holds a slash;
// else the file of this name, to which .safetensors, .pt or .pth may be added, in the folder that
// get-weights.sh fills: $DIT_HOME, by default ~/.cache/dit-tools. NULL with an error (66) that
// tells how to get them.
char *weights_home_find(const char *name);

#endif
