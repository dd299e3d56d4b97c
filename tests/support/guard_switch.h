// Takes one validation guard away at run time. scripts/guard_mutations.py includes this before everything else in a
// copy of the sources in which every guard asks it; nothing else uses it.
//
//   Q4_GUARD_OFF=N       guard N lets everything pass
//   Q4_GUARDS_MET=FILE   the number of each guard that refused something is appended to FILE, once per process
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace q4_guard {

inline constexpr int kMaxGuards = 10000;

// Appends to the file of Q4_GUARDS_MET. Leaves errno alone, which a message may be about to tell.
inline void Note(int guard) {
  static const int file = [] {
    const char* const path = std::getenv("Q4_GUARDS_MET");
    return path == nullptr ? -1 : ::open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  }();
  static std::atomic<bool> met[kMaxGuards];
  if (file < 0 || met[guard].exchange(true)) return;
  const int error = errno;
  char line[16];
  const int length = std::snprintf(line, sizeof line, "%d\n", guard);
  if (::write(file, line, static_cast<std::size_t>(length)) != length) std::abort();
  errno = error;
}

// Whether guard `guard` is there.
inline bool IsOn(int guard) {
  static const int off = [] {
    const char* const number = std::getenv("Q4_GUARD_OFF");
    return number == nullptr ? 0 : std::atoi(number);
  }();
  return guard != off;
}

// Called when guard `guard` is about to refuse: whether it does. What is evaluated while compiling keeps its guards.
constexpr bool Refuses(int guard) {
  if (__builtin_is_constant_evaluated()) return true;
  Note(guard);
  return IsOn(guard);
}

// The status that a guard passes on; OK if the guard is taken away.
template <typename Status>
Status PassOn(int guard, Status status) {
  return status.ok() || Refuses(guard) ? std::move(status) : Status();
}

}  // namespace q4_guard
