/* turns.c: the model's chat format, as its published template writes it.
 *
 *     <bos>
 *     <|turn>system\n [<|think|>\n] TEXT <turn|>\n      with thinking on always there
 *     <|turn>user\n TEXT <turn|>\n
 *     <|turn>model\n TEXT <turn|>\n
 *     <|turn>model\n [<|channel>thought\n<channel|>]    the answer starts here; the empty thought
 *                                                       only with thinking off
 *
 * Contents are trimmed at both ends, with what Python calls white space, since the template is
 * run by Python; text before, between and after media is trimmed each for itself. From answers
 * of the model in the past everything from <|channel> to the next <channel|> is left out.
 * Consecutive model parts share one turn. A turn that is open at the end keeps its text as it is;
 * with thinking off the empty thought stands at its beginning, where the model would have had it.
 *
 * Token ids must not depend on where a text was divided into parts. So plain text is not encoded
 * when it comes but gathered in `run`, to which also the words and newlines of the format go, and
 * encoded when the next special token cuts it off.
 */
#include "tokenizer/turns.h"

#include <stdio.h>
#include <string.h>
#include "base/err.h"
#include "tokenizer/encode.h"
#include "tokenizer/utf8.h"

#define THOUGHT_BEGIN "<|channel>"
#define THOUGHT_END "<channel|>"

typedef struct {
    const gm_vocab *v;
    const gm_special_ids *ids;
    bool think;
    const gm_cancel *cancel;
    gm_ids *out;
    gm_media_span *spans;
    size_t n_span;
    size_t cut;    /* length of out behind the rows of an open sound; 0: none came yet */
    gm_bytes run;  /* plain text that waits to be encoded */
    gm_bytes text; /* contents between two media parts */
    gm_bytes mark; /* [text.n] 1 where the byte was written by us */
    char *err;
    size_t errlen;
} writer;

/* ---- writing ----------------------------------------------------------------------------- */

static int no_memory(writer *w) {
    return gm_fail(w->err, w->errlen, GM_ENOMEM, "out of memory for the prompt");
}

static int flush(writer *w) {
    if (w->run.n == 0) return 0;
    int rc = gm_encode(w->v, w->run.p, w->run.n, 0, w->cancel, w->out);
    if (rc) return rc == GM_ENOMEM ? no_memory(w) : gm_fail_code(w->err, w->errlen, rc);
    w->run.n = 0;
    return 0;
}

static int put_text(writer *w, const char *p, size_t n) {
    return gm_bytes_append(&w->run, p, n) ? no_memory(w) : 0;
}

/* Writes a special token, whose text is only needed to say that it is missing. */
static int put_special(writer *w, int32_t id, const char *text) {
    if (id < 0) {
        return gm_fail(w->err, w->errlen, GM_EUNSUPPORTED,
                       "the model's vocabulary has no %s, so it cannot chat", text);
    }
    int rc = flush(w);
    if (rc) return rc;
    return gm_ids_push(w->out, id) ? no_memory(w) : 0;
}

static int put_markup(writer *w, const char *p, size_t n) {
    size_t from = 0;
    for (;;) {
        size_t at = n, len = 0;
        int32_t id = gm_vocab_next_special(w->v, p, n, from, &at, &len);
        if (id < 0) return put_text(w, p + from, n - from);
        int rc = put_text(w, p + from, at - from);
        if (rc || (rc = put_special(w, id, ""))) return rc;
        from = at + len;
    }
}

size_t gm_part_runs(const gm_part *p) {
    switch (p->kind) {
    case GM_PART_IMAGE:
    case GM_PART_AUDIO:
    case GM_PART_SOUND: return 1;
    case GM_PART_VIDEO: return p->video ? p->video->n_frame + (size_t)(p->video->n_sound > 0) : 0;
    default: return 0;
    }
}

bool gm_part_is_media(const gm_part *p) {
    return p->kind == GM_PART_IMAGE || p->kind == GM_PART_AUDIO || p->kind == GM_PART_SOUND ||
           p->kind == GM_PART_VIDEO;
}

/* The tokens of a kind of media; texts for when one is missing. */
typedef struct {
    int32_t begin, soft, end;
    const char *begin_text, *soft_text, *end_text;
} media_tokens;

