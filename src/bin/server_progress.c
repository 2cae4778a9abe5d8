/* What tools tell on a terminal while they work, and names that came from a database. */
#include <unistd.h>

#include "bin/server.h"

void progress_init(struct progress *p, bool quiet)
{
	*p = (struct progress){.quiet = quiet || !isatty(STDERR_FILENO)};
}

void progress_wipe(struct progress *p)
{
	if (p->line)
		fputs("\r\033[K", stderr);
	p->line = false;
}

void progress_show(struct progress *p, const char *what, int64_t done, int64_t all)
{
	int64_t now = p->quiet ? 0 : clock_mono(&clock_system);
	if (p->quiet || now - p->told_us < MILLIS_US(200))
		return;
	p->told_us = now;
	p->line = true;
	if (all > 0)
		fprintf(stderr, "\r\033[K%s: %lld of %lld (%d %%)", what, (long long)done, (long long)all, (int)(done * 100 / all));
	else
		fprintf(stderr, "\r\033[K%s: %lld", what, (long long)done);
}

void progress_on_step(void *arg, const char *what, int64_t done, int64_t all)
{
	progress_show(arg, what, done, all);
}

void progress_on_told(void *arg, struct str sentence)
{
	progress_wipe(arg);
	fprintf(stderr, "scaidrived: %.*s\n", STR_ARG(sentence));
}

void put_plain(struct buf *b, struct str s)
{
	bool text = str_is_utf8(s);
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		buf_char(b, c < 32 || c == 127 || (c > 127 && !text) ? '?' : (char)c);
	}
}
