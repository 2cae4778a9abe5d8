/* facts: what handlers may know about the server they run in; set once at start, before the first request. */
#ifndef SD_HTTP_FACTS_H
#define SD_HTTP_FACTS_H

#include "http/metrics.h"

enum metrics_access { METRICS_LOCAL, METRICS_ALL, METRICS_OFF };

struct server_facts {
	struct metrics *metrics;  /* borrowed; NULL: none */
	enum metrics_access metrics_access;
	struct str openapi;       /* the API's description as JSON; borrowed */
	struct str login_url;     /* where local accounts sign in; borrowed */
};

void server_facts_set(const struct server_facts *facts);
const struct server_facts *server_facts(void);

#endif