static media_tokens tokens_of(const writer *w, gm_part_kind kind) {
    const gm_special_ids *s = w->ids;
    if (kind == GM_PART_IMAGE || kind == GM_PART_VIDEO)
        return (media_tokens){
            s->image_begin, kind == GM_PART_IMAGE ? s->image : s->video,       s->image_end,
            "<|image>",     kind == GM_PART_IMAGE ? "<|image|>" : "<|video|>", "<image|>"};
    return (media_tokens){s->audio_begin, s->audio,    s->audio_end,
                          "<|audio>",     "<|audio|>", "<audio|>"};
}

/* Begin token, n_row soft tokens and, unless more rows will follow, the end token. */
static int put_rows(writer *w, gm_part_kind kind, uint32_t n_row, size_t index, bool open) {
    const media_tokens t = tokens_of(w, kind);
    int rc = put_special(w, t.begin, t.begin_text);
    if (rc) return rc;
    if (t.soft < 0) return put_special(w, t.soft, t.soft_text);
    if (gm_ids_reserve(w->out, n_row)) return no_memory(w);
    if (n_row > 0 || !open) w->spans[w->n_span++] = (gm_media_span){index, w->out->n, n_row};
    for (uint32_t i = 0; i < n_row; i++) w->out->v[w->out->n++] = t.soft;
    if (!open) return put_special(w, t.end, t.end_text);
    w->cut = w->out->n;
    return 0;
}

/* "00:03 " before each picture, a space between one and the next time. */
static int put_video(writer *w, const gm_video_layout *v, size_t index) {
    int rc = 0;
    for (uint32_t i = 0; !rc && i < v->n_frame; i++) {
        char time[32];
        int n = snprintf(time, sizeof time, "%s%02u:%02u ", i ? " " : "", v->seconds[i] / 60,
                         v->seconds[i] % 60);
        rc = put_text(w, time, (size_t)n);
        if (!rc) rc = put_rows(w, GM_PART_VIDEO, v->n_row[i], index, false);
    }
    return rc || v->n_sound == 0 ? rc : put_rows(w, GM_PART_AUDIO, v->n_sound, index, false);
}

static int put_media(writer *w, const gm_part *part, size_t index) {
    if (w->cut > 0) return 0; /* what stands behind an open sound is not there yet */
    if (!w->spans) return gm_fail(w->err, w->errlen, GM_EINVAL, "no room for media spans");
    if (part->kind != GM_PART_VIDEO) return put_rows(w, part->kind, part->n_row, index, part->open);
    if (!part->video || part->video->n_frame > GM_TURNS_MAX_FRAMES)
        return gm_fail(w->err, w->errlen, GM_EINVAL, "a video without pictures");
    return put_video(w, part->video, index);
}

static int put_empty_thought(writer *w) {
    int rc = put_special(w, w->ids->channel_begin, THOUGHT_BEGIN);
    if (rc || (rc = put_text(w, "thought\n", 8))) return rc;
    return put_special(w, w->ids->channel_end, THOUGHT_END);
}

static int open_turn(writer *w, gm_part_kind role) {
    const char *name = role == GM_PART_SYSTEM ? "system\n"
                       : role == GM_PART_USER ? "user\n"
                                              : "model\n";
    int rc = put_special(w, w->ids->turn_begin, "<|turn>");
    return rc ? rc : put_text(w, name, strlen(name));
}

static int close_turn(writer *w) {
    int rc = put_special(w, w->ids->turn_end, "<turn|>");
    return rc ? rc : put_text(w, "\n", 1);
}

static int put_think(writer *w) {
    int rc = put_special(w, w->ids->think, "<|think|>");
    return rc ? rc : put_text(w, "\n", 1);
}

/* ---- contents ---------------------------------------------------------------------------- */

/* What Python's str.strip() takes away, which the template uses. */
static bool is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

