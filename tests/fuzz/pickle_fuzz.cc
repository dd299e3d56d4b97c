// The pickle of a PyTorch checkpoint: as a program, and in an archive with two storages, whose tensors must be views of
// them. A program has no more values than opcodes, and every value that it refers to is one of them.
#include <algorithm>
#include <string>
#include <string_view>

#include "formats/torch/pickle_program.h"
#include "formats/torch/torch_checkpoint.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/bytes_file.h"
#include "tests/support/torch_builder.h"

namespace q4::fuzz {
namespace {

void CheckProgram(const PickleProgram& program, std::size_t size) {
  Q4_FUZZ_CHECK(program.size() <= size && program.root() < program.size());
  for (PickleId id = 0; id < program.size(); ++id) {
    const PickleValue& value = program.value(id);
    Q4_FUZZ_CHECK(value.offset < size);
    switch (value.kind) {
      case PickleKind::kText:
        Q4_FUZZ_CHECK(IsUtf8(program.text(id)));
        break;
      case PickleKind::kTuple:
      case PickleKind::kList:
      case PickleKind::kDictionary:
      case PickleKind::kStorage:
      case PickleKind::kApplied:
        for (const PickleId item : program.items(id)) Q4_FUZZ_CHECK(item < program.size());
        break;
      default:
        break;
    }
  }
}

void CheckTensor(const SourceTensor& tensor, std::string_view file, std::string_view storage) {
  Q4_FUZZ_CHECK(tensor.extents.size() == 1);
  const SourceExtent& place = tensor.place();
  Q4_FUZZ_CHECK(place.end() <= file.size());
  std::uint64_t elems = 0;
  Q4_FUZZ_CHECK(CountElements(tensor.shape, &elems) && elems == tensor.elems);
  Q4_FUZZ_CHECK(tensor.bytes == elems * ItemSize(tensor.dtype));
  if (elems == 0) return;
  // Storages hold a text that nothing else does.
  Q4_FUZZ_CHECK(storage.find(file.substr(place.offset, place.bytes)) != std::string_view::npos);
  if (tensor.is_stored()) {
    Q4_FUZZ_CHECK(place.bytes == tensor.bytes);
    return;
  }
  Q4_FUZZ_CHECK(tensor.strides != nullptr && tensor.strides->size() == tensor.shape.size());
  std::uint64_t span = 1;
  for (std::size_t d = 0; d < tensor.shape.size(); ++d) span += (tensor.shape[d] - 1) * (*tensor.strides)[d];
  Q4_FUZZ_CHECK(place.bytes == span * ItemSize(tensor.dtype));
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(pickle) {
  using namespace q4;
  const auto program = ReadPickle({data, size}, "f.bin");
  // Most inputs end here, which makes the target three times as fast.
  if (!program.ok()) {
    fuzz::CheckError(program.status());
    return 0;
  }
  fuzz::CheckProgram(*program, size);
  const std::string storage = "storage0storage1storage2storage3";
  const std::string file = test::ZipBytes({{"m/data.pkl", std::string(fuzz::TextOf(data, size))},
                                           {"m/data/0", storage},
                                           {"m/data/1", storage.substr(16)},
                                           {"m/version", "3\n"}});
  const auto checkpoint = ReadTorchCheckpoint(test::BytesFile(test::AsBytes(file)));
  if (!checkpoint.ok()) {
    fuzz::CheckError(checkpoint.status());
    return 0;
  }
  for (const SourceTensor& tensor : checkpoint->tensors) fuzz::CheckTensor(tensor, file, storage);
  return 0;
}
