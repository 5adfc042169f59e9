/* SPDX-License-Identifier: MIT */
/*
 * Secrets: given as text or in a file, plain or as base64, and possibly
 * encrypted with AES-256 in CBC mode under another secret, as libvirt sends
 * them.  The bytes never change once the object is made.
 */
#include "crypto/secret.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "crypto/read-file.h"

enum { KEY_BYTES = 32, BLOCK_BYTES = 16 };
enum secret_format { FORMAT_RAW, FORMAT_BASE64 };

struct secret_props {
    char *data, *file;
    enum secret_format format;
    char *keyid, *iv;
};

/* The object's state. */
struct secret {
    uint8_t *bytes; /* a mapping of its own, at least one byte */
    size_t len;
};

/* What is being read and unwrapped: malloc'd, and wiped whole when it is let go. */
struct buffer {
    uint8_t *v;
    size_t len, room;
};

static const char *const format_names[] = { "raw", "base64", NULL };
static const char *const format_help[] = { "The bytes as they are", "Base64 text" };
static ROW_ENUM_TYPE(row_secret_format, "QCryptoSecretFormat", format_names,
                     .value_help = format_help, .help = "How a secret is written down");

static const struct row secret_rows[] = {
    ROW_OPT(struct secret_props, "data", data, row_str, .secret = true,
            .help = "The secret itself; either this or file"),
    ROW_OPT(struct secret_props, "file", file, row_str,
            .help = "A regular file that holds it, 1 MiB at most"),
    ROW_OPT(struct secret_props, "format", format, row_secret_format, .fallback = "raw",
            .help = "How data or the file's content is written"),
    ROW_OPT(struct secret_props, "keyid", keyid, row_str,
            .help = "The secret of 32 bytes that this one is encrypted with"),
    ROW_OPT(struct secret_props, "iv", iv, row_str,
            .help = "With keyid: the initialization vector, 16 bytes as base64"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_secret_props, "SecretProperties", struct secret_props, secret_rows,
                       .help = "Properties of a secret");

void secret_free(void *p, size_t len)
{
    if (p)
        OPENSSL_cleanse(p, len);
    free(p);
}

static void buffer_free(struct buffer *b)
{
    secret_free(b->v, b->room);
    *b = (struct buffer){ 0 };
}

#define autobuffer __attribute__((cleanup(buffer_free))) struct buffer

static int buffer_alloc(struct buffer *b, size_t room, const char *id, struct err *err)
{
    b->v = malloc(room);
    b->room = b->v ? room : 0;
    return b->v ? 0 : err_set(err, -ENOMEM, "secret '%s': out of memory", id);
}

/* --- base64 ------------------------------------------------------------------- */

static bool is_base64_char(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
}

/* Take the line breaks out of @b.  Return: how many '=' it ends with, -EINVAL when it is no base64. */
static int base64_clean(struct buffer *b)
{
    size_t n = 0, padding = 0;

    for (size_t i = 0; i < b->len; i++) {
        uint8_t c = b->v[i];

        if (c == '\n' || c == '\r')
            continue;
        if (c == '=' ? ++padding > 2 : padding || !is_base64_char(c))
            return -EINVAL;
        b->v[n++] = c;
    }
    b->len = n;
    return n % 4 ? -EINVAL : (int)padding;
}

/* @b becomes what it was the base64 of.  @what: "data", for messages. */
static int base64_decode(struct buffer *b, const char *id, const char *what, struct err *err)
{
    autobuffer decoded = { 0 };
    struct buffer swap;
    int padding = base64_clean(b);

    if (padding < 0)
        return err_set(err, -EINVAL, "secret '%s': the %s is not valid base64", id, what);
    if (buffer_alloc(&decoded, b->len / 4 * 3 + 1, id, err) < 0)
        return err->code;
    if (b->len && EVP_DecodeBlock(decoded.v, b->v, (int)b->len) < 0)
        return err_set(err, -EINVAL, "secret '%s': the %s is not valid base64", id, what);
    decoded.len = b->len / 4 * 3 - (size_t)padding;
    swap = *b;
    *b = decoded;
    decoded = swap;
    return 0;
}

/* --- encrypted with another secret -------------------------------------------- */

static int read_iv(const struct secret_props *p, const char *id, struct buffer *iv, struct err *err)
{
    if (!p->iv)
        return err_set(err, -EINVAL, "secret '%s': 'keyid' needs 'iv' as well", id);
    iv->len = strlen(p->iv);
    if (buffer_alloc(iv, iv->len + 1, id, err) < 0)
        return err->code;
    memcpy(iv->v, p->iv, iv->len);
    if (base64_decode(iv, id, "iv", err) < 0)
        return err->code;
    if (iv->len != BLOCK_BYTES)
        return err_set(err, -EINVAL, "secret '%s': the iv must be %d bytes long, not %zu", id,
                       BLOCK_BYTES, iv->len);
    return 0;
}

static int read_key(const struct secret_props *p, const char *id, struct buffer *key,
                    struct err *err)
{
    if (secret_get(p->keyid, &key->v, &key->len, err) < 0)
        return err_prefix(err, "secret '%s': its key", id);
    key->room = key->len;
    if (key->len != KEY_BYTES)
        return err_set(err, -EINVAL, "secret '%s': the key '%s' must be %d bytes long, not %zu", id,
                       p->keyid, KEY_BYTES, key->len);
    return 0;
}

/* AES-256-CBC with the padding of PKCS#7: false when the padding is wrong, or without memory. */
static bool aes_decrypt(const struct buffer *key, const struct buffer *iv, const struct buffer *in,
                        struct buffer *out)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int first = 0, last = 0;
    bool good = c && EVP_DecryptInit_ex(c, EVP_aes_256_cbc(), NULL, key->v, iv->v) == 1 &&
                EVP_DecryptUpdate(c, out->v, &first, in->v, (int)in->len) == 1 &&
                EVP_DecryptFinal_ex(c, out->v + first, &last) == 1;

    EVP_CIPHER_CTX_free(c);
    ERR_clear_error(); /* this thread's next caller of the library must not find ours */
    out->len = (size_t)first + (size_t)last;
    return good;
}

