#include "http/router.h"

#include <stdlib.h>

#include "base/map.h"
#include "base/must.h"

struct node {
	struct smap children;                        /* static segments */
	struct node *param;
	const struct route *routes[HTTP_OTHER + 1];
	char *allow;                                 /* NULL: no route ends here */
};

struct router {
	struct node *root;
};

static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"};

const char *method_name(enum http_method m)
{
	return names[m];
}

enum http_method method_parse(struct str s)
{
	for (int m = HTTP_GET; m < HTTP_OTHER; m++)
		if (str_eq(s, str_c(names[m])))
			return (enum http_method)m;
	return HTTP_OTHER;
}

static struct node *node_new(void)
{
	struct node *n = calloc(1, sizeof *n);
	must(n != NULL);
	return n;
}

static void node_free(struct node *n)
{
	if (!n)
		return;
	struct str key;
	void *child;
	for (size_t i = 0; smap_next(&n->children, &i, &key, &child);)
		node_free(child);
	smap_fini(&n->children);
	node_free(n->param);
	free(n->allow);
	free(n);
}

static struct node *descend(struct node *n, struct str segment)
{
	if (segment.p[0] == '{') {
		must(str_ends(segment, STR("}")));
		if (!n->param)
			n->param = node_new();
		return n->param;
	}
	struct node *child = smap_get(&n->children, segment);
	if (!child) {
		child = node_new();
		smap_put(&n->children, segment, child);
	}
	return child;
}

static void list_methods(struct node *n)
{
	struct buf b = {0};
	for (int m = HTTP_GET; m < HTTP_OTHER; m++) {
		bool has = n->routes[m] || (m == HTTP_HEAD && n->routes[HTTP_GET]) || m == HTTP_OPTIONS;
		if (has && b.n)
			buf_lit(&b, ", ");
		if (has)
			buf_str(&b, str_c(names[m]));
	}
	buf_char(&b, 0);
	free(n->allow);
	n->allow = b.p;
}

struct router *router_new(const struct route *routes, size_t n)
{
	struct router *r = calloc(1, sizeof *r);
	must(r != NULL);
	r->root = node_new();
	for (size_t i = 0; i < n; i++) {
		struct str rest = str_c(routes[i].template);
		must(rest.n && rest.p[0] == '/');
		rest = str_skip(rest, 1);
		struct node *at = r->root;
		int depth = 0, params = 0;
		while (rest.n) {
			struct str segment = str_cut(&rest, '/');
			must(segment.n > 0 && ++depth <= ROUTER_DEPTH);
			params += segment.p[0] == '{';
			at = descend(at, segment);
		}
		must(params <= ROUTER_PARAMS);
		must(at->routes[routes[i].method] == NULL); /* two routes for one method and path */
		at->routes[routes[i].method] = &routes[i];
		list_methods(at);
	}
	return r;
}

void router_free(struct router *r)
{
	if (!r)
		return;
	node_free(r->root);
	free(r);
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool percent_decode(struct arena *a, struct str s, bool plus, struct str *out)
{
	*out = s;
	if (str_chr(s, '%') < 0 && (!plus || str_chr(s, '+') < 0))
		return memchr(s.p ? s.p : "", 0, s.n) == NULL && str_is_utf8(s);
	char *p = arena_alloc(a, s.n + 1);
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (c == '%') {
			if (s.n - i < 3)
				return false;
			int hi = hex(s.p[i + 1]), lo = hex(s.p[i + 2]);
			if (hi < 0 || lo < 0 || (hi | lo) == 0)
				return false;
			c = (char)(hi << 4 | lo);
			i += 2;
		} else if (c == '+' && plus)
			c = ' ';
		p[n++] = c;
	}
	*out = str_n(p, n);
	return memchr(p, 0, n) == NULL && str_is_utf8(*out);
}

struct walk {
	struct str segments[ROUTER_DEPTH];
	int n;
	enum http_method method;
	struct str *params;
	const struct node *other; /* ends here, but not with this method */
};

static const struct route *pick(const struct node *n, enum http_method m)
{
	const struct route *route = n->routes[m];
	return route || m != HTTP_HEAD ? route : n->routes[HTTP_GET];
}

/* Depth-first, static before parameter; the tree is ours, so its ambiguity is bounded. */
static const struct route *walk(struct walk *w, const struct node *n, int depth, int params)
{
	if (depth == w->n) {
		const struct route *route = pick(n, w->method);
		if (!route && n->allow && !w->other)
			w->other = n;
		return route;
	}
	struct str segment = w->segments[depth];
	const struct node *child = smap_get(&n->children, segment);
	const struct route *route = child ? walk(w, child, depth + 1, params) : NULL;
	if (route || !n->param || !segment.n)
		return route;
	w->params[params] = segment;
	return walk(w, n->param, depth + 1, params + 1);
}

enum route_found router_find(const struct router *r, struct arena *a, enum http_method method, struct str path,
                             const struct route **out, struct str params[ROUTER_PARAMS], struct str *allow)
{
	struct walk w = {.method = method, .params = params};
	if (!path.n || path.p[0] != '/')
		return ROUTE_MALFORMED;
	struct str rest = str_skip(path, 1);
	if (str_ends(rest, STR("/")))
		rest.n--;
	while (rest.n) {
		struct str segment = str_cut(&rest, '/');
		if (w.n == ROUTER_DEPTH)
			return ROUTE_UNKNOWN;
		if (!percent_decode(a, segment, false, &w.segments[w.n++]))
			return ROUTE_MALFORMED;
	}
	*out = walk(&w, r->root, 0, 0);
	if (*out)
		return ROUTE_FOUND;
	if (!w.other)
		return ROUTE_UNKNOWN;
	*allow = str_c(w.other->allow);
	return ROUTE_METHOD;
}
