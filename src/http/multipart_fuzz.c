/* Any bytes as a multipart body: the same events in whatever pieces it comes, and the data that a plain search finds. */
#include "http/multipart.h"

#include <stdlib.h>

#include "base/buf.h"

struct told {
	struct buf events; /* parts and what is in them */
	struct buf data;   /* the latter alone */
	bool inside;
};

static int on_part(void *arg, const struct multipart_part *part)
{
	struct told *t = arg;
	must(part->name.p && !t->inside);
	t->inside = true;
	buf_fmt(&t->events, "[%.*s|%.*s|%.*s|%.*s]", STR_ARG(part->name), STR_ARG(part->filename), STR_ARG(part->content_type),
	        STR_ARG(part->content_encoding));
	return 0;
}

static int on_data(void *arg, const void *p, size_t n)
{
	struct told *t = arg;
	must(p && n && t->inside);
	buf_put(&t->events, p, n);
	buf_put(&t->data, p, n);
	return 0;
}

static int on_part_end(void *arg)
{
	struct told *t = arg;
	must(t->inside);
	t->inside = false;
	buf_lit(&t->data, "[end]");
	return 0;
}

static void drop(struct told *t)
{
	buf_fini(&t->events);
	buf_fini(&t->data);
}

static int parse(struct str body, size_t step, struct told *out)
{
	static const struct multipart_events events = {on_part, on_data, on_part_end};
	struct arena arena;
	struct ctx ctx;
	struct multipart *m;
	int err = 0;
	arena_init(&arena);
	ctx_init(&ctx, &arena, &clock_system, &rng_system);
	must(!multipart_new(&ctx, STR("multipart/form-data; boundary=x"), &events, out, &m));
	for (size_t i = 0; !err && i < body.n; i += step)
		err = multipart_feed(m, body.p + i, body.n - i < step ? body.n - i : step);
	int end = multipart_end(m);
	must(!err || end == err); /* an error stays */
	must(end || !out->inside);
	multipart_free(m);
	arena_fini(&arena);
	return end;
}

/* Up to the text; *rest is what follows it. */
static struct str before(struct str *rest, struct str text)
{
	const char *at = memmem(rest->p, rest->n, text.p, text.n);
	must(at != NULL);
	struct str head = str_head(*rest, (size_t)(at - rest->p));
	*rest = str_skip(*rest, head.n + text.n);
	return head;
}

/* The data of a body that was accepted. */
static void search(struct str body, struct buf *out)
{
	static const struct str mark = {"\r\n--x", 5};
	struct buf whole = {0}; /* the first mark needs no line end before it */
	buf_lit(&whole, "\r\n");
	buf_str(&whole, body);
	struct str rest = buf_as_str(&whole);
	before(&rest, mark);
	for (;;) {
		while (rest.n && (rest.p[0] == ' ' || rest.p[0] == '\t'))
			rest = str_skip(rest, 1);
		if (str_starts(rest, STR("--")))
			break;
		before(&rest, STR("\r\n\r\n"));
		buf_str(out, before(&rest, mark));
		buf_lit(out, "[end]");
	}
	buf_fini(&whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte is the size of the pieces. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct told pieces = {0}, whole = {0};
	struct arena arena;
	struct buf found = {0};
	if (size < 2)
		return 0;
	struct str body = str_n(data + 1, size - 1);
	int err = parse(body, (size_t)data[0] + 1, &pieces);
	must(err == parse(body, body.n, &whole));
	must(str_eq(buf_as_str(&pieces.events), buf_as_str(&whole.events)));
	if (!err)
		search(body, &found);
	must(err || str_eq(buf_as_str(&found), buf_as_str(&whole.data)));
	drop(&pieces);
	drop(&whole);
	buf_fini(&found);
	arena_init(&arena);
	header_param(&arena, body, "filename");
	arena_fini(&arena);
	return 0;
}
