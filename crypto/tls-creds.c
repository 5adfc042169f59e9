/* SPDX-License-Identifier: MIT */
/*
 * TLS credentials.  One OpenSSL context for each object: TLS 1.2 and 1.3, no
 * renegotiation, no compression, no session tickets, no session cache.
 *
 * Priority strings are GnuTLS's language.  Those that ask for its defaults are
 * taken; a string that means more would be ignored here, so it is refused.
 */
#include "crypto/tls-creds.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "crypto/read-file.h"
#include "crypto/secret.h"

enum { KEYS_BYTES_MAX = 1 << 20, PSK_BYTES_MAX = 64, PSK_NAME_MAX = 255 };
enum endpoint { ENDPOINT_CLIENT, ENDPOINT_SERVER };

/* The base of all three kinds. */
struct common_props {
    char *dir;
    enum endpoint endpoint;
    char *priority;
    bool verify_peer;
};

struct x509_props {
    struct common_props common;
    char *passwordid;
    bool sanity_check;
};

struct psk_props {
    struct common_props common;
    char *username;
};

struct anon_props {
    struct common_props common;
};

struct creds {
    SSL_CTX *context;
    bool server;
    char *keys; /* PSK: the key file's text, ended by NUL */
    size_t keys_len;
    char *username; /* PSK client */
};

static const char *const endpoint_names[] = { "client", "server", NULL };
static ROW_ENUM_TYPE(row_endpoint, "QCryptoTLSCredsEndpoint", endpoint_names,
                     .help = "Which end of a connection it is");

