// The table of formats. The order of its rows is the order in which SourceFormatOf() asks them and in which a directory
// is searched.
#include "formats/source/source_formats.h"

#include <algorithm>
#include <utility>

#include "formats/base/status.h"
#include "formats/source/safetensors.h"

namespace q4 {
namespace {

// `__metadata__` says nothing that a conversion needs, so it is told of and not kept; the payload offset is in the
// extents.
absl::StatusOr<SourceHeader> ReadSafetensors(const RandomAccessFile& file) {
  Q4_ASSIGN_OR_RETURN(SafetensorsHeader header, ReadSafetensorsHeader(file));
  SourceHeader out;
  // What every exporter of q4 writes itself.
  const std::pair<std::string, std::string> own("format", "pt");
  for (const auto& entry : header.metadata) {
    if (entry != own) out.remarks.AddName(entry.first);
  }
  const auto owned = static_cast<std::uint64_t>(std::count(header.metadata.begin(), header.metadata.end(), own));
  out.remarks.AddEntries(header.metadata_entries - owned, header.metadata_bytes - owned * own.second.size());
  out.tensors = std::move(header.tensors);
  return out;
}

constexpr SourceFormat kFormats[] = {
    // A safetensors file begins with a length, which has no mark: it is the last row.
    {"safetensors", ".safetensors", "model.safetensors", "diffusion_pytorch_model.safetensors",
     [](FileKind) { return true; }, ReadSafetensors},
};

}  // namespace

std::span<const SourceFormat> SourceFormats() { return kFormats; }

const SourceFormat& SourceFormatOf(FileKind kind) {
  // Never the end: the last row recognises every kind.
  return *std::find_if(std::begin(kFormats), std::end(kFormats),
                       [kind](const SourceFormat& format) { return format.recognises(kind); });
}

}  // namespace q4
