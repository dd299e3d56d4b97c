// The table of formats. The order of its rows is the order in which SourceFormatOf() asks them and in which a directory
// is searched.
#include "formats/source/source_formats.h"

#include <algorithm>
#include <utility>

#include "formats/base/status.h"
#include "formats/source/safetensors.h"

namespace q4 {
namespace {

// The tensors alone. `__metadata__` says nothing that a conversion needs, and the payload offset is in the extents.
absl::StatusOr<std::vector<SourceTensor>> ReadSafetensors(const RandomAccessFile& file) {
  Q4_ASSIGN_OR_RETURN(SafetensorsHeader header, ReadSafetensorsHeader(file));
  return std::move(header.tensors);
}

constexpr SourceFormat kFormats[] = {
    // A safetensors file begins with a length, which has no mark: it is the last row.
    {"safetensors", ".safetensors", "model.safetensors", [](FileKind) { return true; }, ReadSafetensors},
};

}  // namespace

std::span<const SourceFormat> SourceFormats() { return kFormats; }

const SourceFormat& SourceFormatOf(FileKind kind) {
  // Never the end: the last row recognises every kind.
  return *std::find_if(std::begin(kFormats), std::end(kFormats),
                       [kind](const SourceFormat& format) { return format.recognises(kind); });
}

}  // namespace q4
