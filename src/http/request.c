/* What handlers see of a request and of a reply. */
#include "http/handler.h"
#include "http/router.h"

#include "base/must.h"

struct str request_header(const struct request *r, struct str name)
{
	for (size_t i = 0; i < r->n_headers; i++)
		if (str_ieq(r->headers[i].name, name))
			return r->headers[i].value;
	return STR_NULL;
}

struct str request_list(const struct request *r, struct arena *a, struct str name)
{
	struct str all = STR_NULL;
	for (size_t i = 0; i < r->n_headers; i++) {
		if (!str_ieq(r->headers[i].name, name))
			continue;
		struct str value = r->headers[i].value;
		all = all.p ? arena_fmt(a, "%.*s, %.*s", STR_ARG(all), STR_ARG(value)) : value;
	}
	return all;
}

struct str request_query(const struct request *r, struct arena *a, const char *name)
{
	struct str rest = r->query, want = str_c(name);
	while (rest.n) {
		struct str value = str_cut(&rest, '&'), key, out;
		key = str_cut(&value, '=');
		if (!percent_decode(a, key, true, &key) || !str_eq(key, want))
			continue;
		if (!value.p)
			value = STR("");
		return percent_decode(a, value, true, &out) ? out : STR_NULL;
	}
	return STR_NULL;
}

void reply_header(struct reply *r, struct str name, struct str value)
{
	must(r->n_headers < sizeof r->headers / sizeof r->headers[0]);
	for (size_t i = 0; i < value.n; i++)
		must(value.p[i] != '\r' && value.p[i] != '\n' && value.p[i] != 0);
	r->headers[r->n_headers++] = (struct http_header){name, value};
}
