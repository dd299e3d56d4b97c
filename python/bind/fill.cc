// Loads into memory that others allocated, torch's above all; and what an export would write, for those who make in
// memory what a loader would find in its directory.
#include "libconvert/load/fill.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "formats/base/status.h"
#include "formats/q4/shards.h"
#include "libconvert/export/outline.h"
#include "libconvert/load/load_issues.h"
#include "libconvert/load/memory.h"
#include "libconvert/load/plan.h"
#include "libconvert/model/open_model.h"
#include "python/bind/module.h"
#include "python/bind/status_error.h"
#include "python/bind/text.h"
#include "python/bind/watched_run.h"
#include "tools/export_job.h"
#include "tools/options.h"

namespace nb = nanobind;

namespace q4::python {
namespace {

// A container that plans and outlines are made of. Immutable; plans share it.
struct Source {
  std::shared_ptr<const Q4Model> model;
  std::optional<Sha256> pinned;  // the root that what is loaded must have, too
};

struct Plan {
  std::shared_ptr<const Q4Model> model;
  std::optional<Sha256> pinned;
  LoadPlan plan;
};

Source OpenSource(const nb::bytes& path, const std::optional<std::string>& root, bool pin) {
  const std::string file = TextOf(path);
  return RunWatched<Source>(nb::none(), [&](const ProgressCallback&, CancelFlag*) -> absl::StatusOr<Source> {
    std::optional<Sha256> wanted;
    if (root) {
      wanted = ParseQ4Root(*root);
      if (!wanted) return Fail(kLoadOption, {}, "root", GotExpected(*root, "sha256: and 64 hex digits"));
    }
    Q4_ASSIGN_OR_RETURN(auto model, OpenContainer(PosixFileSystem(), file, wanted));
    return Source{std::shared_ptr<const Q4Model>(std::move(model)), pin ? wanted : std::nullopt};
  });
}

LoadForm FormOf(const std::string& form) {
  if (form == "quantized") return LoadForm::kQuantized;
  if (form == "flat") return LoadForm::kFlatScales;
  if (form == "source") return LoadForm::kSource;
  if (form == "float32") return LoadForm::kF32;
  if (form == "float16") return LoadForm::kF16;
  if (form == "bfloat16") return LoadForm::kBF16;
  throw StatusError(
      Fail(kLoadOption, {}, "form", GotExpected(form, "one of quantized, flat, source, float32, float16, bfloat16")));
}

// No names: all tensors.
std::shared_ptr<Plan> PlanOf(const Source& source, std::vector<std::string> names, const std::string& form) {
  LoadPlanOptions options;
  options.tensors = std::move(names);
  options.form = FormOf(form);
  return std::make_shared<Plan>(Plan{source.model, source.pinned, ValueOf(PlanLoad(*source.model, options))});
}

// (name of the tensor, name of the part, dtype, shape, bytes) of each, in the plan's order.
nb::list PartsOf(const Plan& plan) {
  nb::list parts;
  for (const LoadPart& part : plan.plan.parts) {
    parts.append(nb::make_tuple(plan.plan.tensors[part.tensor].entry->name, std::string(LoadPartName(part.kind)),
                                std::string(DTypeName(part.dtype)), nb::tuple(nb::cast(part.shape)), part.bytes));
  }
  return parts;
}

// (file, its bytes, [(part, offset)]) of each shard: the parts that its file holds as they are loaded.
nb::list StoredParts(const Plan& plan) {
  const auto& shards = plan.model->shards();
  std::vector<nb::list> parts(shards.size());
  for (std::size_t i = 0; i < plan.plan.parts.size(); ++i) {
    if (const auto place = StoredPlaceOf(plan.plan, i)) parts[place->shard].append(nb::make_tuple(i, place->offset));
  }
  nb::list files;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string& path = shards[i]->path();
    files.append(nb::make_tuple(nb::bytes(path.data(), path.size()), shards[i]->file().size(), parts[i]));
  }
  return files;
}

// `addresses`: of each part, memory of this process or of GPU `cuda_device`, which the caller keeps alive meanwhile.
// `mapped`: numbers of parts whose address is a private mapping of the file.
std::uint64_t Fill(const Plan& plan, const std::vector<std::uint64_t>& addresses, int cuda_device,
                   const std::optional<std::uint64_t>& stream, const std::string& check, const nb::object& progress,
                   const std::vector<std::size_t>& mapped) {
  if (addresses.size() != plan.plan.parts.size()) {
    throw StatusError(Fail(kLoadOption, {}, "addresses",
                           GotExpected(std::to_string(addresses.size()), std::to_string(plan.plan.parts.size()))));
  }
  LoadPlaces places;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    places.parts.emplace_back(reinterpret_cast<std::uint8_t*>(addresses[i]), plan.plan.parts[i].bytes);
  }
  if (!mapped.empty()) places.mapped.resize(addresses.size());
  for (const std::size_t part : mapped) places.mapped.at(part) = true;
  LoadFillOptions options;
  options.root = plan.pinned;
  if (check == "sha256") {
    options.check = LoadCheck::kSha256;
  } else if (check == "none") {
    options.check = LoadCheck::kNone;
  } else if (check != "xxh3") {
    throw StatusError(Fail(kLoadOption, {}, "check", GotExpected(check, "one of none, xxh3, sha256")));
  }
  if (stream) options.after_stream = reinterpret_cast<void*>(*stream);
  return RunWatched<std::uint64_t>(
      progress, [&](const ProgressCallback& callback, CancelFlag* cancel) -> absl::StatusOr<std::uint64_t> {
        options.progress = callback;
        options.cancel = cancel;
        std::unique_ptr<LoadMemory> memory = MakeHostMemory();
        if (cuda_device >= 0) {
          Q4_ASSIGN_OR_RETURN(memory, MakeCudaMemory(cuda_device));
        }
        return FillLoad(plan.plan, *memory, places, options);
      });
}

