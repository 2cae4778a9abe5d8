/* scaidrive shares: what this login can sync. */
#include "base/json.h"
#include "bin/client.h"

static int shares(struct client *c)
{
	struct remote_share *list;
	size_t n;
	int err = client_connect(c, true);
	if (!err)
		err = remote_shares(&c->ctx, &c->remote, &list, &n);
	if (err)
		return client_fault(c, err);
	struct buf b = {0};
	if (c->json)
		buf_lit(&b, "{\"shares\":[");
	for (size_t i = 0; i < n; i++) {
		if (!c->json) {
			buf_fmt(&b, "%.*s  %.*s\n", STR_ARG(list[i].id), STR_ARG(list[i].name));
			continue;
		}
		buf_str(&b, i ? STR(",{\"id\":") : STR("{\"id\":"));
		json_put_str(&b, list[i].id);
		buf_lit(&b, ",\"name\":");
		json_put_str(&b, list[i].name);
		buf_char(&b, '}');
	}
	if (c->json)
		buf_lit(&b, "]}\n");
	else if (n == 0)
		buf_lit(&b, "No shares yet. Someone has to make you a member of one.\n");
	fwrite(b.p, 1, b.n, stdout);
	buf_fini(&b);
	return EXIT_OK;
}

const struct client_command client_shares = {"shares", "", "List the shares you can sync", 0, 0, shares};
