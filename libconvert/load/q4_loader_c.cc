// Loads into memory of the loader's own. Everything but the translation of options and tensors is load.h's.
#include "libconvert/load/q4_loader_c.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "formats/base/status.h"
#include "libconvert/load/c_interface.h"
#include "libconvert/load/load.h"
#include "libconvert/load/load_issues.h"

struct q4_model {
  q4::c::OpenedModel opened;  // the tensors do not need it
  q4::LoadedModel loaded;
};

namespace {

using q4::c::BadArgument;
using q4::c::Guarded;

absl::Status Load(const char* path, const std::optional<q4::Sha256>& root, const q4_load_options& in, q4_model* model) {
  q4::LoadOptions options;
  Q4_ASSIGN_OR_RETURN(options.tensors, q4::c::TensorsOf(in.tensors, in.tensor_count));
  Q4_ASSIGN_OR_RETURN(options.form, q4::c::FormOf(in.form));
  Q4_ASSIGN_OR_RETURN(options.check, q4::c::CheckOf(in.check));
  options.threads = in.threads;
  options.root = root;
  if (in.device < Q4_DEVICE_HOST) return BadArgument("device");
  Q4_ASSIGN_OR_RETURN(model->opened.files, q4::Q4Model::Open(q4::PosixFileSystem(), path));
  Q4_ASSIGN_OR_RETURN(const auto memory, q4::c::MemoryOf(in.device));
  Q4_ASSIGN_OR_RETURN(model->loaded, q4::LoadModel(*model->opened.files, *memory, options));
  return absl::OkStatus();
}

// Borrows every address from the model.
void Describe(const q4::LoadedTensor& from, q4_tensor* to) {
  // As the container says, whose fields stay in a dequantized form; but flat scales have no offset.
  const bool nested = from.entry.nested && from.scales == nullptr;
  q4::c::Describe(from.entry, from.shape, from.elems, from.dtype, nested, to);
  to->values = from.values;
  to->value_bytes = from.value_bytes;
  to->codes = from.codes;
  to->scales = from.scales;
  to->scale_codes = from.scale_codes;
  to->scales2 = from.scales2;
  to->nested_offset_word = from.nested_offset;
}

// Both ways to load; *model is NULL already.
absl::Status LoadOnThread(const char* path, const std::optional<q4::Sha256>& root, const q4_load_options* options,
                          q4_model** model) {
  if (path == nullptr) return BadArgument("path");
  const q4_load_options defaults = Q4_LOAD_OPTIONS_INIT;
  // Destroyed on every way out but success, with all memory that was allocated by then.
  auto result = std::make_unique<q4_model>();
  const absl::Status status =
      q4::c::OnOwnThread([&] { return Load(path, root, options != nullptr ? *options : defaults, result.get()); });
  if (status.ok()) *model = result.release();
  return status;
}

}  // namespace

uint32_t q4_loader_version(void) { return Q4_LOADER_VERSION; }

int q4_load(const char* path, const q4_load_options* options, q4_model** model) {
  return Guarded([&]() -> absl::Status {
    if (model == nullptr) return BadArgument("model");
    *model = nullptr;
    return LoadOnThread(path, std::nullopt, options, model);
  });
}

int q4_load_pinned(const char* path, const char* root, const q4_load_options* options, q4_model** model) {
  return Guarded([&]() -> absl::Status {
    if (model == nullptr) return BadArgument("model");
    *model = nullptr;
    Q4_ASSIGN_OR_RETURN(const q4::Sha256 pinned, q4::c::RootOf(root));
    return LoadOnThread(path, pinned, options, model);
  });
}

void q4_free(q4_model* model) { delete model; }

uint64_t q4_tensor_count(const q4_model* model) { return model == nullptr ? 0 : model->loaded.tensors.size(); }

int q4_get_tensor(const q4_model* model, uint64_t number, q4_tensor* tensor) {
  return Guarded([&]() -> absl::Status {
    if (model == nullptr || tensor == nullptr) return BadArgument("model or tensor");
    if (number >= model->loaded.tensors.size()) {
      return q4::Fail(q4::kLoadNoSuchTensor, model->opened.files->path(), "tensor " + std::to_string(number));
    }
    Describe(model->loaded.tensors[number], tensor);
    return absl::OkStatus();
  });
}

int q4_find_tensor(const q4_model* model, const char* name, q4_tensor* tensor) {
  return Guarded([&]() -> absl::Status {
    if (model == nullptr || name == nullptr || tensor == nullptr) return BadArgument("model, name or tensor");
    const q4::LoadedTensor* found = model->loaded.Find(name);
    if (found == nullptr) {
      return q4::Fail(q4::kLoadNoSuchTensor, model->opened.files->path(), "tensor '" + std::string(name) + "'");
    }
    Describe(*found, tensor);
    return absl::OkStatus();
  });
}

int q4_get_file(const q4_model* model, const char* name, const char** content, uint64_t* bytes) {
  return Guarded([&]() -> absl::Status {
    if (model == nullptr || name == nullptr || content == nullptr || bytes == nullptr) {
      return BadArgument("model, name, content or bytes");
    }
    return model->opened.GetFile(name, content, bytes);
  });
}