// Where a stored part of the container lies in a load.
std::string_view LoadedPartOf(const OutlinedTensor& tensor) {
  switch (tensor.part) {
    case Q4Part::kData:
      return LoadPartName(LoadPartKind::kValues);
    case Q4Part::kCodes:
      return LoadPartName(LoadPartKind::kCodes);
    case Q4Part::kScales:
      return LoadPartName(LoadPartKind::kScales);
    case Q4Part::kScaleCodes:
      return LoadPartName(LoadPartKind::kScaleCodes);
    case Q4Part::kScales2:
      return LoadPartName(LoadPartKind::kScales2);
  }
  return {};
}

// ([(name, dtype, shape, source, how, bytes, in 4 bits, expert, folder)], [(name, content)], [warning]). `how`: the
// name of a part of the source, "decoded", or "given", whose bytes are there. `words`: of q4export, whose output is not
// looked at.
nb::tuple Outline(const Source& source, const nb::sequence& words) {
  std::vector<std::string> texts;
  for (const nb::handle word : words) texts.push_back(TextOf(nb::cast<nb::bytes>(word)));
  std::vector<char*> argv;
  for (std::string& text : texts) argv.push_back(text.data());
  ExportFlags flags;
  ValueOf(ParseFlags(static_cast<int>(argv.size()), argv.data(), &flags));
  const ExportOptions options = ExportOptionsFrom(flags);
  const auto outline = RunWatched<ExportOutline>(
      nb::none(), [&](const ProgressCallback&, CancelFlag*) { return OutlineExport(*source.model, options); });
  nb::list tensors;
  for (const OutlinedTensor& tensor : outline.tensors) {
    std::string how(LoadedPartOf(tensor));
    nb::object bytes = nb::none();
    if (tensor.made == OutlinedTensor::Made::kDecoded) how = "decoded";
    if (tensor.made == OutlinedTensor::Made::kGiven) {
      how = "given";
      bytes = nb::bytes(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
    }
    tensors.append(nb::make_tuple(tensor.name, std::string(DTypeName(tensor.dtype)), nb::tuple(nb::cast(tensor.shape)),
                                  tensor.source, how, bytes, tensor.in_4bit, tensor.expert, tensor.folder));
  }
  nb::list files;
  for (const OutlinedFile& file : outline.files) {
    files.append(nb::make_tuple(file.name, nb::bytes(file.content.data(), file.content.size())));
  }
  return nb::make_tuple(tensors, files, outline.warnings);
}

}  // namespace

void BindFill(nb::module_& module) {
  nb::class_<Plan>(module, "FillPlan", "A load into memory of others.")
      .def("parts", &PartsOf, nb::sig("def parts(self) -> list[tuple[str, str, str, tuple[int, ...], int]]"),
           "(tensor, part, dtype, shape, bytes) of each.")
      .def("fill", &Fill, nb::arg("addresses"), nb::arg("cuda_device"), nb::arg("stream").none(), nb::arg("check"),
           nb::arg("progress").none(), nb::arg("mapped") = std::vector<std::size_t>(),
           "Loads every part to its address; the number of bytes that were read. A device of -1: this process's "
           "memory. `mapped`: parts whose address is a private mapping of the file, which are checked there.")
      .def("stored", &StoredParts, nb::sig("def stored(self) -> list[tuple[bytes, int, list[tuple[int, int]]]]"),
           "(file, its bytes, [(part, offset)]) of each shard: parts that its file holds as they are loaded.");
  nb::class_<Source>(module, "FillSource", "A container to load into memory of others.")
      .def_prop_ro("root", [](const Source& source) { return "sha256:" + HexOf(source.model->root()); })
      .def("plan", &PlanOf, nb::arg("names"), nb::arg("form"), "Of these tensors; no names: all.")
      .def("outline", &Outline, nb::arg("words"),
           nb::sig("def outline(self, words: Sequence[bytes]) -> tuple[list[tuple[Any, ...]], list[tuple[str, bytes]], "
                   "list[str]]"),
           "What an export would write: tensors, configurations, warnings.");
  module.def("fill_source", &OpenSource, nb::arg("path"), nb::arg("root").none(), nb::arg("pin"));
}

}  // namespace q4::python
