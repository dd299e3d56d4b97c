// How a thread of the loader brings bytes into a LoadMemory: by way of slots that the device copies from, or straight.
// A caller does the same for both: Stage() gives a place, the caller writes the bytes there, Send() brings them on.
// Only the loader uses this. Internal to libconvert/load/.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "libconvert/load/memory.h"

namespace q4 {

// Gives the place to write the next bytes to, then sends them on. The place is the next of a CopyQueue's slots, in
// turn; of memory that the host can write it is the memory itself, and there is nothing to send. Used by one thread at
// a time.
class Stager {
 public:
  // A stager for `memory`, which must outlive it, with `slots` slots that take `slot_bytes` each; both are without
  // meaning for memory that the host writes. Errors as LoadMemory::NewQueue().
  static absl::StatusOr<std::unique_ptr<Stager>> Create(LoadMemory* memory, unsigned slots, std::uint64_t slot_bytes);

  // Whether the memory is reached through slots. If not, Stage() gives the memory itself, and nothing has to be sent or
  // waited for.
  bool has_slots() const { return queue_ != nullptr; }

  // The most bytes that can be staged at once: `slot_bytes`, or any number where there are no slots.
  std::uint64_t capacity() const { return capacity_; }

  // Where to write the `bytes` that are to lie at `to`; waits until that place is free. Valid until the next call.
  // REQUIRES: bytes <= capacity(). kDeviceFailed if an earlier copy failed.
  absl::StatusOr<std::span<std::uint8_t>> Stage(std::uint8_t* to, std::uint64_t bytes);
  // The same, but the bytes come from an uncached read of `file` at `offset`, which is done here.
  // REQUIRES: has_slots() as well. Errors of RandomAccessFile::ReadUncached() too.
  absl::StatusOr<std::span<std::uint8_t>> StageUncached(std::uint8_t* to, std::uint64_t bytes,
                                                        const RandomAccessFile& file, std::uint64_t offset);
  // Sends what was written there on its way; returns at once. Once for each Stage(). kDeviceFailed.
  absl::Status Send();

  // Stage() and Send() for bytes that lie elsewhere, as many as there are, slot by slot. `bytes` may be freed when it
  // returns.
  absl::Status Deliver(std::uint8_t* to, std::span<const std::uint8_t> bytes);

  // Returns when everything sent has arrived. kDeviceFailed, which may be the error of any copy.
  absl::Status Drain();

  // Memory of the host's own, for bytes that must be worked on before they are staged. The next call reuses it; it is
  // not cleared. It stays allocated at the largest size that was asked for, as long as the stager lives.
  std::span<std::uint8_t> Scratch(std::uint64_t bytes);

 private:
  Stager() = default;

  // Makes the next slot the current one and waits for its last copy. REQUIRES: has_slots().
  absl::Status NextSlot();

  std::unique_ptr<CopyQueue> queue_;  // null: the host writes the memory itself
  unsigned slots_ = 0, slot_ = 0;     // how many there are, and the number of the one staged last
  std::uint64_t stride_ = 0;  // bytes of a slot: capacity_ and room for what an uncached read brings on both sides
  std::uint64_t skip_ = 0;    // bytes of the slot before those staged
  std::uint64_t capacity_ = std::numeric_limits<std::uint64_t>::max();
  // Of the last Stage(), for Send().
  std::uint8_t* staged_to_ = nullptr;
  std::uint64_t staged_bytes_ = 0;
  std::vector<std::uint8_t> scratch_;
};

// Stagers, one for each thread that asks at the same time, used again by later ones. They are made when they are first
// needed: making page-locked memory is slow, and threads can do it side by side. Destroying the pool waits for the
// copies of every stager, so it must go before the memory that they copy to. Thread-safe, but for Drain() and the
// destructor.
class StagerPool {
 public:
  // Arguments as Stager::Create(). Makes nothing yet.
  StagerPool(LoadMemory* memory, unsigned slots, std::uint64_t slot_bytes)
      : memory_(memory), slots_(slots), slot_bytes_(slot_bytes) {}

  // Calls use(stager) with a stager that no other call has meanwhile. Returns its status, or why there is no stager.
  // After an error of use() the stager stays in the pool: what it had sent may be under way.
  template <typename Use>
  absl::Status With(const Use& use) {
    absl::StatusOr<std::unique_ptr<Stager>> stager = Take();
    if (!stager.ok()) return std::move(stager).status();
    const absl::Status status = use(**stager);
    const std::lock_guard lock(mutex_);
    idle_.push_back(*std::move(stager));
    return status;
  }

  // Returns when everything sent through any stager has arrived. REQUIRES: no stager is in use.
  absl::Status Drain();

 private:
  // An idle stager, or a new one.
  absl::StatusOr<std::unique_ptr<Stager>> Take();

  // Arguments of Stager::Create().
  LoadMemory* memory_;
  unsigned slots_;
  std::uint64_t slot_bytes_;
  std::mutex mutex_;  // guards idle_; not held while a stager is made or used
  std::vector<std::unique_ptr<Stager>> idle_;
};

}  // namespace q4
