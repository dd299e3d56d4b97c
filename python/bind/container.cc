// A container that is open: what its index says, its embedded files, and loading from it.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "formats/base/status.h"
#include "formats/q4/shards.h"
#include "libconvert/base/machine.h"
#include "libconvert/engine/device.h"
#include "libconvert/inspect/inspect.h"
#include "libconvert/inspect/json.h"
#include "libconvert/load/load.h"
#include "libconvert/load/load_issues.h"
#include "libconvert/model/content_identity.h"
#include "libconvert/model/open_model.h"
#include "libconvert/model/provenance_view.h"
#include "python/bind/loaded.h"
#include "python/bind/module.h"
#include "python/bind/status_error.h"
#include "python/bind/text.h"
#include "python/bind/watched_run.h"

namespace nb = nanobind;

namespace q4::python {
namespace {

// Immutable but for what is read at the first question; thread-safe, with the interpreter's lock or without it.
class Container {
 public:
  Container(OpenedModel model, std::optional<Sha256> root) : model_(std::move(model)), root_(root) {}

  const Q4Model& model() const { return *model_.container; }
  const std::optional<Sha256>& pinned() const { return root_; }

  // What q4inspect says of one tensor, with its statistics.
  absl::StatusOr<std::string> InspectJson(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    if (!report_) {
      Q4_ASSIGN_OR_RETURN(report_, InspectModel(PosixFileSystem(), model_));
    }
    InspectDetail detail;
    detail.tensors = {FindTensor(*report_, name)};
    if (detail.tensors.front() == nullptr) return NoSuchTensor(name);
    detail.list_tensors = detail.stats = true;
    return InspectReportJson(*report_, detail);
  }

  absl::Status NoSuchTensor(const std::string& name) const {
    return Fail(kLoadNoSuchTensor, model().path(), "tensor '" + name + "'");
  }

 private:
  OpenedModel model_;
  std::optional<Sha256> root_;
  mutable std::mutex mutex_;
  mutable std::optional<InspectReport> report_;  // guarded by mutex_
};

// `pin`: whether loads must be of this root too.
absl::StatusOr<std::unique_ptr<Container>> OpenAt(const std::string& path, const std::optional<std::string>& root,
                                                  bool pin) {
  std::optional<Sha256> wanted;
  if (root) {
    wanted = ParseQ4Root(*root);
    if (!wanted) return Fail(kLoadOption, {}, "root", GotExpected(*root, "sha256: and 64 hex digits"));
  }
  OpenedModel model;
  model.path = path;
  Q4_ASSIGN_OR_RETURN(model.container, OpenContainer(PosixFileSystem(), path, wanted));
  return std::make_unique<Container>(std::move(model), pin ? wanted : std::nullopt);
}

std::unique_ptr<Container> Open(const nb::bytes& path, const std::optional<std::string>& root, bool pin) {
  const std::string file = TextOf(path);
  return RunWatched<std::unique_ptr<Container>>(
      nb::none(), [&](const ProgressCallback&, CancelFlag*) { return OpenAt(file, root, pin); });
}

// (shape, dtype, scheme or None, block size, nested, elements, bytes in memory)
nb::object Facts(const Container& container, const std::string& name) {
  const Q4Model::Location* at = container.model().Find(name);
  if (at == nullptr) return nb::none();
  const Q4Tensor& tensor = container.model().tensor(*at);
  std::uint64_t bytes = tensor.nested ? sizeof(float) : 0;
  for (const Q4PartEntry& part : tensor.parts()) bytes += part.raw_bytes;
  nb::object scheme = nb::none();
  if (tensor.scheme != Q4Scheme::kRaw) scheme = nb::cast(std::string(Q4SchemeName(tensor.scheme)));
  return nb::make_tuple(nb::tuple(nb::cast(tensor.shape)), std::string(DTypeName(tensor.dtype)), scheme,
                        tensor.block_size, tensor.nested, tensor.elems, bytes);
}

std::vector<std::string> Names(const Container& container) {
  std::vector<std::string> names;
  names.reserve(container.model().tensors().size());
  for (const Q4Model::Location& at : container.model().tensors()) names.push_back(container.model().tensor(at).name);
  return names;
}

// (name, bytes) of each embedded file.
nb::list Files(const Container& container) {
  nb::list files;
  for (const Q4EmbeddedFile& file : container.model().shards().front()->index().files) {
    files.append(nb::make_tuple(file.name, file.raw_bytes));
  }
  return files;
}

nb::bytes ReadEmbedded(const Container& container, const std::string& name) {
  const auto read = [&](const ProgressCallback&, CancelFlag*) { return container.model().ReadFile(name); };
  const auto content = RunWatched<std::string>(nb::none(), read);
  return nb::bytes(content.data(), content.size());
}

// As q4inspect --content: of what is compressed the payload is read. nullopt of one shard alone.
std::optional<std::string> ContentOf(const Container& container) {
  const Q4Model& model = container.model();
  if (model.shards().size() != model.shards().front()->index().shard_count) return std::nullopt;
  const Sha256 content = RunWatched<Sha256>(nb::none(), [&](const ProgressCallback&, CancelFlag* cancel) {
    return ContentIdentity(model, DefaultThreads(), cancel);
  });
  return "sha256:" + HexOf(content);
}

// Option texts of load(), each with what it stands for.
template <typename T>
struct Choice {
  std::string_view name;
  T value;
};
constexpr Choice<LoadForm> kForms[] = {{"quantized", LoadForm::kQuantized}, {"flat", LoadForm::kFlatScales},
                                       {"source", LoadForm::kSource},       {"float32", LoadForm::kF32},
                                       {"float16", LoadForm::kF16},         {"bfloat16", LoadForm::kBF16}};
constexpr Choice<LoadCheck> kChecks[] = {
    {"none", LoadCheck::kNone}, {"xxh3", LoadCheck::kXxh3}, {"sha256", LoadCheck::kSha256}};

template <typename T, std::size_t count>
absl::StatusOr<T> Chosen(const Choice<T> (&choices)[count], std::string_view option, const std::string& text) {
  std::string names;
  for (const Choice<T>& choice : choices) {
    if (choice.name == text) return choice.value;
    names += (names.empty() ? "" : ", ") + std::string(choice.name);
  }
  return Fail(kLoadOption, {}, option, GotExpected(text, "one of " + names));
}

// cpu, cuda, cuda:N, or auto: the first GPU where there is one. The number of the GPU, or -1.
struct Place {
  std::unique_ptr<LoadMemory> memory;
  int cuda_device = -1;
};
absl::StatusOr<Place> OpenPlace(const std::string& device) {
  Q4_ASSIGN_OR_RETURN(const DeviceChoice choice, ParseDevice(device));
  if (choice.cuda.size() > 1) return Fail(kLoadOption, {}, "device", GotExpected(device, "one device"));
  if (choice.kind == DeviceChoice::Kind::kCpu) return Place{MakeHostMemory(), -1};
  const int number = choice.cuda.empty() ? 0 : choice.cuda.front();
  absl::StatusOr<std::unique_ptr<LoadMemory>> memory = MakeCudaMemory(number);
  if (!memory.ok() && choice.kind == DeviceChoice::Kind::kAuto) return Place{MakeHostMemory(), -1};
  if (!memory.ok()) return memory.status();
  return Place{*std::move(memory), number};
}

constexpr std::int64_t kMostThreads = 1024;  // as the tools' --threads

Loaded Load(const Container& container, std::vector<std::string> names, const std::string& device,
            const std::string& form, const std::string& check, std::int64_t threads, const nb::object& progress) {
  LoadOptions options;
  options.form = ValueOf(Chosen(kForms, "form", form));
  options.check = ValueOf(Chosen(kChecks, "check", check));
  options.tensors = std::move(names);
  options.root = container.pinned();
  if (threads < 0 || threads > kMostThreads) {
    throw StatusError(
        Fail(kLoadOption, {}, "threads", GotExpected(std::to_string(threads), "0 to " + std::to_string(kMostThreads))));
  }
  options.threads = static_cast<unsigned>(threads);
  return RunWatched<Loaded>(
      progress, [&](const ProgressCallback& callback, CancelFlag* cancel) -> absl::StatusOr<Loaded> {
        options.progress = callback;
        options.cancel = cancel;
        Q4_ASSIGN_OR_RETURN(const Place place, OpenPlace(device));
        Q4_ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(container.model(), *place.memory, options));
        return Loaded{std::make_shared<const LoadedModel>(std::move(loaded)), place.cuda_device};
      });
}

}  // namespace

