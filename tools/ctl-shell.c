/* SPDX-License-Identifier: MIT */
/*
 * The QMP shell.  On a terminal lines are edited by libedit, and while it
 * waits for a key, events are printed as they come; else lines are read as they
 * are, and the first that fails ends all.
 */
#include "tools/ctl-shell.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "base/cleanup.h"
#include "tools/ctl-arguments.h"
#include "tools/ctl-complete.h"
#include "tools/ctl-history.h"
#include "tools/ctl-json.h"
#include "tools/ctl-table.h"

enum { ASK_MS = 3000 /* a tab waits so long for the daemon, at most */ };

struct shell {
    struct ctl *ctl;
    struct ctl_schema schema; /* list NULL: not asked for yet */
    EditLine *el;             /* NULL: no terminal */
    int keys; /* the terminal opened anew, as Ctrl-C may take away keys that poll() told of: non-blocking, which
                 stdin must not be, as other programs have it too */
    History *history;
    char *history_path; /* owned; NULL: lines are not kept */
    bool quit_warned;   /* the line before was `quit`, and what that does was told */
    bool quit;          /* ringblkd was told to end */
    bool ended;         /* no more lines */
    sigset_t mask;      /* of signals, as it was before catch_signals() */
    int status;
};

static volatile sig_atomic_t interrupted; /* SIGINT, SIGTERM or SIGHUP came */
static volatile sig_atomic_t redraw;      /* SIGWINCH or SIGCONT came */

static void on_interrupt(int number)
{
    interrupted = number;
}

static void on_redraw(int number)
{
    redraw = number;
}

static const struct {
    int number;
    void (*handler)(int number);
} signals[] = { { SIGINT, on_interrupt },
                { SIGTERM, on_interrupt },
                { SIGHUP, on_interrupt },
                { SIGWINCH, on_redraw },
                { SIGCONT, on_redraw } };
enum { SIGNALS = sizeof(signals) / sizeof(*signals) };

/* From now on they come only while the shell waits for a key or a reply. */
static void catch_signals(struct shell *s)
{
    sigset_t blocked;

    sigemptyset(&blocked);
    for (unsigned i = 0; i < SIGNALS; i++) {
        struct sigaction a = { .sa_handler = signals[i].handler };

        sigaddset(&blocked, signals[i].number);
        sigaction(signals[i].number, &a, NULL);
    }
    sigprocmask(SIG_BLOCK, &blocked, &s->mask);
    s->ctl->connection.interrupted = &interrupted;
    s->ctl->connection.waiting_mask = &s->mask;
}

static void release_signals(struct shell *s)
{
    for (unsigned i = 0; i < SIGNALS; i++)
        signal(signals[i].number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &s->mask, NULL);
    s->ctl->connection.interrupted = NULL;
    s->ctl->connection.waiting_mask = NULL;
}

/* ---- running lines ---- */

static int need_schema(struct shell *s, struct err *err)
{
    return s->schema.list ? 0 : ctl_schema_ask(s->ctl, &s->schema, err);
}

/* {"execute": COMMAND, "arguments": {...}} */
static int take_json(const char *text, char **name, struct json_object **arguments, struct err *err)
{
    struct json_object *request;
    const char *command;

    if (json_parse(text, strlen(text), &request, err) < 0)
        return err->code;
    command = ctl_string(CTL_GET(request, "execute"));
    *name = command ? strdup(command) : NULL;
    *arguments = json_object_get(CTL_GET(request, "arguments"));
    json_object_put(request);
    return *name ? 0 : err_set(err, -EINVAL, "the JSON object has no member \"execute\"");
}

/* A line's command and arguments. */
static int take_line(char **words, size_t n, char **name, struct json_object **arguments,
                     struct err *err)
{
    const struct qmp_command *c;

    if (*words[0] == '{')
        return take_json(words[0], name, arguments, err);
    *name = strdup(words[0]);
    if (!*name)
        return err_set(err, -ENOMEM, "out of memory");
    c = ctl_qmp_find(*name);
    return ctl_arguments(c ? c->args : NULL, words + 1, n - 1, arguments, err);
}

/* Nobody should end the daemon who means to leave the shell. */
static bool is_meant(struct shell *s, const char *name)
{
    if (!s->el || strcmp(name, "quit") != 0 || s->quit_warned)
        return true;
    s->quit_warned = true;
    printf("quit ends ringblkd itself, with all its exports.  Once more does it; exit leaves the "
           "shell.\n");
    return false;
}

