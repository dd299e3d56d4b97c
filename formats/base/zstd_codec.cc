// Decoding first proves that the frame is the one valid form of the expected content (RFC 8878, F4.2), then allocates,
// then decodes. The proof has three steps: the header's flags and window, read here; where the frame ends; and the
// content size that it states. Digests were checked before, but whoever wrote the container computed those too.
#include "formats/base/zstd_codec.h"

#include <zstd.h>

#include <memory>
#include <string>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/byte_reader.h"
#include "formats/base/limits.h"

namespace q4 {
namespace {

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

// The frame header of RFC 8878, section 3.1.1.1, read here because libzstd's stable interface tells only the content
// size, and because its one-call decoder has no use for a window and so does not check it. A later decoder that streams
// would allocate whatever window the frame asks for.
absl::Status CheckFrameHeader(std::span<const std::uint8_t> frame) {
  ByteReader reader(frame);
  // A skippable frame has another magic number and ends here too.
  const std::uint32_t magic = reader.U32();
  const std::uint8_t descriptor = reader.U8();
  // Descriptor, from the highest bit: size of the content size (2 bits), single segment, unused, reserved, checksum,
  // size of the dictionary id (2 bits).
  const bool single_segment = (descriptor & 0x20) != 0;
  const std::uint8_t window_descriptor = single_segment ? 0 : reader.U8();
  if (!reader.ok()) return Fail(kZstdFrame, {}, {}, "too short for a frame header");
  if (magic != ZSTD_MAGICNUMBER) return Fail(kZstdFrame, {}, {}, "got another magic number");
  if ((descriptor & 0x08) != 0) return Fail(kZstdFrame, {}, {}, "the reserved bit is set");
  if ((descriptor & 0x04) != 0) return Fail(kZstdFrame, {}, {}, "got a checksum");
  if ((descriptor & 0x03) != 0) return Fail(kZstdFrame, {}, {}, "got a dictionary id");
  // In a single segment the window is the content, which the caller bounds. Otherwise 2^(10 + exponent), and eighths of
  // that by the mantissa.
  const std::uint64_t window_base = std::uint64_t{1} << (10 + (window_descriptor >> 3));
  const std::uint64_t window = window_base + window_base / 8 * (window_descriptor & 7u);
  if (!single_segment && window > std::uint64_t{1} << limits::kZstdWindowLog) {
    return Fail(kZstdFrame, {}, {},
                "window " + GotExpected(std::to_string(window), "at most 2^" + std::to_string(limits::kZstdWindowLog)));
  }
  return absl::OkStatus();
}

// That `frame` is what DecompressZstd() wants, as far as that can be told without decoding it.
absl::Status CheckFrame(std::span<const std::uint8_t> frame, std::uint64_t expected_raw_bytes) {
  Q4_RETURN_IF_ERROR(CheckFrameHeader(frame));
  // Walks the block headers, so that a second frame or other bytes behind the first are noticed.
  const std::size_t frame_bytes = ZSTD_findFrameCompressedSize(frame.data(), frame.size());
  if (ZSTD_isError(frame_bytes)) return Fail(kZstdFrame, {}, {}, ZSTD_getErrorName(frame_bytes));
  if (frame_bytes != frame.size()) {
    return Fail(kZstdFrame, {}, {},
                GotExpected(std::to_string(frame.size()) + " bytes", "one frame of " + std::to_string(frame_bytes)));
  }
  const unsigned long long content = ZSTD_getFrameContentSize(frame.data(), frame.size());
  if (content == ZSTD_CONTENTSIZE_UNKNOWN) return Fail(kZstdSize, {}, {}, "it states none");
  if (content != expected_raw_bytes) {
    return Fail(kZstdSize, {}, {}, GotExpected(std::to_string(content), std::to_string(expected_raw_bytes)));
  }
  return absl::OkStatus();
}

// REQUIRES: CheckFrame() holds for raw.size(). Blocks that decode to less or more than the frame states are an error of
// the library's.
absl::Status DecodeFrame(std::span<const std::uint8_t> frame, std::span<std::uint8_t> raw) {
  const std::unique_ptr<ZSTD_DCtx, FreeContext> context(ZSTD_createDCtx());
  if (context == nullptr) return Fail(kZstdDecode, {}, {}, "no memory");
  const std::size_t bytes = ZSTD_decompressDCtx(context.get(), raw.data(), raw.size(), frame.data(), frame.size());
  if (ZSTD_isError(bytes)) return Fail(kZstdDecode, {}, {}, ZSTD_getErrorName(bytes));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::uint8_t>> CompressZstd(std::span<const std::uint8_t> raw, int level) {
  const std::unique_ptr<ZSTD_CCtx, FreeContext> context(ZSTD_createCCtx());
  if (context == nullptr) return Fail(kZstdEncode, {}, {}, "no memory");
  // Content size stated, no checksum, no dictionary id, one thread: the defaults, spelled out because the format needs
  // them.
  for (const auto& [parameter, value] :
       {std::pair{ZSTD_c_compressionLevel, level}, std::pair{ZSTD_c_contentSizeFlag, 1},
        std::pair{ZSTD_c_checksumFlag, 0}, std::pair{ZSTD_c_dictIDFlag, 0}}) {
    const std::size_t result = ZSTD_CCtx_setParameter(context.get(), parameter, value);
    if (ZSTD_isError(result)) return Fail(kZstdEncode, {}, {}, ZSTD_getErrorName(result));
  }
  std::vector<std::uint8_t> frame(ZSTD_compressBound(raw.size()));
  const std::size_t bytes = ZSTD_compress2(context.get(), frame.data(), frame.size(), raw.data(), raw.size());
  if (ZSTD_isError(bytes)) return Fail(kZstdEncode, {}, {}, ZSTD_getErrorName(bytes));
  frame.resize(bytes);
  return frame;
}

absl::StatusOr<std::vector<std::uint8_t>> DecompressZstd(std::span<const std::uint8_t> frame,
                                                         std::uint64_t expected_raw_bytes) {
  // Nothing is allocated until the frame is known to be the one that is expected.
  Q4_RETURN_IF_ERROR(CheckFrame(frame, expected_raw_bytes));
  std::vector<std::uint8_t> raw(static_cast<std::size_t>(expected_raw_bytes));
  Q4_RETURN_IF_ERROR(DecodeFrame(frame, raw));
  return raw;
}

absl::Status DecompressZstdInto(std::span<const std::uint8_t> frame, std::span<std::uint8_t> raw) {
  Q4_RETURN_IF_ERROR(CheckFrame(frame, raw.size()));
  return DecodeFrame(frame, raw);
}

}  // namespace q4
