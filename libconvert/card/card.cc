// One section after the other. Everything shown comes from the index, the provenance and config.json; nothing from
// outside, such as the time or the name of the output, so that cards can be compared.
#include "libconvert/card/card.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <span>
#include <vector>

#include "absl/strings/ascii.h"
#include "formats/base/digest.h"
#include "formats/base/json_value.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "libconvert/base/text_table.h"
#include "libconvert/base/version.h"
#include "libconvert/card/card_head.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/model/stats.h"
#include "libconvert/policy/diffusers.h"
#include "libconvert/scheme/scheme.h"
#include "libconvert/scheme/treatment.h"

namespace q4 {
namespace {

constexpr std::string_view kMark = "<!-- q4 model card -->";
// Of one treatment, or of all.
struct Sum {
  std::uint64_t tensors = 0, elems = 0, bytes = 0;
  ModelStats stats;
};

struct Content {
  std::map<std::string, Sum> treatments;
  Sum quantized;
  std::string worst_tensor;
  double worst_nmse = 0;
};

// Text of an input between back-ticks, in a table too.
std::string CodeSpan(std::string_view text) {
  std::string span = Printable(text);
  std::replace(span.begin(), span.end(), '`', '\'');
  std::replace(span.begin(), span.end(), '|', '/');
  return "`" + span + "`";
}

std::uint64_t RawBytes(const Q4Tensor& tensor) {
  std::uint64_t bytes = 0;
  for (const Q4Part part : Q4PartKindsOf(tensor)) bytes += Q4PartRawBytes(tensor, part);
  return bytes;
}

void Add(const Q4Tensor& tensor, Sum* sum) {
  ++sum->tensors;
  sum->elems += tensor.elems;
  sum->bytes += RawBytes(tensor);
  if (tensor.has_stats) AddTensor(tensor.name, *tensor.stats, &sum->stats);
}

Content ContentOf(const Q4Model& model) {
  Content content;
  // In the order of names, as totals are defined (numerics Q8.11).
  for (const Q4Model::Location& at : model.tensors()) {
    const Q4Tensor& tensor = model.tensor(at);
    Add(tensor, &content.treatments[TreatmentName(tensor)]);
    if (!tensor.quantized()) continue;
    Add(tensor, &content.quantized);
    if (!tensor.has_stats) continue;
    if (const double nmse = Derive(*tensor.stats).nmse; nmse > content.worst_nmse) {
      content.worst_nmse = nmse;
      content.worst_tensor = tensor.name;
    }
  }
  return content;
}

// What loads the model, as far as its own files tell.
struct Library {
  std::string name;   // of the hub: "transformers"
  std::string model;  // of the class, for people: "LlamaForCausalLM"; "" where nothing tells
  bool generates = false;
};

bool IsIdentifier(std::string_view text) {
  return !text.empty() && text.size() <= 100 && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_';
  });
}

Library LibraryOf(const ModelConfigs& configs) {
  Library library;
  if (const std::string component = DiffusersClassOf(configs.root); !component.empty()) {
    library.name = "diffusers";
    if (IsIdentifier(component)) library.model = component;
    return library;
  }
  const absl::StatusOr<Json> config = ParseModelJson(configs.root, "config.json");
  if (config.ok() && config->is_object()) {
    const Json* const names = FindMember(*config, "architectures");
    if (names != nullptr && names->is_array() && names->size() != 0 && names->front().is_string()) {
      if (const auto name = names->front().get<std::string>(); IsIdentifier(name)) library.model = name;
    }
    library.name = "transformers";
  }
  if (!configs.folders.empty()) library.name = "sentence-transformers";
  library.generates = library.model.ends_with("ForCausalLM");
  return library;
}

std::string HeadText(const CardRequest& request, const Library& library, const CardHead& head, const Content& content) {
  std::string text = "---\n";
  if (!request.base_model.empty()) {
    text += fmt::format("base_model: {}\nbase_model_relation: quantized\n", request.base_model);
  }
  if (!library.name.empty() && request.of != CardRequest::Of::kContainer) {
    text += fmt::format("library_name: {}\n", library.name);
  }
  if (head.licenses.size() == 1) text += fmt::format("license: {}\n", head.licenses.front());
  if (head.licenses.size() > 1) text += fmt::format("license:\n- {}\n", fmt::join(head.licenses, "\n- "));
  if (!head.license_name.empty()) text += fmt::format("license_name: {}\n", head.license_name);
  if (!head.license_link.empty()) text += fmt::format("license_link: {}\n", head.license_link);
  if (!head.pipeline_tag.empty()) text += fmt::format("pipeline_tag: {}\n", head.pipeline_tag);
  std::vector<std::string> tags = {"q4"};
  if (request.of != CardRequest::Of::kDequantized) tags.emplace_back("4-bit");
  if (request.of == CardRequest::Of::kBitsandbytes) tags.emplace_back("bitsandbytes");
  for (const std::string& type : SchemeNames()) {
    const bool used = std::any_of(content.treatments.begin(), content.treatments.end(),
                                  [&](const auto& each) { return each.first.starts_with(type); });
    if (used) tags.push_back(type);
  }
  std::sort(tags.begin(), tags.end());
  return text + fmt::format("tags:\n- {}\n---\n\n{}\n", fmt::join(tags, "\n- "), kMark);
}

