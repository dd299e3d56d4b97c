// The slots go round: NextSlot() waits until the last copy from the next slot is done, the caller fills it, Send()
// begins the next copy. With two slots, one is filled while the other is copied. Of memory that the host writes itself
// there is no queue, Stage() gives the place itself, and everything else falls away.
#include "libconvert/load/stager.h"

#include <algorithm>
#include <cstring>

#include "formats/base/status.h"

namespace q4 {

absl::StatusOr<std::unique_ptr<Stager>> Stager::Create(LoadMemory* memory, unsigned slots, std::uint64_t slot_bytes) {
  std::unique_ptr<Stager> stager(new Stager);
  // No queue, and a capacity without limit.
  if (memory->host_writable()) return stager;
  stager->slots_ = slots;
  stager->capacity_ = slot_bytes;
  // Room for the rest of a page at either end of an uncached read.
  stager->stride_ = slot_bytes + 2 * kUncachedAlignment;
  Q4_ASSIGN_OR_RETURN(stager->queue_, memory->NewQueue(slots, stager->stride_));
  return stager;
}

// Remembers where the bytes go, for Send(): between the two calls only the place is in the caller's hands.
absl::StatusOr<std::span<std::uint8_t>> Stager::Stage(std::uint8_t* to, std::uint64_t bytes) {
  staged_to_ = to;
  staged_bytes_ = bytes;
  skip_ = 0;
  if (queue_ == nullptr) return std::span(to, bytes);
  Q4_RETURN_IF_ERROR(NextSlot());
  return std::span(queue_->slots() + slot_ * stride_, bytes);
}

// Uncached reads begin and end at multiples of kUncachedAlignment. What is read too much lies before and behind the
// wanted bytes in the slot, which has room for both, and is not copied.
absl::StatusOr<std::span<std::uint8_t>> Stager::StageUncached(std::uint8_t* to, std::uint64_t bytes,
                                                              const RandomAccessFile& file, std::uint64_t offset) {
  staged_to_ = to;
  staged_bytes_ = bytes;
  skip_ = offset % kUncachedAlignment;
  Q4_RETURN_IF_ERROR(NextSlot());
  std::uint8_t* const slot = queue_->slots() + slot_ * stride_;
  const std::uint64_t wanted = (skip_ + bytes + kUncachedAlignment - 1) / kUncachedAlignment * kUncachedAlignment;
  Q4_RETURN_IF_ERROR(file.ReadUncached(offset - skip_, std::span(slot, wanted)));
  return std::span(slot + skip_, bytes);
}

// In turn: the next slot is the one whose copy began first, so waiting for it is the shortest wait.
absl::Status Stager::NextSlot() {
  slot_ = (slot_ + 1) % slots_;
  return queue_->Wait(slot_);
}

// In host memory the bytes are already in their place.
absl::Status Stager::Send() {
  return queue_ == nullptr ? absl::OkStatus() : queue_->Copy(slot_, skip_, staged_bytes_, staged_to_);
}

absl::Status Stager::Deliver(std::uint8_t* to, std::span<const std::uint8_t> bytes) {
  // Of host memory one round: a single memcpy.
  while (!bytes.empty()) {
    const auto piece = bytes.first(static_cast<std::size_t>(std::min<std::uint64_t>(capacity_, bytes.size())));
    Q4_ASSIGN_OR_RETURN(const std::span<std::uint8_t> place, Stage(to, piece.size()));
    std::memcpy(place.data(), piece.data(), piece.size());
    Q4_RETURN_IF_ERROR(Send());
    to += piece.size();
    bytes = bytes.subspan(piece.size());
  }
  return absl::OkStatus();
}

absl::Status Stager::Drain() {
  for (unsigned slot = 0; slot < slots_; ++slot) Q4_RETURN_IF_ERROR(queue_->Wait(slot));
  return absl::OkStatus();
}

std::span<std::uint8_t> Stager::Scratch(std::uint64_t bytes) {
  if (scratch_.size() < bytes) scratch_.resize(bytes);
  return std::span(scratch_).first(bytes);
}

// The lock guards the list only. A stager is made without it, so that threads make theirs side by side.
absl::StatusOr<std::unique_ptr<Stager>> StagerPool::Take() {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      // Any would do; what the last one holds is the most likely to be in a cache.
      std::unique_ptr<Stager> stager = std::move(idle_.back());
      idle_.pop_back();
      return stager;
    }
  }
  return Stager::Create(memory_, slots_, slot_bytes_);
}

// No lock: nobody uses a stager now.
absl::Status StagerPool::Drain() {
  for (const auto& stager : idle_) Q4_RETURN_IF_ERROR(stager->Drain());
  return absl::OkStatus();
}

}  // namespace q4
