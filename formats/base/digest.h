// XXH3-64 for finding damage, SHA-256 for naming content. The only file that reaches libxxhash and libcrypto.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace q4 {

using Sha256 = std::array<std::uint8_t, 32>;

// XXH3-64 of `bytes`, as libxxhash 0.8.0 and later define it.
std::uint64_t Xxh3(std::span<const std::uint8_t> bytes, std::uint64_t seed);

// The same value for bytes that come in pieces.
class Xxh3Stream {
 public:
  explicit Xxh3Stream(std::uint64_t seed);
  ~Xxh3Stream();
  Xxh3Stream(Xxh3Stream&&) noexcept;
  Xxh3Stream& operator=(Xxh3Stream&&) noexcept;

  void Update(std::span<const std::uint8_t> bytes);
  // Of all bytes so far; more may follow.
  std::uint64_t Digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// SHA-256 over bytes that come in pieces. Throws std::bad_alloc where libcrypto cannot set up the computation: short of
// memory it is an allocation failure like any other, and the tools report both the same way.
class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  Sha256Stream(Sha256Stream&&) noexcept;
  Sha256Stream& operator=(Sha256Stream&&) noexcept;

  void Update(std::span<const std::uint8_t> bytes);
  // Ends the computation; call once, and nothing after it.
  Sha256 Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Sha256 Sha256Of(std::span<const std::uint8_t> bytes);

// Lower-case hexadecimal.
std::string HexOf(std::span<const std::uint8_t> bytes);

}  // namespace q4