static const struct row common_rows[] = {
    ROW_OPT(struct common_props, "dir", dir, row_str, .help = "The folder that holds the files"),
    ROW_OPT(struct common_props, "endpoint", endpoint, row_endpoint, .fallback = "client",
            .help = "Which end of a connection they are for"),
    ROW_OPT(struct common_props, "priority", priority, row_str,
            .help = "A GnuTLS priority string; only NORMAL, the default, is understood"),
    ROW_OPT(struct common_props, "verify-peer", verify_peer, row_bool, .fallback = "true",
            .help = "X.509 servers: does a client need a certificate?"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_common, "TlsCredsProperties", struct common_props, common_rows,
                       .help = "What all kinds of TLS credentials have");

static const struct row x509_rows[] = {
    ROW_BASE(struct x509_props, common, row_common),
    ROW_OPT(struct x509_props, "passwordid", passwordid, row_str,
            .help = "The secret that the private key is encrypted with"),
    ROW_OPT(struct x509_props, "sanity-check", sanity_check, row_bool, .fallback = "true",
            .help = "Refuse a certificate of our own that peers would refuse"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_x509_props, "TlsCredsX509Properties", struct x509_props, x509_rows,
                       .help = "Properties of a tls-creds-x509");

static const struct row psk_rows[] = {
    ROW_BASE(struct psk_props, common, row_common),
    ROW_OPT(struct psk_props, "username", username, row_str,
            .help = "Clients: whose key in keys.psk; default: qemu"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_psk_props, "TlsCredsPskProperties", struct psk_props, psk_rows,
                       .help = "Properties of a tls-creds-psk");

static const struct row anon_rows[] = { ROW_BASE(struct anon_props, common, row_common), ROW_END };
static ROW_STRUCT_TYPE(row_anon_props, "TlsCredsAnonProperties", struct anon_props, anon_rows,
                       .help = "Properties of a tls-creds-anon");

int tls_set_error(struct err *err, int code, const char *fmt, ...)
{
    char context[512];
    unsigned long number = ERR_get_error();
    const char *reason = number ? ERR_reason_error_string(number) : NULL;
    va_list list;

    va_start(list, fmt);
    vsnprintf(context, sizeof(context), fmt, list);
    va_end(list);
    ERR_clear_error();
    return err_set(err, code, "%s%s%s", context, reason ? ": " : "", reason ? reason : "");
}

/* ---- the context ---- */

static int common_context(struct object *o, const struct common_props *p, struct err *err)
{
    struct creds *c = o->state;

    if (p->priority && strcmp(p->priority, "NORMAL") != 0)
        return err_set(err, -EINVAL,
                       "TLS credentials '%s': priority '%s' is not understood, only NORMAL is",
                       o->id, p->priority);
    c->server = p->endpoint == ENDPOINT_SERVER;
    c->context = SSL_CTX_new(c->server ? TLS_server_method() : TLS_client_method());
    if (!c->context)
        return tls_set_error(err, -ENOMEM, "TLS credentials '%s'", o->id);
    SSL_CTX_set_min_proto_version(c->context, TLS1_2_VERSION);
    SSL_CTX_set_options(c->context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                        SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_num_tickets(c->context, 0);
    SSL_CTX_set_session_cache_mode(c->context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(c->context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_dh_auto(c->context, 1);
    return 0;
}

static void creds_destroy(struct object *o)
{
    struct creds *c = o->state;

    SSL_CTX_free(c->context);
    secret_free(c->keys, c->keys_len);
    free(c->username);
    *c = (struct creds){ 0 };
}

/* DIR/NAME; malloc'd. */
static char *path_of(const struct common_props *p, const char *name)
{
    char *path;

    return asprintf(&path, "%s/%s", p->dir, name) < 0 ? NULL : path;
}

/* ---- X.509 ---- */

static int give_password(char *buf, int size, int writing, void *arg)
{
    const char *password = arg;
    size_t len = password ? strlen(password) : 0;

    (void)writing;
    if (!password || len > (size_t)size)
        return -1; /* without a password nobody is asked for one on the terminal */
    memcpy(buf, password, len);
    return (int)len;
}

static int load_key(struct object *o, const struct x509_props *p, const char *cert_path,
                    const char *key_path, struct err *err)
{
    struct creds *c = o->state;
    char *password = NULL;
    int good;

    if (p->passwordid && secret_get_text(p->passwordid, &password, err) < 0)
        return err_prefix(err, "TLS credentials '%s'", o->id);
    SSL_CTX_set_default_passwd_cb(c->context, give_password);
    SSL_CTX_set_default_passwd_cb_userdata(c->context, password);
    good = SSL_CTX_use_certificate_chain_file(c->context, cert_path) == 1;
    if (!good) {
        tls_set_error(err, -EINVAL, "TLS credentials '%s': cannot load certificate '%s'", o->id,
                      cert_path);
    } else {
        good = SSL_CTX_use_PrivateKey_file(c->context, key_path, SSL_FILETYPE_PEM) == 1 &&
               SSL_CTX_check_private_key(c->context) == 1;
        if (!good)
            tls_set_error(err, -EINVAL, "TLS credentials '%s': cannot load key '%s'", o->id,
                          key_path);
    }
    SSL_CTX_set_default_passwd_cb_userdata(c->context, NULL);
    secret_free(password, password ? strlen(password) : 0);
    return good ? 0 : err->code;
}

static int load_revoked(struct object *o, const struct common_props *p, struct err *err)
{
    struct creds *c = o->state;
    autofree char *path = path_of(p, "ca-crl.pem");
    X509_STORE *store = SSL_CTX_get_cert_store(c->context);

    if (!path)
        return err_set(err, -ENOMEM, "TLS credentials '%s': out of memory", o->id);
    if (access(path, F_OK) < 0)
        return 0;
    if (X509_load_crl_file(X509_STORE_add_lookup(store, X509_LOOKUP_file()), path,
                           X509_FILETYPE_PEM) <= 0)
        return tls_set_error(err, -EINVAL, "TLS credentials '%s': cannot load '%s'", o->id, path);
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    return 0;
}

/* Would a peer that trusts the same authority take our own certificate? */
static int check_sanity(struct object *o, const char *cert_path, struct err *err)
{
    struct creds *c = o->state;
    X509 *own = SSL_CTX_get0_certificate(c->context);
    X509_STORE_CTX *check = X509_STORE_CTX_new();
    STACK_OF(X509) *chain = NULL;
    int good;

    SSL_CTX_get0_chain_certs(c->context, &chain);
    good = check &&
           X509_STORE_CTX_init(check, SSL_CTX_get_cert_store(c->context), own, chain) == 1 &&
           X509_STORE_CTX_set_default(check, c->server ? "ssl_server" : "ssl_client") == 1;
    if (!good)
        tls_set_error(err, -ENOMEM, "TLS credentials '%s'", o->id);
    else if (X509_verify_cert(check) != 1)
        err_set(err, -EINVAL, "TLS credentials '%s': certificate '%s' is of no use: %s", o->id,
                cert_path, X509_verify_cert_error_string(X509_STORE_CTX_get_error(check)));
    X509_STORE_CTX_free(check);
    ERR_clear_error();
    return err->code;
}

static int load_authorities(struct object *o, const struct common_props *p, struct err *err)
{
    struct creds *c = o->state;
    autofree char *path = path_of(p, "ca-cert.pem");

    if (!path)
        return err_set(err, -ENOMEM, "TLS credentials '%s': out of memory", o->id);
    if (SSL_CTX_load_verify_locations(c->context, path, NULL) != 1)
        return tls_set_error(err, -EINVAL, "TLS credentials '%s': cannot load '%s'", o->id, path);
    if (c->server)
        SSL_CTX_set_client_CA_list(c->context, SSL_load_client_CA_file(path));
    return load_revoked(o, p, err);
}

static int load_x509(struct object *o, const struct x509_props *p, struct err *err)
{
    struct creds *c = o->state;
    autofree char *cert = path_of(&p->common, c->server ? "server-cert.pem" : "client-cert.pem");
    autofree char *key = path_of(&p->common, c->server ? "server-key.pem" : "client-key.pem");

    if (!cert || !key)
        return err_set(err, -ENOMEM, "TLS credentials '%s': out of memory", o->id);
    if (load_authorities(o, &p->common, err) < 0)
        return err->code;
    /* A client may have none. */
    if (c->server || access(cert, F_OK) == 0) {
        if (load_key(o, p, cert, key, err) < 0)
            return err->code;
        if (p->sanity_check && check_sanity(o, cert, err) < 0)
            return err->code;
    }
    if (!c->server || p->common.verify_peer)
        SSL_CTX_set_verify(c->context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return 0;
}

static int x509_create(struct object *o, const void *props, struct err *err)
{
    const struct x509_props *p = props;

    if (!p->common.dir)
        return err_set(err, -EINVAL, "TLS credentials '%s': Missing 'dir' property value", o->id);
    if (common_context(o, &p->common, err) < 0 || load_x509(o, p, err) < 0)
        creds_destroy(o);
    return err->code;
}

/* ---- pre-shared keys ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The key of @user in lines of "user:hex"; its bytes, or 0 when there is none. */
static unsigned find_key(const struct creds *c, const char *user, uint8_t *key, unsigned room)
{
    size_t length = strlen(user);
    const char *hex = NULL;
    unsigned n = 0;

    if (strpbrk(user, ":\n\r"))
        return 0; /* it would reach beyond its line */
    for (const char *line = c->keys; line && *line;) {
        if (strncmp(line, user, length) == 0 && line[length] == ':')
            hex = line + length + 1;
        line = hex ? NULL : strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    for (; hex && hex_digit(hex[0]) >= 0 && hex_digit(hex[1]) >= 0 && n < room; hex += 2)
        key[n++] = (uint8_t)(hex_digit(hex[0]) << 4 | hex_digit(hex[1]));
    return hex && (*hex == '\0' || *hex == '\n' || *hex == '\r') ? n : 0;
}

static unsigned psk_of_client(SSL *ssl, const char *user, unsigned char *key, unsigned room)
{
    const struct creds *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

    return user ? find_key(c, user, key, room) : 0;
}

static unsigned psk_of_own(SSL *ssl, const char *hint, char *user, unsigned user_room,
                           unsigned char *key, unsigned room)
{
    const struct creds *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

    (void)hint;
    if (strlen(c->username) >= user_room)
        return 0;
    strcpy(user, c->username);
    return find_key(c, c->username, key, room);
}

static int load_psk(struct object *o, const struct psk_props *p, struct err *err)
{
    struct creds *c = o->state;
    autofree char *path = path_of(&p->common, "keys.psk");
    uint8_t key[PSK_BYTES_MAX];
    unsigned length;

    if (!path)
        return err_set(err, -ENOMEM, "TLS credentials '%s': out of memory", o->id);
    if (read_file(path, KEYS_BYTES_MAX, &c->keys, &c->keys_len, err) < 0)
        return err_prefix(err, "TLS credentials '%s'", o->id);
    SSL_CTX_set_app_data(c->context, c);
    if (SSL_CTX_set_cipher_list(c->context, "kECDHEPSK:kDHEPSK:kPSK:!eNULL") != 1)
        return tls_set_error(err, -EINVAL, "TLS credentials '%s'", o->id);
    if (c->server) {
        SSL_CTX_set_psk_server_callback(c->context, psk_of_client);
        return 0;
    }
    c->username = strdup(p->username ? p->username : "qemu");
    if (!c->username)
        return err_set(err, -ENOMEM, "TLS credentials '%s': out of memory", o->id);
    length = strlen(c->username) <= PSK_NAME_MAX ? find_key(c, c->username, key, sizeof(key)) : 0;
    OPENSSL_cleanse(key, sizeof(key));
    if (!length)
        return err_set(err, -ENOENT, "TLS credentials '%s': '%s' has no key of '%s'", o->id, path,
                       c->username);
    SSL_CTX_set_psk_client_callback(c->context, psk_of_own);
    return 0;
}

static int psk_create(struct object *o, const void *props, struct err *err)
{
    const struct psk_props *p = props;

    if (!p->common.dir)
        return err_set(err, -EINVAL, "TLS credentials '%s': Missing 'dir' property value", o->id);
    if (p->username && p->common.endpoint == ENDPOINT_SERVER)
        return err_set(err, -EINVAL,
                       "TLS credentials '%s': username should not be set when "
                       "endpoint=server",
                       o->id);
    if (common_context(o, &p->common, err) < 0 || load_psk(o, p, err) < 0)
        creds_destroy(o);
    return err->code;
}

/* ---- nobody says who he is ---- */

static int anon_create(struct object *o, const void *props, struct err *err)
{
    const struct anon_props *p = props;
    struct creds *c = o->state;

    if (common_context(o, &p->common, err) < 0)
        return err->code;
    /* TLS 1.3 has no such thing, and OpenSSL offers it at its lowest level of security only. */
    SSL_CTX_set_max_proto_version(c->context, TLS1_2_VERSION);
    SSL_CTX_set_security_level(c->context, 0);
    if (SSL_CTX_set_cipher_list(c->context, "aNULL:!eNULL") != 1) {
        tls_set_error(err, -EINVAL, "TLS credentials '%s'", o->id);
        creds_destroy(o);
    }
    return err->code;
}

/* ---- for others ---- */

#define CREDS_TYPE(name_, props_, create_)                                                         \
    {                                                                                              \
        .name = name_, .parent = "tls-creds", .props = &(props_),                                  \
        .state_size = sizeof(struct creds), .create = create_, .destroy = creds_destroy            \
    }
const struct object_type object_tls_creds_x509 =
    CREDS_TYPE("tls-creds-x509", row_x509_props, x509_create);
const struct object_type object_tls_creds_psk =
    CREDS_TYPE("tls-creds-psk", row_psk_props, psk_create);
const struct object_type object_tls_creds_anon =
    CREDS_TYPE("tls-creds-anon", row_anon_props, anon_create);

struct object *tls_creds_find(const char *id, bool server, struct err *err)
{
    autoerr unused = { 0 };
    struct object *o = object_find(id, NULL, &unused);

    if (!o)
        err_set(err, -ENOENT, "No TLS credentials with id '%s'", id);
    else if (!o->type->parent || strcmp(o->type->parent, "tls-creds") != 0)
        err_set(err, -EINVAL, "Object with id '%s' is not TLS credentials", id);
    else if (tls_creds_server(o) != server)
        err_set(err, -EINVAL, "Expecting TLS credentials with a %s endpoint",
                server ? "server" : "client");
    else
        return o;
    return NULL;
}

SSL_CTX *tls_creds_context(const struct object *creds)
{
    return ((const struct creds *)creds->state)->context;
}

bool tls_creds_server(const struct object *creds)
{
    return ((const struct creds *)creds->state)->server;
}
