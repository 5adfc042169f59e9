/* SPDX-License-Identifier: MIT */
/*
 * Signatures of image formats.  The guard must know whatever any reader of our
 * images may take for a format, so where readers differ the looser rule counts.
 */
#include "block/probe.h"

#include <string.h>

#include "base/be.h"
#include "block/node.h"

enum { PROBE_BYTES = NODE_GUARD_BYTES };

struct signature {
    const char *format;
    unsigned offset;
    unsigned len;
    const char *bytes;
};

#define SIGNATURE(format_, offset_, bytes_)                                                        \
    {                                                                                              \
        format_, offset_, sizeof(bytes_) - 1, bytes_                                               \
    }

static const struct signature signatures[] = {
    SIGNATURE("qcow", 0, "QFI\xfb\0\0\0\1"),
    SIGNATURE("qcow2", 0, "QFI\xfb\0\0\0\2"),
    SIGNATURE("qcow2", 0, "QFI\xfb\0\0\0\3"),
    SIGNATURE("qed", 0, "QED\0"),
    SIGNATURE("luks", 0, "LUKS\xba\xbe\0\1"),
    SIGNATURE("vdi", 64, "\x7f\x10\xda\xbe"),
    SIGNATURE("vmdk", 0, "KDMV"),
    SIGNATURE("vmdk", 0, "COWD"),
    SIGNATURE("vpc", 0, "conectix"),
    SIGNATURE("vhdx", 0, "vhdxfile"),
    SIGNATURE("parallels", 0, "WithoutFreeSpace"),
    SIGNATURE("parallels", 0, "WithouFreSpacExt"),
    SIGNATURE("bochs", 0, "Bochs Virtual HD Image"),
    SIGNATURE("cloop", 0, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop "),
    SIGNATURE("dmg", 0, "koly"),
};

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* VMDK's descriptor is text: comment and blank lines, then "version=N". */
static bool is_vmdk_descriptor(const char *p, const char *end)
{
    static const char version[] = "version=";
    while (p < end) {
        if (*p == '#') {
            p = memchr(p, '\n', end - p);
            if (!p)
                return false;
        }
        if (!blank(*p))
            break;
        p++;
    }
    return (size_t)(end - p) > sizeof(version) - 1 && !memcmp(p, version, sizeof(version) - 1);
}

const char *probe_format(const void *bytes, size_t len)
{
    const char *p = bytes;
    if (len > PROBE_BYTES)
        len = PROBE_BYTES;
    for (size_t i = 0; i < sizeof(signatures) / sizeof(*signatures); i++) {
        const struct signature *s = &signatures[i];
        if (s->offset + s->len <= len && !memcmp(p + s->offset, s->bytes, s->len))
            return s->format;
    }
    return is_vmdk_descriptor(p, p + len) ? "vmdk" : "raw";
}

bool probe_write_allowed(const uint8_t *present, uint64_t offset, const struct span *v,
                         unsigned count)
{
    uint8_t next[PROBE_BYTES];
    if (offset >= PROBE_BYTES)
        return true;
    memcpy(next, present, PROBE_BYTES);
    for (unsigned i = 0; i < count && offset < PROBE_BYTES; i++) {
        size_t len = v[i].len < PROBE_BYTES - offset ? v[i].len : PROBE_BYTES - offset;
        if (len && !v[i].p)
            return false; /* bytes that nobody here can see */
        memcpy(next + offset, v[i].p, len);
        offset += len;
    }
    return !strcmp(probe_format(next, PROBE_BYTES), "raw");
}
