// The provenance of a container, as inspector and verifier look into it.
#include "libconvert/model/provenance_view.h"
#include "tests/fuzz/fuzz_target.h"

Q4_FUZZ_TARGET(provenance) {
  using namespace q4;
  const auto view = ParseProvenance(fuzz::TextOf(data, size), "f.q4");
  if (!view.ok()) {
    fuzz::CheckError(view.status());
    return 0;
  }
  // Writing the document out and looking again shows the same.
  const auto again = ParseProvenance(DumpSorted(view->document), "f.q4");
  Q4_FUZZ_CHECK(again.ok());
  Q4_FUZZ_CHECK(again->tool == view->tool && again->numerics == view->numerics);
  Q4_FUZZ_CHECK(again->keep_dtype == view->keep_dtype && again->sources.size() == view->sources.size());
  return 0;
}
