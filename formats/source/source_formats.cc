// The table of formats. The order of its rows is the order in which a directory is searched; SourceFormatOf() asks them
// from the last to the first.
#include "formats/source/source_formats.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "formats/base/counted.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/folder/adapters.h"
#include "formats/gguf/gguf.h"
#include "formats/safetensors/safetensors.h"
#include "formats/source/checkpoint_issues.h"
#include "formats/torch/torch_checkpoint.h"

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

// Of PyTorch's what is none of the model's tensors, an optimizer's state for example, is told by its key.
absl::StatusOr<SourceHeader> ReadTorch(const RandomAccessFile& file) {
  Q4_ASSIGN_OR_RETURN(TorchCheckpoint checkpoint, ReadTorchCheckpoint(file));
  SourceHeader out;
  out.remarks = SourceRemarks("data.pkl");
  for (const TorchLeftOut& entry : checkpoint.left_out) {
    std::string name = entry.name;
    if (entry.tensors != 0) name += " (" + Counted(entry.tensors, "tensor") + ")";
    out.remarks.AddName(name);
    out.remarks.AddEntries(1, entry.bytes);
  }
  out.tensors = std::move(checkpoint.tensors);
  out.checksums = std::move(checkpoint.checksums);
  return out;
}

// A zip that is none of PyTorch's and a bare pickle are refused by its reader with a way out.
bool IsTorchKind(FileKind kind) {
  return kind == FileKind::kPyTorchZip || kind == FileKind::kZip || kind == FileKind::kPickle;
}

// A file that says it is no model: an adapter or a control vector. What is meant by another type is a model.
std::optional<Foreign> GgufForeign(const RandomAccessFile& file, const GgufHeader& header) {
  const bool vector = header.architecture == "controlvector";
  if (header.type != "adapter" && !vector) return std::nullopt;
  Foreign foreign;
  foreign.kind = Foreign::Kind::kAdapter;
  foreign.name = vector ? "control vector" : AdapterKindOfType(header.adapter_type);
  foreign.file = file.path();
  foreign.where = vector ? "general.architecture 'controlvector'" : "general.type 'adapter'";
  foreign.way_out = "merge it into its model first (llama.cpp: llama-export-lora) and convert the result";
  return foreign;
}

absl::StatusOr<SourceHeader> ReadGguf(const RandomAccessFile& file) {
  Q4_ASSIGN_OR_RETURN(GgufHeader header, ReadGgufHeader(file));
  // Statistics of activations, which a quantizer reads.
  if (header.type == "imatrix") {
    return Fail(kUnsupportedFormat, file.path(), "general.type 'imatrix'", "an importance matrix holds no weights");
  }
  SourceHeader out;
  out.foreign = GgufForeign(file, header);
  if (header.type == "mmproj" || header.architecture == "clip") {
    out.notes.push_back({true, Printable(BaseNameOf(file.path())) +
                                   " is the projector of a multimodal model (mmproj), not the language model"});
  }
  // The key-values as they are, behind the head of a file without tensors: every reader of GGUF takes the two together.
  CompanionRange range{GgufMetadataHead(header), header.key_values_begin,
                       header.key_values_end - header.key_values_begin};
  const std::uint64_t bytes = range.head.size() + range.bytes;
  out.metadata = CompanionFile{std::string(kGgufMetadataName), {}, bytes, {}, {}, std::move(range)};
  if (header.split) {
    out.part = SourcePart{header.split->number, header.split->count, header.split->tensors};
    // The metadata is that of the first part; llama.cpp reads no other.
    if (header.split->number != 0) {
      out.remarks = SourceRemarks("key-values of further parts");
      for (const std::string& key : header.keys) out.remarks.AddName(key);
      out.remarks.AddEntries(header.said_keys, header.said_bytes);
      out.metadata.reset();
    }
  }
  out.tensors = std::move(header.tensors);
  return out;
}

constexpr SourceFormat kFormats[] = {
    // A safetensors file begins with a length, which has no mark.
    {"safetensors", ".safetensors", "model.safetensors", "diffusion_pytorch_model.safetensors",
     [](FileKind) { return true; }, ReadSafetensors},
    {"torch", ".bin .pt .pth .ckpt", "pytorch_model.bin", "diffusion_pytorch_model.bin", IsTorchKind, ReadTorch},
    {kGgufFormat, ".gguf", "model.gguf", "", [](FileKind kind) { return kind == FileKind::kGguf; }, ReadGguf,
     /*has_parts=*/true, /*lesser=*/"*mmproj* *imatrix*"},
};

}  // namespace

std::span<const SourceFormat> SourceFormats() { return kFormats; }

bool HasEnding(const SourceFormat& format, std::string_view name, std::string_view more) {
  if (!name.ends_with(more)) return false;
  name.remove_suffix(more.size());
  return AnyItem(format.ending, " ", [name](std::string_view ending) { return name.ends_with(ending); });
}

const SourceFormat& SourceFormatOf(FileKind kind) {
  // From the back, and never the end: the first row recognises every kind.
  return *std::find_if(std::rbegin(kFormats), std::rend(kFormats),
                       [kind](const SourceFormat& format) { return format.recognises(kind); });
}

}  // namespace q4
