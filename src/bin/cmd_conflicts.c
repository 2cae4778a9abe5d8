/* scaidrive conflicts: disagreements that this device met, as the server recorded them. */
#include "base/json.h"
#include "bin/client.h"

static int conflicts(struct client *c)
{
	struct str text;
	int err = client_connect(c, true);
	if (!err)
		err = remote_conflicts(&c->ctx, &c->remote, STR_NULL, c->all, &text);
	if (err)
		return client_fault(c, err);
	if (c->json) {
		printf("%.*s\n", STR_ARG(text));
		return EXIT_OK;
	}
	AUTO_JSON *doc = NULL;
	if (json_parse(text, &doc))
		return client_fault(c, E_UPSTREAM);
	for (size_t i = 0; i < json_len(doc); i++) {
		struct json_object *one = json_at(doc, i);
		struct str resolution = json_str(one, "resolution");
		printf("%.*s  %.*s  %.*s  %.*s\n", STR_ARG(json_str(one, "created_at")), STR_ARG(json_str(one, "conflict_type")),
		       STR_ARG(json_str(one, "path")), STR_ARG(resolution.p ? resolution : STR("open")));
	}
	if (json_len(doc) == 0)
		printf("No %sconflicts.\n", c->all ? "" : "open ");
	return EXIT_OK;
}

const struct client_command client_conflicts = {"conflicts", "", "List conflicts of this device", 0, 0, conflicts};