std::string DecibelText(double sqnr) { return fmt::format("{:.3f} dB", sqnr); }

std::string WeightsText(const CardRequest& request, const Content& content) {
  std::string text =
      "## Weights\n\n| stored as | tensors | weights | size | NMSE | SQNR |\n|---|---|---|---|---|---|\n";
  for (const auto& [name, sum] : content.treatments) {
    const DerivedStats derived = Derive(sum.stats.total);
    const bool known = sum.stats.tensors != 0;
    text += fmt::format("| {} | {} | {} | {} | {} | {} |\n", name, sum.tensors, Grouped(sum.elems),
                        HumanBytes(sum.bytes), known ? fmt::format("{:.6f}", derived.nmse) : "",
                        known && derived.nmse != 0 ? DecibelText(derived.sqnr_db) : "");
  }
  if (const Sum& all = content.quantized; all.stats.tensors != 0) {
    const DerivedStats derived = Derive(all.stats.total);
    text +=
        fmt::format("\nAll {} quantized tensors together: NMSE {:.6f}, SQNR {}, largest error {:.6g} in {}.\n",
                    all.stats.tensors, derived.nmse, derived.nmse == 0 ? "without error" : DecibelText(derived.sqnr_db),
                    all.stats.total.max_abs_err, CodeSpan(all.stats.max_abs_err_tensor));
  }
  if (!content.worst_tensor.empty()) {
    text += fmt::format("The tensor that lost most for its size: {}, NMSE {:.6f}.\n", CodeSpan(content.worst_tensor),
                        content.worst_nmse);
  }
  if (request.decoded != 0) {
    text += fmt::format("{} of the quantized tensors are written decoded here, in 16 or 32 bits.\n", request.decoded);
  }
  return text + "NMSE is the sum of squared errors over the sum of squared weights, SQNR the same in decibels.\n\n";
}

std::string SizeText(const Q4Model& model, const ProvenanceView& provenance, const CardRequest& request) {
  std::uint64_t before = 0, after = request.output_bytes;
  for (const SourceFileRecord& file : provenance.sources) before += file.size;
  if (request.of == CardRequest::Of::kContainer) {
    after = 0;
    for (const auto& shard : model.shards()) after += shard->file().size();
  }
  return fmt::format("Weights took {} before and take {} now ({}).\n\n", HumanBytes(before), HumanBytes(after),
                     Percent(after, before));
}

std::string LoadText(const CardRequest& request, const Library& library) {
  std::string text = "## Use\n\n";
  if (request.of == CardRequest::Of::kContainer) {
    if (library.name == "transformers") {
      text += "```python\nimport q4.transformers\n\nmodel = q4.transformers.load(\"MODEL.q4\")\n```\n\n";
    } else if (library.name == "diffusers") {
      text += "```python\nimport q4.diffusers\n\nmodel = q4.diffusers.load_component(\"MODEL.q4\")\n```\n\n";
    }
    return text +
           "```sh\nq4inspect MODEL.q4                       # what is in it\n"
           "q4export MODEL.q4 -o MODEL-bnb --to bnb  # a folder for transformers and vLLM\n```\n\n";
  }
  const char* const needs = request.of == CardRequest::Of::kBitsandbytes ? "   # needs bitsandbytes" : "";
  if (library.name == "diffusers" && !library.model.empty()) {
    text += fmt::format(
        "```python\nimport torch\nfrom diffusers import {0}\n\n"
        "model = {0}.from_pretrained(\"THIS_FOLDER\", torch_dtype=torch.bfloat16){1}\n```\n\n",
        library.model, needs);
  } else if (library.name == "sentence-transformers") {
    text += fmt::format(
        "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        "model = SentenceTransformer(\"THIS_FOLDER\"){}\n```\n\n",
        needs);
  } else if (library.name == "transformers") {
    text += fmt::format(
        "```python\nfrom transformers import {0}\n\n"
        "model = {0}.from_pretrained(\"THIS_FOLDER\", device_map=\"auto\"){1}\n```\n\n",
        library.generates ? "AutoModelForCausalLM" : "AutoModel", needs);
    if (library.generates) text += "```sh\nvllm serve THIS_FOLDER\n```\n\n";
  } else {
    text += "The weights are in the `.safetensors` files.\n\n";
  }
  return text;
}

std::string SealText(const Q4Model& model, const ProvenanceView& provenance, const CardRequest& request) {
  const std::string root = HexOf(model.root());
  std::string text = fmt::format(
      "## Seal\n\n{} with the root `sha256:{}`, converted by {} ({}).\n\n```sh\n"
      "q4verify MODEL.q4 --root sha256:{} --against ORIGINAL\n```\n\n",
      request.of == CardRequest::Of::kContainer ? "The container" : "Exported from the container", root,
      Printable(provenance.tool()), Printable(provenance.numerics), root);
  constexpr std::size_t kMostSources = 50;
  if (provenance.sources.empty()) return text;
  text += "Made of:\n\n| file | bytes | digest |\n|---|---|---|\n";
  for (std::size_t i = 0; i < std::min(kMostSources, provenance.sources.size()); ++i) {
    const SourceFileRecord& file = provenance.sources[i];
    text +=
        fmt::format("| {} | {} | `{}:{}` |\n", CodeSpan(file.name), Grouped(file.size), file.digest_kind, file.digest);
  }
  if (provenance.sources.size() > kMostSources) {
    text += fmt::format("| and {} more | | |\n", provenance.sources.size() - kMostSources);
  }
  return text + "\n";
}

}  // namespace

