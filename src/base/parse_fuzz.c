/* Every small parser of base on one input: none may crash, and what parses must survive its own way back. */
#include <stdlib.h>

#include "base/id.h"
#include "base/json.h"
#include "base/must.h"
#include "base/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = str_n(data, size);
	struct buf b = {0};
	int64_t v, again;
	uint64_t u;
	if (time_parse(in, &v)) {
		buf_time_us(&b, v);
		if (b.n <= 27) /* an offset may lead out of the four-digit years */
			must(!time_parse(buf_as_str(&b), &again) || again == v);
	}
	time_http_parse(in, &v);
	if (str_to_i64(in, &v)) {
		buf_clear(&b);
		buf_i64(&b, v);
		must(str_to_i64(buf_as_str(&b), &again) && again == v);
	}
	struct rid id, id_again;
	if (id_parse(in, &id)) {
		char wire[ID_WIRE_MAX + 1];
		size_t n = id_format(wire, id.kind, id.n);
		must(id_parse(str_n(wire, n), &id_again) && id_again.n == id.n && id_again.kind == id.kind);
	}
	for (struct str rest = in; rest.n && varint_read(&rest, &u);)
		;
	struct json_object *doc;
	if (!json_parse(in, &doc)) {
		struct buf twice = {0};
		buf_clear(&b);
		json_put_value(&b, doc);
		json_free(&doc);
		must(json_parse(buf_as_str(&b), &doc) == NULL);
		json_put_value(&twice, doc);
		must(str_eq(buf_as_str(&b), buf_as_str(&twice)));
		buf_fini(&twice);
		json_free(&doc);
	}
	buf_clear(&b);
	json_put_str(&b, in);
	must(json_parse(buf_as_str(&b), &doc) == NULL); /* whatever the bytes, our output parses */
	json_free(&doc);
	struct arena a;
	arena_init(&a);
	if (!name_problem(in)) {
		struct str key = name_key(&a, in);
		must(str_eq(name_key(&a, key), key)); /* folding twice is folding once */
		must(!name_problem(name_with_label(&a, in, STR("copy"), 2)));
	}
	arena_fini(&a);
	buf_fini(&b);
	return 0;
}