static int decrypt(const struct secret_props *p, const char *id, struct buffer *b, struct err *err)
{
    autobuffer key = { 0 }, iv = { 0 }, plain = { 0 };
    struct buffer swap;

    if (read_key(p, id, &key, err) < 0 || read_iv(p, id, &iv, err) < 0)
        return err->code;
    if (!b->len || b->len % BLOCK_BYTES)
        return err_set(err, -EINVAL,
                       "secret '%s': the encrypted data must be whole blocks of %d bytes, not %zu "
                       "bytes",
                       id, BLOCK_BYTES, b->len);
    if (buffer_alloc(&plain, b->len + BLOCK_BYTES, id, err) < 0)
        return err->code;
    if (!aes_decrypt(&key, &iv, b, &plain))
        return err_set(err, -EINVAL,
                       "secret '%s': the data can't be decrypted with the key '%s' and this iv", id,
                       p->keyid);
    swap = *b;
    *b = plain;
    plain = swap;
    return 0;
}

/* --- the object --------------------------------------------------------------- */

static int read_source(const struct secret_props *p, const char *id, struct buffer *b,
                       struct err *err)
{
    if (p->data && p->file)
        return err_set(err, -EINVAL, "'file' and 'data' are mutually exclusive");
    if (p->file) {
        if (read_file(p->file, SECRET_BYTES_MAX, (char **)&b->v, &b->len, err) < 0)
            return err_prefix(err, "secret '%s'", id);
        b->room = SECRET_BYTES_MAX + 1;
        return 0;
    }
    if (!p->data)
        return err_set(err, -EINVAL, "Either 'file' or 'data' must be provided");
    b->len = strlen(p->data);
    if (b->len > 2 * SECRET_BYTES_MAX)
        return err_set(err, -EFBIG, "secret '%s': the data is too long", id);
    if (buffer_alloc(b, b->len + 1, id, err) < 0)
        return err->code;
    memcpy(b->v, p->data, b->len);
    return 0;
}

/* Into pages that hold nothing else, so that locking and wiping them concerns nobody else. */
static int keep(struct secret *s, const struct buffer *b, const char *id, struct err *err)
{
    size_t size = b->len ? b->len : 1;
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (pages == MAP_FAILED)
        return err_set_errno(err, -errno, "secret '%s': no memory", id);
    /* Both are precautions: a limit that is too low is no reason to refuse. */
    (void)mlock(pages, size);
    (void)madvise(pages, size, MADV_DONTDUMP);
    memcpy(pages, b->v, b->len);
    s->bytes = pages;
    s->len = b->len;
    return 0;
}

static int secret_create(struct object *o, const void *props, struct err *err)
{
    struct secret_props *p = o->props;
    autobuffer b = { 0 };

    (void)props;
    if (read_source(p, o->id, &b, err) < 0 ||
        (p->format == FORMAT_BASE64 && base64_decode(&b, o->id, "data", err) < 0) ||
        (p->keyid && decrypt(p, o->id, &b, err) < 0) || keep(o->state, &b, o->id, err) < 0)
        return err->code;
    /* It has done its service; nothing reads it again. */
    if (p->data)
        secret_free(p->data, strlen(p->data));
    p->data = NULL;
    return 0;
}

static void secret_destroy(struct object *o)
{
    struct secret *s = o->state;

    OPENSSL_cleanse(s->bytes, s->len);
    munmap(s->bytes, s->len ? s->len : 1);
}

const struct object_type object_secret = {
    .name = "secret",
    .parent = "secret_common",
    .props = &row_secret_props,
    .state_size = sizeof(struct secret),
    .create = secret_create,
    .destroy = secret_destroy,
};

/* --- for others --------------------------------------------------------------- */

/* With the registry locked; a byte longer than the secret, a NUL. */
static int copy(const char *id, uint8_t **out, size_t *len, struct err *err)
{
    struct object *o = object_find(id, &object_secret, err);
    const struct secret *s;

    if (!o)
        return err->code;
    s = o->state;
    *out = malloc(s->len + 1);
    if (!*out)
        return err_set(err, -ENOMEM, "secret '%s': out of memory", id);
    memcpy(*out, s->bytes, s->len);
    (*out)[s->len] = '\0';
    *len = s->len;
    return 0;
}

int secret_get(const char *id, uint8_t **out, size_t *len, struct err *err)
{
    int r;

    objects_lock();
    r = copy(id, out, len, err);
    objects_unlock();
    return r;
}

/* Bytes of the character at @p, at most @left; 0: it is none (overlong, a surrogate, past U+10FFFF). */
static size_t utf8_length(const uint8_t *p, size_t left)
{
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

    if (!n || n > left || p[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

static bool is_text(const uint8_t *p, size_t len)
{
    while (len) {
        size_t n = *p ? utf8_length(p, len) : 0;

        if (!n)
            return false;
        p += n;
        len -= n;
    }
    return true;
}

int secret_get_text(const char *id, char **out, struct err *err)
{
    uint8_t *bytes;
    size_t len;

    if (secret_get(id, &bytes, &len, err) < 0)
        return err->code;
    if (!is_text(bytes, len)) {
        secret_free(bytes, len);
        return err_set(err, -EINVAL, "secret '%s' is not text in UTF-8", id);
    }
    *out = (char *)bytes;
    return 0;
}
