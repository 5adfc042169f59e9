/* SPDX-License-Identifier: MIT */
/*
 * What the subcommands of ringblk-img share.  Each is one table entry and runs
 * as a coroutine on the control ring; what it says when it fails goes to stderr
 * with the program's name in front, as qemu-img does it.
 */
#ifndef TOOLS_IMG_IMG_H
#define TOOLS_IMG_IMG_H

#include <getopt.h>

#include "base/err.h"
#include "block/io.h"

enum { IMG_OK = 0, IMG_FAILED = 1, IMG_NO_CHECKS = 63 };

struct img_command {
    const char *name, *usage;
    int co_fn (*run)(int argc, char **argv); /* the exit status; argv[0] is the program's name */
};

extern const struct img_command img_create, img_info, img_map, img_measure, img_check, img_resize,
    img_compare, img_convert, img_dd;

/** img_error - "ringblk-img: ..." on stderr; returns IMG_FAILED */
int img_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** img_usage - the same with a hint at --help */
int img_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- images ---- */

/* How an image is to be opened. */
struct image_mode {
    const char *format; /* NULL: guess it */
    bool described;     /* the name is a description: driver=raw,file.filename=... */
    bool writable, force_share;
    bool direct, no_flush, writethrough;
};

struct image {
    const char *name; /* as it was given */
    struct node *node;
    struct root *root;
    struct edge *edge;
    bool writethrough, tracked;
};

/** image_open - open an image by its name or description, with a root of its own
 * On failure nothing is left open, and the sentence is "Could not open 'NAME': ...".
 */
int co_fn image_open(struct image *i, const char *name, const struct image_mode *mode,
                     struct err *err);

/** image_close - flush what was written, close; fine on a zeroed one
 * Return: 0; a negative errno when what was written is not safe.
 */
int co_fn image_close(struct image *i);

static inline uint64_t image_size(const struct image *i)
{
    return node_size(i->node);
}

/* One operation each; 0 or a negative errno.  Bytes, of any alignment. */
int co_fn image_read(struct image *i, uint64_t offset, void *p, size_t len);
int co_fn image_write(struct image *i, uint64_t offset, const void *p, size_t len);
/* @unmap: the zeroes need not take space */
int co_fn image_zero(struct image *i, uint64_t offset, uint64_t len, bool unmap);
int co_fn image_status(struct image *i, uint64_t offset, uint64_t len, struct extent *out);

/** image_buffer - aligned memory for reads and writes, for free(); NULL: none */
void *image_buffer(size_t len);

/** image_parse_cache - a cache mode of -t and -T; 0 or -EINVAL */
int image_parse_cache(const char *text, struct image_mode *mode);

/** image_make - create an image file
 * @format: its format's name
 * @size: bytes, rounded up to 512; NULL: @options has it
 * @options: key=value text, keys spelled as qemu-img spells them; may be NULL
 * @quiet: don't say what is made
 */
int co_fn image_make(const char *name, const char *format, const uint64_t *size,
                     const char *options, bool quiet, struct err *err);

/** image_options_help - what image_make() takes for @format: the answer to -o help */
int image_options_help(const char *format, bool with_file);

/** image_add_options - append one more -o to what came before; @all is owned by the caller */
int image_add_options(char **all, const char *more);

/* ---- options ---- */

/* What many subcommands take. */
struct common {
    struct image_mode mode;
    bool quiet, progress, json;
};

enum {
    LONG_OBJECT = 256,
    LONG_IMAGE_OPTS,
    LONG_OUTPUT,
    LONG_OWN, /* a subcommand's own begin here */
};

/* Rows of a subcommand's table of long options. */
#define OPTION_OBJECT                                                                              \
    {                                                                                              \
        "object", required_argument, NULL, LONG_OBJECT                                             \
    }
/* How the image is named, and its format. */
#define OPTION_IMAGE_OPTS                                                                          \
    { "image-opts", no_argument, NULL, LONG_IMAGE_OPTS },                                          \
    {                                                                                              \
        "format", required_argument, NULL, 'f'                                                     \
    }
#define OPTION_OUTPUT                                                                              \
    {                                                                                              \
        "output", required_argument, NULL, LONG_OUTPUT                                             \
    }
#define OPTION_FORCE_SHARE                                                                         \
    {                                                                                              \
        "force-share", no_argument, NULL, 'U'                                                      \
    }

/** common_next - the next option that is not a common one; those (f, q, p, U, T for the mode, and the long
 * ones above) go into @c
 * Return: its code; -1: no more; IMG_STOP: the error has been printed.
 */
enum { IMG_STOP = -2 };
int co_fn common_next(struct common *c, int argc, char **argv, const char *shorts,
                      const struct option *longs);

/** img_parse - a number with an optional suffix, @min..@max; 0, or -EINVAL with the error printed
 * @what: how the error calls it: "image size"
 */
int img_parse(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *out);

/* ---- progress ---- */

/** progress_show - @done of @total bytes, when it changed by a hundredth of a percent or so and -p was said
 * progress_end - all of it, and a new line
 */
struct progress {
    bool on;
    double shown;
};
void progress_show(struct progress *p, uint64_t done, uint64_t total);
void progress_end(struct progress *p);

#endif
