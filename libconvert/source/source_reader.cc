// Elements to stored bytes. With the only recipe so far an element lies at its index times the item size of its extent,
// so all three functions turn elements into bytes and pass them on. What a new recipe must change: Read(), which then
// decodes, and Prefetch(), which here takes the first extent for all of them. ReadAndHash() goes by is_stored() and
// holds for any.
#include "libconvert/source/source_reader.h"

#include "formats/base/status.h"

namespace q4 {

absl::Status SourceReader::Read(const SourceTensor& tensor, std::uint64_t first, std::span<std::uint8_t> out) const {
  switch (tensor.recipe) {
    case SourceRecipe::kPlain:
      break;  // the compiler asks here for what is added
  }
  // The product cannot wrap for elements that exist; Read() refuses a range outside the extent.
  return checkpoint_.Read(tensor, first * ItemSize(tensor.dtype), out);
}

absl::Status SourceReader::ReadAndHash(const SourceTensor& tensor, std::uint64_t first,
                                       const std::shared_ptr<Buffer>& out, FileHasher* hasher) const {
  // First the read: bytes that the hasher has been given must be those of the file.
  Q4_RETURN_IF_ERROR(Read(tensor, first, {out->data(), out->size()}));
  if (!tensor.is_stored()) return absl::OkStatus();  // FileHasher reads the extents
  const SourceExtent& stored = tensor.place();
  hasher->Add(stored.file, stored.offset + first * ItemSize(tensor.dtype), out);
  return absl::OkStatus();
}

void SourceReader::Prefetch(const SourceTensor& tensor, std::uint64_t first, std::uint64_t count) const {
  const std::uint64_t item = ItemSize(tensor.dtype);
  checkpoint_.FileOf(tensor).Prefetch(tensor.place().offset + first * item, count * item);
}

}  // namespace q4
