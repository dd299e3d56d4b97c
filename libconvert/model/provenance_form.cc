// The form is a table: an object has the members of its rows and no others. A member that is to come has a row now,
// with the form that it will have, so that containers which carry it can be read by versions that do not write it.
//
// Canonical means one text for one content: members in bytewise order, no white space, and strings and numbers as the
// writer's own JSON writer puts them. So the document is written again and compared, which also finds what the table
// does not ask for, as 1.0 for 1.
#include "libconvert/model/provenance_form.h"

#include <algorithm>
#include <set>
#include <span>
#include <string>

#include "fmt/format.h"
#include "formats/base/file.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/q4/q4_issues.h"
#include "formats/source/modules.h"
#include "libconvert/base/version.h"

namespace q4 {
namespace {

enum class ValueForm : std::uint8_t {
  kText,
  kTextOrNull,
  kCount,
  kBool,
  kHex16,
  kHex64,
  kTable16,
  kTable256,
  kFileName,
  kObject,
  kArray
};

struct MemberForm;
struct ObjectForm {
  std::span<const MemberForm> members;
  // Of alternatives exactly one stands in the object: a digest of either kind.
  bool one_of = false;
  // A document may leave all of it out, as {}: nothing is recorded then.
  bool may_be_empty = false;
};
struct MemberForm {
  std::string_view name;
  ValueForm value = ValueForm::kText;
  bool required = true;
  // Of the object, or of each element of the array.
  const ObjectForm* object = nullptr;
};

// `sha256` and `xxh3` are alternatives: FileMembers() asks for exactly one of what is not required here.
constexpr MemberForm kFileMembers[] = {{"name", ValueForm::kFileName},
                                       {"sha256", ValueForm::kHex64, false},
                                       {"size", ValueForm::kCount},
                                       {"xxh3", ValueForm::kHex16, false}};
constexpr ObjectForm kFileForm{kFileMembers, /*one_of=*/true};

constexpr MemberForm kBnbWeightMembers[] = {
    {"name"}, {"quant_state", ValueForm::kText, false}, {"storage", ValueForm::kText, false}};
constexpr ObjectForm kBnbWeightForm{kBnbWeightMembers};
constexpr MemberForm kBnbRunMembers[] = {{"file", ValueForm::kCount}, {"tensors", ValueForm::kCount}};
constexpr ObjectForm kBnbRunForm{kBnbRunMembers};
constexpr MemberForm kBnbIndexMembers[] = {{"total_parameters", ValueForm::kCount, false},
                                           {"total_size", ValueForm::kCount, false}};
constexpr ObjectForm kBnbIndexForm{kBnbIndexMembers};
constexpr MemberForm kBnbMembers[] = {{"files", ValueForm::kArray, false, &kBnbRunForm},
                                      {"fp4_map", ValueForm::kTable16, false},
                                      {"index", ValueForm::kObject, false, &kBnbIndexForm},
                                      {"nested_map", ValueForm::kTable256, false},
                                      {"nf4_map", ValueForm::kTable16, false},
                                      {"storage", ValueForm::kText, false},
                                      {"weights", ValueForm::kArray, false, &kBnbWeightForm}};
constexpr ObjectForm kBnbForm{kBnbMembers};

constexpr MemberForm kCalibrationMembers[] = {{"files", ValueForm::kArray, true, &kFileForm},
                                              {"tokens", ValueForm::kCount}};
constexpr ObjectForm kCalibrationForm{kCalibrationMembers};

constexpr MemberForm kFilesMembers[] = {{"files", ValueForm::kArray, true, &kFileForm}};
constexpr ObjectForm kAdapterForm{kFilesMembers};

constexpr MemberForm kLeftOutMembers[] = {{"name"}, {"reason"}, {"warning", ValueForm::kBool}};
constexpr ObjectForm kLeftOutForm{kLeftOutMembers};

constexpr MemberForm kPatternMembers[] = {{"exclude", ValueForm::kText, false}, {"include", ValueForm::kText, false}};
constexpr ObjectForm kPatternForm{kPatternMembers, /*one_of=*/true};

constexpr MemberForm kOptionMembers[] = {{"block_size", ValueForm::kCount},
                                         {"compress"},
                                         {"double_quant", ValueForm::kBool},
                                         {"effort", ValueForm::kCount, false},
                                         {"encoder"},
                                         {"keep_dtype"},
                                         {"on_nonfinite"},
                                         {"patterns", ValueForm::kArray, true, &kPatternForm},
                                         {"recipe", ValueForm::kTextOrNull},
                                         {"shard_by", ValueForm::kText, false},
                                         {"shard_size", ValueForm::kCount},
                                         {"type"}};
constexpr ObjectForm kOptionsForm{kOptionMembers, false, /*may_be_empty=*/true};

// The first document is a whole one, whose form is below.
extern const ObjectForm kDocumentForm;
constexpr MemberForm kParentMembers[] = {{"first", ValueForm::kObject, false, &kDocumentForm},
                                         {"root", ValueForm::kHex64}};
constexpr ObjectForm kParentForm{kParentMembers};

constexpr MemberForm kSourceMembers[] = {
    {"files", ValueForm::kArray, true, &kFileForm}, {"format"}, {"quantized", ValueForm::kText, false}};
constexpr ObjectForm kSourceForm{kSourceMembers};

constexpr MemberForm kToolMembers[] = {{"name"}, {"version"}};
constexpr ObjectForm kToolForm{kToolMembers};

constexpr MemberForm kDocumentMembers[] = {{"adapter", ValueForm::kObject, false, &kAdapterForm},
                                           {"bitsandbytes", ValueForm::kObject, false, &kBnbForm},
                                           {"calibration", ValueForm::kObject, false, &kCalibrationForm},
                                           {"left_out", ValueForm::kArray, false, &kLeftOutForm},
                                           {"numerics"},
                                           {"options", ValueForm::kObject, true, &kOptionsForm},
                                           {"parent", ValueForm::kObject, false, &kParentForm},
                                           {"plan", ValueForm::kHex64, false},
                                           {"source", ValueForm::kObject, true, &kSourceForm},
                                           {"tool", ValueForm::kObject, true, &kToolForm}};
constexpr ObjectForm kDocumentForm{kDocumentMembers};  // NOLINT(readability-redundant-declaration)

bool IsHex(const Json& value, std::size_t digits) {
  if (!value.is_string()) return false;
  const std::string& text = value.get_ref<const std::string&>();
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// Plain, or with the module folder that the file lies in.
bool IsFileName(const Json& value) {
  if (!value.is_string()) return false;
  const std::string& text = value.get_ref<const std::string&>();
  const std::string base = BaseNameOf(text);
  const bool in_folder = text.find('/') != std::string::npos;
  return !base.empty() && base != "." && base != ".." && (!in_folder || IsModuleFolder(DirectoryOf(text)));
}

class FormCheck {
 public:
  explicit FormCheck(std::string_view path) : path_(path) {}

  absl::Status Object(const Json& value, const ObjectForm& form, const std::string& where) const {
    if (!value.is_object()) return Wrong(where, "expected an object");
    if (form.may_be_empty && value.empty()) return absl::OkStatus();
    std::string_view before;
    std::size_t optional = 0;
    for (const auto& [name, member] : value.items()) {
      const std::string place = where.empty() ? name : where + "." + name;
      // Bytewise, as std::string_view compares.
      if (std::string_view(name) <= before && !before.empty()) return Wrong(place, "members are not sorted");
      const auto row = std::find_if(form.members.begin(), form.members.end(),
                                    [&name = name](const MemberForm& m) { return m.name == name; });
      if (row == form.members.end()) return Wrong(place, "no such member");
      before = row->name;
      optional += !row->required;
      Q4_RETURN_IF_ERROR(Value(member, *row, place));
    }
    for (const MemberForm& member : form.members) {
      if (member.required && !value.contains(member.name)) return Wrong(where, fmt::format("'{}' lacks", member.name));
    }
    if (form.one_of && optional != 1) return Wrong(where, Alternatives(form));
    return absl::OkStatus();
  }

 private:
  static std::string Alternatives(const ObjectForm& form) {
    std::string names;
    for (const MemberForm& member : form.members) {
      if (!member.required) names += (names.empty() ? "expected one of " : ", ") + std::string(member.name);
    }
    return names;
  }

  absl::Status Value(const Json& value, const MemberForm& form, const std::string& where) const {
    const auto need = [&](bool holds, std::string_view expected) {
      return holds ? absl::OkStatus() : Wrong(where, fmt::format("expected {}", expected));
    };
    switch (form.value) {
      case ValueForm::kText:
        return need(value.is_string(), "text");
      case ValueForm::kTextOrNull:
        return need(value.is_string() || value.is_null(), "text or null");
      case ValueForm::kCount:
        return need(value.is_number_unsigned(), "a whole number");
      case ValueForm::kBool:
        return need(value.is_boolean(), "true or false");
      case ValueForm::kHex16:
        return need(IsHex(value, 16), "16 digits of lower-case hex");
      case ValueForm::kHex64:
        return need(IsHex(value, 64), "64 digits of lower-case hex");
      case ValueForm::kTable16:
        return need(IsHex(value, std::size_t{16} * 8), "16 fp32 values as lower-case hex");
      case ValueForm::kTable256:
        return need(IsHex(value, std::size_t{256} * 8), "256 fp32 values as lower-case hex");
      case ValueForm::kFileName:
        return need(IsFileName(value), "a file's name, plain or in a module folder");
      case ValueForm::kObject:
        if (!form.required && value.is_object() && value.empty())
          return Wrong(where, "is empty, and so must be absent");
        return Object(value, *form.object, where);
      case ValueForm::kArray:
        break;
    }
    if (!value.is_array()) return Wrong(where, "expected an array");
    // What is absent where there is nothing has no second way to say so.
    if (!form.required && value.empty()) return Wrong(where, "is empty, and so must be absent");
    std::set<std::string_view> files;
    for (std::size_t i = 0; i < value.size(); ++i) {
      const std::string place = fmt::format("{}[{}]", where, i);
      Q4_RETURN_IF_ERROR(Object(value[i], *form.object, place));
      if (form.object != &kFileForm) continue;
      const std::string& name = value[i]["name"].get_ref<const std::string&>();
      if (!files.insert(name).second) return Wrong(place, "'" + name + "' is listed twice");
    }
    return absl::OkStatus();
  }

  absl::Status Wrong(std::string_view where, std::string_view what) const {
    return Fail(kQ4ProvenanceForm, path_, where.empty() ? "provenance" : fmt::format("provenance, {}", where), what);
  }

  const std::string_view path_;
};

}  // namespace

absl::StatusOr<Json> ParseProvenanceForm(std::string_view text, std::string_view path) {
  absl::StatusOr<Json> document = ParseJson(text, path, limits::kConfigJsonDepth);
  // Damage of a container, not a wrong input: its own rule and exit code.
  if (!document.ok()) return Fail(kQ4ProvenanceForm, path, "provenance", MessageOf(document.status()));
  // Before the form, which a later schema may change. Schema 1 says so by naming none.
  if (const Json* const schema = FindMember(*document, "schema"); schema != nullptr) {
    if (!schema->is_number_unsigned() || schema->get<std::uint64_t>() < 2) {
      return Fail(kQ4ProvenanceForm, path, "provenance, schema", "expected a number from 2 on, or no such member");
    }
    return Fail(kQ4ProvenanceNewer, path, "provenance, schema",
                GotExpected(fmt::to_string(schema->get<std::uint64_t>()), "1, which is not written"));
  }
  Q4_RETURN_IF_ERROR(FormCheck(path).Object(*document, kDocumentForm, ""));
  if (const std::string numerics = document->at("numerics"); numerics != kNumericsVersion) {
    return Fail(kQ4ProvenanceNewer, path, "provenance, numerics", GotExpected(numerics, kNumericsVersion));
  }
  if (document->dump() != text) {
    return Fail(kQ4ProvenanceForm, path, "provenance", "the same content has another, canonical text");
  }
  return document;
}

}  // namespace q4
