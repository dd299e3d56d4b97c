#include "libconvert/load/lane.h"

#include <algorithm>
#include <cstring>

#include "formats/base/status.h"

namespace q4 {

absl::StatusOr<std::unique_ptr<LoadLane>> LoadLane::Create(LoadMemory* memory, unsigned slots,
                                                           std::uint64_t slot_bytes) {
  std::unique_ptr<LoadLane> lane(new LoadLane);
  if (memory->host_writable()) return lane;
  lane->slots_ = slots;
  lane->capacity_ = slot_bytes;
  lane->stride_ = slot_bytes + 2 * kUncachedAlignment;
  Q4_ASSIGN_OR_RETURN(lane->queue_, memory->NewQueue(slots, lane->stride_));
  return lane;
}

absl::StatusOr<std::span<std::uint8_t>> LoadLane::Stage(std::uint8_t* to, std::uint64_t bytes) {
  staged_to_ = to;
  staged_bytes_ = bytes;
  skip_ = 0;
  if (queue_ == nullptr) return std::span(to, bytes);
  Q4_RETURN_IF_ERROR(NextSlot());
  return std::span(queue_->slots() + slot_ * stride_, bytes);
}

absl::StatusOr<std::span<std::uint8_t>> LoadLane::StageUncached(std::uint8_t* to, std::uint64_t bytes,
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

absl::Status LoadLane::NextSlot() {
  slot_ = (slot_ + 1) % slots_;
  return queue_->Wait(slot_);
}

absl::Status LoadLane::Send() {
  return queue_ == nullptr ? absl::OkStatus() : queue_->Copy(slot_, skip_, staged_bytes_, staged_to_);
}

absl::Status LoadLane::Deliver(std::uint8_t* to, std::span<const std::uint8_t> bytes) {
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

absl::Status LoadLane::Drain() {
  for (unsigned slot = 0; slot < slots_; ++slot) Q4_RETURN_IF_ERROR(queue_->Wait(slot));
  return absl::OkStatus();
}

std::span<std::uint8_t> LoadLane::Scratch(std::uint64_t bytes) {
  if (scratch_.size() < bytes) scratch_.resize(bytes);
  return std::span(scratch_).first(bytes);
}

absl::StatusOr<std::unique_ptr<LoadLane>> LanePool::Take() {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<LoadLane> lane = std::move(idle_.back());
      idle_.pop_back();
      return lane;
    }
  }
  return LoadLane::Create(memory_, slots_, slot_bytes_);
}

absl::Status LanePool::Drain() {
  for (const auto& lane : idle_) Q4_RETURN_IF_ERROR(lane->Drain());
  return absl::OkStatus();
}

}  // namespace q4
