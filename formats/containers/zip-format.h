// The parts of the .ZIP File Format Specification 6.3 (APPNOTE.TXT) that reader and writer share.
// SPDX-License-Identifier: MIT
#ifndef DIT_ZIP_FORMAT_H
#define DIT_ZIP_FORMAT_H

// Sizes of records, without names, extra fields and comments.
#define ZIP_LOCAL_SIZE   30
#define ZIP_ENTRY_SIZE   46
#define ZIP_END64_SIZE   56
#define ZIP_LOCATOR_SIZE 20
#define ZIP_END_SIZE     22

#define ZIP_FLAG_ENCRYPTED  1
#define ZIP_FLAG_DESCRIPTOR 8 // a data descriptor with sizes and checksum follows the data
#define ZIP_FLAG_UTF8       0x800

#define ZIP_EXTRA_ZIP64 1

#define ZIP_METHOD_STORED   0
#define ZIP_METHOD_DEFLATED 8

enum zip_signature {
    ZIP_SIG_LOCAL = 0x04034b50,
    ZIP_SIG_DESCRIPTOR = 0x08074b50,
    ZIP_SIG_ENTRY = 0x02014b50,
    ZIP_SIG_END64 = 0x06064b50,
    ZIP_SIG_LOCATOR = 0x07064b50,
    ZIP_SIG_END = 0x06054b50,
};

#endif
