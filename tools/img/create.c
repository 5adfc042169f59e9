/* SPDX-License-Identifier: MIT */
/* ringblk-img create, and what convert and dd make their targets with. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "block/create.h"
#include "block/options.h"
#include "tools/img/img.h"

enum { SECTOR = 512 };

/* Who makes the file under a raw image. */
static const struct driver *maker(const char *format)
{
    return !strcmp(format, "raw") ? driver_by_name("file") : NULL;
}

/* Options are spelled with underscores here, and with hyphens in QMP. */
static const struct row *find_option(const struct driver *d, const char *key, size_t len)
{
    const struct row *row = d->create_options->rows;

    for (; row->type; row++) {
        size_t i = 0;
        while (i < len && row->name[i] == (key[i] == '_' ? '-' : key[i]))
            i++;
        if (i == len && !row->name[i] && strcmp(row->name, "filename"))
            return row;
    }
    return NULL;
}

/* "key=value,..." as the rows spell it, without the size, which is taken out into @size. */
static int translate(const struct driver *d, const char *options, FILE *out, uint64_t *size,
                     bool *has_size, struct err *err)
{
    while (options && *options) {
        size_t len = strcspn(options, ","), key = strcspn(options, "=");
        autofree char *item = strndup(options, len);
        if (!item)
            return err_set(err, -ENOMEM, "out of memory");
        const struct row *row = find_option(d, item, key < len ? key : len);
        if (!row)
            return err_set(err, -EINVAL, "Invalid parameter '%.*s'", (int)(key < len ? key : len),
                           item);
        const char *value = key < len ? item + key + 1 : "on";
        if (strcmp(row->name, "size"))
            fprintf(out, ",%s=%s", row->name, value);
        else if (*has_size)
            ;
        else if (img_parse("image size", value, 0, INT64_MAX, size) < 0)
            return err_set(err, -EINVAL, "Invalid size '%s'", value);
        else
            *has_size = true;
        options += len + (options[len] == ',');
    }
    return 0;
}

static int co_fn make_file(const char *name, uint64_t size, const char *options, struct err *err)
{
    struct blockdev_create_options o;
    atomic_bool stop = false;
    autofree char *text = NULL;

    if (asprintf(&text, "driver=file,filename=,size=%" PRIu64 "%s", size, options) < 0) {
        text = NULL;
        return err_set(err, -ENOMEM, "out of memory");
    }
    if (row_parse_text(&row_blockdev_create_options, text, NULL, &o, err) < 0)
        return err->code;
    /* The name may hold anything: it does not go by the text. */
    for (const struct row *row = driver_by_name("file")->create_options->rows; row->type; row++) {
        if (!strcmp(row->name, "filename")) {
            char **filename = (char **)((char *)o.driver_options + row->offset);
            free(*filename);
            *filename = strdup(strncmp(name, "file:", 5) ? name : name + 5);
            if (!*filename)
                err_set(err, -ENOMEM, "out of memory");
        }
    }
    if (!err->code)
        image_create(&o, &stop, err);
    row_release(&row_blockdev_create_options, &o);
    return err->code;
}

int co_fn image_make(const char *name, const char *format, const uint64_t *given,
                     const char *options, bool quiet, struct err *err)
{
    const struct driver *d = maker(format);
    uint64_t size = given ? *given : 0;
    bool has_size = given;
    autofree char *rest = NULL;
    size_t length;
    FILE *out;

    if (!driver_by_name(format))
        return err_set(err, -EINVAL, "Unknown file format '%s'", format);
    if (!d)
        return err_set(err, -ENOTSUP, "Format driver '%s' does not support image creation", format);
    out = open_memstream(&rest, &length);
    if (!out)
        return err_set(err, -ENOMEM, "out of memory");
    int r = translate(d, options, out, &size, &has_size, err);
    if (fclose(out) != 0 && r == 0)
        r = err_set(err, -ENOMEM, "out of memory");
    if (r == 0 && !has_size)
        r = err_set(err, -EINVAL, "Image creation needs a size parameter");
    if (r < 0)
        return r;
    if (!quiet) {
        printf("Formatting '%s', fmt=%s size=%" PRIu64, name, format, size);
        for (char *p = rest; *p; p++)
            putchar(*p == ',' ? ' ' : *p == '-' ? '_' : *p);
        putchar('\n');
    }
    return make_file(name, (size + SECTOR - 1) / SECTOR * SECTOR, rest, err);
}

int image_options_help(const char *format, bool with_file)
{
    const struct driver *d = maker(format);

    if (!d)
        return img_error("Unknown file format '%s'", format);
    printf("Supported %s options:\n", format);
    for (const struct row *row = d->create_options->rows; row->type; row++) {
        bool is_size = !strcmp(row->name, "size");
        if (!strcmp(row->name, "filename") || (!is_size && !with_file))
            continue;
        fputs("  ", stdout);
        for (const char *p = row->name; *p; p++)
            putchar(*p == '-' ? '_' : *p);
        const char *kind = row->type->kind == ROW_SIZE   ? "size"
                           : row->type->kind == ROW_BOOL ? "bool (on/off)"
                                                         : "str";
        printf("=<%s> - %s\n", kind, row->help);
    }
    if (!with_file)
        printf("\nThe protocol level may support further options.\n"
               "Specify the target filename to include those options.\n");
    return IMG_OK;
}

/* ---- the command ---- */

int image_add_options(char **all, const char *more)
{
    char *joined;

    if (asprintf(&joined, "%s%s%s", *all ? *all : "", *all ? "," : "", more) < 0)
        return img_error("out of memory");
    free(*all);
    *all = joined;
    return IMG_OK;
}

static int co_fn run(int argc, char **argv)
{
    static const struct option longs[] = { OPTION_OBJECT, { 0 } };
    struct common c = { 0 };
    autofree char *options = NULL;
    const char *backing = NULL;
    uint64_t size;
    autoerr err = { 0 };
    int code;

    while ((code = common_next(&c, argc, argv, "f:b:F:o:qu", longs)) >= 0) {
        if (code == 'b')
            backing = optarg;
        else if (code == 'o' && image_add_options(&options, optarg) != IMG_OK)
            return IMG_FAILED;
    }
    if (code == IMG_STOP)
        return IMG_FAILED;
    const char *format = c.mode.format ? c.mode.format : "raw";
    if (options && (!strcmp(options, "help") || !strcmp(options, "?")))
        return image_options_help(format, optind < argc);
    if (optind == argc)
        return img_usage("Expecting image file name");
    if (argc - optind > 2)
        return img_usage("Unexpected argument: %s", argv[optind + 2]);
    bool sized = optind + 1 < argc;
    if (sized && img_parse("image size", argv[optind + 1], 0, INT64_MAX, &size) < 0)
        return IMG_FAILED;
    const char *name = argv[optind];
    if (backing && !(driver_by_name(format) && driver_by_name(format)->flags & DRIVER_HAS_BACKING))
        return img_error("%s: Backing file not supported for file format '%s'", name, format);
    if (image_make(name, format, sized ? &size : NULL, options, c.quiet, &err) < 0)
        return img_error("%s: %s", name, err.msg);
    return IMG_OK;
}

const struct img_command img_create = {
    .name = "create",
    .usage = "[--object OBJECT] [-q] [-f FORMAT] [-o OPTIONS] FILE [SIZE]",
    .run = run,
};
