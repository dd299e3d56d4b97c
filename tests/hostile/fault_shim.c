// Preloaded into a tool, it makes the k-th call of one kind fail, or changes what the tool sees of its machine.
//   Q4_FAULT=CALL:K:ERRNO    the K-th call (from 1) and all later ones fail with that number; CALL is pwrite, pread,
//   fsync, rename,
//                            fallocate, ftruncate or short (pwrite and pread transfer half of what is asked)
//   Q4_FLUSH_SUBNORMALS=1    as a library built with -ffast-math does
//   Q4_CLOCK_JUMPS=1         the clocks jump by years, to and fro
//   Q4_DAMAGE=overrun|leak   writes behind an allocation, or loses one: what a sanitizer in the tool must find
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

static char fault_call[16];
static int fault_from, fault_errno;
static int clock_jumps;
static atomic_int calls;

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
  if (fault != NULL) sscanf(fault, "%15[a-z]:%d:%d", fault_call, &fault_from, &fault_errno);
  clock_jumps = getenv("Q4_CLOCK_JUMPS") != NULL;
  const char* damage = getenv("Q4_DAMAGE");
  if (damage != NULL) Damage(damage);
#if defined(__x86_64__)
  if (getenv("Q4_FLUSH_SUBNORMALS") != NULL) _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
}

static int Fails(const char* call) {
  if (strcmp(call, fault_call) != 0 || atomic_fetch_add(&calls, 1) + 1 < fault_from) return 0;
  errno = fault_errno;
  return 1;
}

static size_t Length(size_t bytes) { return strcmp(fault_call, "short") == 0 && bytes > 1 ? bytes / 2 : bytes; }

#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))

ssize_t pwrite(int fd, const void* data, size_t bytes, off_t offset) {
  if (Fails("pwrite")) return -1;
  return NEXT(ssize_t(*)(int, const void*, size_t, off_t), "pwrite")(fd, data, Length(bytes), offset);
}

ssize_t pread(int fd, void* data, size_t bytes, off_t offset) {
  if (Fails("pread")) return -1;
  return NEXT(ssize_t(*)(int, void*, size_t, off_t), "pread")(fd, data, Length(bytes), offset);
}

int fsync(int fd) { return Fails("fsync") ? -1 : NEXT(int (*)(int), "fsync")(fd); }

int rename(const char* from, const char* to) {
  return Fails("rename") ? -1 : NEXT(int (*)(const char*, const char*), "rename")(from, to);
}

int renameat2(int from_dir, const char* from, int to_dir, const char* to, unsigned flags) {
  if (Fails("rename")) return -1;
  return NEXT(int (*)(int, const char*, int, const char*, unsigned), "renameat2")(from_dir, from, to_dir, to, flags);
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
  if (clock_jumps && atomic_fetch_add(&calls, 1) % 2 != 0) now->tv_sec -= 30000000;
  return result;
}
