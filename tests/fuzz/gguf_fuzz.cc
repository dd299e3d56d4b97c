// The GGUF reader. What it accepts lies inside the file, in order and without overlap; the metadata that is carried is
// accepted again and says the same.
#include <algorithm>
#include <string>
#include <vector>

#include "formats/gguf/gguf.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/steady_file.h"

namespace q4::fuzz {
namespace {

// Ends the process where something is read that is not there.
class ExactFile final : public test::SteadyFile {
 public:
  explicit ExactFile(std::string_view bytes) : SteadyFile("f.gguf"), bytes_(bytes) {}
  absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    Q4_FUZZ_CHECK(offset <= bytes_.size() && out.size() <= bytes_.size() - offset);
    bytes_.copy(reinterpret_cast<char*>(out.data()), out.size(), static_cast<std::size_t>(offset));
    return absl::OkStatus();
  }
  std::uint64_t size() const override { return bytes_.size(); }

 private:
  std::string_view bytes_;
};

void CheckAccepted(const GgufHeader& header, std::string_view bytes) {
  std::uint64_t end = header.key_values_end;
  std::vector<std::string_view> names;
  for (const SourceTensor& tensor : header.tensors) {
    std::uint64_t elems = 0;
    Q4_FUZZ_CHECK(CountElements(tensor.shape, &elems) && elems == tensor.elems);
    Q4_FUZZ_CHECK(tensor.bytes == elems * ItemSize(tensor.dtype));
    Q4_FUZZ_CHECK(tensor.extents.size() == 1 && tensor.place().bytes == tensor.bytes);
    Q4_FUZZ_CHECK(tensor.place().offset >= end && tensor.place().end() <= bytes.size());
    Q4_FUZZ_CHECK(IsUtf8(tensor.name) && !tensor.name.empty());
    end = tensor.place().end();
    names.push_back(tensor.name);
  }
  std::sort(names.begin(), names.end());
  Q4_FUZZ_CHECK(std::adjacent_find(names.begin(), names.end()) == names.end());
  Q4_FUZZ_CHECK(!header.split || header.split->number < header.split->count);

  Q4_FUZZ_CHECK(header.key_values_begin <= header.key_values_end && header.key_values_end <= bytes.size());
  const std::string metadata =
      GgufMetadataHead(header) +
      std::string(bytes.substr(static_cast<std::size_t>(header.key_values_begin),
                               static_cast<std::size_t>(header.key_values_end - header.key_values_begin)));
  const auto again = ReadGgufHeader(ExactFile(metadata));
  Q4_FUZZ_CHECK(again.ok());
  Q4_FUZZ_CHECK(again->tensors.empty() && again->keys == header.keys && again->said_bytes == header.said_bytes);
  Q4_FUZZ_CHECK(again->architecture == header.architecture && again->split == header.split);
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(gguf) {
  const std::string_view bytes = q4::fuzz::TextOf(data, size);
  const auto header = q4::ReadGgufHeader(q4::fuzz::ExactFile(bytes));
  if (header.ok()) {
    q4::fuzz::CheckAccepted(*header, bytes);
  } else {
    q4::fuzz::CheckError(header.status());
  }
  return 0;
}
