// Elements to stored bytes: by a plain recipe an element lies at its index times the item size of its extent; others
// are carried out in files of their own. What a new recipe must change: Read(), and Prefetch() where an element of its
// first extent takes other bytes than one in memory. ReadAndHash() goes by is_stored() and holds for any.
#include "libconvert/source/source_reader.h"

#include <algorithm>

#include "formats/base/status.h"
#include "formats/source/checkpoint_issues.h"
#include "libconvert/source/merged.h"
#include "libconvert/source/packed_f4.h"
#include "libconvert/source/scaled_f8.h"
#include "libconvert/source/strided.h"

namespace q4 {

absl::Status SourceReader::Read(const SourceTensor& tensor, std::uint64_t first, std::span<std::uint8_t> out) const {
  switch (tensor.recipe) {
    case SourceRecipe::kPlain:
    case SourceRecipe::kComputed:
      break;  // the compiler asks here for what is added
    case SourceRecipe::kStrided:
      return ReadStrided(checkpoint_, tensor, first, out);
    case SourceRecipe::kScaledF8:
      return ReadScaledF8(checkpoint_, tensor, first, out);
    case SourceRecipe::kMerged:
      return ReadMerged(checkpoint_, tensor, first, out);
    case SourceRecipe::kPackedF4:
      return ReadPackedF4(checkpoint_, tensor, first, out);
    case SourceRecipe::kBnbCodes:
      // Nobody computes with what is taken over.
      return Fail(kReadOutsideTensor, checkpoint_.FileOf(tensor).path(), tensor.name, "codes have no elements");
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
  if (tensor.recipe == SourceRecipe::kStrided || tensor.recipe == SourceRecipe::kPackedF4) {
    // Where the elements lie is known only roughly; all of them together fill the extent. The ratio is a double, for
    // the product could wrap, and the advice need not be exact.
    const double share = static_cast<double>(tensor.place().bytes) / static_cast<double>(std::max(tensor.elems, count));
    checkpoint_.FileOf(tensor).Prefetch(
        tensor.place().offset + static_cast<std::uint64_t>(share * static_cast<double>(std::min(first, tensor.elems))),
        static_cast<std::uint64_t>(share * static_cast<double>(count)));
    return;
  }
  // What the adapter adds is little beside the weight, and read again and again.
  if (tensor.recipe == SourceRecipe::kMerged) return Prefetch(*tensor.merged->base, first, count);
  // Of scaled codes, the codes: they are what there is much of.
  const std::uint64_t item = tensor.recipe == SourceRecipe::kScaledF8 ? 1 : ItemSize(tensor.dtype);
  checkpoint_.FileOf(tensor).Prefetch(tensor.place().offset + first * item, count * item);
}

}  // namespace q4
