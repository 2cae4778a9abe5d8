#include "http/facts.h"

static struct server_facts facts_now;

void server_facts_set(const struct server_facts *facts)
{
	facts_now = *facts;
}

const struct server_facts *server_facts(void)
{
	return &facts_now;
}
