// Code of a model's own: configurations name classes (auto_map) that a loader takes from .py files beside them or from
// another repository. q4 never carries code, for a loader would execute what a container brought; so whoever converts
// or exports such a model is told what is missing.
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
};

// Whether a file of this name, relative to the model's folder, may ask for code: those that AddCodeNeeds() reads.
bool MayNeedCode(std::string_view name);

// Adds what the configuration `name` asks for: its members auto_map, those of inner configurations too,
// and custom_pipelines. A text that is no JSON object
// asks for nothing here; who needs it as one will say so.
void AddCodeNeeds(std::string_view name, std::string_view text, CodeNeeds* needs);

// One warning for the files and one for the repositories, each where there are any: what is needed and what to do.
// `where`: "the source folder" or the like, where the files can be had.
std::vector<Note> CodeNotes(const CodeNeeds& needs, std::string_view where);

}  // namespace q4