bool IsModelName(std::string_view name) {
  if (name.empty() || name.size() > 200) return false;
  std::size_t slashes = 0;
  char before = '/';
  for (const char c : name) {
    const bool word = absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_';
    if (c == '/') ++slashes;
    // Neither part is empty or begins or ends with what is no letter, digit or underscore.
    if (!word && (c == '/' ? before == '-' || before == '.' || before == '/' : c != '-' && c != '.')) return false;
    if (!word && c != '/' && before == '/') return false;
    before = c;
  }
  return slashes <= 1 && before != '/' && before != '-' && before != '.';
}

bool IsOurCard(std::string_view text) {
  // Behind a head of no more than what HeadText() writes.
  const std::size_t at = text.substr(0, 8192).find(kMark);
  return text.starts_with("---\n") && at != std::string_view::npos && text.substr(0, at).ends_with("\n---\n\n");
}

const Q4EmbeddedFile* FindCard(const Q4Model& model) {
  const Q4EmbeddedFile* other = nullptr;
  for (const Q4EmbeddedFile& file : model.shards().front()->index().files) {
    if (file.name == kCardName) return &file;
    if (absl::AsciiStrToLower(file.name) == "readme.md") other = &file;
  }
  return other;
}

absl::StatusOr<std::string> ReadCardHead(const Q4Model& model, const Q4EmbeddedFile& file) {
  // Its first chunk, however large it is. Embedded files lie in the first shard.
  std::string text;
  const absl::Status status =
      model.shards().front()->ReadFileChunks(file, [&text](std::uint64_t, std::span<const std::uint8_t> bytes) {
        text.assign(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(std::min(bytes.size(), kCardHeadBytes)));
        return absl::CancelledError("the rest is not wanted");
      });
  if (text.empty()) Q4_RETURN_IF_ERROR(status);
  return text;
}

absl::StatusOr<std::string> ModelCard(const Q4Model& model, const ModelConfigs& configs, const CardRequest& request) {
  Q4_ASSIGN_OR_RETURN(const ProvenanceView provenance, ReadProvenance(model));
  CardHead head;
  if (const Q4EmbeddedFile* const card = FindCard(model); card != nullptr) {
    Q4_ASSIGN_OR_RETURN(const std::string text, ReadCardHead(model, *card));
    head = ParseCardHead(text);
  }
  const Library library = LibraryOf(configs);
  const Content content = ContentOf(model);
  std::string text = HeadText(request, library, head, content);
  const std::string what = request.of == CardRequest::Of::kContainer      ? "in 4 bits, a q4 container"
                           : request.of == CardRequest::Of::kBitsandbytes ? "in 4 bits, for bitsandbytes"
                                                                          : "decoded from 4 bits";
  const std::string name = !request.base_model.empty() ? request.base_model
                           : !library.model.empty()    ? library.model
                                                       : "A model";
  text += fmt::format("# {} {}\n\n", name, what);
  if (!request.original.empty()) {
    text += fmt::format("The card of the original is [{0}]({0}).\n\n", request.original);
  }
  if (request.of == CardRequest::Of::kContainer && FindCard(model) != nullptr) {
    text += "The card of the original is inside; an export writes it out beside the model.\n\n";
  }
  text += WeightsText(request, content) + SizeText(model, provenance, request) + LoadText(request, library) +
          SealText(model, provenance, request);
  while (text.ends_with("\n\n")) text.pop_back();
  return text;
}

}  // namespace q4
