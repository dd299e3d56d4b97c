// All positions are offsets into the file that were compared with its size first, so that sums of them do not wrap.
#include "formats/gguf/gguf_input.h"

#include <algorithm>

#include "formats/base/byte_reader.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/gguf/gguf_issues.h"

namespace q4 {
namespace {

constexpr std::uint64_t kWindowBytes = std::uint64_t{1} << 20;

}  // namespace

bool GgufInput::Need(std::uint64_t bytes) {
  if (!ok()) return false;
  if (bytes > remaining()) {
    status_ = Fail(kGgufEndsEarly, file_.path(), AtOffset(offset_),
                   GotExpected(std::to_string(remaining()) + " bytes", "at least " + std::to_string(bytes)) +
                       "; if the file was cut off, copy or download it again");
    return false;
  }
  if (offset_ >= window_begin_ && offset_ - window_begin_ <= window_.size() &&
      bytes <= window_.size() - (offset_ - window_begin_)) {
    return true;
  }
  window_.resize(static_cast<std::size_t>(std::min(kWindowBytes, remaining())));
  window_begin_ = offset_;
  status_ = file_.ReadAt(offset_, window_);
  return ok();
}

std::span<const std::uint8_t> GgufInput::Field(std::uint64_t bytes) {
  if (!Need(bytes)) return {};
  const std::span<const std::uint8_t> window(window_);
  const auto field = window.subspan(static_cast<std::size_t>(offset_ - window_begin_), static_cast<std::size_t>(bytes));
  offset_ += bytes;
  return field;
}

std::uint8_t GgufInput::U8() { return ByteReader(Field(1)).U8(); }

std::uint32_t GgufInput::U32() { return ByteReader(Field(4)).U32(); }

std::uint64_t GgufInput::U64() { return ByteReader(Field(8)).U64(); }

std::string GgufInput::Text(std::uint64_t bytes) {
  std::string text;
  while (ok() && text.size() < bytes) {
    const std::span<const std::uint8_t> piece = Some(bytes - text.size());
    text.append(piece.begin(), piece.end());
  }
  return ok() ? text : std::string();
}

std::span<const std::uint8_t> GgufInput::Some(std::uint64_t most) {
  if (!Need(1)) return {};
  const auto at = static_cast<std::size_t>(offset_ - window_begin_);
  const auto piece = std::span<const std::uint8_t>(window_).subspan(
      at, static_cast<std::size_t>(std::min<std::uint64_t>(most, window_.size() - at)));
  offset_ += piece.size();
  return piece;
}

void GgufInput::Skip(std::uint64_t bytes) {
  if (bytes > remaining()) {
    Need(bytes);  // says so
  } else if (ok()) {
    offset_ += bytes;
  }
}

}  // namespace q4
