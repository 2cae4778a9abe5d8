/* cleanup: resources that close themselves at the end of their scope. */
#ifndef SD_BASE_CLEANUP_H
#define SD_BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))

static inline void cleanup_free(void *pp)
{
	free(*(void **)pp);
}

static inline void cleanup_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define AUTO_FREE CLEANUP(cleanup_free)
#define AUTO_FD CLEANUP(cleanup_fd)

#endif
