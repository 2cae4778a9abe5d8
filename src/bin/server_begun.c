/* Work that fills a data folder and may be interrupted: a file with a random word stands there until it has come to its end, and the
 * word is in the database once the rows are. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "bin/server.h"

enum { FAILED = 2 };

bool sync_folder(const char *path)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 && fsync(fd) == 0;
}

static int path_of(const struct runtime *rt, const char *work, char path[4096])
{
	return (size_t)snprintf(path, 4096, "%s/%s", rt->data, work) < 4096 ? 0 : (usage_fault("%s: the path is too long", rt->data), FAILED);
}

int begun_refuse(const struct runtime *rt, const char *work)
{
	char path[4096];
	if (path_of(rt, work, path) == 0 && access(path, F_OK) == 0)
		return usage_fault("%s: its %s did not come to its end; run it again", rt->data, work), FAILED;
	return 0;
}

int begun_open(const struct runtime *rt, const char *work, char token[BEGUN_BYTES + 1], bool *again)
{
	uint8_t random[BEGUN_BYTES / 2];
	char path[4096];
	if (path_of(rt, work, path))
		return FAILED;
	AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return usage_fault("%s: cannot be made: %s", path, strerror(errno)), FAILED;
	*again = read(fd, token, BEGUN_BYTES) == BEGUN_BYTES;
	bool good = true;
	if (!*again) {
		rng_system.fill(&rng_system, random, sizeof random);
		hex_encode(random, sizeof random, token);
		good = pwrite(fd, token, BEGUN_BYTES, 0) == BEGUN_BYTES && fsync(fd) == 0 && sync_folder(rt->data);
	}
	token[BEGUN_BYTES] = 0;
	return good ? 0 : (usage_fault("%s: cannot be written", path), FAILED);
}

int begun_end(const struct runtime *rt, const char *work)
{
	char path[4096];
	if (path_of(rt, work, path))
		return FAILED;
	if (unlink(path) != 0 || !sync_folder(rt->data))
		return usage_fault("%s: cannot be removed: %s", path, strerror(errno)), FAILED;
	return 0;
}
