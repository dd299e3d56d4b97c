// Preloaded into a tool, it makes the k-th call of one kind fail, or changes what the tool sees of its machine.
//   Q4_FAULT=CALL:K:ERRNO    the K-th call (from 1) and all later ones fail with that number; several, up to 8,
//   separated
//                            by commas. CALL is pwrite, pread, fsync (files and directories), fsyncdir, rename (both
//                            calls), renameplain, renameat2 (any flags), exchange (RENAME_EXCHANGE), link, unlink,
//                            create (open with O_EXCL), flock, mkdir, rmdir, fallocate, ftruncate or short (pwrite and
//                            pread transfer half of what is asked)
//   CALL:lostK:ERRNO         the K-th call alone is done, and then reports the number: a reply that got lost
//   Q4_FLUSH_SUBNORMALS=1    as a library built with -ffast-math does
//   Q4_CLOCK_JUMPS=1         the clocks jump by years, to and fro
//   Q4_DAMAGE=overrun|leak   writes behind an allocation, or loses one: what a sanitizer in the tool must find
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#define MOST_FAULTS 8
static struct {
  char call[16];
  int from, error, lost;
  atomic_int calls;
} faults[MOST_FAULTS];
static int fault_count;
static int clock_jumps;
static atomic_int clock_calls;

// Through pointers that the compiler cannot see through, or it would do without these calls.
static void Damage(const char* how) {
  static void* (*volatile allocate)(size_t) = malloc;
  static void* (*volatile fill)(void*, int, size_t) = memset;
  char* bytes = allocate(8);
  if (strcmp(how, "overrun") != 0) return;
  fill(bytes, 0, 9);
  free(bytes);
}

__attribute__((constructor)) static void ReadEnvironment(void) {
  const char* fault = getenv("Q4_FAULT");
  for (; fault != NULL && fault_count < MOST_FAULTS; fault = strchr(fault, ',') ? strchr(fault, ',') + 1 : NULL) {
    const int i = fault_count;
    if (sscanf(fault, "%15[a-z0-9]:lost%d:%d", faults[i].call, &faults[i].from, &faults[i].error) == 3) {
      faults[i].lost = 1;
    } else if (sscanf(fault, "%15[a-z0-9]:%d:%d", faults[i].call, &faults[i].from, &faults[i].error) != 3) {
      break;
    }
    ++fault_count;
  }
  clock_jumps = getenv("Q4_CLOCK_JUMPS") != NULL;
  const char* damage = getenv("Q4_DAMAGE");
  if (damage != NULL) Damage(damage);
#if defined(__x86_64__)
  if (getenv("Q4_FLUSH_SUBNORMALS") != NULL) _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
}

enum { kGoes, kFails, kLost };

// What becomes of a call of this kind. For the last two errno is set after it.
static int Fate(const char* call, int* error) {
  for (int i = 0; i < fault_count; ++i) {
    if (strcmp(call, faults[i].call) != 0) continue;
    const int k = atomic_fetch_add(&faults[i].calls, 1) + 1;
    if (faults[i].lost ? k != faults[i].from : k < faults[i].from) continue;
    *error = faults[i].error;
    return faults[i].lost ? kLost : kFails;
  }
  return kGoes;
}

static int Fails(const char* call) {
  int error = 0;
  if (Fate(call, &error) == kGoes) return 0;
  errno = error;
  return 1;
}

// A call that can also be done and reported as failed.
#define MEET(kind, done)                         \
  int error = 0;                                 \
  const int fate = Fate(kind, &error);           \
  const int result = fate == kFails ? -1 : done; \
  if (fate == kGoes) return result;              \
  errno = error;                                 \
  return -1

static size_t Length(size_t bytes) {
  return fault_count > 0 && strcmp(faults[0].call, "short") == 0 && bytes > 1 ? bytes / 2 : bytes;
}

#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))

ssize_t pwrite(int fd, const void* data, size_t bytes, off_t offset) {
  if (Fails("pwrite")) return -1;
  return NEXT(ssize_t(*)(int, const void*, size_t, off_t), "pwrite")(fd, data, Length(bytes), offset);
}

ssize_t pread(int fd, void* data, size_t bytes, off_t offset) {
  if (Fails("pread")) return -1;
  return NEXT(ssize_t(*)(int, void*, size_t, off_t), "pread")(fd, data, Length(bytes), offset);
}

int fsync(int fd) {
  struct stat info;
  if (Fails("fsync")) return -1;
  if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode) && Fails("fsyncdir")) return -1;
  return NEXT(int (*)(int), "fsync")(fd);
}

int renameat(int from_dir, const char* from, int to_dir, const char* to) {
  if (Fails("rename")) return -1;
  MEET("renameplain", NEXT(int (*)(int, const char*, int, const char*), "renameat")(from_dir, from, to_dir, to));
}

int renameat2(int from_dir, const char* from, int to_dir, const char* to, unsigned flags) {
  if (Fails("rename")) return -1;
  if ((flags & RENAME_EXCHANGE) != 0 && Fails("exchange")) return -1;
  MEET("renameat2",
       NEXT(int (*)(int, const char*, int, const char*, unsigned), "renameat2")(from_dir, from, to_dir, to, flags));
}

int linkat(int from_dir, const char* from, int to_dir, const char* to, int flags) {
  MEET("link", NEXT(int (*)(int, const char*, int, const char*, int), "linkat")(from_dir, from, to_dir, to, flags));
}

int unlinkat(int dir, const char* path, int flags) {
  MEET((flags & AT_REMOVEDIR) != 0 ? "rmdir" : "unlink",
       NEXT(int (*)(int, const char*, int), "unlinkat")(dir, path, flags));
}

int mkdirat(int dir, const char* path, mode_t mode) {
  MEET("mkdir", NEXT(int (*)(int, const char*, mode_t), "mkdirat")(dir, path, mode));
}

int flock(int fd, int operation) { return Fails("flock") ? -1 : NEXT(int (*)(int, int), "flock")(fd, operation); }

int openat(int dir, const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0;
  va_end(more);
  if ((flags & O_EXCL) != 0 && Fails("create")) return -1;
  return NEXT(int (*)(int, const char*, int, ...), "openat")(dir, path, flags, mode);
}

int fallocate(int fd, int mode, off_t offset, off_t bytes) {
  return Fails("fallocate") ? -1 : NEXT(int (*)(int, int, off_t, off_t), "fallocate")(fd, mode, offset, bytes);
}

int ftruncate(int fd, off_t bytes) {
  return Fails("ftruncate") ? -1 : NEXT(int (*)(int, off_t), "ftruncate")(fd, bytes);
}

// Not through dlsym(), which allocates and frees: AddressSanitizer's allocator asks for the time.
int clock_gettime(clockid_t clock, struct timespec* now) {
  const int result = (int)syscall(SYS_clock_gettime, clock, now);
  if (clock_jumps && atomic_fetch_add(&clock_calls, 1) % 2 != 0) now->tv_sec -= 30000000;
  return result;
}
