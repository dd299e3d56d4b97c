// Thin covers over two C libraries. Both keep their state behind a pointer, so that no other file sees their headers.
// XXH3 is one call where the bytes lie in memory; its streaming state is 576 bytes with an alignment of 64, which only
// the library's own allocation gives.
#include "formats/base/digest.h"

// The one interface of libcrypto whose state can be saved, so that a resumed run need not read what it has digested.
// Deprecated in favour of one that cannot; the code behind both is the same.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <new>

namespace q4 {

std::uint64_t Xxh3(std::span<const std::uint8_t> bytes, std::uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

// The library reports a failed allocation by a null pointer; here it is an exception like any other.
struct Xxh3Stream::State {
  State() : xxh3(XXH3_createState()) {
    if (xxh3 == nullptr) throw std::bad_alloc();
  }
  ~State() { XXH3_freeState(xxh3); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  XXH3_state_t* xxh3;
};

Xxh3Stream::Xxh3Stream(std::uint64_t seed) : state_(std::make_unique<State>()) {
  XXH3_64bits_reset_withSeed(state_->xxh3, seed);
}
Xxh3Stream::~Xxh3Stream() = default;
Xxh3Stream::Xxh3Stream(Xxh3Stream&&) noexcept = default;
Xxh3Stream& Xxh3Stream::operator=(Xxh3Stream&&) noexcept = default;

// The results of update and reset tell of null pointers only, so they are not asked.
void Xxh3Stream::Update(std::span<const std::uint8_t> bytes) {
  // The library takes a null pointer for an error even when there is nothing to add.
  if (!bytes.empty()) XXH3_64bits_update(state_->xxh3, bytes.data(), bytes.size());
}

std::uint64_t Xxh3Stream::Digest() const { return XXH3_64bits_digest(state_->xxh3); }

struct Sha256Stream::State {
  SHA256_CTX context;
};

// These calls of libcrypto cannot fail: they work on memory they are given.
Sha256Stream::Sha256Stream() : state_(std::make_unique<State>()) { SHA256_Init(&state_->context); }
// The context counts bits, in two words of 32, and bytes of the unfinished block in `num`. Both follow from `bytes`, so
// a saved state cannot contradict itself.
Sha256Stream::Sha256Stream(const Sha256State& state) : Sha256Stream() {
  SHA256_CTX& context = state_->context;
  std::copy(state.chain.begin(), state.chain.end(), std::begin(context.h));
  const std::uint64_t bits = 8 * state.bytes;
  context.Nl = static_cast<SHA_LONG>(bits);
  context.Nh = static_cast<SHA_LONG>(bits >> 32);
  context.num = static_cast<unsigned>(state.bytes % state.pending.size());
  std::memcpy(context.data, state.pending.data(), context.num);
}
Sha256Stream::~Sha256Stream() = default;
Sha256Stream::Sha256Stream(Sha256Stream&&) noexcept = default;
Sha256Stream& Sha256Stream::operator=(Sha256Stream&&) noexcept = default;

void Sha256Stream::Update(std::span<const std::uint8_t> bytes) {
  // A null pointer with length 0 is allowed here.
  SHA256_Update(&state_->context, bytes.data(), bytes.size());
}

Sha256State Sha256Stream::Save() const {
  const SHA256_CTX& context = state_->context;
  Sha256State state;
  std::copy(std::begin(context.h), std::end(context.h), state.chain.begin());
  std::memcpy(state.pending.data(), context.data, context.num);
  // Whole bytes were added, so the division is exact.
  state.bytes = (std::uint64_t{context.Nh} << 32 | context.Nl) / 8;
  return state;
}

Sha256 Sha256Stream::Finish() {
  Sha256 digest;
  SHA256_Final(digest.data(), &state_->context);
  return digest;
}

Sha256 Sha256Of(std::span<const std::uint8_t> bytes) {
  Sha256Stream stream;
  stream.Update(bytes);
  return stream.Finish();
}

std::string HexOf(std::span<const std::uint8_t> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(2 * bytes.size());
  for (const std::uint8_t byte : bytes) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 0xF];
  }
  return out;
}

}  // namespace q4
