/* router: a tree over the segments of the route templates. Static segments win over parameters, with backtracking; a
 * trailing slash makes no difference. Pure. */
#ifndef SD_HTTP_ROUTER_H
#define SD_HTTP_ROUTER_H

#include "http/handler.h"

struct router;

enum { ROUTER_DEPTH = 16, ROUTER_PARAMS = 4 };

struct router *router_new(const struct route *routes, size_t n);
void router_free(struct router *r);

enum route_found { ROUTE_FOUND, ROUTE_UNKNOWN, ROUTE_METHOD, ROUTE_MALFORMED };

/* Finds the route and fills params (decoded, in the arena). HEAD finds the GET route unless there is one of its own.
 * ROUTE_METHOD: the path exists; *allow lists its methods. ROUTE_MALFORMED: an escape is not valid, or decodes to NUL or
 * to something that is not UTF-8. */
enum route_found router_find(const struct router *r, struct arena *a, enum http_method method, struct str path,
                             const struct route **out, struct str params[ROUTER_PARAMS], struct str *allow);

/* Decodes %XX; '+' becomes a blank when plus. Borrows s when there is nothing to decode. False when malformed. */
bool percent_decode(struct arena *a, struct str s, bool plus, struct str *out);

const char *method_name(enum http_method m);
enum http_method method_parse(struct str s);

#endif
