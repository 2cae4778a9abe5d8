/* Answers of a hostile server through the client's readers. The first byte chooses the reader. */
#include <stdlib.h>

#include "base/name.h"
#include "client/remote.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fake {
	struct http_client face;
	struct str text;
	int calls;
};

static int call(struct http_client *self, struct ctx *ctx, struct http_call *c)
{
	struct fake *f = (struct fake *)self;
	(void)ctx;
	c->status = f->calls++ < 3 ? 200 : 500;
	c->is_json = true;
	buf_str(&c->reply, f->text);
	return 0;
}

static void check(const struct node_facts *f)
{
	if (f->id <= 0 || name_problem(f->name) || f->size_bytes < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena;
	struct ctx ctx;
	struct fake fake = {.face = {.call = call}, .text = size ? str_n(data + 1, size - 1) : STR("")};
	struct remote r = {.http = &fake.face, .device_id = STR("dev")};
	struct remote_page page;
	struct remote_share *shares;
	struct remote_grant grant;
	struct remote_snapshot s;
	struct str text;
	size_t n;
	if (size == 0)
		return 0;
	arena_init(&arena);
	ctx_init(&ctx, &arena, &clock_system, &rng_system);
	switch (data[0] % 5) {
	case 0:
		if (remote_changes(&ctx, &r, STR("shr_1"), 0, &page) == 0)
			for (size_t i = 0; i < page.n; i++)
				if (page.changes[i].kind == CHANGE_PUT)
					check(&page.changes[i].facts);
		break;
	case 1:
		if (remote_snapshot(&ctx, &r, STR("shr_1"), TREE_ROOT, &s) == 0) {
			struct tree t;
			for (size_t i = 0; i < s.n; i++)
				check(&s.nodes[i]);
			tree_init(&t);
			tree_put_all(&t, s.nodes, s.n);
			tree_fini(&t);
		}
		break;
	case 2:
		remote_shares(&ctx, &r, &shares, &n);
		break;
	case 3:
		remote_refresh(&ctx, &fake.face, STR("sdr_"), &grant);
		break;
	default:
		remote_conflicts(&ctx, &r, STR("shr_1"), true, &text);
		break;
	}
	arena_fini(&arena);
	return 0;
}