/* The part of text[n] without white space at its ends. */
static gm_str trimmed(const char *text, size_t n) {
    const unsigned char *p = (const unsigned char *)text;
    size_t a = 0, b = n;
    uint32_t cp;
    if (n == 0) return (gm_str){text, 0}; /* text may be NULL then */
    for (unsigned len; a < b && (len = gm_utf8_next(p + a, b - a, &cp)) && is_space(cp);) a += len;
    while (b > a) {
        /* White space has at most three bytes. */
        unsigned len = 1;
        while (len <= 3 && len <= b - a && gm_utf8_next(p + b - len, len, &cp) != len) len++;
        if (len > 3 || len > b - a || !is_space(cp)) break;
        b -= len;
    }
    return (gm_str){text + a, b - a};
}

/* Removes thoughts from text and mark. Like the template's: also an end without beginning goes,
 * and a beginning without end takes the rest with it. */
static void drop_thoughts(gm_bytes *text, gm_bytes *mark) {
    const size_t len = sizeof THOUGHT_BEGIN - 1; /* both have ten bytes */
    bool inside = false;
    size_t kept = 0;
    for (size_t i = 0; i < text->n;) {
        bool long_enough = text->n - i >= len;
        if (long_enough && memcmp(text->p + i, THOUGHT_BEGIN, len) == 0) {
            inside = true;
            i += len;
        } else if (long_enough && memcmp(text->p + i, THOUGHT_END, len) == 0) {
            inside = false;
            i += len;
        } else {
            if (!inside) {
                text->p[kept] = text->p[i];
                mark->p[kept++] = mark->p[i];
            }
            i++;
        }
    }
    text->n = mark->n = kept;
}

/* Gathers the text parts from i on. *next is the first part after them. */
static int gather(writer *w, const gm_part *parts, size_t n_part, size_t i, size_t *next) {
    w->text.n = w->mark.n = 0;
    for (; i < n_part; i++) {
        const gm_part *p = &parts[i];
        if (p->kind != GM_PART_TEXT && p->kind != GM_PART_MARKUP) break;
        if (gm_bytes_append(&w->text, p->text.p, p->text.n)) return no_memory(w);
        if (gm_bytes_reserve(&w->mark, p->text.n)) return no_memory(w);
        if (p->text.n) memset(w->mark.p + w->mark.n, p->kind == GM_PART_MARKUP, p->text.n);
        w->mark.n += p->text.n;
    }
    *next = i;
    return 0;
}

/* Writes what is gathered: runs of our own bytes as markup, of others as plain text. */
static int put_gathered(writer *w, bool trim) {
    gm_str s = trim ? trimmed(w->text.p, w->text.n) : (gm_str){w->text.p, w->text.n};
    const char *mark = s.n ? w->mark.p + (s.p - w->text.p) : NULL;
    for (size_t i = 0; i < s.n;) {
        const char *other = memchr(mark + i, !mark[i], s.n - i);
        size_t end = other ? (size_t)(other - mark) : s.n;
        int rc = mark[i] ? put_markup(w, s.p + i, end - i) : put_text(w, s.p + i, end - i);
        if (rc) return rc;
        i = end;
    }
    return 0;
}

typedef enum {
    VERBATIM, /* as it is */
    TRIMMED,
    HISTORY /* an answer of the past: without thoughts, then trimmed */
} treatment;

static bool is_role(gm_part_kind kind) {
    return kind == GM_PART_SYSTEM || kind == GM_PART_USER || kind == GM_PART_MODEL;
}

/* Writes the contents from part i on up to the next role, which becomes *next. */
static int put_contents(writer *w, const gm_part *parts, size_t n_part, size_t i, treatment how,
                        size_t *next) {
    while (i < n_part && !is_role(parts[i].kind)) {
        int rc;
        if (gm_part_is_media(&parts[i])) {
            if ((rc = put_media(w, &parts[i], i))) return rc;
            i++;
        } else if (parts[i].kind == GM_PART_TEXT || parts[i].kind == GM_PART_MARKUP) {
            if ((rc = gather(w, parts, n_part, i, &i))) return rc;
            if (how == HISTORY) drop_thoughts(&w->text, &w->mark);
            if ((rc = put_gathered(w, how != VERBATIM))) return rc;
        } else {
            return gm_fail(w->err, w->errlen, GM_EINVAL, "unknown kind of part %d",
                           (int)parts[i].kind);
        }
    }
    *next = i;
    return 0;
}

