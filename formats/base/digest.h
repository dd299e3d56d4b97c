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

// A SHA-256 that is not finished: all that a later process needs to go on with it.
struct Sha256State {
  std::array<std::uint32_t, 8> chain{};    // H of FIPS 180-4, after the whole blocks
  std::array<std::uint8_t, 64> pending{};  // the first bytes % 64 of it: those of the block that is not full yet
  std::uint64_t bytes = 0;                 // all so far, below 2^60
  bool operator==(const Sha256State&) const = default;
};

// SHA-256 over bytes that come in pieces.
class Sha256Stream {
 public:
  Sha256Stream();
  // Goes on where Save() was called.
  explicit Sha256Stream(const Sha256State& state);
  ~Sha256Stream();
  Sha256Stream(Sha256Stream&&) noexcept;
  Sha256Stream& operator=(Sha256Stream&&) noexcept;

  void Update(std::span<const std::uint8_t> bytes);
  Sha256State Save() const;
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
