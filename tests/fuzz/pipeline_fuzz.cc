// The lists of a pipeline: model_index.json of diffusers, and q4-pipeline.json, the seal of a converted one. The input
// is a text that is read as both. An index that is accepted says the same when it is written anew, and the seal of the
// pipeline that it describes is accepted too; a seal that is accepted names only files inside of its folder.
#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/folder/pipeline_index.h"
#include "libconvert/components/seal.h"
#include "tests/fuzz/fuzz_target.h"

namespace q4::fuzz {
namespace {

bool IsSameMember(const PipelineMember& a, const PipelineMember& b) {
  return a.name == b.name && a.library == b.library && a.class_name == b.class_name;
}

void CheckIndex(const PipelineIndex& index) {
  Q4_FUZZ_CHECK(!index.members.empty() && index.members.size() <= limits::kComponents);
  std::set<std::string> names;
  for (const PipelineMember& member : index.members) {
    Q4_FUZZ_CHECK(IsComponentName(member.name) && (names.empty() || *names.rbegin() < member.name));
    names.insert(member.name);
  }
  for (const std::string& name : index.absent) Q4_FUZZ_CHECK(IsComponentName(name) && names.insert(name).second);
  Q4_FUZZ_CHECK(std::is_sorted(index.absent.begin(), index.absent.end()));

  Json json;
  json["_class_name"] = index.class_name;
  if (!index.code.empty()) json["_class_name"] = Json::array({index.code, index.class_name});
  for (const PipelineMember& member : index.members)
    json[member.name] = Json::array({member.library, member.class_name});
  for (const std::string& name : index.absent) json[name] = Json::array({nullptr, nullptr});
  const auto again = ParsePipelineIndex(json.dump(), "model_index.json");
  Q4_FUZZ_CHECK(again.ok() && again->class_name == index.class_name && again->code == index.code);
  Q4_FUZZ_CHECK(std::equal(again->members.begin(), again->members.end(), index.members.begin(), index.members.end(),
                           IsSameMember));
  Q4_FUZZ_CHECK(again->absent == index.absent);
}

// What a conversion of this pipeline would seal: every second component as a container, the others carried.
PipelineSeal SealOf(const PipelineIndex& index) {
  PipelineSeal seal;
  seal.tool_version = "1.0.0";
  seal.class_name = index.class_name;
  const std::string digest(64, 'a');
  for (const PipelineMember& member : index.members) {
    SealedComponent& component = seal.components.emplace_back();
    component.name = member.name;
    component.library = member.library;
    component.class_name = member.class_name;
    std::string path = member.name + "/config.json";
    if (seal.components.size() % 2 == 1) {
      component.container = path = member.name + "/model.q4";
      component.root = digest;
    }
    seal.files.push_back({path, seal.files.size(), digest});
  }
  std::sort(seal.files.begin(), seal.files.end(),
            [](const SealedFile& a, const SealedFile& b) { return a.path < b.path; });
  for (const std::string& name : index.absent) seal.left_out.push_back({name, "not there"});
  return seal;
}

void CheckSeal(const PipelineSeal& seal, std::string_view text) {
  Q4_FUZZ_CHECK(EncodePipelineSeal(seal) == text);
  std::set<std::string> files, components;
  for (const SealedFile& file : seal.files) {
    Q4_FUZZ_CHECK(files.insert(file.path).second && file.path != kPipelineSealName && file.sha256.size() == 64);
    const std::string inside = "/" + file.path + "/";
    Q4_FUZZ_CHECK(inside.find("//") == std::string::npos && inside.find("/../") == std::string::npos);
    Q4_FUZZ_CHECK(inside.find("/./") == std::string::npos && inside.find_first_of("\\:") == std::string::npos);
  }
  for (const SealedComponent& component : seal.components) {
    Q4_FUZZ_CHECK(IsComponentName(component.name) && components.insert(component.name).second);
    Q4_FUZZ_CHECK(component.container.empty() == component.root.empty());
    if (component.container.empty()) continue;
    Q4_FUZZ_CHECK(files.count(component.container) == 1 && component.root.size() == 64);
    Q4_FUZZ_CHECK(component.container.starts_with(component.name + "/"));
  }
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(pipeline) {
  using namespace q4;
  const std::string_view text = fuzz::TextOf(data, size);
  if (const auto index = ParsePipelineIndex(text, "model_index.json"); index.ok()) {
    fuzz::CheckIndex(*index);
    const std::string sealed = EncodePipelineSeal(fuzz::SealOf(*index));
    const auto seal = ParsePipelineSeal(sealed, kPipelineSealName);
    if (!seal.ok()) fuzz::CheckError(seal.status());
    // Whatever is converted can be read back.
    Q4_FUZZ_CHECK(seal.ok() && EncodePipelineSeal(*seal) == sealed);
  } else {
    fuzz::CheckError(index.status());
  }
  if (const auto seal = ParsePipelineSeal(text, kPipelineSealName); seal.ok()) {
    fuzz::CheckSeal(*seal, text);
  } else {
    fuzz::CheckError(seal.status());
  }
  return 0;
}
