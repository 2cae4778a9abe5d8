#include "client/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/must.h"

enum { WAITING_BYTES = 64 << 10 };

void journal_open(struct journal *j, const char *file)
{
	*j = (struct journal){.file = strdup(file)};
	must(j->file != NULL);
	j->fd = open(file, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	/* A line that a crash cut must not swallow the next one. */
	char last = '\n';
	struct stat st;
	if (j->fd >= 0 && fstat(j->fd, &st) == 0 && st.st_size > 0 && pread(j->fd, &last, 1, st.st_size - 1) == 1 && last != '\n')
		buf_char(&j->waiting, '\n');
}

void journal_add(struct journal *j, const struct agent_event *e, int64_t now_us)
{
	struct buf *b = &j->waiting;
	buf_lit(b, "{\"at_us\":");
	buf_i64(b, now_us);
	buf_lit(b, ",\"op\":");
	json_put_str(b, str_c(e->verb));
	buf_lit(b, ",\"case\":");
	buf_i64(b, e->case_no);
	buf_lit(b, ",\"id\":");
	buf_i64(b, e->id);
	buf_str(b, e->kind == NODE_FILE ? STR(",\"kind\":\"file\",\"size\":") : STR(",\"kind\":\"folder\",\"size\":"));
	buf_i64(b, e->size_bytes);
	buf_str(b, e->err ? STR(",\"ok\":false") : STR(",\"ok\":true"));
	if (e->err) {
		buf_fmt(b, ",\"code\":\"%s\",\"detail\":", err_info(e->err)->code);
		json_put_str(b, e->detail);
	}
	buf_lit(b, ",\"path\":");
	json_put_str(b, e->path);
	buf_lit(b, ",\"why\":");
	json_put_str(b, e->why);
	buf_lit(b, "}\n");
	if (b->n > WAITING_BYTES)
		journal_flush(j);
}

static char *old_name(const char *file)
{
	char *name = NULL;
	must(asprintf(&name, "%s.old", file) >= 0);
	return name;
}

void journal_flush(struct journal *j)
{
	struct stat st;
	for (size_t at = 0; j->fd >= 0 && at < j->waiting.n;) {
		ssize_t n = write(j->fd, j->waiting.p + at, j->waiting.n - at);
		if (n < 0 && errno != EINTR)
			break;
		at += n > 0 ? (size_t)n : 0;
	}
	buf_clear(&j->waiting);
	if (j->fd < 0 || fstat(j->fd, &st) || st.st_size <= JOURNAL_BYTES)
		return;
	char *old = old_name(j->file);
	if (rename(j->file, old) == 0) {
		close(j->fd);
		j->fd = open(j->file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	}
	free(old);
}

void journal_close(struct journal *j)
{
	if (!j->file)
		return;
	journal_flush(j);
	if (j->fd >= 0)
		close(j->fd);
	buf_fini(&j->waiting);
	free(j->file);
	*j = (struct journal){.fd = -1};
}

static int read_one(const char *file, journal_fn *on_entry, void *arg, size_t *cut)
{
	FILE *f = fopen(file, "re");
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	int err = 0;
	if (!f)
		return errno == ENOENT ? 0 : E_IO;
	while (!err && (n = getline(&line, &cap, f)) > 0) {
		AUTO_JSON *doc = NULL;
		if (json_parse(str_n(line, (size_t)n), &doc) == NULL && doc)
			err = on_entry(arg, doc);
		else
			++*cut;
	}
	free(line);
	fclose(f);
	return err;
}

int journal_read(const char *file, journal_fn *on_entry, void *arg, size_t *cut)
{
	char *old = old_name(file);
	*cut = 0;
	int err = read_one(old, on_entry, arg, cut);
	free(old);
	return err ? err : read_one(file, on_entry, arg, cut);
}
