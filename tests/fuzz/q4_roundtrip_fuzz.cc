// Tensors and files of the input's choice are written to a container and read back equal; writing again gives the same
// bytes; and one bit of the file changed anywhere is found out.
#include <string>
#include <vector>

#include "formats/q4/reader.h"
#include "formats/q4/verify.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/bytes.h"
#include "tests/support/memory_file_system.h"
#include "tests/support/q4_builder.h"

namespace q4::fuzz {
namespace {

constexpr char kRoundtripPath[] = "f.q4";

test::Bytes TakeBytes(std::uint64_t count, FuzzInput* input) {
  const auto taken = input->Take(count);
  test::Bytes bytes(taken.begin(), taken.end());
  bytes.resize(count);  // zeros once the input is used up
  return bytes;
}

// Clears a bit of the exponent of whatever is infinite or NaN.
void MakeFinite(DType dtype, test::Bytes* bytes) {
  const std::uint8_t mask = dtype == DType::kF16 ? 0x7C : 0x7F;
  const std::uint64_t item = ItemSize(dtype);
  for (std::uint64_t last = item - 1; last < bytes->size(); last += item) {
    std::uint8_t& high = (*bytes)[last];
    if ((high & mask) == mask) high = static_cast<std::uint8_t>(high & ~0x40);
  }
}

Shape TakeShape(FuzzInput* input) {
  Shape shape(input->Below(4));
  for (std::uint64_t& dim : shape) dim = input->Below(20);
  return shape;
}

void AddTensor(const std::string& name, FuzzInput* input, test::Q4Builder* builder) {
  const Shape shape = TakeShape(input);
  std::uint64_t elems = 0;
  Q4_FUZZ_CHECK(CountElements(shape, &elems));
  const bool quantize = input->Bool() && elems > 0;
  if (!quantize) {
    const auto dtype = static_cast<DType>(1 + input->Below(kMaxDType));
    builder->AddRaw(name, dtype, shape, TakeBytes(elems * ItemSize(dtype), input));
    return;
  }
  constexpr DType kDTypes[] = {DType::kF32, DType::kF16, DType::kBF16};
  const DType dtype = kDTypes[input->Below(3)];
  const Q4Scheme scheme = input->Bool() ? Q4Scheme::kNf4 : Q4Scheme::kFp4;
  const std::uint32_t block_size = 32u << input->Below(8);
  const bool nested = input->Bool();
  test::Bytes bytes = TakeBytes(elems * ItemSize(dtype), input);
  MakeFinite(dtype, &bytes);
  builder->AddQuantized(name, dtype, shape, bytes, scheme, block_size, nested);
}

absl::Status OpenAndVerify(MemoryFileSystem& fs) {
  const auto reader = Q4Reader::Open(fs, kRoundtripPath);
  return reader.ok() ? VerifyQ4Container(**reader) : reader.status();
}

void CheckContent(MemoryFileSystem& fs, test::Q4Builder* builder, std::size_t tensors,
                  const std::vector<std::string>& files) {
  const auto reader = Q4Reader::Open(fs, kRoundtripPath);
  Q4_FUZZ_CHECK(reader.ok());
  Q4_FUZZ_CHECK(VerifyQ4Container(**reader).ok());
  const Q4Index& index = (*reader)->index();
  Q4_FUZZ_CHECK(index.tensors.size() == tensors && index.files.size() == files.size());
  for (const Q4Tensor& tensor : index.tensors) {
    const test::BuiltTensor& built = builder->Find(tensor.name);
    const Q4Tensor& entry = built.entry;
    Q4_FUZZ_CHECK(tensor.dtype == entry.dtype && tensor.shape == entry.shape && tensor.scheme == entry.scheme);
    Q4_FUZZ_CHECK(tensor.block_size == entry.block_size && tensor.nested == entry.nested);
    Q4_FUZZ_CHECK(tensor.nested_offset == entry.nested_offset);
    for (const auto& [part, bytes] : built.parts) {
      const auto read = (*reader)->ReadPart(tensor, part);
      Q4_FUZZ_CHECK(read.ok() && *read == bytes);
    }
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto read = (*reader)->ReadFile(index.files[i]);
    Q4_FUZZ_CHECK(read.ok() && *read == files[i]);
  }
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(q4_roundtrip) {
  using namespace q4;
  fuzz::FuzzInput input(data, size);
  test::Q4Builder builder;
  builder.compression.zstd = input.Bool();
  const std::uint64_t bit = input.Below(std::uint64_t{1} << 24);
  const std::size_t tensors = input.Below(4);
  std::vector<std::string> files(input.Below(3));
  for (std::size_t i = 0; i < tensors; ++i) fuzz::AddTensor("t" + std::to_string(i), &input, &builder);
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto content = input.Take(input.Below(200));
    files[i].assign(content.begin(), content.end());
    builder.AddFile("f" + std::to_string(i) + ".json", files[i]);
  }

  MemoryFileSystem fs;
  builder.Write(fs, fuzz::kRoundtripPath);
  fuzz::CheckContent(fs, &builder, tensors, files);
  test::Bytes& bytes = fs[fuzz::kRoundtripPath];
  const test::Bytes first = bytes;
  builder.Write(fs, fuzz::kRoundtripPath);
  Q4_FUZZ_CHECK(bytes == first);

  const std::uint64_t at = bit % (8 * bytes.size());
  bytes[at / 8] = static_cast<std::uint8_t>(bytes[at / 8] ^ (1u << (at % 8)));
  fuzz::CheckError(fuzz::OpenAndVerify(fs));
  return 0;
}
