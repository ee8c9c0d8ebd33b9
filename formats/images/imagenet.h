// The names of ImageNet's 1000 classes. SPDX-License-Identifier: MIT
#ifndef DIT_IMAGENET_H
#define DIT_IMAGENET_H

#define IMAGENET_CLASSES 1000

// The names, by number, as a JSON list like a stream's metadata `classes`; malloc'd. They are those
// of the file imagenet-classes, no two alike and none with a comma. NULL with an error.
char *imagenet_classes_json(void);

#endif
