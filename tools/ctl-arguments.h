/* SPDX-License-Identifier: MIT */
/* From the words that a user typed to the JSON arguments of a QMP command. */
#ifndef TOOLS_CTL_ARGUMENTS_H
#define TOOLS_CTL_ARGUMENTS_H

#include "base/row.h"

/** ctl_arguments - key=value words, or a JSON object as the only word, as arguments
 * @type: the command's rows, which tell numbers from strings; NULL: guess by the look of the value
 * @out: a new reference; NULL when there are no words
 * What does not fit its row stays a string: the daemon has the last word, and the better message.
 * Return: 0; -EINVAL; -ENOMEM.
 */
int ctl_arguments(const struct row_type *type, char *const *words, size_t n,
                  struct json_object **out, struct err *err);

/** ctl_tells_secret - is there a value, in the arguments @in, of a row that nobody may see? */
bool ctl_tells_secret(const struct row_type *type, struct json_object *in);

/** ctl_words - cut a line at blanks; "..." and '...' hold blanks together, '{' takes the rest as it is
 * @words: malloc'd array of malloc'd words, NULL-ended; to be released with ctl_words_free()
 * Return: 0; -EINVAL (a quote that does not end); -ENOMEM.
 */
int ctl_words(const char *line, char ***words, size_t *n, struct err *err);
void ctl_words_free(char **words);

/** ctl_row - the row @name among the members of @type: its own, its bases', and those of the branch that
 * @tag_value (may be NULL) chooses; NULL when there is none
 */
const struct row *ctl_row(const struct row_type *type, const char *tag_value, const char *name);

/** ctl_branch - the branch of a union that @tag_value chooses; NULL: none */
const struct row_type *ctl_branch(const struct row_type *type, const char *tag_value);

#endif