static int run_words(struct shell *s, const char *line, char **words, size_t n, struct err *err)
{
    struct json_object *arguments = NULL;
    autofree char *name = NULL;
    const struct qmp_command *c;
    autoerr unkept = { 0 };
    int r;

    if (n == 0 || *words[0] == '#')
        return 0;
    if (strcmp(words[0], "exit") == 0) {
        s->ended = true;
        return 0;
    }
    if (strcmp(words[0], "help") == 0)
        return need_schema(s, err) < 0 ? err->code : ctl_help(&s->schema, words[1], err);
    r = take_line(words, n, &name, &arguments, err);
    c = name ? ctl_qmp_find(name) : NULL;
    if (s->history_path && !(c && c->args && ctl_tells_secret(c->args, arguments)) &&
        ctl_history_append(s->history_path, line, &unkept) < 0) {
        ctl_fail(&unkept);
        free(take_ptr(&s->history_path));
    }
    if (r == 0 && is_meant(s, name)) {
        r = ctl_qmp_run(s->ctl, name, arguments, err);
        s->quit = r == 0 && strcmp(name, "quit") == 0;
    }
    json_object_put(arguments);
    return r;
}

static int run_line(struct shell *s, const char *line, struct err *err)
{
    char **words;
    size_t n;
    bool warned = s->quit_warned;
    int r = ctl_words(line, &words, &n, err);

    if (r < 0)
        return r;
    r = run_words(s, line, words, n, err);
    ctl_words_free(words);
    if (warned)
        s->quit_warned = false;
    return r;
}

static int run_file(struct shell *s)
{
    autofree char *line = NULL;
    unsigned number = 0;
    size_t room = 0;

    while (!s->ended && getline(&line, &room, stdin) > 0) {
        autoerr err = { 0 };

        number++;
        if (run_line(s, line, &err) < 0) {
            err_prefix(&err, "line %u", number);
            return ctl_fail(&err);
        }
        fflush(stdout);
    }
    return CTL_OK;
}

/* ---- waiting for keys ---- */

/* What has come from the daemon; false: the connection is at its end, which was told. */
static bool take_events(struct shell *s)
{
    const char *terminal = getenv("TERM");
    bool printed = false;

    for (;;) {
        struct json_object *message;
        autoerr err = { 0 };
        int r = ctl_read(&s->ctl->connection, 0, &message, &err);

        if (r == -ETIMEDOUT || r == -EINTR)
            break;
        if (!printed)
            fputs(terminal && strcmp(terminal, "dumb") != 0 ? "\r\033[K" : "\n", stdout);
        printed = true;
        if (r < 0) {
            if (!s->quit)
                s->status = ctl_fail(&err);
            s->ended = true;
            return false;
        }
        if (CTL_GET(message, "event"))
            ctl_print_event(message);
        json_object_put(message);
    }
    if (printed) {
        fflush(stdout);
        el_set(s->el, EL_REFRESH);
    }
    return true;
}

static void draw_anew(struct shell *s)
{
    int number = redraw;

    redraw = 0;
    if (number == SIGWINCH) {
        el_resize(s->el);
    } else if (number == SIGCONT) {
        el_set(s->el, EL_PREP_TERM, 1);
        el_set(s->el, EL_REFRESH);
    }
}

/* 1: a key is there; 0: the end; -1: this line is given up. */
static int wait_for_key(struct shell *s)
{
    struct pollfd p[] = { { .fd = s->keys, .events = POLLIN },
                          { .fd = s->ctl->connection.fd, .events = POLLIN } };

    for (;;) {
        if (!take_events(s))
            return 0;
        /* Last: signals come in there, too. */
        draw_anew(s);
        if (interrupted)
            return -1;
        if (ppoll(p, 2, NULL, &s->mask) > 0 && p[0].revents)
            return 1;
    }
}

static int read_key(EditLine *el, wchar_t *key)
{
    mbstate_t state = { 0 };
    struct shell *s;

    el_get(el, EL_CLIENTDATA, &s);
    for (;;) {
        int r = wait_for_key(s);
        char byte = 0;
        size_t n;

        if (r <= 0)
            return r;
        if (read(s->keys, &byte, 1) != 1) {
            if (errno == EAGAIN)
                continue;
            return 0;
        }
        n = mbrtowc(key, &byte, 1, &state);
        if (n == (size_t)-1)
            state = (mbstate_t){ 0 }; /* no character of the locale: dropped */
        else if (n != (size_t)-2)
            return 1;
    }
}

/* ---- completion ---- */

static struct json_object *ask(const char *command, void *arg)
{
    struct json_object *list;
    autoerr err = { 0 };

    return ctl_query(((struct shell *)arg)->ctl, command, NULL, &list, &err) < 0 ? NULL : list;
}

static unsigned char print_candidates(const struct ctl_completion *c)
{
    struct winsize w = { 0 };

    ioctl(STDOUT_FILENO, TIOCGWINSZ, &w);
    putchar('\n');
    ctl_print_columns(c->words, c->count, w.ws_col ? w.ws_col : 80, stdout);
    fflush(stdout);
    return CC_REDISPLAY;
}

static unsigned char complete_line(struct shell *s, const char *line, struct ctl_completion *c)
{
    static const char *const builtins[] = { "exit", "help", NULL };
    size_t typed;

    c->schema = &s->schema;
    c->builtins = builtins;
    c->ask = ask;
    c->arg = s;
    if (ctl_complete(c, line) < 0 || !c->count)
        return CC_REFRESH_BEEP;
    typed = strlen(line) - c->start;
    if (c->common > typed) {
        c->words[0][c->common] = 0;
        return el_insertstr(s->el, c->words[0] + typed) < 0 ? CC_ERROR : CC_REFRESH;
    }
    return c->count > 1 ? print_candidates(c) : CC_REFRESH;
}

