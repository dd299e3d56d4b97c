// XXH3-64 for finding damage, SHA-256 for naming content. XXH3 runs at memory speed and is seeded, so that equal bytes
// in different places have different digests (F7.2); it resists no attacker. SHA-256 gives the root of a container and
// identifies source files. The only file that reaches libxxhash and libcrypto.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace q4 {

// A digest in the byte order in which it is written: HexOf() of it is what sha256sum prints.
using Sha256 = std::array<std::uint8_t, 32>;

// XXH3-64 of `bytes`, as libxxhash 0.8.0 and later define it. Thread-safe. No bytes at all have a digest too.
std::uint64_t Xxh3(std::span<const std::uint8_t> bytes, std::uint64_t seed);

// The same value for bytes that come in pieces of any size. One stream belongs to one thread at a time. Movable; one
// that was moved from may only be destroyed or assigned to. The state of the library is hidden so that its header does
// not reach those who include this one.
class Xxh3Stream {
 public:
  // The stream that gives Xxh3(bytes, seed).
  explicit Xxh3Stream(std::uint64_t seed);
  ~Xxh3Stream();
  Xxh3Stream(Xxh3Stream&&) noexcept;
  Xxh3Stream& operator=(Xxh3Stream&&) noexcept;

  // The next bytes; they may be released afterwards.
  void Update(std::span<const std::uint8_t> bytes);
  // Of all bytes so far; more may follow.
  std::uint64_t Digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A SHA-256 that is not finished: all that a later process needs to continue it. The journal of a conversion stores it,
// so that a resumed run need not read again what was digested.
struct Sha256State {
  std::array<std::uint32_t, 8> chain{};    // H of FIPS 180-4, after the whole blocks
  std::array<std::uint8_t, 64> pending{};  // in front the bytes % 64 bytes of the block that is not full yet
  std::uint64_t bytes = 0;                 // digested so far, the pending ones included; below 2^60
  bool operator==(const Sha256State&) const = default;
};

// SHA-256 over bytes that come in pieces of any size. Threads and moves as for Xxh3Stream.
class Sha256Stream {
 public:
  Sha256Stream();
  // Continues where Save() was called. REQUIRES: `state` is one that Save() returned; a state read from a file is only
  // as trustworthy as the digest that covers it.
  explicit Sha256Stream(const Sha256State& state);
  ~Sha256Stream();
  Sha256Stream(Sha256Stream&&) noexcept;
  Sha256Stream& operator=(Sha256Stream&&) noexcept;

  // The next bytes; they may be released afterwards.
  void Update(std::span<const std::uint8_t> bytes);
  // The state after all bytes so far; more may follow. Not after Finish(). Costs a copy of about 100 bytes.
  Sha256State Save() const;
  // Ends the computation; call once, and nothing after it.
  Sha256 Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// SHA-256 of `bytes` in one call.
Sha256 Sha256Of(std::span<const std::uint8_t> bytes);

// Lower-case hexadecimal, two digits a byte.
std::string HexOf(std::span<const std::uint8_t> bytes);

}  // namespace q4
