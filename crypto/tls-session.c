/* SPDX-License-Identifier: MIT */
/* OpenSSL between two buffers in memory. */
#include "crypto/tls-session.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/tls-creds.h"

struct tls_session {
    SSL *ssl;      /* owns both buffers */
    BIO *in, *out; /* from and to the peer */
};

struct tls_session *tls_session_new(const struct object *creds, struct err *err)
{
    struct tls_session *s = calloc(1, sizeof(*s));

    ERR_clear_error();
    if (s)
        s->ssl = SSL_new(tls_creds_context(creds));
    if (s && s->ssl) {
        s->in = BIO_new(BIO_s_mem());
        s->out = BIO_new(BIO_s_mem());
    }
    if (!s || !s->ssl || !s->in || !s->out) {
        tls_set_error(err, -ENOMEM, "no memory for a TLS session");
        if (s) {
            BIO_free(s->in);
            BIO_free(s->out);
            SSL_free(s->ssl);
        }
        free(s);
        return NULL;
    }
    BIO_set_mem_eof_return(s->in, -1); /* empty is not the end */
    SSL_set_bio(s->ssl, s->in, s->out);
    if (tls_creds_server(creds))
        SSL_set_accept_state(s->ssl);
    else
        SSL_set_connect_state(s->ssl);
    return s;
}

void tls_session_free(struct tls_session *s)
{
    if (s)
        SSL_free(s->ssl);
    free(s);
}

int tls_session_handshake(struct tls_session *s, struct err *err)
{
    long verified;
    int r;

    ERR_clear_error();
    r = SSL_do_handshake(s->ssl);
    if (r == 1)
        return 0;
    if (SSL_get_error(s->ssl, r) == SSL_ERROR_WANT_READ)
        return -EAGAIN;
    verified = SSL_get_verify_result(s->ssl);
    if (verified != X509_V_OK) {
        ERR_clear_error();
        return err_set(err, -EPROTO, "TLS handshake failed: the peer's certificate: %s",
                       X509_verify_cert_error_string(verified));
    }
    return tls_set_error(err, -EPROTO, "TLS handshake failed");
}

int tls_session_feed(struct tls_session *s, const void *p, size_t len)
{
    return len > INT_MAX || BIO_write(s->in, p, (int)len) != (int)len ? -ENOMEM : 0;
}

size_t tls_session_take(struct tls_session *s, void *p, size_t room)
{
    int n = BIO_read(s->out, p, room > INT_MAX ? INT_MAX : (int)room);

    return n > 0 ? (size_t)n : 0;
}

ssize_t tls_session_read(struct tls_session *s, void *p, size_t room)
{
    size_t n;
    int r;

    ERR_clear_error();
    r = SSL_read_ex(s->ssl, p, room, &n);
    if (r == 1)
        return (ssize_t)n;
    switch (SSL_get_error(s->ssl, r)) {
    case SSL_ERROR_WANT_READ: return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN: return 0;
    default: ERR_clear_error(); return -EPROTO;
    }
}

bool tls_session_may_read(const struct tls_session *s)
{
    return SSL_pending(s->ssl) > 0 || BIO_ctrl_pending(s->in) > 0;
}

int tls_session_write(struct tls_session *s, const void *p, size_t len)
{
    size_t n;

    ERR_clear_error();
    if (len == 0 || (SSL_write_ex(s->ssl, p, len, &n) == 1 && n == len))
        return 0;
    ERR_clear_error();
    return -EPROTO;
}

void tls_session_close(struct tls_session *s)
{
    ERR_clear_error();
    (void)SSL_shutdown(s->ssl);
    ERR_clear_error();
}

char *tls_session_peer(const struct tls_session *s)
{
    /* In the order of the certificate, not in the reverse one of RFC 4514: QEMU's lists are written so. */
    const unsigned long flags =
        XN_FLAG_RFC2253 & ~(unsigned long)(ASN1_STRFLGS_ESC_MSB | XN_FLAG_DN_REV);
    X509 *cert = SSL_get0_peer_certificate(s->ssl);
    BIO *text = cert ? BIO_new(BIO_s_mem()) : NULL;
    char *data, *name = NULL;
    long len;

    if (!text)
        return NULL;
    if (X509_NAME_print_ex(text, X509_get_subject_name(cert), 0, flags) >= 0) {
        len = BIO_get_mem_data(text, &data);
        /* A NUL in a name is written as \00, so the text is whole. */
        name = strndup(data, (size_t)len);
    }
    BIO_free(text);
    ERR_clear_error();
    return name;
}
