/* Preloaded into a tool: ends the process, as the power would, right before the N-th call that changes what is on the
 * disk. Environment: Q4_KILL_AT=N, counted from 1; without it calls are only counted. Q4_KILL_COUNT=FILE: at its end
 * the process writes the number of its calls there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

static void Meet(void) {
  const char* at = getenv("Q4_KILL_AT");
  if (atomic_fetch_add(&calls, 1) + 1 == (at != NULL ? atol(at) : 0)) kill(getpid(), SIGKILL);
}

__attribute__((destructor)) static void Report(void) {
  const char* path = getenv("Q4_KILL_COUNT");
  FILE* file = path != NULL ? fopen(path, "w") : NULL;
  if (file == NULL) return;
  fprintf(file, "%ld\n", atomic_load(&calls));
  fclose(file);
}

#define NEXT(name) (*(__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  Meet();
  return NEXT(pwrite)(fd, data, size, offset);
}
ssize_t pwrite64(int fd, const void* data, size_t size, off64_t offset) {
  Meet();
  return NEXT(pwrite64)(fd, data, size, offset);
}
int fsync(int fd) {
  Meet();
  return NEXT(fsync)(fd);
}
int ftruncate(int fd, off_t size) {
  Meet();
  return NEXT(ftruncate)(fd, size);
}
int fallocate(int fd, int mode, off_t offset, off_t size) {
  Meet();
  return NEXT(fallocate)(fd, mode, offset, size);
}
int renameat(int from_dir, const char* from, int to_dir, const char* to) {
  Meet();
  return NEXT(renameat)(from_dir, from, to_dir, to);
}
int renameat2(int from_dir, const char* from, int to_dir, const char* to, unsigned flags) {
  Meet();
  return NEXT(renameat2)(from_dir, from, to_dir, to, flags);
}
int linkat(int from_dir, const char* from, int to_dir, const char* to, int flags) {
  Meet();
  return NEXT(linkat)(from_dir, from, to_dir, to, flags);
}
int mkdirat(int dir, const char* path, mode_t mode) {
  Meet();
  return NEXT(mkdirat)(dir, path, mode);
}
int unlinkat(int dir, const char* path, int flags) {
  Meet();
  return NEXT(unlinkat)(dir, path, flags);
}
