/* SPDX-License-Identifier: MIT */
/*
 * JSON text as clients get it.  For people it is spread over lines: the text is
 * walked once, and what lies inside of strings is copied as it is.
 */
#include "qmp/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"

enum { INDENT = 4, INDENT_MAX = 64 };

/* Past the end of the string literal that begins at @p. */
static const char *string_end(const char *p)
{
    for (p++; *p != '"'; p++)
        if (*p == '\\')
            p++;
    return p + 1;
}

static void new_line(FILE *out, unsigned depth)
{
    unsigned n = depth * INDENT;
    fprintf(out, "\r\n%*s", (int)(n < INDENT_MAX ? n : INDENT_MAX), "");
}

static void write_pretty(FILE *out, const char *p)
{
    unsigned depth = 0;
    for (; *p; p++) {
        if (*p == '"') {
            const char *end = string_end(p);
            fwrite(p, 1, (size_t)(end - p), out);
            p = end - 1;
        } else if ((*p == '{' || *p == '[') && p[1] != *p + 2) {
            fputc(*p, out);
            new_line(out, ++depth);
        } else if ((*p == '}' || *p == ']') && p[-1] != *p - 2) {
            new_line(out, --depth);
            fputc(*p, out);
        } else if (*p == ',') {
            fputc(*p, out);
            new_line(out, depth);
            p += p[1] == ' ';
        } else {
            fputc(*p, out);
        }
    }
}

char *qmp_text(struct json_object *value, bool pretty, size_t *len)
{
    autofree char *compact = json_text(value);
    char *text = NULL;
    FILE *out = compact ? open_memstream(&text, len) : NULL;
    if (!out)
        return NULL;
    if (pretty)
        write_pretty(out, compact);
    else
        fputs(compact, out);
    fputs("\r\n", out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