/* ---- conversations ----------------------------------------------------------------------- */

/* The part that opens the model's last turn when that is to stay open, else n_part. */
static size_t find_open_turn(const gm_part *parts, size_t n_part) {
    size_t open = n_part;
    for (size_t i = n_part; i-- > 0;) {
        if (!is_role(parts[i].kind)) continue;
        if (parts[i].kind != GM_PART_MODEL) break;
        open = i;
    }
    return open;
}

/* Writes the message at parts[i], a role. */
static int put_message(writer *w, const gm_part *parts, size_t n_part, size_t i, size_t open,
                       bool goes_on, size_t *next) {
    gm_part_kind role = parts[i].kind;
    int rc = 0;
    if (!goes_on && (rc = open_turn(w, role))) return rc;
    if (i == 0 && role == GM_PART_SYSTEM && w->think && (rc = put_think(w))) return rc;
    if (i == open && !w->think && (rc = put_empty_thought(w))) return rc;

    size_t end = i + 1;
    while (end < n_part && !is_role(parts[end].kind)) end++;
    treatment how = role != GM_PART_MODEL ? TRIMMED : end == n_part ? VERBATIM : HISTORY;
    if ((rc = put_contents(w, parts, n_part, i + 1, how, next))) return rc;

    bool stays_open = role == GM_PART_MODEL && (end == n_part || parts[end].kind == GM_PART_MODEL);
    return stays_open ? 0 : close_turn(w);
}

static int put_conversation(writer *w, const gm_part *parts, size_t n_part) {
    size_t open = find_open_turn(parts, n_part);
    int rc = 0;
    if (!is_role(parts[0].kind)) {
        return gm_fail(w->err, w->errlen, GM_EINVAL, "contents before the first role");
    }
    if (w->think && parts[0].kind != GM_PART_SYSTEM &&
        ((rc = open_turn(w, GM_PART_SYSTEM)) || (rc = put_think(w)) || (rc = close_turn(w)))) {
        return rc;
    }
    gm_part_kind before = GM_PART_SYSTEM;
    for (size_t i = 0; i < n_part;) {
        gm_part_kind role = parts[i].kind;
        bool goes_on = role == GM_PART_MODEL && before == GM_PART_MODEL;
        if ((rc = put_message(w, parts, n_part, i, open, goes_on, &i))) return rc;
        before = role;
    }
    if (open < n_part) return 0;
    if ((rc = open_turn(w, GM_PART_MODEL))) return rc;
    return w->think ? 0 : put_empty_thought(w);
}

/* <bos>, unless the prompt is raw and its own markup begins with it. */
static int put_bos(writer *w, const gm_part *parts, size_t n_part) {
    int32_t bos = w->ids->bos;
    if (bos < 0) return 0;
    if (n_part && parts[0].kind == GM_PART_MARKUP) {
        size_t at, len;
        int32_t id = gm_vocab_next_special(w->v, parts[0].text.p, parts[0].text.n, 0, &at, &len);
        if (id == bos && at == 0) return 0;
    }
    return put_special(w, bos, "<bos>");
}

int gm_turns_encode(const gm_vocab *v, const gm_part *parts, size_t n_part,
                    const gm_turns_opts *opts, gm_ids *out, gm_media_span *spans, char *err,
                    size_t errlen) {
    writer w = {.v = v,
                .ids = gm_vocab_special(v),
                .think = opts && opts->think,
                .cancel = opts ? opts->cancel : NULL,
                .out = out,
                .spans = spans,
                .err = err,
                .errlen = errlen};
    size_t before = out->n, i = 0;
    while (i < n_part && !is_role(parts[i].kind)) i++;
    int rc = put_bos(&w, parts, n_part);
    if (!rc && i < n_part) {
        rc = put_conversation(&w, parts, n_part);
    } else if (!rc) {
        rc = put_contents(&w, parts, n_part, 0, VERBATIM, &i);
    }
    if (!rc) rc = flush(&w);
    if (!rc && w.cut > 0) out->n = w.cut;
    gm_bytes_finish(&w.run);
    gm_bytes_finish(&w.text);
    gm_bytes_finish(&w.mark);
    if (rc) out->n = before;
    return rc;
}
