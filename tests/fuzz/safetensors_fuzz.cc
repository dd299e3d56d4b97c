// The safetensors reader. What it accepts tiles the payload, and our writer's header for the same tensors is accepted
// with the same content; nor is it taken for a shard index. An input that begins like JSON is taken for the header
// alone and gets the right length in front and a payload behind, for a mutation of eight length bytes seldom leads
// anywhere.
#include <algorithm>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "formats/exchange/safetensors_writer.h"
#include "formats/safetensors/safetensors.h"
#include "formats/safetensors/sniff.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/bytes.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/steady_file.h"

namespace q4::fuzz {
namespace {

// `head`, followed by zeros that nobody should read.
class SparseFile final : public test::SteadyFile {
 public:
  SparseFile(std::string head, std::uint64_t size) : SteadyFile("f.safetensors"), head_(std::move(head)), size_(size) {}
  absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    Q4_FUZZ_CHECK(offset <= size_ && out.size() <= size_ - offset);
    std::fill(out.begin(), out.end(), std::uint8_t{0});
    if (offset < head_.size()) head_.copy(reinterpret_cast<char*>(out.data()), out.size(), offset);
    return absl::OkStatus();
  }
  std::uint64_t size() const override { return size_; }

 private:
  std::string head_;
  std::uint64_t size_;
};

// The largest integer in the text that no letter precedes, as in "F32": in a valid header mostly the last tensor's end.
std::uint64_t LargestNumber(std::string_view text) {
  constexpr std::uint64_t kEnough = std::uint64_t{1} << 56;
  std::uint64_t largest = 0, number = 0;
  bool in_word = false;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit) in_word = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    number = digit && !in_word && number < kEnough ? 10 * number + static_cast<std::uint64_t>(c - '0') : 0;
    largest = std::max(largest, number);
  }
  return largest;
}

using Described = std::tuple<std::string, DType, Shape>;

template <typename Tensors>
std::vector<Described> Describe(const Tensors& tensors) {
  std::vector<Described> out;
  for (const auto& tensor : tensors) out.emplace_back(tensor.name, tensor.dtype, tensor.shape);
  std::sort(out.begin(), out.end());
  return out;
}

// `head` are the first bytes of the file.
void CheckAccepted(const SafetensorsHeader& header, std::string_view head, std::uint64_t file_bytes) {
  head = head.substr(0, kSniffBytes);
  Q4_FUZZ_CHECK(SniffKind(test::AsBytes(head)) != FileKind::kJson);
  std::uint64_t end = header.payload_offset;
  std::vector<SafetensorsTensor> tensors;
  for (const SourceTensor& tensor : header.tensors) {
    std::uint64_t elems = 0;
    Q4_FUZZ_CHECK(CountElements(tensor.shape, &elems) && elems == tensor.elems);
    Q4_FUZZ_CHECK(tensor.bytes == elems * ItemSize(tensor.dtype));
    Q4_FUZZ_CHECK(tensor.extents.size() == 1 && tensor.place().offset == end && tensor.place().bytes == tensor.bytes);
    end += tensor.bytes;
    tensors.push_back({tensor.name, tensor.dtype, tensor.shape});
  }
  Q4_FUZZ_CHECK(end == file_bytes);
  const std::vector<Described> described = Describe(tensors);
  Q4_FUZZ_CHECK(std::adjacent_find(described.begin(), described.end(), [](const Described& a, const Described& b) {
                  return std::get<0>(a) == std::get<0>(b);
                }) == described.end());

  const auto layout = PlanSafetensors(tensors);
  Q4_FUZZ_CHECK(layout.ok());
  const auto again = ReadSafetensorsHeader(SparseFile(layout->header, layout->file_bytes));
  Q4_FUZZ_CHECK(again.ok());
  Q4_FUZZ_CHECK(Describe(again->tensors) == described);
}

void ReadHeader(std::string_view json) {
  const std::string head = test::SafetensorsBytes(json, "");
  const std::uint64_t file_bytes = head.size() + LargestNumber(json);
  const auto header = ReadSafetensorsHeader(SparseFile(head, file_bytes));
  if (header.ok()) {
    CheckAccepted(*header, head, file_bytes);
  } else {
    CheckError(header.status());
  }
}

void ReadFile(std::string_view bytes) {
  const auto header = ParseSafetensors(test::AsBytes(bytes), "f.safetensors");
  const auto from_file = ReadSafetensorsHeader(SparseFile(std::string(bytes), bytes.size()));
  Q4_FUZZ_CHECK(header.status() == from_file.status());
  if (header.ok()) {
    CheckAccepted(*header, bytes, bytes.size());
  } else {
    CheckError(header.status());
  }
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(safetensors) {
  const std::string_view bytes = q4::fuzz::TextOf(data, size);
  if (size > 0 && (data[0] == '{' || data[0] == ' ')) {
    q4::fuzz::ReadHeader(bytes);
  } else {
    q4::fuzz::ReadFile(bytes);
  }
  return 0;
}
