// What a model takes from elsewhere. Code: configurations name classes (auto_map) that a loader takes from .py files
// beside them or from another repository. q4 never carries code, for a loader would execute what a container brought;
// so whoever converts or exports such a model is told what is missing. And other models: vLLM loads the one that a
// speculator is for, a processor its audio tokenizer. No verdict on this model speaks of them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/base/note.h"

namespace q4 {

// What the configurations of a model ask for. Names come from input and are not escaped.
struct CodeNeeds {
  std::vector<std::string> configs;       // that ask for code, in the order in which they were looked at
  std::vector<std::string> files;         // "modeling_my.py", beside the configuration; each once
  std::vector<std::string> repositories;  // "owner/name", from which a loader fetches code; each once
  std::vector<std::string> models;        // names or paths of models that a loader loads beside this one; each once
};

// Whether a file of this name, relative to the model's folder, may ask for code: those that AddCodeNeeds() reads.
bool MayNeedCode(std::string_view name);

// Adds what the configuration `name` asks for: its members auto_map, those of inner configurations too, and
// custom_pipelines, and those that name a model. A text that is no JSON object asks for nothing here; who needs it as
// one will say so.
void AddCodeNeeds(std::string_view name, std::string_view text, CodeNeeds* needs);

// One warning for the files, one for the repositories and one for the models, each where there are any: what is needed
// and what to do. `where`: "the source folder" or the like, where the files can be had.
std::vector<Note> CodeNotes(const CodeNeeds& needs, std::string_view where);

}  // namespace q4