static unsigned char on_tab(EditLine *el, int key)
{
    const LineInfo *info = el_line(el);
    autofree char *line = strndup(info->buffer, (size_t)(info->cursor - info->buffer));
    struct ctl_completion c = { 0 };
    unsigned char what = CC_REFRESH_BEEP;
    autoerr err = { 0 };
    struct shell *s;
    int patience;

    (void)key;
    el_get(el, EL_CLIENTDATA, &s);
    patience = s->ctl->connection.patience;
    s->ctl->connection.patience = ASK_MS;
    if (line && need_schema(s, &err) == 0)
        what = complete_line(s, line, &c);
    s->ctl->connection.patience = patience;
    ctl_completion_free(&c);
    return what;
}

/* ---- the terminal ---- */

static char *prompt(EditLine *el)
{
    static char text[] = "ringblk> ";

    (void)el;
    return text;
}

static void remember(const char *line, void *arg)
{
    struct shell *s = arg;
    HistEvent event;

    if (*line)
        history(s->history, &event, H_ENTER, line);
}

static void open_history(struct shell *s)
{
    autoerr err = { 0 };

    s->history_path = ctl_history_path(&err);
    if (!s->history_path || ctl_history_load(s->history_path, remember, s, &err) < 0) {
        err_prefix(&err, "lines are not kept");
        ctl_fail(&err);
        free(take_ptr(&s->history_path));
    }
}

static int open_terminal(struct shell *s, struct err *err)
{
    const char *name = ttyname(STDIN_FILENO);
    HistEvent event;

    s->keys = !name ? -1 : open(name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (s->keys < 0)
        return err_set_errno(err, -errno, "cannot open the terminal");
    s->el = el_init("ringblkctl", stdin, stdout, stderr);
    s->history = history_init();
    if (!s->el || !s->history)
        return err_set(err, -ENOMEM, "out of memory");
    history(s->history, &event, H_SETSIZE, CTL_HISTORY_MAX);
    history(s->history, &event, H_SETUNIQUE, 1);
    el_set(s->el, EL_CLIENTDATA, s);
    el_set(s->el, EL_SIGNAL, 0);
    el_set(s->el, EL_EDITOR, "emacs");
    el_set(s->el, EL_PROMPT, prompt);
    el_set(s->el, EL_HIST, history, s->history);
    el_set(s->el, EL_GETCFN, read_key);
    el_wset(s->el, EL_ADDFN, L"ringblk-complete", L"complete a command, argument or value", on_tab);
    el_set(s->el, EL_BIND, "^I", "ringblk-complete", NULL);
    el_set(s->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(s->el, NULL);
    open_history(s);
    return 0;
}

static void close_terminal(struct shell *s)
{
    if (s->el)
        el_end(s->el);
    if (s->history)
        history_end(s->history);
    if (s->keys >= 0)
        close(s->keys);
    free(s->history_path);
}

static void run_typed(struct shell *s, const char *typed)
{
    autofree char *line = strndup(typed, strcspn(typed, "\r\n"));
    autoerr err = { 0 };
    int r;

    if (!line)
        return;
    remember(line, s);
    r = run_line(s, line, &err);
    if (r == -EINTR)
        printf("\nNo longer waiting; ringblkd goes on with it.\n");
    else if (r < 0 && ctl_fail(&err) == CTL_LOST)
        s->ended = true, s->status = CTL_LOST;
    fflush(stdout);
}

static void on_event(struct json_object *event, void *arg)
{
    (void)arg;
    ctl_print_event(event);
}

/* Returns the signal that ended it, or 0. */
static int run_terminal(struct shell *s)
{
    s->ctl->connection.on_event = on_event;
    printf("QMP of %s; help lists the commands, exit leaves.\n", s->ctl->connection.address);
    while (!s->ended) {
        const char *typed;
        int count;

        el_set(s->el, EL_PREP_TERM, 1); /* before the prompt, which invites to type */
        typed = el_gets(s->el, &count);
        if (interrupted && interrupted != SIGINT)
            return interrupted;
        if (interrupted)
            printf("^C\n");
        else if (!typed || count <= 0)
            s->ended = true;
        else
            run_typed(s, typed);
        if (interrupted == SIGINT)
            interrupted = 0;
    }
    return 0;
}

int ctl_shell(struct ctl *ctl)
{
    struct shell s = { .ctl = ctl, .keys = -1 };
    autoerr err = { 0 };
    int number = 0;

    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        s.status = run_file(&s);
    } else if (open_terminal(&s, &err) < 0) {
        s.status = ctl_fail(&err);
    } else {
        catch_signals(&s);
        number = run_terminal(&s);
        release_signals(&s);
    }
    close_terminal(&s);
    ctl_schema_free(&s.schema);
    if (number)
        raise(number);
    return s.status;
}
