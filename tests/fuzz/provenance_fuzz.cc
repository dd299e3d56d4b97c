// The provenance of a container, as inspector and verifier look into it.
#include <set>
#include <string>

#include "libconvert/model/provenance_view.h"
#include "tests/fuzz/fuzz_target.h"

Q4_FUZZ_TARGET(provenance) {
  using namespace q4;
  const auto view = ParseProvenance(fuzz::TextOf(data, size), "f.q4");
  if (!view.ok()) {
    fuzz::CheckError(view.status());
    return 0;
  }
  // There is one text for what it says.
  Q4_FUZZ_CHECK(view->document.dump() == fuzz::TextOf(data, size));
  std::set<std::string> names;
  for (const SourceFileRecord& file : view->sources) Q4_FUZZ_CHECK(names.insert(file.name).second);
  return 0;
}