void BindContainer(nb::module_& module) {
  module.def("open", &Open, nb::arg("path"), nb::arg("root").none(), nb::arg("pin"),
             "Opens a container or a list of shards: header and index alone.");
  nb::class_<Container>(module, "Container", "An open container.")
      .def_prop_ro("root", [](const Container& container) { return "sha256:" + HexOf(container.model().root()); })
      .def_prop_ro("provenance", [](const Container& container) { return ModelProvenance(container.model()); })
      .def_prop_ro("file_bytes",
                   [](const Container& container) {
                     std::uint64_t bytes = 0;
                     for (const auto& shard : container.model().shards()) bytes += shard->seal().file_bytes;
                     return bytes;
                   })
      .def("content_identity", &ContentOf,
           "\"sha256:...\" of tensors, settings and files; None of one shard of several.")
      .def("names", &Names, "Of all tensors, bytewise sorted.")
      .def("facts", &Facts, nb::arg("name"), nb::sig("def facts(self, name: str) -> tuple[Any, ...] | None"),
           "(shape, dtype, scheme, block size, nested, elements, bytes) of a tensor; None where there is none.")
      .def(
          "inspect_json",
          [](const Container& container, const std::string& name) {
            return RunWatched<std::string>(
                nb::none(), [&](const ProgressCallback&, CancelFlag*) { return container.InspectJson(name); });
          },
          nb::arg("name"), "The document of q4inspect --tensor NAME --json.")
      .def("files", &Files, nb::sig("def files(self) -> list[tuple[str, int]]"), "(name, bytes) of each embedded file.")
      .def("read_file", &ReadEmbedded, nb::arg("name"))
      .def("load", &Load, nb::arg("names"), nb::arg("device"), nb::arg("form"), nb::arg("check"), nb::arg("threads"),
           nb::arg("progress").none(), "Tensors in memory; no names: all.");
}

}  // namespace q4::python
